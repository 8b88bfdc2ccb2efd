"""Runs that were killed or stopped, and resumed, against the same runs left alone: every number
must be equal. The processes that die here die by a real signal."""

import gc
import itertools
import json
import multiprocessing
import os
import pkgutil
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import (
    config,
    contents,
    contrast_config,
    pretrain_config,
    tiny,
    without_seconds,
    write_backbone,
    write_data,
)
from safetensors.torch import save_file

from lab.__main__ import main
from multitask import resume, train, training
from multitask.config import RunConfig
from multitask.loop import trainer
from multitask.loop.state import Progress
from multitask.runs.checkpoint import load_checkpoint
from multitask.runs.run import Run

pytestmark = pytest.mark.usefixtures("no_figure")

RUNS = {
    "dropout": {"head_dropout": 0.2, "encoder_dropout": 0.2, "evaluate_first": True},
    "often": {"save_every": 2, "log_every": 5, "pair": "concat", "epochs": 3, "patience": 2},
    "frozen": {"frozen": True, "head_dropout": 0.2, "epochs": 3},
    "accumulate": {"batch_size": 3, "accumulate": 3, "batches": "bucketed", "save_every": 3},
    "pretrain": {"tasks": ("sst", "sts"), "encoder_dropout": 0.2, "save_every": 2},
    "contrast": {"encoder_dropout": 0.2, "save_every": 2, "accumulate": 2, "batch_size": 2},
    "from scratch": {"from_scratch": "bert", "size": "tiny", "vocab_size": 80, "epochs": 1},
}
"""Settings of the runs to kill; those without epochs have 2, of 6 steps each."""


def settings_of(folder, kind, out):
    if kind == "contrast":
        return contrast_config(folder, folder / f"{kind}-{out}", **RUNS[kind])
    if kind in ("pretrain", "from scratch"):
        return pretrain_config(folder, folder / f"{kind}-{out}", **RUNS[kind])
    return config(folder, out=f"{kind}-{out}", **RUNS[kind])


@pytest.fixture(scope="module")
def alone(folder):
    """Each kind of run, left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_run", lambda run: None)
        return {
            kind: train(settings_of(folder, kind, "alone"), progress=False).folder for kind in RUNS
        }


def assert_same_run(found, expected):
    one, other = Run.open(found), Run.open(expected)
    assert without_seconds(one.metrics()) == without_seconds(other.metrics())
    written = "predictions" if other.predictions.exists() else "backbone"
    assert contents(found / written) == contents(expected / written)
    for name in ("best.safetensors", "last.safetensors"):
        (tensors, state), (wanted, wanted_state) = (
            load_checkpoint(path / name) for path in (found, expected)
        )
        assert tensors.keys() == wanted.keys() and len(tensors) > 2
        for key, tensor in tensors.items():
            assert torch.equal(tensor, wanted[key]), f"{name}: {key}"
        for each in (state, wanted_state):
            each.get("progress", {}).pop("seconds", None)
        assert state == wanted_state
    records = one.record(), other.record()
    for record in records:
        for name in ("seconds", "peak_memory_mb", "commit"):
            record.pop(name)
        record["config"].pop("out")
    assert records[0] == records[1]


# Processes that die


def doomed(act, target, number, moment, signals):
    """Run `act` in this process, and send it signals at the n-th call of a function."""
    gc.freeze()  # as in conftest.py
    training.draw_run = lambda run: None
    owner, _, name = target.rpartition(".")
    owner = pkgutil.resolve_name(owner)
    original = getattr(owner, name)
    calls = itertools.count(1)

    def deadly(*args, **options):
        if next(calls) != number:
            return original(*args, **options)
        if moment == "before":
            strike()
        result = original(*args, **options)
        if moment == "within":  # cut the file that it writes: the end had not reached the disk
            path = getattr(args[0], "metrics_path", args[-1])
            os.truncate(path, path.stat().st_size - 7)
        if moment != "before":
            strike()
        return result

    def strike():
        for number in signals:
            os.kill(os.getpid(), number)

    setattr(owner, name, deadly)
    act()


def die(act, target, number, moment="before", signals=(signal.SIGKILL,)):
    """Let another process run `act` and get signals; returns how it ended.

    The processes are forked from one server that has imported everything once.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    process = context.Process(target=doomed, args=(act, target, number, moment, signals))
    with pytest.MonkeyPatch.context() as patch:  # the server finds modules where we do
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        process.start()
    process.join(100)
    return process.exitcode


class Train:
    """What the other process does, in a form that can be sent to it."""

    def __init__(self, settings):
        self.settings = settings

    def __call__(self):
        if isinstance(self.settings, RunConfig):
            train(self.settings, progress=False)
        else:
            resume(self.settings, progress=False)


LOSS, SAVE, SCORE = "multitask.forward_pass.row_losses", "minbert.backbones.save_file", "multitask"
EVALUATE = "multitask.loop.trainer.evaluate"
SAVE_STATE = "multitask.loop.state.save_checkpoint"
KILLS = {
    "before the first checkpoint": ("dropout", LOSS, 3, "before", False),
    "in the evaluation before training": ("dropout", EVALUATE, 2, "before", 0),
    "in a step": ("dropout", LOSS, 9, "before", True),
    "in an evaluation": ("dropout", EVALUATE, 6, "before", True),
    "while the best weights are written": ("dropout", SAVE, 1, "within", False),
    "between best and last": ("dropout", SAVE_STATE, 1, "after", False),
    "while a checkpoint is written": ("dropout", SAVE, 2, "within", False),
    "right after a checkpoint": ("dropout", SAVE_STATE, 2, "after", True),
    "while metrics.jsonl is written": ("dropout", "multitask.runs.run.Run.log", 12, "within", True),
    "while predictions are written": ("dropout", "multitask.training.write_predictions", 3, "after",
                                      True),
    "before the record": ("dropout", "multitask.training.write_json", 1, "before", True),
    "often: in a step": ("often", LOSS, 12, "before", True),
    "often: while a checkpoint is written": ("often", SAVE, 4, "within", True),
    "often: in an evaluation": ("often", EVALUATE, 3, "before", True),
    "frozen: while features are cached": ("frozen", "multitask.dataset.batches_by_length", 3,
                                          "before", False),
    "frozen: in a step": ("frozen", LOSS, 14, "before", True),
    "accumulate: within a group": ("accumulate", LOSS, 20, "before", True),
    "pretrain: in a step": ("pretrain", LOSS, 10, "before", True),
    "pretrain: before the backbone is written": ("pretrain", "multitask.training.save_backbone",
                                                 1, "before", True),
    "contrast: within a group": ("contrast", "multitask.loop.engine.replayed", 6, "before", True),
    "contrast: before the backbone is written": ("contrast", "multitask.training.save_embedder",
                                                 1, "before", True),
    "from scratch: in the first step": ("from scratch", LOSS, 1, "before", False),
    "from scratch: before the record": ("from scratch", "multitask.training.write_json", 1,
                                        "before", True),
}  # fmt: skip


@pytest.mark.parametrize("name", KILLS)
def test_a_killed_run_goes_on_as_if_nothing_had_been(folder, alone, name):
    kind, target, number, moment, saved = KILLS[name]
    settings = settings_of(folder, kind, name.replace(" ", "-"))
    assert die(Train(settings), target, number, moment) == -signal.SIGKILL
    run = Run.open(settings.out)
    assert run.last.exists() == saved and not run.record_path.exists()
    if saved:
        load_checkpoint(run.last)
    resume(settings.out, progress=False)
    assert_same_run(settings.out, alone[kind])
    assert list(settings.out.rglob(".*")) == []  # neither half-written files nor a lock


def test_a_run_killed_again_and_again(folder, alone):
    settings = settings_of(folder, "often", "thrice")
    act = Train(settings)
    for target, number in ((LOSS, 4), (SAVE, 2), (LOSS, 5)):
        assert die(act, target, number) == -signal.SIGKILL
        act = Train(settings.out)
    resume(settings.out, progress=False)
    assert_same_run(settings.out, alone["often"])


def test_a_run_killed_while_its_folder_is_made_is_no_run_yet(folder, alone):
    settings = settings_of(folder, "dropout", "unborn")
    assert die(Train(settings), "minbert.files.os.replace", 3) == -signal.SIGKILL
    with pytest.raises(ValueError, match="unborn holds no run"):
        resume(settings.out)
    train(settings, progress=False)
    assert_same_run(settings.out, alone["dropout"])


def test_resuming_a_finished_run_changes_nothing(folder, alone, tmp_path):
    shutil.copytree(alone["dropout"], tmp_path / "copy")
    (tmp_path / "copy" / "record.json").unlink()
    resume(tmp_path / "copy", progress=False)
    assert_same_run(tmp_path / "copy", alone["dropout"])


def test_a_full_disk_says_how_to_go_on(folder, alone, monkeypatch):
    def fail(tensors, path, metadata):
        raise OSError("no space left")

    settings = settings_of(folder, "often", "full")
    with monkeypatch.context() as patch:
        patch.setattr("minbert.backbones.save_file", fail)
        with pytest.raises(OSError, match="could not be written") as error:
            train(settings, progress=False)
    assert str(error.value) == (
        f"{settings.out / 'last.safetensors'} could not be written: no space left; make room; "
        f"nothing is saved yet; then continue with: minbert train --resume {settings.out}"
    )
    resume(settings.out, progress=False)
    assert_same_run(settings.out, alone["often"])


# Ctrl-C


class Command:
    """`minbert train` with these settings, what it prints kept in a file."""

    def __init__(self, settings, errors):
        self.settings, self.errors = settings, errors

    def __call__(self):
        flags = []
        for name, value in self.settings.to_dict().items():
            if name in ("tasks", "data_dir", "backbone", "out") or name in RUNS["dropout"]:
                values = value if isinstance(value, list | tuple) else [value]
                flags += [f"--{name}", *map(str, values)] if value is not True else [f"--{name}"]
            elif isinstance(value, int | float) and not isinstance(value, bool):
                flags += [f"--{name}", str(value)]
        sys.argv = ["minbert", "train", *(f.replace("_", "-") if f[:2] == "--" else f
                                          for f in flags), "--device", "cpu"]  # fmt: skip
        with self.errors.open("w", encoding="utf-8") as sys.stderr:
            main()


@pytest.mark.parametrize(
    "name, target, number, signals, saved",
    [
        ("in a step", LOSS, 3, [signal.SIGINT], "last.safetensors"),
        ("by SIGTERM", LOSS, 9, [signal.SIGTERM], "last.safetensors"),
        (
            "in an evaluation",
            EVALUATE,
            3,
            [signal.SIGINT],
            "last.safetensors",
        ),
        ("while the best is written", SAVE, 1, [signal.SIGINT], "last.safetensors"),
        ("while a checkpoint is written", SAVE, 2, [signal.SIGINT], "last.safetensors"),
        ("twice in a step", LOSS, 9, [signal.SIGINT, signal.SIGINT], "last.safetensors"),
        ("twice in the first step", LOSS, 1, [signal.SIGINT, signal.SIGINT], None),
    ],
)
def test_ctrl_c_saves_and_says_how_to_go_on(folder, alone, name, target, number, signals, saved):
    settings = settings_of(folder, "dropout", f"stopped {name}")
    errors = folder / "errors.txt"
    assert die(Command(settings, errors), target, number, "before", signals) == 130
    message = errors.read_text(encoding="utf-8")
    assert "Traceback" not in message
    assert message.splitlines()[-1] == (
        f"stopped; {f'saved in {settings.out / saved}' if saved else 'nothing is saved yet'}; "
        f"continue with: minbert train --resume '{settings.out}'"
    )
    assert (settings.out / "last.safetensors").exists() == bool(saved)
    resume(settings.out, progress=False)
    assert_same_run(settings.out, alone["dropout"])


def test_ctrl_c_keeps_the_step_at_which_it_came(folder):
    settings = settings_of(folder, "dropout", "counted")
    die(Command(settings, folder / "errors.txt"), LOSS, 4, "before", [signal.SIGINT])
    _, state = load_checkpoint(settings.out / "last.safetensors")
    assert state["progress"]["step"] == 4  # the step that was on is finished first


# What cannot be resumed


@pytest.fixture
def copy(alone, tmp_path):
    shutil.copytree(alone["dropout"], tmp_path / "copy")
    return Run.open(tmp_path / "copy")


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "harm, message",
    [
        (lambda path: flip(path, -9), "last.safetensors is damaged: its contents have checksum"),
        (lambda path: flip(path, path.read_bytes().index(b"draws")), "is damaged"),
        (lambda path: os.truncate(path, 5000), "last.safetensors is damaged or no checkpoint"),
        (lambda path: path.write_bytes(b"text"), "last.safetensors is damaged or no checkpoint"),
        (lambda path: save_file({"x": torch.zeros(1)}, path), "is no checkpoint of this version"),
        (lambda path: path.write_bytes((path.parent / "best.safetensors").read_bytes()),
         "last.safetensors holds weights alone"),
    ],
    ids=["flipped weight", "flipped state", "truncated", "text", "plain safetensors", "best"],
)  # fmt: skip
def test_a_checkpoint_that_is_damaged_or_foreign_is_refused(copy, harm, message):
    harm(copy.last)
    before = copy.metrics_path.read_bytes()
    with pytest.raises(ValueError, match=message):
        resume(copy.folder, progress=False)
    assert copy.metrics_path.read_bytes() == before


def without(*places):
    return lambda lines: [line for place, line in enumerate(lines) if place not in places]


@pytest.mark.parametrize(
    "harm, message",
    [
        (without(5), "line 6 is of step 5, not of step 4"),
        (without(1, 2, 3), "line 2 is of step 3, not of step 0"),
        (lambda lines: [*lines[:5], lines[4], *lines[5:]], "line 6 is of step 3, not of step 4"),
        (without(0), "line 1 is of epoch 1, not of epoch 0|line 7 is of epoch 1, not of epoch 0"),
        (without(7), "line 14 is of epoch 2, not of epoch 1"),
        (without(14), "it ends after line 14, before epoch 2"),
        (lambda lines: lines[:5] + ["\0" * 900], "it ends after line 5, before step 4"),
        (lambda lines: [], "it ends after line 0, before step 0"),
    ],
    ids=["a step", "the first steps", "twice", "before", "epoch", "the end", "NULs", "all"],
)
def test_a_log_with_holes_is_refused(copy, harm, message):
    lines = copy.metrics_path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) == 15  # before, and two epochs of six steps
    copy.metrics_path.write_text("".join(harm(lines)), encoding="utf-8")
    before = copy.metrics_path.read_bytes()
    with pytest.raises(ValueError, match=rf"metrics.jsonl lacks lines .*: ({message}); put the fi"):
        resume(copy.folder, progress=False)
    assert copy.metrics_path.read_bytes() == before


def test_the_log_of_several_tasks_together_has_each_once():
    progress = Progress(step=2, draws={"sst": 2, "sts": 2})
    lines = [{"kind": "step", "step": n, "task": task} for n in range(2) for task in ("sst", "sts")]
    lines.insert(1, {"kind": "surgery", "step": 0})
    progress.check_log(lines)
    for place, message in ((2, "1 of its lines are of task sts, not 2"), (0, "of task sst, not 2")):
        with pytest.raises(ValueError, match=message):
            progress.check_log(lines[:place] + lines[place + 1 :])


def test_the_log_is_on_the_disk_before_a_checkpoint_says_so(folder, monkeypatch):
    order = []

    def spy(owner, name):
        original = getattr(owner, name)

        def called(*args, **options):
            order.append(name)
            return original(*args, **options)

        monkeypatch.setattr(owner, name, called)

    spy(Run, "log")
    spy(Run, "sync_log")
    spy(trainer, "save_state")
    train(config(folder, tasks=("sst",), save_every=2, log_every=5, epochs=1), progress=False)
    saves = [place for place, name in enumerate(order) if name == "save_state"]
    assert len(saves) == 2 and all(order[place - 1] == "sync_log" for place in saves)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"head_size": 9},
            r"does not fit the model: .*has heads\S+ of shape \(8, 16\), not \(9, 16",
        ),
        ({"tasks": ["sst", "para"]}, "the training rows of para are not those"),
        ({"batch_size": 0}, "config.json: batch_size must be at least 1"),
        ({"colour": "red"}, r"config.json: unknown settings: \['colour'\]; leave"),
    ],
)
def test_settings_that_do_not_fit_the_checkpoint_are_refused(copy, change, message):
    values = json.loads(copy.config_path.read_text(encoding="utf-8"))
    copy.config_path.write_text(json.dumps(values | change), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        resume(copy.folder, progress=False)


def test_other_rows_and_another_backbone_are_refused(tmp_path):
    settings = config(tiny(tmp_path), epochs=1, tasks=("sst",))
    run = train(settings, progress=False)
    write_data(tmp_path / "data", seed=1)
    with pytest.raises(
        ValueError, match=r"the training rows of sst are not those that .* began wi"
    ):
        resume(run.folder, progress=False)
    write_data(tmp_path / "data")
    write_backbone(tmp_path / "backbone", seed=1)
    with pytest.raises(ValueError, match=r"started from weights with sha256 \w+, and .*backbone"):
        resume(run.folder, progress=False)


def test_there_must_be_a_run(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=r"holds no run \(no config.json\); name a run folder"):
            resume(folder)
    Path(tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"config.json.* is not a JSON file"):
        resume(tmp_path)


def test_overwrite_starts_anew(folder, alone):
    settings = settings_of(folder, "dropout", "again")
    train(replace(settings, epochs=1, seed=1), progress=False)
    with pytest.raises(ValueError, match="holds a run already"):
        train(settings, progress=False)
    train(replace(settings, overwrite=True), progress=False)
    changed = Run.open(settings.out).config()
    Run.open(settings.out).config_path.write_text(
        json.dumps(replace(changed, overwrite=False).to_dict()), encoding="utf-8"
    )
    assert_same_metrics = without_seconds(Run.open(settings.out).metrics())
    assert assert_same_metrics == without_seconds(Run.open(alone["dropout"]).metrics())
