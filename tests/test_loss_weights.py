"""Loss weights: the gradients that they make against the formulas in float64, in a run too."""

from dataclasses import replace

import pytest
import torch
from helpers import config, make_trainer, weights, without_seconds

from multitask import Predictor, TrainConfig, resume, train
from multitask.commands import main as cli
from multitask.extensions.base import extension_from_dict, extension_to_dict
from multitask.extensions.loss_weights import LossWeights
from multitask.loop.engine import Draw
from multitask.loop.trainer import Trainer
from multitask.runs.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("no_figure")

EXACT = {"rtol": 1e-9, "atol": 1e-11}
SINGLE = {"rtol": 1e-5, "atol": 1e-8}
"""Losses are computed in float32 whatever the weights are in."""


def gradients(folder, task, *extensions, s=None, **changes):
    """Gradients of a task's first batch, by name, and the model."""
    settings = config(folder, tasks=("sst", "sts"), extensions=extensions, **changes)
    trainer = make_trainer(settings, torch.float64)
    if s is not None:
        trainer.model.heads.log_variances[task].data.fill_(s)
    [part] = trainer.engine.backward([Draw(task, 0)])
    found = {n: p.grad for n, p in trainer.parameters.items() if p.grad is not None}
    return found, part.loss.item()


@pytest.mark.parametrize("changes", [{}, {"batch_size": 3, "accumulate": 3}])
def test_a_fixed_weight_multiplies_the_gradient_and_leaves_the_loss_that_is_shown(folder, changes):
    plain, loss = gradients(folder, "sts", **changes)
    found, shown = gradients(folder, "sts", LossWeights(weights={"sts": 0.25}), **changes)
    other, _ = gradients(folder, "sst", LossWeights(weights={"sts": 0.25}), **changes)
    same, _ = gradients(folder, "sst", **changes)
    assert shown == pytest.approx(loss) and loss > 0
    for name, value in plain.items():
        torch.testing.assert_close(found[name], 0.25 * value, **EXACT)
    for name, value in same.items():
        torch.testing.assert_close(other[name], value, **EXACT)


@pytest.mark.parametrize("changes", [{}, {"batch_size": 3, "accumulate": 3}])
@pytest.mark.parametrize("task, scale", [("sst", 1.0), ("sts", 0.5)])
def test_uncertainty_is_the_formula_of_the_paper(folder, task, scale, changes):
    """d/dw = c exp(-s) dL/dw and d/ds = 1/2 - c exp(-s) L, c = 1/2 for a regression."""
    s = torch.tensor(0.7, dtype=torch.float64)
    plain, loss = gradients(folder, task, **changes)
    found, shown = gradients(folder, task, LossWeights(learned=True), s=0.7, **changes)
    assert shown == pytest.approx(loss)
    for name, value in plain.items():
        wanted = scale * torch.exp(-s) * value
        torch.testing.assert_close(found[name], wanted, **SINGLE, msg=name)
    name = f"heads.log_variances.{task}"
    assert found.keys() - plain.keys() == {name}
    slope = 0.5 - scale * torch.exp(-s) * loss
    torch.testing.assert_close(found[name], slope[None], rtol=1e-6, atol=1e-6)


def test_log_variances_are_trained_logged_saved_and_resumed(folder, monkeypatch):
    extension = LossWeights(learned=True, weights={"sst": 0.5})
    settings = config(folder, extensions=(extension,), save_every=1, lr=1e-3, log_every=4)
    alone = train(settings, progress=False)
    cut, original = replace(settings, out=folder / "cut"), Trainer.step

    def stop(self):
        if self.progress.step == 7:
            raise ConnectionError
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stop)
        with pytest.raises(ConnectionError):
            train(cut, progress=False)
    found = resume(cut.out, progress=False)
    assert without_seconds(found.metrics()) == without_seconds(alone.metrics())
    lines = [line for line in alone.metrics() if line["kind"] == "log_variances"]
    assert [line["step"] for line in lines] == list(range(12))
    assert lines[0]["sst"] == 0.0 and abs(lines[-1]["sts"]) > 0.1
    tensors, wanted = (load_checkpoint(run.last)[0] for run in (found, alone))
    assert all(torch.equal(tensors[key], value) for key, value in wanted.items())
    assert tensors["model/heads.log_variances.sts"].item() != 0
    evaluations = Predictor(found.folder, device="cpu").evaluate("dev")
    for task, scores in alone.record()["dev"].items():
        assert evaluations[task].metrics == pytest.approx(scores, abs=1e-4)


def test_log_variances_have_a_rate_of_their_own_and_no_decay(folder):
    extension = LossWeights(learned=True, learned_lr=7.0)
    trainer = make_trainer(config(folder, extensions=(extension,)))
    groups = {n: g for g in trainer.optimizer.param_groups for n in g["names"]}
    assert groups["heads.log_variances.sst"]["lr"] == pytest.approx(7 * trainer.config.lr)
    assert groups["heads.log_variances.sst"]["weight_decay"] == 0
    assert groups["heads.outputs.sst.weight"]["lr"] == trainer.config.lr


def test_weights_of_one_are_no_weights(folder):
    runs = []
    for extensions in ((), (LossWeights(weights={"sst": 1.0}),)):
        trainer = make_trainer(config(folder, epochs=1, extensions=extensions))
        trainer.fit()
        runs.append(weights(trainer))
    assert all(torch.equal(value, runs[1][name]) for name, value in runs[0].items())


def test_flags_and_config_json():
    words = ["--tasks", "sst", "sts", "--loss-weights.weights", "sst", "1", "sts", "0.0625"]
    (found,) = cli.parse(["train", *words]).chosen()
    assert found == LossWeights(weights={"sst": 1.0, "sts": 0.0625})
    assert extension_from_dict(extension_to_dict(found)) == found


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"weights": {"sst": -1.0}}, "the weight of sst must be finite and at least 0: -1.0"),
        ({"weights": {"nli": 1.0}}, r"weights name nli; choose among the tasks \['sst', 'sts'\]"),
        ({"learned_lr": 0.0}, "learned_lr must be positive and finite, it is 0.0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(tasks=("sst", "sts"), extensions=(LossWeights(**settings),))


def test_a_setting_without_effect_is_refused():
    with pytest.raises(ValueError, match=r"learned_lr is .* and has no effect: no weights are"):
        LossWeights(learned_lr=9.0)
