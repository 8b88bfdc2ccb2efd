"""What is said of the inside of a run: beside transformers, captum, and a formula in float64."""

import copy

import numpy as np
import pytest
import torch
from helpers import FILLERS, config, write_backbone, write_data
from torch import nn
from transformers import AutoModel

from data.batching import EncodedRows
from data.schema import Example, Table, Task
from minbert import load_backbone
from minbert.encoder import ENCODERS
from multitask import MultitaskModel, Predictor, train
from multitask.inside.attribution import embedded
from multitask.inside.edits import Edit, num_heads
from multitask.inside.explain import attention_rollout, explain, explain_row, in_packed

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
WORDS = " ".join(FILLERS[:6])


def task_of(kind, pair=False):
    texts = ("a", "b") if pair else ("a",)
    classes = {"regression": (), "binary": ("no", "yes")}.get(kind, ("x", "y", "z"))
    return Task(
        name=kind, title="", kind=kind, classes=classes, label_range=(0.0, 5.0), metrics=("f1",),
        tables={"train": Table(path="", texts=texts)},
    )  # fmt: skip


KINDS = {name: task_of(name) for name in ("classes", "binary", "regression", "labels")}
PAIR = task_of("regression", pair=True)


@pytest.fixture(scope="module", params=ENCODERS)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inside")
    sizes = {"local_attention": 8} if request.param == "modernbert" else {}
    return write_backbone(folder, encoder=ENCODERS[request.param], **sizes)


@pytest.fixture(scope="module")
def backbone(folder):
    return load_backbone(folder)


def model_of(backbone, *tasks, **settings):
    torch.manual_seed(1)
    encoder = copy.deepcopy(backbone.encoder)
    pooling = {"pooling": "mean"} | settings
    model = MultitaskModel(encoder, tasks, head_size=8, **pooling).eval()
    for parameter in model.heads.parameters():
        parameter.data = torch.randn_like(parameter)
    return model


def row_of(backbone, *texts, pair="cross"):
    rows = EncodedRows([Example("0", texts, None)], backbone.tokenizer, pair=pair, max_length=30)
    return rows.batch([0])


def explained(backbone, model, task, *texts, pair="cross", **asked):
    row = row_of(backbone, *texts, pair=pair)
    return explain_row(model, backbone.tokenizer, task, row, texts=texts, **asked)


def test_attentions_and_states_are_those_of_transformers(folder, backbone):
    model = model_of(backbone, KINDS["classes"])
    found = explained(backbone, model, KINDS["classes"], WORDS, steps=0).sequences[0]
    theirs = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    ids = torch.from_numpy(found.input_ids)[None]
    with torch.no_grad():
        expected = theirs(ids, output_attentions=True, output_hidden_states=True)
    layers, length = backbone.encoder.config.num_layers, len(found.tokens)
    assert found.tokens[0] == "[CLS]" and found.special.tolist() == [
        token in ("[CLS]", "[SEP]") for token in found.tokens
    ]
    assert found.attentions.shape[0] == layers and found.attentions.shape[2:] == (length, length)
    for ours, other in zip(found.attentions, expected.attentions, strict=True):
        np.testing.assert_allclose(ours, other[0].numpy(), **CLOSE)
    states = list(expected.hidden_states)
    states[-1] = expected.last_hidden_state  # whose final norm some versions leave out
    for ours, other in zip(found.hidden_states, states, strict=True):
        np.testing.assert_allclose(ours, other[0].numpy(), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_attributions_are_those_of_captum(backbone, kind):
    from captum.attr import InputXGradient, IntegratedGradients

    task = KINDS[kind]
    model = model_of(backbone, task)
    row = in_packed(row_of(backbone, WORDS))
    target = 0 if kind in ("binary", "regression") else 1
    found = explained(backbone, model, task, WORDS, target=target, steps=12)
    ids, mask = row.input_ids, backbone.tokenizer.mask_id
    table = []
    for each in (ids, torch.where(torch.tensor(found.sequences[0].special), ids, mask)):
        keep = []
        with embedded(model.encoder, lambda x, keep=keep: keep.append(x) or x):
            model.encoder(each[None], token_type_ids=row.token_type_ids[None])
        table.append(keep[0].detach())

    def forward(x):  # (M, S, H)
        with embedded(model.encoder, lambda _: x):
            many = ids.expand(len(x), -1)
            output = model.encoder(many, token_type_ids=row.token_type_ids.expand(len(x), -1))
            return model.heads(model.pooled(output, task.name), task.name)[:, target]

    x, baseline = table
    integrated = IntegratedGradients(forward).attribute(
        x, baseline, n_steps=12, method="gausslegendre"
    )
    product = InputXGradient(forward).attribute(x.clone().requires_grad_())
    sequence = found.sequences[0]
    scale = float(integrated.abs().sum(-1).max())
    np.testing.assert_allclose(
        sequence.integrated_gradients, integrated.sum(-1)[0].detach(), atol=1e-4 * scale, rtol=1e-3
    )
    np.testing.assert_allclose(
        sequence.gradient_x_input, product.sum(-1)[0].detach(), atol=1e-4 * scale, rtol=1e-3
    )
    with torch.no_grad():
        assert found.output == pytest.approx(float(forward(x)), abs=1e-4)
        assert found.baseline == pytest.approx(float(forward(baseline)), abs=1e-4)
    total = sequence.integrated_gradients.astype(np.float64).sum()
    error = abs(total - (found.output - found.baseline))
    assert found.completeness_error == pytest.approx(error, abs=1e-4)


def test_integrated_gradients_come_to_the_difference_of_outputs(backbone):
    model, task = model_of(backbone, KINDS["classes"]), KINDS["classes"]
    found = explained(backbone, model, task, WORDS, steps=100)
    rough = explained(backbone, model, task, WORDS, steps=2)
    assert found.completeness_error < 0.02 * abs(found.output - found.baseline) + 1e-3
    assert found.completeness_error < rough.completeness_error


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_answer_is_the_models_own(backbone, kind):
    task = KINDS[kind]
    model = model_of(backbone, task)
    found = explained(backbone, model, task, WORDS, steps=0)
    with torch.no_grad():
        expected = model(row_of(backbone, WORDS), task.name)[0]
    np.testing.assert_allclose(found.outputs, expected, **CLOSE)
    assert len(found.layer_outputs) == backbone.encoder.config.num_layers + 1
    chances = {
        "classes": expected.softmax(-1),
        "labels": expected.sigmoid(),
        "binary": torch.cat([1 - expected.sigmoid(), expected.sigmoid()]),
    }.get(kind)
    if chances is None:
        assert found.probabilities is None and found.answer == pytest.approx(
            float(expected[0]), abs=1e-4
        )
    else:
        np.testing.assert_allclose(found.probabilities, chances, **CLOSE)
    if kind == "labels":
        assert found.answer == (expected.sigmoid() > 0.5).nonzero().flatten().tolist()


class Through(nn.Module):
    def forward(self, x, *rest):
        return x


def test_an_answer_after_a_layer_is_that_of_a_shorter_encoder(backbone):
    task = KINDS["classes"]
    model = model_of(backbone, task)
    found = explained(backbone, model, task, WORDS, steps=0)
    shorter = copy.deepcopy(model)
    shorter.encoder.layers[-1] = Through()
    with torch.no_grad():
        expected = shorter(row_of(backbone, WORDS), task.name)[0]
    np.testing.assert_allclose(found.layer_outputs[-2], expected, **CLOSE)


@pytest.mark.parametrize("pair", ["cross", "concat", "cosine"])
def test_pairs(backbone, pair):
    model = model_of(backbone, PAIR, pair=pair)
    texts = (WORDS, " ".join(FILLERS[9:12]))
    found = explained(backbone, model, PAIR, *texts, pair=pair, steps=60)
    with torch.no_grad():
        expected = model(row_of(backbone, *texts, pair=pair), PAIR.name)[0]
    np.testing.assert_allclose(found.outputs, expected, **CLOSE)
    assert len(found.sequences) == (1 if pair == "cross" else 2)
    for sequence in found.sequences:
        length = len(sequence.tokens)
        assert sequence.attentions.shape[2:] == (length, length)
        np.testing.assert_allclose(sequence.attentions.sum(-1), 1, rtol=1e-5)
        np.testing.assert_allclose(sequence.rollout.sum(-1), 1, rtol=1e-5)
    total = sum(float(s.integrated_gradients.sum()) for s in found.sequences)
    error = abs(total - (found.output - found.baseline))
    assert found.completeness_error == pytest.approx(error, abs=1e-3)
    if pair != "cross":  # each text alone, whatever the other is
        other = explained(backbone, model, PAIR, texts[0], WORDS, pair=pair, steps=0)
        np.testing.assert_allclose(
            found.sequences[0].attentions, other.sequences[0].attentions, **CLOSE
        )


def test_rollout_is_the_formula():
    maps = torch.rand(3, 2, 4, 4, dtype=torch.float64).softmax(-1)
    expected, eye = torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    for layer in maps:
        expected = (eye + layer.mean(0)) / 2 @ expected
    np.testing.assert_allclose(attention_rollout(maps.numpy())[-1], expected, rtol=1e-6)


def test_tokens_can_be_masked_and_swapped(backbone):
    task, tokenizer = KINDS["classes"], backbone.tokenizer
    model = model_of(backbone, task)
    found = explained(
        backbone, model, task, WORDS, steps=0, edit=Edit(masked=(2,), swapped=((1, 3),))
    )
    ids = row_of(backbone, WORDS).input_ids.tolist()
    ids[2] = tokenizer.mask_id
    ids[1], ids[3] = ids[3], ids[1]
    assert found.sequences[0].input_ids.tolist() == ids
    with pytest.raises(ValueError, match=r"tokens 0 to \d+, and token 99"):
        explained(backbone, model, task, WORDS, edit=Edit(masked=(99,)))


def test_a_head_that_is_off_is_one_whose_part_of_the_next_map_is_zero(backbone):
    task = KINDS["classes"]
    model = model_of(backbone, task)
    last = num_heads(backbone.encoder) - 1
    edit = Edit(heads_off=((1, last),))
    found = explained(backbone, model, task, WORDS, steps=0, edit=edit)
    other = copy.deepcopy(model)
    linear = other.encoder.layers[1].attention.output
    heads = found.sequences[0].attentions.shape[1]
    width = linear.in_features // (2 if backbone.encoder.name == "convbert" else 1)
    size = width // heads
    linear.weight.data[:, last * size : (last + 1) * size] = 0
    with torch.no_grad():
        expected = other(row_of(backbone, WORDS), task.name)[0]
    np.testing.assert_allclose(found.outputs, expected, **CLOSE)
    plain = explained(backbone, model, task, WORDS, steps=0)
    assert np.abs(found.outputs - plain.outputs).max() > 1e-4, "nothing stays behind, and it acts"
    with pytest.raises(ValueError, match=r"heads 0 to \d+, and head 70"):
        explained(backbone, model, task, WORDS, edit=Edit(heads_off=((0, 70),)))


def test_a_layer_that_is_off_is_one_less(backbone):
    task = KINDS["classes"]
    model = model_of(backbone, task)
    found = explained(backbone, model, task, WORDS, steps=0, edit=Edit(layers_off=(1,)))
    expected = explained(backbone, model, task, WORDS, steps=0).layer_outputs[-2]
    np.testing.assert_allclose(found.outputs, expected, **CLOSE)
    with pytest.raises(ValueError, match="layers 0 to 1, and layer 2"):
        explained(backbone, model, task, WORDS, edit=Edit(layers_off=(2,)))


@pytest.mark.parametrize("settings", [{"layer_mix": True}, {"pooling": "attention"}])
def test_heads_that_read_layers_and_tokens_in_their_own_way(backbone, settings):
    task = KINDS["classes"]
    model = model_of(backbone, task, **settings)
    found = explained(backbone, model, task, WORDS, steps=150)
    with torch.no_grad():
        expected = model(row_of(backbone, WORDS), task.name)[0]
    np.testing.assert_allclose(found.outputs, expected, **CLOSE)
    assert found.completeness_error < 0.05 * abs(found.output - found.baseline)


@pytest.mark.slow
def test_a_run_is_explained(tmp_path, no_figure):
    write_backbone(tmp_path / "backbone")
    write_data(tmp_path / "data")
    settings = {"pair": "cosine", "pooling": "mean", "epochs": 1, "layout": "padded"}
    run = train(config(tmp_path, **settings))
    predictor = Predictor(run.folder)
    pairs = [("bon superb", "dot"), ("awful bon", "superb")]
    found = explain(predictor, pairs, task="sts", steps=4)
    expected = predictor.predict("sts", pairs)
    assert [x.answer for x in found] == pytest.approx([x.value for x in expected], abs=1e-4)
    assert [x.texts for x in found] == pairs
    assert explain(run.folder, ["awful"], task="sst", steps=0)[0].texts == ("awful",)
    with pytest.raises(ValueError, match="several tasks; name one: sst, sts"):
        explain(predictor, ["awful"])
    with pytest.raises(ValueError, match="outputs 0 to 4, and target is 9"):
        explain(predictor, ["awful"], task="sst", target=9)
