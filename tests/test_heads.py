"""Heads and model: poolings, losses and answers against formulas; layouts against each other."""

import copy
import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import config
from torch import nn

from data.tasks import TASKS, get_task
from minbert import Packed, Padded, load_backbone
from minbert.encoder import EncoderOutput
from multitask import MultitaskModel
from multitask.dataset import load_data
from multitask.heads import (
    POOLINGS,
    Heads,
    answers,
    compare_concat,
    compare_cosine,
    row_losses,
)
from multitask.learnt_pooling import AttentionPooling, LayerMix

FOUR = ("sst", "para", "sts", "cola")
TIGHT = {"rtol": 0, "atol": 1e-12}


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_model(folder, **changes):
    """A model in float64 in train mode (without dropout), and the data of its config."""
    settings = config(folder, tasks=FOUR, **changes)
    backbone = load_backbone(settings.backbone)
    data = load_data(settings, backbone.tokenizer, backbone.encoder.config.max_positions)
    return MultitaskModel.from_config(settings, backbone.encoder).double(), data


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


# Pooling and comparing

LENGTHS = [3, 1, 5]


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize(
    "pooling, formula",
    [
        ("cls", lambda rows: rows[0]),
        ("mean", lambda rows: rows.mean(axis=0)),
        ("max", lambda rows: rows.max(axis=0)),
    ],
)
def test_poolings_look_at_the_real_tokens_of_each_sequence(pooling, formula, layout):
    sequences = [random(length, 4, seed=length) - 2 for length in LENGTHS]  # most of it below 0
    if layout == "packed":
        states, where = torch.cat(sequences), Packed(LENGTHS)
    else:
        states = torch.full((3, 5, 4), 99.0, dtype=torch.float64)  # as wrong as can be at padding
        for row, sequence in zip(states, sequences):
            row[: len(sequence)] = sequence
        where = Padded(torch.arange(5) < torch.tensor(LENGTHS)[:, None])
    output = EncoderOutput(last_hidden_state=states, pooler_output=None, layout=where)
    expected = np.stack([formula(sequence.numpy()) for sequence in sequences])
    np.testing.assert_allclose(POOLINGS[pooling](output), expected, **TIGHT)


def in_layout(sequences, layout):
    """Tokens of sequences as an encoder's output, with what is far from them at padding."""
    lengths = [len(sequence) for sequence in sequences]
    if layout == "packed":
        states, where = torch.cat(sequences), Packed(lengths)
    else:
        states = nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=99.0)
        where = Padded(torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])
    return EncoderOutput(last_hidden_state=states, pooler_output=None, layout=where)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_attention_pooling_is_a_softmax_over_the_real_tokens(layout):
    sequences = [random(length, 4, seed=length).requires_grad_() for length in LENGTHS]
    pooling = AttentionPooling(4).double()
    means = torch.stack([sequence.mean(dim=0) for sequence in sequences])
    torch.testing.assert_close(pooling(in_layout(sequences, layout)), means, **TIGHT)
    for size in (1.0, 2000.0):  # of which the exponential is too large for a number
        pooling.query.data = size * random(4, seed=9)
        shares = [torch.softmax(x @ pooling.query / 2, dim=0) for x in sequences]
        wanted = torch.stack([a @ x for a, x in zip(shares, sequences, strict=True)])
        found = pooling(in_layout(sequences, layout))
        torch.testing.assert_close(found, wanted, **TIGHT)
        parameters = [pooling.query, *sequences]
        moves = [torch.autograd.grad(x.square().sum(), parameters) for x in (found, wanted)]
        for ours, theirs in zip(*moves, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_mix_of_layers_is_elmos():
    states = tuple(random(5, 4, seed=seed) for seed in range(3))
    output = EncoderOutput(last_hidden_state=states[-1], pooler_output=None, layout=Packed([5]))
    with pytest.raises(ValueError, match="call with output_hidden_states"):
        LayerMix(3)(output)
    output, mix = replace(output, hidden_states=states), LayerMix(3).double()
    np.testing.assert_allclose(mix(output).last_hidden_state.detach(), sum(states) / 3, **TIGHT)
    mix.scores.data, mix.scale.data = random(3, seed=7), torch.full((1,), 1.7, dtype=torch.float64)
    s, found = mix.scores.detach().numpy(), mix(output).last_hidden_state
    shares = np.exp(s) / np.exp(s).sum()
    expected = 1.7 * sum(share * h.numpy() for share, h in zip(shares, states, strict=True))
    np.testing.assert_allclose(found.detach(), expected, **TIGHT)
    found.sum().backward()
    sums = np.array([h.sum().item() for h in states])
    slope = 1.7 * shares * (sums - shares @ sums)  # of the softmax
    np.testing.assert_allclose(mix.scores.grad, slope, atol=1e-10)
    assert mix.scale.grad.item() == pytest.approx(shares @ sums)


def test_pooler_is_the_encoders_own_and_must_be_there():
    pooled = random(3, 4)
    output = SimpleNamespace(pooler_output=pooled)
    assert POOLINGS["pooler"](output) is pooled
    with pytest.raises(ValueError, match="no pooler; choose pooling cls, mean or max"):
        POOLINGS["pooler"](SimpleNamespace(pooler_output=None))


def test_an_unknown_pooling_lists_the_known_ones(folder):
    encoder = load_backbone(folder / "backbone").encoder
    with pytest.raises(ValueError, match="'sum'; known are pooler, cls, mean, max, at"):
        MultitaskModel(encoder, [get_task("sst")], pooling="sum")


def test_two_embeddings_are_compared_by_the_formulas():
    u, v = random(6, 5), random(6, 5, seed=1)
    x, y = u.numpy(), v.numpy()
    np.testing.assert_array_equal(compare_concat(u, v), np.concatenate([x, y, abs(x - y)], axis=1))
    cosine = (x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1))
    np.testing.assert_allclose(compare_cosine(u, v), cosine[:, None], **TIGHT)


# Losses and answers


def log(x):
    return np.log(x)


SEVERAL = replace(TASKS["sst"], name="several", kind="labels", classes=("a", "b", "c"))


def reference_loss(task, outputs, labels):
    """The loss of each row by its definition, without care for overflow."""
    if task.kind == "labels":
        yes = 1 / (1 + np.exp(-outputs))
        return -(labels * log(yes) + (1 - labels) * log(1 - yes)).mean(axis=1)
    if task.kind == "classes":
        exponents = np.exp(outputs)
        chances = exponents / exponents.sum(axis=1, keepdims=True)
        return -log(chances[np.arange(len(labels)), labels.astype(int)])
    if task.kind == "binary":
        yes = 1 / (1 + np.exp(-outputs[:, 0]))
        return -(labels * log(yes) + (1 - labels) * log(1 - yes))
    return (outputs[:, 0] - labels) ** 2


@pytest.mark.parametrize("task", [*TASKS.values(), SEVERAL], ids=lambda task: task.name)
def test_losses_of_rows_and_their_gradient_are_those_of_the_formula(task):
    outputs = random(7, task.num_outputs, seed=2).float().requires_grad_()
    top = len(task.classes) or 6
    labels = torch.arange(7.0) % top
    if task is SEVERAL:
        labels = torch.stack([labels // 2, labels % 2, 1 - labels % 2], dim=1)
    loss = row_losses(task, outputs, labels).sum()
    loss.backward()
    values, truth = outputs.detach().double().numpy(), labels.numpy()
    assert loss.item() == pytest.approx(reference_loss(task, values, truth).sum(), rel=1e-6)

    step = 1e-6  # central differences in float64
    slope = np.empty_like(values)
    for column in range(values.shape[1]):
        shift = step * np.eye(values.shape[1])[column]
        up, down = (reference_loss(task, values + s * shift, truth) for s in (1, -1))
        slope[:, column] = (up - down) / (2 * step)
    np.testing.assert_allclose(outputs.grad, slope, atol=2e-6)


@pytest.mark.parametrize("name, label", [("sst", 0.0), ("para", 0.0)])
def test_loss_is_finite_however_wrong_the_answer_is(name, label):
    task = TASKS[name]
    outputs = torch.zeros(1, task.num_outputs)
    outputs[0, -1] = 1e4
    assert row_losses(task, outputs, torch.tensor([label])).sum().item() == pytest.approx(1e4)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_answers_are_the_likeliest_class_or_the_number(name, dtype):
    task = TASKS[name]
    outputs = (3 * random(40, task.num_outputs, seed=3)).to(dtype)
    values = outputs.double().numpy()
    found, chances = answers(task, outputs)
    if task.kind == "regression":
        assert chances is None
        np.testing.assert_array_equal(found, values[:, 0])
        return
    if task.kind == "binary":
        yes = 1 / (1 + np.exp(-values))
        expected = np.concatenate([1 - yes, yes], axis=1)
    else:
        exponents = np.exp(values)
        expected = exponents / exponents.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chances, expected, atol=1e-6)
    np.testing.assert_array_equal(found, expected.argmax(axis=1))
    assert len(set(found.tolist())) == len(task.classes)


def test_a_wide_range_is_learnt_in_its_own_unit():
    """As the same task with labels from 0 to 5, of which the middle is taken away."""
    plain, wide = TASKS["sts"], replace(TASKS["sts"], label_range=(100.0, 200.0), unit=20.0)
    heads = [Heads([task], 6, head_size=5, dropout=0.0) for task in (plain, wide)]
    heads[1].load_state_dict(heads[0].state_dict())
    features, labels = random(4, 6).float(), torch.tensor([0.0, 1.0, 5.0, 2.5])
    small, large = (head(features, "sts") for head in heads)
    torch.testing.assert_close(large, 150 + 20 * small)
    expected = ((small.detach().double()[:, 0] - (labels - 2.5)) ** 2).sum().item()
    found = row_losses(wide, large, 100 + 20 * labels).sum()
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_several_labels_hold_where_they_are_likelier_than_not():
    outputs = torch.tensor([[2.0, -1.0, 0.1], [-3.0, -0.1, -9.0]])
    found, chances = answers(SEVERAL, outputs)
    assert found.tolist() == [[1, 0, 1], [0, 0, 0]] and SEVERAL.num_outputs == 3
    np.testing.assert_allclose(chances, 1 / (1 + np.exp(-outputs.numpy())), atol=1e-6)


# Heads


def gelu(x):
    return x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


@pytest.mark.parametrize("name", FOUR)
def test_a_head_is_two_linear_maps_with_a_gelu_between_and_the_first_is_shared(name):
    heads = Heads([TASKS[task] for task in FOUR], 6, head_size=5, dropout=0.0).double()
    features = random(3, 6)
    shared, output = heads.shared["single"], heads.outputs[name]
    w1, b1, w2, b2 = (
        p.detach().numpy() for p in (shared.weight, shared.bias, output.weight, output.bias)
    )
    expected = gelu(features.numpy() @ w1.T + b1) @ w2.T + b2
    found = heads(features, name)
    assert found.shape == (3, TASKS[name].num_outputs)
    np.testing.assert_allclose(found.detach(), expected, **TIGHT)
    found.sum().backward()
    others = {f"outputs.{task}" for task in FOUR if task != name}
    assert shared.weight.grad.abs().sum() > 0
    assert not others & {key.rpartition(".")[0] for key in gradients(heads)}


def test_a_stack_of_shared_layers():
    tasks = [TASKS["sst"], TASKS["sts"]]
    plain = Heads(tasks, 6, head_size=5)
    assert [n for n, _ in plain.named_parameters()][:2] == ["shared.single.weight",
                                                            "shared.single.bias"]  # fmt: skip
    heads = Heads(tasks, 6, pair="concat", head_size=5, layers=3, activation="tanh", dropout=0.0)
    heads = heads.double()
    for name, key, features in (("sst", "single", random(3, 6)), ("sts", "pair", random(3, 18))):
        x = features.numpy()
        for layer in heads.shared[key].layers:
            x = np.tanh(x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
        w, b = (p.detach().numpy() for p in heads.outputs[name].parameters())
        np.testing.assert_allclose(heads(features, name).detach(), x @ w.T + b, **TIGHT)
    dropped = Heads(tasks, 400, head_size=300, layers=2, dropout=0.25)
    seen = []
    for layer in (*dropped.shared["single"].layers, dropped.outputs["sst"]):
        layer.register_forward_pre_hook(lambda m, x: seen.append(x[0]))
    dropped(torch.ones(50, 400), "sst")
    for x in seen:
        assert (x == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_head_dropout_stands_before_and_after_the_shared_layer():
    heads = Heads([TASKS["sst"]], 400, head_size=300, dropout=0.25)
    seen = {}
    heads.shared["single"].register_forward_pre_hook(lambda m, x: seen.update(before=x[0]))
    heads.outputs["sst"].register_forward_pre_hook(lambda m, x: seen.update(after=x[0]))
    heads(torch.ones(50, 400), "sst")
    before, after = seen["before"], seen["after"]
    assert before.unique().tolist() == pytest.approx([0, 4 / 3])
    for x in (before, after):
        assert (x == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    heads.eval()(torch.ones(50, 400), "sst")
    assert (seen["before"] == 1).all() and (seen["after"] != 0).all()


@pytest.mark.parametrize(
    "name, scale, shift", [("sts", 5, 0), ("para", 10, -5)], ids=["regression", "binary"]
)
def test_cosine_output_is_scale_times_cosine_plus_shift(name, scale, shift):
    heads = Heads([TASKS[name]], 6, pair="cosine")
    cosine = torch.tensor([[-1.0], [0.0], [0.3], [1.0]])
    np.testing.assert_allclose(heads(cosine, name).detach(), scale * cosine + shift, atol=1e-6)
    heads(cosine, name).sum().backward()
    assert heads.outputs[name].scale.grad.item() == pytest.approx(0.3)
    assert heads.outputs[name].shift.grad.item() == 4


def test_initial_values_depend_on_the_seed_alone(folder):
    def values(seed):
        model, _ = make_model(folder, seed=seed)
        return torch.cat([p.flatten() for p in model.heads.parameters()])

    torch.manual_seed(1)
    first = values(5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(values(5), first) and not torch.equal(values(6), first)
    assert torch.equal(torch.get_rng_state(), state)


# The model


def pooled_texts(model, source, row):
    """[CLS] text [SEP] of each text of a row on its own, through encoder and pooling."""
    batch = source.batch([row])
    parts = batch.layout.positions.flatten() == 0
    ids = batch.input_ids.flatten()
    starts = [*parts.nonzero().flatten().tolist(), len(ids)]
    spans = itertools.pairwise(starts)
    return [model.pooling(model.encoder(ids[None, a:b]))[0] for a, b in spans]


@pytest.mark.parametrize("pair", ["concat", "cosine"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_pair_modes_compare_the_embeddings_of_the_two_texts(folder, pair, pooling):
    model, data = make_model(folder, pair=pair, pooling=pooling)
    source = data["sts"].train
    rows = [5, 2, 9]
    features = model.features(source.batch(rows), "sts")
    for found, row in zip(features.detach().numpy(), rows):
        u, v = (vector.detach().numpy() for vector in pooled_texts(model, source, row))
        if pair == "concat":
            expected = np.concatenate([u, v, abs(u - v)])
        else:
            expected = [u @ v / math.sqrt((u @ u) * (v @ v))]
        np.testing.assert_allclose(found, expected, atol=1e-10)
    single = model.features(data["sst"].train.batch(rows), "sst")
    assert single.shape == (3, model.encoder.config.hidden_size)
    assert model(source.batch(rows), "sts").shape == (3, 1)


@pytest.mark.parametrize("all_pairs", ["cross", "concat", "cosine"])
@pytest.mark.parametrize("own", ["cross", "concat", "cosine"])
def test_a_task_of_pairs_may_be_read_in_its_own_way(folder, all_pairs, own):
    """Each answers as in a model that reads all pairs in that way, with the same weights."""
    mixed, data = make_model(folder, pair=all_pairs, pair_of={"para": own}, pooling="mean")
    for name, kind in (("sst", all_pairs), ("sts", all_pairs), ("para", own)):
        model, rows = make_model(folder, pair=kind, pooling="mean")
        shapes = {key: x.shape for key, x in model.state_dict().items()}
        weights = {k: x for k, x in mixed.state_dict().items() if shapes.get(k) == x.shape}
        assert {k for k in shapes if f"outputs.{name}." in k} <= weights.keys()
        model.load_state_dict(weights, strict=False)
        found = mixed(data[name].train.batch([3, 8, 0]), name)
        torch.testing.assert_close(found, model(rows[name].train.batch([3, 8, 0]), name), **TIGHT)


@pytest.mark.parametrize("pair", ["cross", "concat", "cosine"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_packed_and_padded_give_the_same_outputs_and_gradients(folder, pair, pooling):
    rows, found = [3, 8, 0, 11, 5], {}
    for layout in ("packed", "padded"):
        model, data = make_model(folder, pair=pair, pooling=pooling, layout=layout)
        outputs = {}
        for name in ("sst", "sts"):
            batch = data[name].train.batch(rows)
            outputs[name] = model(batch, name)
            row_losses(model.tasks[name], outputs[name], batch.labels).sum().backward()
        found[layout] = outputs | gradients(model)
    assert found["packed"].keys() == found["padded"].keys()
    for name, packed in found["packed"].items():
        torch.testing.assert_close(packed, found["padded"][name], rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize("pair", ["cross", "concat"])
def test_each_task_learns_its_own_pooling_in_both_layouts(folder, pair):
    changes, found = {"pooling": "attention", "layer_mix": True, "pair": pair}, {}
    for layout in ("packed", "padded"):
        model, data = make_model(folder, layout=layout, **changes)
        for seed, name in enumerate(FOUR):
            mix = model.heads.layer_mix.sets[name]
            model.heads.pooling.sets[name].query.data = random(16, seed=seed)
            mix.scores.data = random(len(mix.scores), seed=seed)
        batches = {name: data[name].train.batch([3, 8, 0]) for name in ("sst", "sts")}
        outputs = {name: model(batch, name) for name, batch in batches.items()}
        sum(x.square().sum() for x in outputs.values()).backward()
        found[layout] = outputs | gradients(model)
    assert found["packed"].keys() == found["padded"].keys()
    for name, packed in found["packed"].items():
        torch.testing.assert_close(packed, found["padded"][name], rtol=1e-6, atol=1e-8, msg=name)
    learnt = {n for n in found["packed"] if n.startswith(("heads.pooling", "heads.layer_mix"))}
    assert {n.split(".sets.")[1].split(".")[0] for n in learnt} == {"sst", "sts"}
    copied = copy.deepcopy(model)
    copied.heads.pooling.sets["sst"].query.data.zero_()
    batch = batches["sst"]
    assert not torch.allclose(copied(batch, "sst"), model(batch, "sst"))


def test_poolings_that_cannot_learn_are_refused(folder):
    with pytest.raises(ValueError, match="the pooler is trained for the last layer, so layer_mix"):
        config(folder, layer_mix=True)
    for changes in ({"pooling": "attention"}, {"pooling": "mean", "layer_mix": True}):
        with pytest.raises(ValueError, match=r"learnt on the encoder's tokens, and frozen keeps"):
            config(folder, frozen=True, **changes)
        with pytest.raises(ValueError, match="and has no effect: a linear head is the encoder's"):
            config(folder, head="linear", **changes)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_leaves_the_encoder_without_gradient(folder, frozen):
    model, data = make_model(folder, frozen=frozen)
    batch = data["sst"].train.batch([0, 1])
    row_losses(model.tasks["sst"], model(batch, "sst"), batch.labels).sum().backward()
    named = {name.partition(".")[0] for name in gradients(model)}
    assert named == ({"heads"} if frozen else {"heads", "encoder"})


@pytest.mark.parametrize("rate, expected", [(None, 0.1), (0.35, 0.35), (0.0, 0.0)])
def test_encoder_dropout_is_the_checkpoints_or_the_configs(folder, rate, expected):
    model, _ = make_model(folder, encoder_dropout=rate, head_dropout=0.2)
    rates = {m.p for m in model.encoder.modules() if isinstance(m, nn.Dropout)}
    assert rates == {expected} and model.heads.dropout.p == 0.2


def test_features_in_a_batch_take_the_encoders_place(folder):
    model, data = make_model(folder)
    batch = data["para"].train.batch([1, 2])
    features = model.features(batch, "para")
    cached = replace(batch, features=features, input_ids=None, layout=None)
    assert torch.equal(model(cached, "para"), model(batch, "para"))
