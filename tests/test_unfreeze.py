"""Unfreezing: which parts move in which epoch, against the same training with parts held by hand,
and after a kill."""

import itertools

import pytest
import torch
from helpers import config, contents, make_trainer, weights, without_seconds

from minbert import load_backbone
from multitask import Predictor, PretrainConfig, TrainConfig, resume, train
from multitask.extensions.unfreeze import Unfreeze
from multitask.loop.trainer import Trainer
from multitask.runs.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("no_figure")

PARTS = (
    "encoder.embeddings.",
    "encoder.layers.0.",
    "encoder.layers.1.",
    "encoder.pooler.",
    "heads.",
)
GRADUAL = (Unfreeze(),)


def watched(trainer, monkeypatch):
    """Train; returns for every step the parts that moved."""
    moved, original = [], Trainer.step

    def step(self):
        before = weights(self)
        original(self)
        names = [n for n, value in weights(self).items() if not torch.equal(value, before[n])]
        moved.append({part for part in PARTS if any(name.startswith(part) for name in names)})

    monkeypatch.setattr(Trainer, "step", step)
    trainer.fit()
    return moved


@pytest.mark.parametrize("every, parts", [(1.0, (1, 2, 3, 4, 5, 5)), (2.0, (1, 1, 2, 2, 3, 3)),
                                          (0.5, (1, 3, 5, 5, 5, 5))])  # fmt: skip
def test_one_more_part_learns_from_the_top_down(folder, monkeypatch, every, parts):
    """Steps 2 k of an epoch of two steps; weight decay is on, and moves nothing that is frozen."""
    trainer = make_trainer(
        config(
            folder, tasks=("sst",), epochs=6, steps_per_epoch=2, warmup=0.0, schedule="constant",
            weight_decay=0.1, extensions=(Unfreeze(every=every),),
        )
    )  # fmt: skip
    assert trainer.parameters.keys() == dict(trainer.model.named_parameters()).keys()
    moved = watched(trainer, monkeypatch)
    for epoch, count in enumerate(parts):
        assert moved[2 * epoch] == set(PARTS[-count:]), epoch
    norms = {len(state) for state in trainer.optimizer.state.values()}
    assert norms == {3}  # step and two moments, of those that learnt
    counts = {n: trainer.optimizer.state[p]["step"] for n, p in trainer.parameters.items()
              if p in trainer.optimizer.state}  # fmt: skip
    steps = {"heads.outputs.sst.weight": 12, "encoder.pooler.dense.weight": 12 - 2 * every}
    assert {name: counts[name] for name in steps} == steps


def test_the_numbers_are_those_of_parts_frozen_by_hand(folder):
    """Two runs of one epoch, the second from the first's weights and moments with the pooler
    unfrozen, are the two epochs of gradual unfreezing."""
    changes = {"tasks": ("sst",), "schedule": "constant", "warmup": 0.0, "lr": 1e-3}
    gradual = make_trainer(config(folder, extensions=GRADUAL, epochs=2, **changes), torch.float64)
    gradual.fit()

    by_hand = make_trainer(config(folder, epochs=2, **changes), torch.float64)
    hold = {0: PARTS[:4], 3: PARTS[:3]}
    step = by_hand.step

    def held():
        if by_hand.progress.step in hold:
            for name, p in by_hand.parameters.items():
                p.requires_grad_(not name.startswith(hold[by_hand.progress.step]))
        step()

    by_hand.step = held
    by_hand.fit()
    found, expected = weights(gradual), weights(by_hand)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)
    start = dict(load_backbone(folder / "backbone").encoder.double().named_parameters())
    name = "layers.1.feed_forward.inner.weight"
    assert torch.equal(found[f"encoder.{name}"], start[name])


@pytest.mark.parametrize("only, part", [("embeddings", 0), ("layer 2", 2), ("pooler", 3)])
def test_only_one_part_and_the_heads_learn(folder, monkeypatch, only, part):
    settings = config(folder, epochs=1, weight_decay=0.1, warmup=0.0,
                      extensions=(Unfreeze(only=only),))  # fmt: skip
    trainer = make_trainer(settings)
    moved = watched(trainer, monkeypatch)
    assert set().union(*moved) == {PARTS[part], "heads."}
    assert all(name.startswith((PARTS[part], "heads.")) for name in trainer.parameters)
    tensors, _ = load_checkpoint(trainer.run.best)
    assert tensors.keys() == trainer.parameters.keys()


@pytest.mark.parametrize(
    "extension",
    [Unfreeze(every=0.5), pytest.param(Unfreeze(only="layer 1"), marks=pytest.mark.slow)],
)
def test_a_run_that_was_cut_goes_on_exactly_and_can_be_asked(folder, monkeypatch, extension):
    dropped = {"encoder_dropout": 0.2, "head_dropout": 0.2, "save_every": 1, "epochs": 3}
    settings = config(folder, extensions=(extension,), **dropped)
    alone = train(settings, progress=False)
    cut = TrainConfig(**{**vars(settings), "out": folder / f"cut-{extension.only}"})
    for step, act in ((4, lambda: train(cut, progress=False)), (11, lambda: resume(cut.out))):
        with monkeypatch.context() as patch:
            original = Trainer.step

            def stop(self, step=step, original=original):
                if self.progress.step == step:
                    raise ConnectionError
                original(self)

            patch.setattr(Trainer, "step", stop)
            with pytest.raises(ConnectionError):
                act()
    found = resume(cut.out, progress=False)
    assert without_seconds(found.metrics()) == without_seconds(alone.metrics())
    for name in ("best", "last"):
        tensors, wanted = (load_checkpoint(getattr(run, name))[0] for run in (found, alone))
        assert tensors.keys() == wanted.keys()
        assert all(torch.equal(tensors[key], value) for key, value in wanted.items())
    assert contents(found.predictions) == contents(alone.predictions)
    for task, evaluation in Predictor(found.folder, device="cpu").evaluate("dev").items():
        assert evaluation.metrics == pytest.approx(alone.record()["dev"][task], abs=1e-5)


def test_what_another_extension_froze_stays_frozen(folder):
    """Gradual unfreezing of one part's biases alone, as an adapter method would leave them."""
    trainer = make_trainer(config(folder, epochs=3, extensions=(Unfreeze(every=0.5),)))
    frozen = [p for n, p in trainer.model.named_parameters() if n.startswith(PARTS[1])]
    trainer.parameters = {n: p for n, p in trainer.parameters.items() if not n.startswith(PARTS[1])}
    for parameter in frozen:
        parameter.requires_grad_(False)
    trainer.fit()
    assert not any(parameter.requires_grad for parameter in frozen)
    assert len(frozen) > 10
    states = [p.requires_grad for p in trainer.parameters.values()]
    assert all(states)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"only": "layer 3"}, r"unfreeze.only is 'layer 3'; the encoder's parts are embeddings, "
         "layer 1, layer 2, pooler"),
        ({"every": 0.0}, "every must be positive and finite, it is 0.0"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_before_a_run_is_made(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        train(config(folder, out="refused", extensions=(Unfreeze(**changes),)), progress=False)
    assert not (folder / "refused").exists()


@pytest.mark.parametrize("setting", ["frozen", "shard"])
def test_it_does_not_go_with_frozen_or_shard(setting):
    with pytest.raises(ValueError, match=setting):
        TrainConfig(extensions=GRADUAL, **{setting: True})


def test_it_does_not_go_with_shard_in_pretraining():
    with pytest.raises(ValueError, match="shard does not go with gradual unfreezing"):
        PretrainConfig(tasks=("sst",), extensions=GRADUAL, shard=True)


def test_parts_are_unfrozen_in_the_order_of_the_model(folder):
    trainer = make_trainer(config(folder))
    owners = trainer.model.part_of()
    order = [part for part, _ in itertools.groupby(owners.values())]
    assert order == ["embeddings", "layer 1", "layer 2", "pooler", "heads"]


def test_a_setting_without_effect_is_refused():
    with pytest.raises(ValueError, match=r"every is 2\.0 and has no effect: only layer 1 learns"):
        Unfreeze(only="layer 1", every=2)
