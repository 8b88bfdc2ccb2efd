"""A step waits for nothing that a GPU computes; running ahead of one changes no number."""

import copy
import signal

import pytest
import torch
from helpers import config, make_pretrainer, make_trainer, pretrain_config, weights, without_seconds

from multitask.extensions.gradient_surgery import GradientSurgery
from multitask.extensions.layer_lr import LayerLR
from multitask.extensions.lora import LoRA
from multitask.extensions.loss_weights import LossWeights
from multitask.extensions.sampling import Sampling
from multitask.extensions.unfreeze import Unfreeze
from multitask.loop.trainer import Trainer

pytestmark = pytest.mark.usefixtures("no_figure")


def without_numbers(trainer):
    """The same trainer with a model on the meta device, where nothing can be read."""
    model = copy.deepcopy(trainer.model).to("meta")
    return Trainer(trainer.config, model, trainer.data, trainer.run, progress_bar=False)


RUNS = {
    "padded": {"layout": "padded", "head_dropout": 0.1, "encoder_dropout": 0.1},
    "mean": {"pooling": "mean", "pair": "concat", "clip": 0.0},
    "max": {"pooling": "max", "pair": "cosine", "accumulate": 2, "batch_size": 3},
    "frozen": {"frozen": True},
    "checkpointing": {"gradient_checkpointing": True},
    "loss weights": {"extensions": (LossWeights(learned=True),)},
    "sampling": {"extensions": (Sampling(strategy="annealed"), LayerLR(decay=0.9))},
    "adapters": {"extensions": (LoRA(rank=2),)},
    "unfreezing": {"extensions": (Unfreeze(every=0.2),)},
}


QUICK = {"padded", "adapters", "two tasks"}
"""Kinds of which one of each sort is in the quick tier."""


def kinds(table):
    marks = {True: (), False: pytest.mark.slow}
    return [pytest.param(kind, marks=marks[kind in QUICK]) for kind in table]


@pytest.mark.parametrize("kind", kinds(RUNS))
def test_a_step_reads_nothing_back_from_the_device(folder, kind):
    trainer = without_numbers(
        make_trainer(config(folder, optimizer="plain", log_every=100, **RUNS[kind]))
    )
    for _ in range(3):
        trainer.step()
    losses = [part.loss for line in trainer.log.pending for part in line.losses]
    assert [loss.device.type for loss in losses] == ["meta"] * 3
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        trainer.log.flush(trainer.progress)


def test_a_step_of_pretraining_reads_nothing_back_from_the_device(folder):
    settings = pretrain_config(folder, optimizer="plain", log_every=100)
    trainer = without_numbers(make_pretrainer(settings))
    trainer.step()
    assert trainer.log.pending[0].losses[0].loss.device.type == "meta"


def test_gradient_surgery_reads_the_products_of_gradients(folder):
    """The one exception, which also shows that a reader is found out."""
    settings = config(folder, optimizer="plain", extensions=(GradientSurgery(),))
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        without_numbers(make_trainer(settings)).step()


AHEAD = {
    "two tasks": {"log_every": 4, "save_every": 3, "encoder_dropout": 0.1},
    "every step": {"log_every": 1, "accumulate": 2, "batch_size": 3, "batches": "bucketed"},
    "all tasks": {"log_every": 2, "extensions": (GradientSurgery(), LossWeights(learned=True))},
}


def run_ahead(trainer, ahead=True):
    """Let the host run ahead of the device, as it does of a GPU."""
    trainer.engine.runs_ahead = trainer.log.runs_ahead = ahead


def run(settings, *, ahead):
    trainer = make_trainer(settings)
    run_ahead(trainer, ahead)
    trainer.restore()
    trainer.fit()
    return trainer


def assert_same_runs(found, expected):
    assert without_seconds(found.run.metrics()) == without_seconds(expected.run.metrics())
    assert len(found.run.metrics()) > 6
    wanted = weights(expected)
    assert all(torch.equal(value, wanted[name]) for name, value in weights(found).items())
    assert found.progress.draws == expected.progress.draws


@pytest.mark.parametrize("kind", kinds(AHEAD))
def test_running_ahead_changes_no_number(folder, kind):
    plain = run(config(folder, **AHEAD[kind]), ahead=False)
    ahead = run(config(folder, **AHEAD[kind]), ahead=True)
    assert ahead.engine._next and not plain.engine._next
    assert_same_runs(ahead, plain)


def test_a_batch_is_made_while_the_step_before_it_is_computed(folder):
    trainer = make_trainer(config(folder, tasks=("sst",)))
    run_ahead(trainer)
    made = []
    source = trainer.data["sst"].train
    make = source.batch
    source.batch = lambda rows, draw=0: made.append(draw) or make(rows, draw)
    for step in range(3):
        trainer.step()
        assert made == list(range(step + 2))
    trainer.progress.draws["sst"] = 7  # as a resumed run has it: what is made is not for this draw
    trainer.step()
    assert made == [0, 1, 2, 3, 7, 8]


@pytest.mark.parametrize("at", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_ahead_that_was_stopped_goes_on_as_if_it_had_not_been(folder, monkeypatch, at):
    changes = {"log_every": 2, "encoder_dropout": 0.1}
    expected = run(config(folder, **changes), ahead=False)
    trainer, step = make_trainer(config(folder, **changes)), Trainer.step
    run_ahead(trainer)

    def interrupted(self):
        if self.progress.step == at:
            signal.raise_signal(signal.SIGINT)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit()
    assert trainer.progress.step == at + 1
    model = make_trainer(config(folder, **changes)).model
    resumed = Trainer(trainer.config, model, trainer.data, trainer.run, progress_bar=False)
    run_ahead(resumed)
    resumed.restore()
    resumed.fit()
    assert_same_runs(resumed, expected)


@pytest.mark.parametrize("log_every", [1, 3])
def test_running_ahead_a_loss_that_is_not_finite_is_named_one_step_later(
    folder, monkeypatch, log_every
):
    trainer = make_trainer(config(folder, tasks=("sst",), log_every=log_every, steps_per_epoch=6))
    run_ahead(trainer)
    step = Trainer.step

    def spoil(self):
        if self.progress.step == 2:
            next(iter(self.parameters.values())).data.fill_(float("nan"))
        return step(self)

    monkeypatch.setattr(Trainer, "step", spoil)
    with pytest.raises(ValueError, match="the loss is nan at step 2, task sst, rows sst-train-"):
        trainer.fit()
    assert trainer.progress.step == 4  # steps 0 to 2, and the one that was under way
    assert not trainer.run.last.exists()
