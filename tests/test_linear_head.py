"""The linear head is transformers': outputs, gradients, losses; taken from its checkpoints."""

import json
from dataclasses import replace

import pytest
import torch
import transformers
from helpers import config, make_trainer, write_backbone
from torch import nn

from data.tasks import get_task
from minbert import load_backbone
from minbert.encoder import ENCODERS
from minbert.encoders import encoder_class
from multitask import MultitaskModel, Predictor, resume, train
from multitask.heads import answers, row_losses
from multitask.linear_head import num_labels
from multitask.runs.origin import backbone_of
from multitask.training import make_model

pytestmark = pytest.mark.usefixtures("no_figure")

KINDS = ("bert", "convbert", "modernbert", "modernbert-mean")
SIZES = {"modernbert-mean": {"classifier_pooling": "mean"}}
TEXTS = ["good bat", "superb ten men got a lot", "plain"]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """A tiny backbone of each kind."""
    made = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp("backbones") / kind
        encoder = encoder_class(kind.partition("-")[0])
        made[kind] = write_backbone(folder, encoder=encoder, **SIZES.get(kind, {}))
    return made


def reference_of(folder, task, **settings):
    """transformers' model of a backbone, with a head for a task."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder,
        num_labels=num_labels(task),
        attn_implementation="eager",
        **settings,
    )
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.double()


def ours_of(folder, task, reference=None):
    """Our model of a backbone, with the reference's head if one is given."""
    encoder = load_backbone(folder).encoder
    model = MultitaskModel(encoder, [task], head="linear", head_dropout=0.0).double()
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if reference is not None:
        own = dict(reference.named_parameters())
        with torch.no_grad():
            for name, parameter in model.heads.classifiers[task.name].named_parameters():
                parameter.copy_(own[f"classifier.{name}"])
    return model


def batches(folder, labels):
    """The texts for us (packed, ids and layout) and for transformers (padded)."""
    from data.batching import EncodedRows
    from data.readers import Example

    tokenizer = load_backbone(folder).tokenizer
    examples = [Example(str(n), (text,), labels[n]) for n, text in enumerate(TEXTS)]
    rows = {
        layout: EncodedRows(examples, tokenizer, pair="cross", max_length=32, layout=layout)
        for layout in ("packed", "padded")
    }
    numbers = range(len(TEXTS))
    padded = rows["padded"].batch(numbers)
    inputs = {"input_ids": padded.input_ids, "attention_mask": padded.layout.mask.long()}
    return padded, rows["packed"].batch(numbers), inputs


@pytest.mark.parametrize("name", ["sst", "cola", "sts"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_logits_losses_and_gradients_are_those_of_transformers(backbones, kind, name, mode):
    task = replace(get_task(name), tables=get_task("sst").tables)
    labels = {"sst": [3, 4, 2], "cola": [1, 0, 1], "sts": [2.5, 0.0, 5.0]}[name]
    reference = reference_of(backbones[kind], task)
    ours = ours_of(backbones[kind], task, reference)
    assert reference.train(mode == "train").training == ours.train(mode == "train").training
    padded, packed, inputs = batches(backbones[kind], labels)
    batch = padded if kind == "convbert" else packed  # whose convolutions see padding
    wanted = torch.tensor(labels, dtype=torch.double if name == "sts" else torch.long)
    expected = reference(**inputs, labels=wanted)
    logits = ours.heads.logits(ours.features(batch, task.name), task.name)
    torch.testing.assert_close(logits, expected.logits, atol=1e-7, rtol=1e-6)

    outputs = ours(batch, task.name)
    loss = row_losses(task, outputs.double(), batch.labels.double()).sum() / len(TEXTS)
    torch.testing.assert_close(loss.double(), expected.loss, atol=1e-6, rtol=1e-5)
    expected.loss.backward()
    loss.backward()
    named = dict(reference.named_parameters())
    for own, parameter in ours.heads.classifiers[task.name].named_parameters():
        theirs = named[f"classifier.{own}"].grad
        torch.testing.assert_close(parameter.grad, theirs, atol=1e-6, rtol=1e-4)
    embeddings = reference.get_input_embeddings().weight.grad
    found = ours.encoder.embeddings.word.weight.grad
    torch.testing.assert_close(found, embeddings, atol=1e-6, rtol=1e-4)

    found, chances = answers(task, outputs)
    if task.classes:
        torch.testing.assert_close(
            chances.double(), expected.logits.softmax(-1), atol=1e-6, rtol=1e-5
        )
        assert torch.equal(found, expected.logits.argmax(-1))


@pytest.mark.parametrize("kind", KINDS)
def test_initial_values_are_spread_as_in_transformers(backbones, kind):
    task = replace(get_task("sst"), classes=tuple(f"class {n}" for n in range(400)))
    torch.manual_seed(3)
    ours = ours_of(backbones[kind], task)
    reference = reference_of(backbones[kind], task)
    theirs = dict(reference.named_parameters())
    for name, parameter in ours.heads.classifiers["sst"].named_parameters():
        expected = theirs[f"classifier.{name}"]
        assert parameter.shape == expected.shape
        assert parameter.std().item() == pytest.approx(expected.std().item(), rel=0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_stands_where_transformers_has_it(backbones, kind):
    """With a rate of nearly 1 nothing but biases is left of a head's inputs."""
    task = get_task("sst")
    reference = reference_of(backbones[kind], task)
    rates = [m for m in reference.modules() if isinstance(m, nn.Dropout)]
    ours = ours_of(backbones[kind], task, reference).train()
    seen = []
    for module in ours.heads.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda m, x, y: seen.append(x[0].shape))
    ours.heads.logits(torch.randn(3, 16).double(), "sst")
    expected = []
    head = reference.classifier if kind == "convbert" else reference
    for module in rates:
        if module in (getattr(head, "dropout", None), getattr(head, "drop", None)):
            module.register_forward_hook(lambda m, x, y: expected.append(x[0].shape))
    _, _, inputs = batches(backbones[kind], [0, 1, 2])
    reference.train()(**inputs)
    assert seen == expected and len(seen) == (2 if kind == "convbert" else 1)


def test_every_registered_encoder_has_one(backbones):
    assert {kind.partition("-")[0] for kind in KINDS} == ENCODERS.keys()


# Runs


def linear(folder, **changes):
    """A run on the tiny data with linear heads."""
    made = {**config(folder, **changes).to_dict(), "head": "linear", "head_size": 256}
    return type(config(folder)).from_dict(made)


def test_a_run_learns_answers_and_resumes(folder, tmp_path):
    settings = linear(
        folder, out=tmp_path / "run", tasks=("sst", "cola", "sts"), epochs=12, lr=2e-3
    )
    run = train(settings, progress=False)
    record = run.record()
    losses = [line["loss"] for line in run.metrics() if line["kind"] == "step"]
    assert sum(losses[-9:]) < 0.6 * sum(losses[:9]) and record["config"]["head"] == "linear"
    assert resume(run.folder, progress=False).record()["dev"] == record["dev"]
    found = Predictor(run.folder, device="cpu").predict("cola", ["bat wrong ten"])
    assert found[0].label in get_task("cola").classes
    second = linear(folder, tasks=("cola",), backbone=str(run.folder), keep_heads=True)
    taken = make_model(second, backbone_of(second)).heads.classifiers["cola"].weight
    first = Predictor(run.folder, device="cpu").model.heads.classifiers["cola"].weight
    assert torch.equal(taken, first)


@pytest.mark.parametrize("changes", [{"pair": "cosine"}, {"pooling": "mean"}, {"head_size": 9}])
def test_what_a_linear_head_has_not_is_refused(folder, changes):
    with pytest.raises(ValueError, match=r"has no effect: a linear head is the encoder's own"):
        replace(linear(folder), **changes)


def write_checkpoint(folder, target, kind, labels, **settings):
    """A checkpoint with a classification head, as transformers writes it."""
    numbered = dict(enumerate(labels)) if labels else None
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, **({"id2label": numbered} if numbered else {}), **settings
    )
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("classifier."):
                parameter.normal_()
    model.save_pretrained(target)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(target)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoints_head_is_the_start_labels_by_name(folder, backbones, tmp_path, kind):
    classes = list(get_task("sst").classes)
    mixed = [classes[n].upper() for n in (3, 0, 4, 1, 2)]
    model = write_checkpoint(backbones[kind], tmp_path / "made", kind, mixed)
    backbone = load_backbone(tmp_path / "made")
    assert backbone.classifier.labels == tuple(mixed) and backbone.classifier.has_names
    settings = linear(folder, tasks=("sst", "cola"), backbone=str(tmp_path / "made"))
    kept = replace(settings, keep_heads=True)
    assert not [n for n in backbone_of(kept).dropped if n.startswith("classifier.")]
    assert [n for n in backbone_of(settings).dropped if n.startswith("classifier.")]
    heads = make_model(kept, backbone_of(kept)).eval().heads
    anew = make_model(settings, backbone_of(settings)).heads
    pooled = torch.randn(3, 16)
    theirs = model.eval().classifier(pooled[:, None] if kind == "convbert" else pooled)
    order = [mixed.index(name.upper()) for name in classes]
    torch.testing.assert_close(heads.logits(pooled, "sst"), theirs[:, order])
    assert not torch.equal(anew.logits(pooled, "sst"), heads.logits(pooled, "sst"))
    for name, parameter in heads.classifiers["cola"].named_parameters():
        assert torch.equal(parameter, anew.classifiers["cola"].get_parameter(name))


def test_labels_without_names_are_taken_in_their_order(folder, backbones, tmp_path):
    model = write_checkpoint(backbones["bert"], tmp_path / "made", "bert", [])
    assert not load_backbone(tmp_path / "made").classifier.has_names
    settings = linear(folder, tasks=("cola",), backbone=str(tmp_path / "made"), keep_heads=True)
    heads = make_model(settings, backbone_of(settings)).heads
    assert torch.equal(heads.classifiers["cola"].weight, model.classifier.weight)


def test_a_regressions_head_is_of_a_regression(folder, backbones, tmp_path):
    model = write_checkpoint(backbones["bert"], tmp_path / "made", "bert", [], num_labels=1)
    settings = linear(folder, tasks=("sts",), backbone=str(tmp_path / "made"), keep_heads=True)
    heads = make_model(settings, backbone_of(settings)).heads
    assert torch.equal(heads.classifiers["sts"].weight, model.classifier.weight)


def test_a_head_that_does_not_fit_is_refused_or_left_out_by_name(folder, backbones, tmp_path):
    write_checkpoint(backbones["bert"], tmp_path / "made", "bert", ["cat", "dog"])
    source = str(tmp_path / "made")
    settings = linear(folder, tasks=("cola", "sst"), backbone=source, keep_heads=True)
    message = r"has a head for cat, dog, and cola has unacceptable, acceptable; sst has .*leave out"
    with pytest.raises(ValueError, match=message):
        train(settings, progress=False)
    with pytest.raises(ValueError, match=r"keep_heads takes the heads of a run.* --head linear"):
        train(config(folder, tasks=("cola",), backbone=source, keep_heads=True), progress=False)
    notes = load_backbone(source).dropped
    assert "classifier.weight: the head of another task" in notes


def test_a_head_of_tokens_is_none_of_sequences(backbones, tmp_path):
    model = transformers.AutoModelForTokenClassification.from_pretrained(backbones["bert"])
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(backbones["bert"]).save_pretrained(tmp_path)
    backbone = load_backbone(tmp_path, fresh=("pooler",))
    assert backbone.classifier is None and backbone.dropped


def test_labels_that_config_json_does_not_number_are_no_head(backbones, tmp_path):
    write_checkpoint(backbones["bert"], tmp_path, "bert", ["cat", "dog"])
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    for wrong in ({"0": "cat"}, ["cat", "dog"], {"a": "cat", "b": "dog"}):
        path.write_text(json.dumps({**settings, "id2label": wrong}), encoding="utf-8")
        assert load_backbone(tmp_path).classifier is None


def test_trainers_weights_of_frozen_encoder_are_the_heads(folder):
    settings = linear(folder, tasks=("sst",), frozen=True, encoder_dropout=None)
    trainer = make_trainer(settings)
    assert {name.partition(".")[0] for name in trainer.parameters} == {"heads"}
