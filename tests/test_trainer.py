"""The training loop against a loop written out with torch.optim, and every promise of its config.

Runs that must agree exactly are made in float64, where the order of sums hardly shows.
"""

import gc
import importlib.util
import itertools
import json
import math
import re
import signal
import weakref
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import (
    config,
    contents,
    make_trainer,
    tiny,
    weights,
    without_seconds,
    write_backbone,
    write_data,
)
from torch.nn import functional as F

from data.draws import BatchStream, uniform_task
from data.readers import read_split
from data.tasks import get_task
from minbert import load_backbone
from minbert.encoders.bert import BertLayer
from multitask import MultitaskModel, Predictor, TrainConfig, resume, train, training
from multitask.extensions import base
from multitask.loop.interrupts import Interrupts
from multitask.loop.trainer import Trainer
from multitask.report.records import record_of
from multitask.runs.checkpoint import load_checkpoint
from multitask.runs.run import Run

EXACT = {"rtol": 1e-9, "atol": 1e-10}


@pytest.fixture(autouse=True)
def no_figure(monkeypatch):
    """Drawing takes longer than training here."""
    monkeypatch.setattr(training, "draw_run", lambda run: None)


def fit(folder, dtype=torch.float64, **changes):
    """A trainer that has trained."""
    trainer = make_trainer(config(folder, **changes), dtype)
    trainer.fit()
    return trainer


def assert_same_weights(one, other, **tolerance):
    one, other = (weights(trainer) for trainer in (one, other))
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], **tolerance, msg=lambda m: f"{name}: {m}")  # noqa: B023


def steps(trainer):
    return [line for line in trainer.run.metrics() if line["kind"] == "step"]


# Against a loop written out


def schedule(name, step, total, warmup):
    if step < warmup:
        return step / warmup
    left = (total - step) / (total - warmup)
    return {"linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2, "constant": 1.0}[name]


def by_torch(settings, total_steps, warmup):
    """The same training with torch.optim.AdamW, one padded batch a step, and no code of the
    trainer. Returns the weights."""
    backbone = load_backbone(settings.backbone)
    model = MultitaskModel.from_config(settings, backbone.encoder).double()
    named = dict(model.named_parameters())
    # torch decays before its update and by the same rate; the course decays after it, so the
    # decay is done by hand here. Without eps the two forms of the update are one.
    optimizer = torch.optim.AdamW(named.values(), lr=settings.lr, eps=1e-20, weight_decay=0)
    tables = {n: read_split(get_task(n), "train", settings.data_dir) for n in settings.tasks}
    streams = {
        name: BatchStream(
            [0] * len(table.examples), settings.batch_size, seed=settings.seed, name=name,
            bucketed=False,
        )
        for name, table in tables.items()
    }  # fmt: skip
    drawn = dict.fromkeys(settings.tasks, 0)
    for step in range(total_steps):
        rate = settings.lr * schedule(settings.schedule, step, total_steps, warmup)
        optimizer.param_groups[0]["lr"] = rate
        name = uniform_task(settings.tasks, seed=settings.seed, step=step)
        rows = [tables[name].examples[row] for row in streams[name][drawn[name]]]
        drawn[name] += 1

        encodings = backbone.tokenizer.encode(*map(list, zip(*(row.texts for row in rows))))
        ids = [torch.tensor(x) for x in encodings.input_ids]
        types = [torch.tensor(x) for x in encodings.token_type_ids]
        ids, types, mask = (
            torch.nn.utils.rnn.pad_sequence(x, batch_first=True)
            for x in (ids, types, [torch.ones_like(x) for x in ids])
        )
        x = model.encoder(ids, mask, types).pooler_output
        x = F.gelu(model.heads.shared["single"](x))
        outputs = model.heads.outputs[name](x).float()
        labels = torch.tensor([row.label for row in rows])
        if name == "sst":
            loss = F.cross_entropy(outputs, labels.long())
        else:
            loss = ((outputs[:, 0] - labels) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        if settings.clip:
            norm = sum(p.grad.square().sum() for p in named.values() if p.grad is not None).sqrt()
            for p in named.values():
                if p.grad is not None:
                    p.grad *= min(1.0, settings.clip / (norm + 1e-6))
        optimizer.step()
        with torch.no_grad():
            for p in named.values():
                if p.grad is not None and p.dim() == 2:
                    p *= 1 - rate * settings.weight_decay
    return {name: p.detach() for name, p in named.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {"clip": 0.5, "schedule": "linear"},
        {"clip": 0.0, "schedule": "cosine", "warmup": 0.5},
        {"clip": 1e6, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0},
    ],
    ids=["clipped, linear", "cosine", "constant"],
)
def test_steps_equal_a_loop_written_out_with_torch(folder, changes):
    settings = {"weight_decay": 0.2, "lr": 1e-3, "optimizer": "plain", "eps": 1e-20, **changes}
    trainer = fit(folder, epochs=2, **settings)
    assert trainer.progress.step == 12  # two passes over 22 rows of each task, 8 in a batch
    warmup = {0.0: 0, 0.1: 1, 0.5: 6}[trainer.config.warmup]
    expected = by_torch(trainer.config, 12, warmup)
    for name, found in weights(trainer).items():
        # A gradient that is 0 by a law (of the keys' biases) is noise over noise without eps.
        if not name.endswith("key.bias"):
            torch.testing.assert_close(found, expected[name], rtol=1e-6, atol=1e-7, msg=name)
    rates = [line["lr"] for line in steps(trainer)]
    wanted = [1e-3 * schedule(trainer.config.schedule, step, 12, warmup) for step in range(12)]
    assert rates == pytest.approx(wanted)


def test_the_record_of_a_step_is_its_loss_rows_and_norm(folder):
    trainer = make_trainer(config(folder, tasks=("sts",), epochs=1, clip=0.1), torch.float64)
    model, data = trainer.model, trainer.data["sts"].train
    rows = trainer.engine.streams["sts"][0]
    batch = data.batch(rows)
    loss = ((model(batch, "sts")[:, 0] - batch.labels) ** 2).mean()
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    model.zero_grad()
    trainer.fit()
    first = steps(trainer)[0]
    assert (first["step"], first["task"], first["rows"]) == (0, "sts", 8)
    assert first["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert first["grad_norm"] == pytest.approx(norm.item(), rel=1e-6)  # before clipping
    assert [line["rows"] for line in steps(trainer)] == [8, 8, 6]


# Ways that must lead to the same weights


@pytest.mark.parametrize(
    "one, other",
    [
        ({"batch_size": 2, "accumulate": 4}, {"batch_size": 8}),
        ({"batch_size": 3, "accumulate": 3, "pair": "concat"}, {"batch_size": 9, "pair": "concat"}),
        ({"batch_size": 4, "accumulate": 9}, {"batch_size": 36}),
        ({"layout": "padded"}, {"layout": "packed"}),
        ({"layout": "padded", "batches": "bucketed"}, {"batches": "bucketed"}),
        ({"optimizer": "plain"}, {"optimizer": "fused"}),
        ({"log_every": 5}, {"log_every": 1}),
        ({"save_every": 2}, {"evaluate_first": True}),
    ],
    ids=lambda changes: ",".join(f"{k}={v}" for k, v in changes.items()),
)
def test_these_settings_give_the_same_run(folder, one, other):
    """22 rows a task: the last group of a pass is smaller, and rows differ in length."""
    first, second = (fit(folder, **changes) for changes in (one, other))
    assert_same_weights(first, second, **EXACT)
    for a, b in zip(steps(first), steps(second), strict=True):
        assert (a["task"], a["rows"]) == (b["task"], b["rows"])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    assert first.progress.best_epoch == second.progress.best_epoch
    for name, metrics in first.progress.best.items():
        assert metrics == pytest.approx(second.progress.best[name], abs=1e-6)


def test_the_seed_decides_the_run_and_leaves_the_callers_random_state_alone(folder):
    changes = {"dtype": torch.float32, "head_dropout": 0.2, "encoder_dropout": 0.2, "epochs": 1}
    runs = []
    for caller, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(caller)
        state = torch.get_rng_state()
        runs.append(fit(folder, seed=seed, **changes))
        assert torch.equal(torch.get_rng_state(), state)
    one, same, other = runs
    assert_same_weights(one, same, rtol=0, atol=0)
    assert without_seconds(one.run.metrics()) == without_seconds(same.run.metrics())
    different = weights(other)
    changed = [n for n, w in weights(one).items() if not torch.equal(w, different[n])]
    assert len(changed) > 30
    assert without_seconds(one.run.metrics()) != without_seconds(other.run.metrics())


def test_dropout_draws_anew_at_every_step_batch_and_seed(folder):
    seen = []

    def keep(module, x, y):
        if module.training:
            seen.append((y == 0).flatten())

    for seed in (1, 2):
        changes = {"tasks": ("sst",), "head_dropout": 0.5, "batch_size": 11, "lr": 0.0}
        trainer = make_trainer(config(folder, seed=seed, **changes))
        trainer.model.heads.dropout.register_forward_hook(keep)
        trainer.fit()
    assert len(seen) == 16  # two layers of dropout in each of four batches
    pairs = itertools.combinations(seen, 2)
    assert not any(torch.equal(a, b) for a, b in pairs if len(a) == len(b))


# What is learnt and kept


@pytest.mark.parametrize(
    "pair, chance",
    [("cross", {"sst": 0.2, "para": 0.5}), ("concat", {"para": 0.5}), ("cosine", {"para": 0.5})],
)
def test_loss_goes_down_and_scores_beat_chance(folder, pair, chance):
    data = write_data(folder / "more", {"train": 120, "dev": 60, "test": 1})
    changes = {"tasks": tuple(chance), "pooling": "max", "lr": 3e-3, "clip": 0.0, "epochs": 7}
    trainer = fit(folder, torch.float32, data_dir=data, pair=pair, batch_size=12, **changes)
    lines = [line for line in trainer.run.metrics() if line["kind"] == "epoch"]
    first, last = lines[0], lines[-1]
    for name in chance:
        assert last["train_loss"][name] < 0.9 * first["train_loss"][name]
        assert trainer.progress.best[name]["accuracy"] > 1.6 * chance[name]
    assert len(lines) == 7
    assert trainer.progress.best_score == max(line["score"] for line in lines) > first["score"]


def test_an_epochs_train_loss_is_the_mean_over_its_rows(folder):
    trainer = fit(folder, log_every=4)
    epochs = [line for line in trainer.run.metrics() if line["kind"] == "epoch"]
    for number, epoch in enumerate(epochs):
        lines = [line for line in steps(trainer) if line["step"] // 6 == number]
        for name in trainer.config.tasks:
            mine = [line for line in lines if line["task"] == name]
            total = sum(line["loss"] * line["rows"] for line in mine)
            mean = total / sum(line["rows"] for line in mine)
            assert epoch["train_loss"][name] == pytest.approx(mean)


@pytest.fixture
def told_scores(monkeypatch):
    """Scores that the evaluations of a run are told to have, and the weights at each of them."""
    scores, seen = [], []

    def pretend(trainer, epoch):
        seen.append(weights(trainer))
        return {"sst": {"accuracy": scores[epoch], "loss": 1.0}}

    monkeypatch.setattr("multitask.loop.trainer.Trainer._score", pretend)
    return scores, seen


@pytest.mark.parametrize(
    "patience, epochs, best", [(None, 5, 2), (1, 3, 2), (2, 4, 2), (3, 5, 2), (9, 5, 2)]
)
def test_the_best_epoch_is_kept_and_patience_stops(folder, told_scores, patience, epochs, best):
    scores, seen = told_scores
    scores += [None, 0.3, 0.6, 0.6, 0.5, 0.2]  # a tie is not better
    trainer = fit(folder, torch.float32, tasks=("sst",), epochs=5, patience=patience)
    assert len(seen) == trainer.progress.evaluated == epochs
    assert trainer.progress.best_epoch == best
    tensors, state = load_checkpoint(trainer.run.best)
    assert state == {"epoch": best, "scores": {"sst": {"accuracy": 0.6, "loss": 1.0}}}
    assert tensors.keys() == seen[best - 1].keys()
    assert all(torch.equal(tensor, seen[best - 1][name]) for name, tensor in tensors.items())
    assert not torch.equal(tensors["heads.outputs.sst.bias"], seen[-1]["heads.outputs.sst.bias"])


def test_a_finished_run_answers_with_its_best_epoch(folder, told_scores):
    scores, seen = told_scores
    scores += [None, 0.6, 0.3, 0.2]
    run = train(config(folder, tasks=("sst",), epochs=3), progress=False)
    record = json.loads(run.record_path.read_text(encoding="utf-8"))  # it lacks most metrics
    assert (record["best_epoch"], record["epochs"], record["steps"]) == (1, 3, 9)
    trainer = make_trainer(config(folder, tasks=("sst",)))
    for name, parameter in trainer.parameters.items():
        parameter.data.copy_(seen[0][name])
    answers = trainer.evaluate("dev")["sst"].answers
    lines = contents(run.predictions)["sst-dev-output.csv"].decode().splitlines()[1:]
    assert [int(line.split(" , ")[1]) for line in lines] == answers.tolist()


def test_a_record_says_how_the_run_was_made(folder, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")  # a build that metadata lacks
    settings = config(folder, epochs=1, evaluate_first=True, limit=10, max_length=10)
    run = train(settings, progress=False)
    record = run.record()
    assert TrainConfig.from_dict(record["config"]) == settings == run.config()
    assert record["rows"]["sst"] == {"train": 10, "dev": 15, "test": 7}
    assert record["truncated"]["sts"]["dev"] > 0 == record["truncated"]["sst"]["dev"]
    before, after = (line for line in run.metrics() if line["kind"] == "epoch")
    assert (record["before"], record["dev"]) == (before["scores"], after["scores"])
    scores = [after["scores"]["sst"]["accuracy"], after["scores"]["sts"]["pearson"]]
    assert record["score"] == pytest.approx(np.mean(scores))
    assert record["versions"]["torch"] == "2.13.0+cu130"
    assert record["parameters"]["trained"] == record["parameters"]["all"]
    assert json.loads(run.record_path.read_text(encoding="utf-8")) == record


@pytest.mark.parametrize(
    "changes, expected",
    [({}, 3 + 3), ({"batch_size": 22}, 2), ({"accumulate": 2}, 4), ({"steps_per_epoch": 5}, 5)],
)
def test_an_epoch_is_one_pass_over_all_tasks(folder, changes, expected):
    trainer = make_trainer(config(folder, **changes))
    assert trainer.steps_per_epoch == expected and trainer.total_steps == 2 * expected


# What goes wrong


@pytest.mark.parametrize("log_every", [1, 4])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_stops_with_step_task_and_rows(folder, log_every, value):
    trainer = make_trainer(config(folder, tasks=("sts",), log_every=log_every, save_every=1))
    row = trainer.engine.streams["sts"][1][3]  # in the second batch
    trainer.data["sts"].train.labels[row] = value
    with pytest.raises(ValueError, match=rf"the loss is {value} at step 1, task sts, rows ") as e:
        trainer.fit()
    named = str(e.value).partition("rows ")[2].partition(";")[0].split(", ")
    assert named == [trainer.data["sts"].train.ids[i] for i in trainer.engine.streams["sts"][1]]
    assert f"sts-train-{row}" in named
    tensors, state = load_checkpoint(trainer.run.last)  # that of the step before
    assert state["progress"]["step"] == 1
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_a_weight_that_is_not_finite_stops_the_run_too(folder):
    trainer = make_trainer(config(folder, tasks=("sst",)))
    trainer.model.encoder.layers[1].feed_forward.inner.weight.data[0, 0] = math.inf
    with pytest.raises(ValueError, match="the loss is nan at step 0, task sst"):
        trainer.fit()
    assert not trainer.run.last.exists() and not trainer.run.best.exists()


def test_a_score_that_is_not_finite_stops_with_epoch_and_task(folder):
    settings = config(folder, tasks=("sts",), lr=1e35, warmup=0.0, steps_per_epoch=1)
    message = (
        "the development pearson of sts is nan in epoch 1; lower --lr, or use --precision fp32"
    )
    with pytest.raises(ValueError, match=message):
        train(settings, progress=False)
    assert [line["kind"] for line in Run(settings.out).metrics()] == ["step"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"precision": "fp16"}, "precision fp16 needs a GPU, the device is cpu; use bf16 or fp32"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used: .*; try --device cpu"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"max_length": 33}, "max_length 33 is more than the 32 positions of the backbone"),
        ({"tasks": ("cfimdb",)}, "task 'cfimdb' wants ids-cfimdb-train.csv"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_run_is_made(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        train(config(folder, out="refused", **changes), progress=False)
    assert not (folder / "refused").exists()


def test_a_folder_with_a_run_is_not_touched_unless_asked(folder):
    settings = config(folder, out="kept", tasks=("sst",), epochs=1)
    first = train(settings, progress=False)
    before = {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"holds a run already; .*--resume .*kept.*--overwrite"):
        train(settings, progress=False)
    assert before == {p: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()}
    again = train(replace(settings, overwrite=True, epochs=2, tasks=("sts",)), progress=False)
    assert again.record()["epochs"] == 2 and set(contents(again.predictions)) == {
        "sts-dev-output.csv",
        "sts-test-output.csv",
    }
    (folder / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="file cannot be written to: it is a file; name another"):
        train(replace(settings, out=folder / "file"), progress=False)


def test_a_run_works_from_any_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    settings = config(folder, data_dir=Path("data"), backbone="backbone", frozen=True, epochs=1)
    run = train(settings, progress=False)
    expected, kept = run.record(), record_of(run)
    assert (kept["config"]["data_dir"], kept["config"]["backbone"]) == ("data", "backbone")
    assert str(folder) not in json.dumps(kept)
    monkeypatch.chdir(tmp_path)
    predictor = Predictor(run.folder, device="cpu")
    for name, evaluation in predictor.evaluate("dev").items():
        assert evaluation.metrics == pytest.approx(expected["dev"][name], abs=1e-4)
    run.record_path.unlink()
    resume(run.folder, progress=False)
    assert run.record()["config"] == expected["config"]
    assert run.record()["backbone"] == expected["backbone"]


# Frozen, and other precisions


@pytest.mark.parametrize("pair", ["cross", "concat"])
def test_a_frozen_run_trains_heads_on_cached_features_and_keeps_nothing_else(folder, pair):
    settings = config(folder, frozen=True, pair=pair, epochs=3)  # the checkpoint has dropout
    encoder = load_backbone(settings.backbone).encoder.state_dict()
    frozen, plain = make_trainer(settings), make_trainer(config(folder, pair=pair))
    for name, split in itertools.product(settings.tasks, ("train", "dev", "test")):
        rows = list(range(7))
        cached = frozen.data[name].sources[split].batch(rows)
        tokens = plain.data[name].sources[split].batch(rows)
        assert cached.input_ids is None and cached.ids == tokens.ids
        with torch.inference_mode():
            expected = plain.model.features(tokens, name)
        torch.testing.assert_close(cached.features, expected, rtol=0, atol=1e-5)
        if split != "test":
            assert torch.equal(cached.labels, tokens.labels)

    run = train(replace(settings, out=folder / f"frozen-{pair}"), progress=False)
    for path, prefix in ((run.best, "heads."), (run.last, "model/heads.")):
        names = [re.sub("optimizer/exp_avg(_sq)?/", "model/", n) for n in load_checkpoint(path)[0]]
        assert names and all(name.startswith(prefix) for name in names)
    predictor = Predictor(run.folder, device="cpu")
    found = predictor.model.encoder.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in encoder.items())
    assert len(encoder) > 30
    for name, evaluation in predictor.evaluate("dev").items():
        assert evaluation.metrics == pytest.approx(run.record()["dev"][name], abs=1e-4)


def test_a_frozen_run_wants_the_weights_that_it_started_from(folder, tmp_path):
    other = tiny(tmp_path)
    run = train(config(other, frozen=True, epochs=1, tasks=("sst",)), progress=False)
    write_backbone(other / "backbone", seed=1)
    with pytest.raises(ValueError, match=r"started from weights with sha256 .* put the former"):
        Predictor(run.folder, device="cpu")
    write_backbone(other / "backbone")
    assert Predictor(run.folder, device="cpu").predict("sst", ["bat"])


def test_bf16_trains_close_to_fp32_with_weights_in_float32(folder):
    full = fit(folder, torch.float32, epochs=4, lr=1e-3)
    seen = []
    half = make_trainer(config(folder, epochs=4, lr=1e-3, precision="bf16"))
    half.model.encoder.layers[0].feed_forward.inner.register_forward_hook(
        lambda module, x, y: seen.append(y.dtype) if module.training else None
    )
    half.fit()
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in half.parameters.values()} == {torch.float32}
    losses = [[line["loss"] for line in steps(trainer)] for trainer in (full, half)]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, rtol=0.05, atol=0.05)


def test_tensorboard_events_are_those_of_metrics_jsonl_after_a_resume_too(folder, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def killed(self):
        if self.progress.step == 6:
            raise RuntimeError("killed")
        step(self)

    step = Trainer.step
    settings = config(folder, tasks=("sst",), tensorboard=True, steps_per_epoch=4)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            train(settings, progress=False)
    run = resume(settings.out, progress=False)
    events = EventAccumulator(str(run.events)).Reload()
    lines = [line for line in run.metrics() if line["kind"] == "step"]
    assert [line["step"] for line in lines] == list(range(8))
    for tag, key in (("loss/sst", "loss"), ("lr", "lr")):
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert found == [(line["step"], pytest.approx(line[key])) for line in lines]
    epochs = [line for line in run.metrics() if line["kind"] == "epoch"]
    found = [(event.step, event.value) for event in events.Scalars("dev/sst/accuracy")]
    assert found == [(e["step"], pytest.approx(e["scores"]["sst"]["accuracy"])) for e in epochs]


def test_a_run_frees_the_memory_of_the_run_before(folder, monkeypatch):
    made, make_model = [], training.make_model

    def kept_alive(settings, backbone):
        assert [model() for model in made] == [None] * len(made)
        model = make_model(settings, backbone)
        object.__setattr__(model, "cycle", [model])  # as frames of handled errors make one
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr(training, "make_model", kept_alive)
    gc.disable()
    try:
        for _ in range(2):
            train(config(folder, tasks=("sst",), epochs=1), progress=False)
    finally:
        gc.enable()
    assert len(made) == 2


class Thaw(base.Extension):
    """Lets a frozen encoder train again, without saying so in `freezes`."""

    def prepare(self, model):
        model.encoder.requires_grad_(True)


def test_a_mistake_found_late_leaves_the_run_that_was_to_be_replaced(folder, monkeypatch):
    settings = config(folder, tasks=("sst",), epochs=1)
    run = train(settings, progress=False)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    thaw = {"frozen": True, "encoder_dropout": None, "extensions": (Thaw(),), "overwrite": True}
    with pytest.raises(ValueError, match=r"the encoder is to be frozen, yet .* others train"):
        train(replace(settings, **thaw), progress=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="tensorboard is not installed; pip install tensorboard"):
        train(replace(settings, tensorboard=True, overwrite=True), progress=False)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_bf16_answers_close_to_fp32(folder):
    run = train(config(folder, epochs=1), progress=False)
    answers = [
        Predictor(run.folder, device="cpu", precision=precision).evaluate("dev")["sts"].answers
        for precision in ("fp32", "bf16")
    ]
    assert 0 < np.abs(answers[0] - answers[1]).max() < 0.1
    with pytest.raises(ValueError, match="precision fp16 needs a GPU"):
        Predictor(run.folder, device="cpu", precision="fp16")


# Gradient checkpointing


def test_gradient_checkpointing_trains_the_same(folder, monkeypatch):
    """With dropout, which must drop the same numbers when a layer is computed again."""
    dropped = {"encoder_dropout": 0.2, "head_dropout": 0.2, "epochs": 1}
    calls = {True: 0, False: 0}
    forward = BertLayer.forward

    def counted(layer, *inputs):
        calls[checkpointing] += layer.training
        return forward(layer, *inputs)

    monkeypatch.setattr(BertLayer, "forward", counted)
    trained = {}
    for checkpointing in (False, True):
        trained[checkpointing] = fit(folder, gradient_checkpointing=checkpointing, **dropped)
    assert calls[True] == 2 * calls[False] > 0
    assert_same_weights(trained[False], trained[True], **EXACT)


def test_gradient_checkpointing_keeps_no_attention_maps(folder):
    trainer = make_trainer(config(folder, gradient_checkpointing=True))
    ids = torch.tensor([[2, 5, 6, 3]])
    encoder = trainer.model.encoder.train()
    with pytest.raises(ValueError, match=r"turn one of the two off, or call \.eval\(\)"):
        encoder(ids, output_attentions=True)
    assert len(encoder.eval()(ids, output_attentions=True).attentions) == 2


# Extensions


@pytest.fixture
def extension(monkeypatch):
    """An extension that uses every hook, registered for one test."""
    monkeypatch.setattr(base, "EXTENSIONS", dict(base.load_extensions()))

    @base.register("everything")
    @dataclass(frozen=True, kw_only=True)
    class Everything(base.Extension):
        scale: float = 0.0
        together: bool = True
        share: float = 1.0

        def prepare(self, model):
            model.encoder.embeddings.requires_grad_(False)

        def lr_scale(self, model):
            names = [name for name, _ in model.named_parameters()]
            return {name: self.scale for name in names if name.startswith("encoder.layers.0.")}

        def choose_tasks(self, step):
            return list(step.rows) if self.together else None

        def combine(self, gradients, step):
            assert len({len(parts) for parts in gradients.values()}) == 1
            return {
                name: [None if part is None else self.share * part for part in parts]
                for name, parts in gradients.items()
            }

    return Everything


@pytest.fixture
def without_combine(extension):
    @base.register("everything-else")
    @dataclass(frozen=True, kw_only=True)
    class EverythingElse(extension):
        combine = base.Extension.combine

    return EverythingElse


@pytest.fixture
def without_choice(extension):
    @base.register("another")
    @dataclass(frozen=True, kw_only=True)
    class Another(extension):
        choose_tasks = base.Extension.choose_tasks

    return Another


def test_an_extension_prepares_scales_and_chooses(folder, extension):
    trainer = make_trainer(config(folder, extensions=(extension(),)))
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.fit()
    after = dict(trainer.model.named_parameters())
    parts = {"encoder.embeddings.": False, "encoder.layers.0.": False}
    parts |= {"encoder.layers.1.": True, "encoder.pooler.": True, "heads.": True}
    for part, moved in parts.items():
        names = [name for name in before if name.startswith(part)]
        assert names
        changed = [name for name in names if not torch.equal(before[name], after[name])]
        assert changed == (names if moved else []), part
    assert not any(name.startswith("encoder.embeddings.") for name in trainer.parameters)
    order = [(line["step"], line["task"]) for line in steps(trainer)]
    assert order == list(itertools.product(range(12), ("sst", "sts")))
    assert trainer.progress.draws == {"sst": 12, "sts": 12}
    norms = [line["grad_norm"] for line in steps(trainer)]
    assert norms[::2] == norms[1::2] and all(norms)


def test_learning_rate_scales_multiply(folder, extension, without_choice):
    both = (extension(scale=0.5), without_choice(scale=0.25))
    trainer = make_trainer(config(folder, extensions=both))
    rates = {n: g["lr"] for g in trainer.optimizer.param_groups for n in g["names"]}
    for name, rate in rates.items():
        factor = 0.125 if name.startswith("encoder.layers.0.") else 1
        assert rate == pytest.approx(factor * trainer.config.lr)
    assert rates.keys() == trainer.parameters.keys()


def test_combined_gradients_are_those_of_the_sum_of_losses(folder, extension, without_combine):
    plain, same, half, off = (
        fit(folder, extensions=(e,), clip=0.0, optimizer="plain", epochs=1)
        for e in (without_combine(), extension(), extension(share=0.5), extension(together=False))
    )
    assert_same_weights(plain, same, **EXACT)
    norms = [[line["grad_norm"] for line in steps(t)] for t in (plain, same, half)]
    assert norms[0] == [None] * 12
    draws = [line["task"] for line in steps(off)]
    assert draws == [uniform_task(("sst", "sts"), seed=11711, step=step) for step in range(6)]

    clipped = [
        fit(folder, extensions=(e,), clip=1e6, epochs=1, lr=0.0)
        for e in (without_combine(), extension(), extension(share=0.5))
    ]
    norms = [[line["grad_norm"] for line in steps(t)] for t in clipped]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    assert norms[2] == pytest.approx([norm / 2 for norm in norms[0]], rel=1e-6)


def test_an_extension_comes_back_from_config_json(folder, extension, without_choice):
    both = (extension(scale=0.3), without_choice(together=False))
    settings = config(folder, extensions=both)
    trainer = make_trainer(settings)
    assert Run.open(trainer.run.folder).config() == settings
    assert settings.to_dict()["extensions"][0] == {
        **{"name": "everything", "scale": 0.3, "together": True, "share": 1.0},
        "from": f"{__name__}:{extension.__qualname__}",  # for it is not one of the package's
    }


# Interrupts


def test_a_signal_waits_for_the_end_of_a_held_block_and_a_second_one_does_not():
    done = []

    def work(handler, *signals):
        with handler.held():
            for number in signals:
                signal.raise_signal(number)
            done.append(signals)
        done.append("after")

    former = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    handler = Interrupts()
    with handler.handled():
        work(handler)
        assert done == [(), "after"]
        with pytest.raises(KeyboardInterrupt):
            work(handler, signal.SIGINT)
        assert done == [(), "after", (signal.SIGINT,)] and not handler.torn
    handler = Interrupts()
    with handler.handled():
        with pytest.raises(KeyboardInterrupt):
            work(handler, signal.SIGTERM, signal.SIGTERM)
        assert len(done) == 3 and handler.torn
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == former
