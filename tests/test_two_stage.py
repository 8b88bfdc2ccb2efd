"""A run that starts from another: the same as from the exported encoder, heads along when asked."""

import hashlib
import shutil
from dataclasses import replace

import pytest
import torch
from helpers import config, contents, without_seconds
from torch import nn

from minbert import save_pretrained
from multitask import Predictor, resume, train, training
from multitask.extensions.unfreeze import Unfreeze
from multitask.loop.trainer import Trainer
from multitask.runs.checkpoint import load_checkpoint, trainable
from multitask.runs.origin import backbone_of
from multitask.runs.run import Run

pytestmark = pytest.mark.usefixtures("no_figure")

DROPPED = {"encoder_dropout": 0.3, "head_dropout": 0.2}


@pytest.fixture(scope="module")
def first(folder):
    """A multitask run with dropout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_run", lambda run: None)
        return train(config(folder, tasks=("sst", "sts"), epochs=1, **DROPPED), progress=False)


def second(folder, first, **changes):
    settings = {"tasks": ("sst",), "epochs": 1, "encoder_dropout": None, **changes}
    return config(folder, backbone=str(first.folder), **settings)


def start_of(settings):
    """The weights before the first step."""
    return dict(training.make_model(settings, backbone_of(settings)).named_parameters())


def assert_same_training(one, other):
    assert without_seconds(one.metrics()) == without_seconds(other.metrics())
    assert contents(one.predictions) == contents(other.predictions)
    for name in ("best", "last"):
        tensors, wanted = (load_checkpoint(getattr(run, name))[0] for run in (one, other))
        assert tensors.keys() == wanted.keys()
        assert all(torch.equal(tensors[key], value) for key, value in wanted.items())


def test_a_run_as_backbone_is_its_exported_encoder(folder, first):
    predictor = Predictor(first.folder, device="cpu")
    exported = save_pretrained(folder / "exported", predictor.model.encoder, predictor.tokenizer)
    settings = second(folder, first)
    backbone = backbone_of(settings)
    rates = {module.p for module in backbone.encoder.modules() if isinstance(module, nn.Dropout)}
    assert rates == {0.1}  # its config's, and not the first run's
    found = train(settings, progress=False)
    assert_same_training(found, train(config(folder, **{
        "tasks": ("sst",), "epochs": 1, "encoder_dropout": None, "backbone": str(exported)}),
        progress=False))  # fmt: skip
    sha256 = hashlib.sha256(first.best.read_bytes()).hexdigest()
    assert found.record()["backbone"]["sha256"] == sha256
    assert found.record()["backbone"]["source"] == str(first.folder)


def test_heads_start_anew_or_come_along(folder, first):
    tensors, _ = load_checkpoint(first.best)
    anew = start_of(second(folder, first))
    along = start_of(second(folder, first, keep_heads=True))
    for name, value in anew.items():
        assert torch.equal(value, tensors[name]) == (not name.startswith("heads.")), name
    assert anew.keys() == along.keys() >= {"heads.outputs.sst.weight", "heads.shared.single.bias"}
    assert all(torch.equal(value, tensors[name]) for name, value in along.items())
    mixed = start_of(second(folder, first, tasks=("cola", "sts"), keep_heads=True))
    plain = start_of(second(folder, first, tasks=("cola", "sts")))
    name = "heads.outputs.{}.weight"
    assert torch.equal(mixed[name.format("sts")], tensors[name.format("sts")])
    assert torch.equal(mixed[name.format("cola")], plain[name.format("cola")])


@pytest.mark.parametrize(
    "changes", [{"frozen": True}, {"extensions": (Unfreeze(only="layer 2"),)}], ids=str
)
def test_a_run_that_trained_a_part_gives_its_whole_encoder_and_all_of_it_learns(folder, changes):
    run = train(config(folder, tasks=("sst",), epochs=1, **changes), progress=False)
    found = backbone_of(second(folder, run)).encoder
    wanted = Predictor(run.folder, device="cpu").model.encoder
    assert all(parameter.requires_grad for parameter in found.parameters())
    for name, value in wanted.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    settings = second(folder, run)
    model = training.make_model(settings, backbone_of(settings))
    assert trainable(model).keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize("step", [1, 5])
def test_a_second_stage_that_was_cut_goes_on_exactly(folder, first, monkeypatch, step):
    """Before its first checkpoint and after."""
    settings = second(folder, first, keep_heads=True, epochs=2, **DROPPED)
    alone = train(replace(settings, out=folder / f"alone-{step}"), progress=False)
    original = Trainer.step

    def stop(self):
        if self.progress.step == step:
            raise ConnectionError
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stop)
        with pytest.raises(ConnectionError):
            train(settings, progress=False)
    assert Run(settings.out).last.exists() == (step > 3)
    assert_same_training(resume(settings.out, progress=False), alone)


def test_a_second_stage_stands_alone_when_done_and_guards_what_it_began_with(folder):
    one = train(config(folder, tasks=("sst",), epochs=1), progress=False)
    whole = train(second(folder, one), progress=False)
    part = train(second(folder, one, extensions=(Unfreeze(only="pooler"),)), progress=False)
    train(config(folder, tasks=("sst",), epochs=1, seed=3, out=one.folder, overwrite=True),
          progress=False)  # fmt: skip
    for action in (lambda: Predictor(part.folder), lambda: resume(whole.folder)):
        with pytest.raises(ValueError, match=r"started from weights with sha256 .*put the former"):
            action()
    shutil.rmtree(one.folder)
    assert Predictor(whole.folder, device="cpu").predict("sst", ["bat"])


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"backbone": "minilm"},
            "keep_heads takes the heads of a run, and backbone minilm is",
        ),
        ({"tasks": ("cola",)}, "has no head for cola; leave out --keep-heads"),
        (
            {"revision": "main"},
            r"revision is 'main' and has no effect: it is for .* the hub, and .* is",
        ),
        ({"head_size": 9}, r"heads.shared.single.weight of shape \(8, 16\), not \(9, 16\)"),
    ],
)
def test_heads_that_cannot_come_along_are_named_before_a_run_is_made(
    folder, first, changes, message
):
    settings = replace(second(folder, first, keep_heads=True), **{"out": folder / "no", **changes})
    with pytest.raises(ValueError, match=message):
        train(settings, progress=False)
    assert not (folder / "no").exists()


def test_a_run_is_not_replaced_by_one_that_starts_from_it(folder, first):
    settings = second(folder, first, out=first.folder, overwrite=True)
    with pytest.raises(ValueError, match="is the run to start from; choose another --out"):
        train(settings, progress=False)
    assert first.best.is_file()
