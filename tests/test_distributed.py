"""Several processes train as one does: real processes, real signals, gloo between them."""

import gc
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
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
)
from torch import nn
from torch.distributed import TCPStore

from minbert import ConvBert, ModernBert
from multitask import distributed, resume, train, training
from multitask.commands.answer_commands import Evaluate
from multitask.environment import random_numbers_of
from multitask.extensions import base
from multitask.extensions.anchor import Anchor
from multitask.extensions.bottleneck import Bottleneck
from multitask.extensions.class_weights import ClassWeights
from multitask.extensions.distill import Distill
from multitask.extensions.focal import Focal
from multitask.extensions.gradient_surgery import GradientSurgery
from multitask.extensions.loss_weights import LossWeights
from multitask.extensions.pal import Pal
from multitask.extensions.rdrop import RDrop
from multitask.extensions.smart import Smart
from multitask.extensions.unfreeze import Unfreeze
from multitask.loop.parallel import spread
from multitask.loop.trainer import Trainer
from multitask.objective import Objective
from multitask.runs.checkpoint import load_checkpoint
from multitask.runs.run import Run

ROOT = Path(__file__).resolve().parent.parent
ALONE = {
    "single": {"tasks": ("sst",), "pooling": "pooler", "evaluate_first": True},
    "multitask": {"tasks": ("sst", "para", "sts", "cola"), "epochs": 1},
    "frozen": {"tasks": ("sst", "sts"), "frozen": True, "pair": "concat", "pooling": "mean"},
    "accumulate": {"tasks": ("sts",), "batch_size": 3, "accumulate": 3, "batches": "bucketed"},
    "surgery": {"tasks": ("sst", "sts", "cola"), "epochs": 1},
    "twice a step": {"tasks": ("sst", "sts"), "epochs": 1},
    "pretrain": {"tasks": ("sst", "sts"), "batch_size": 3, "accumulate": 3, "epochs": 1},
    "cosine": {"tasks": ("sts", "para"), "pair": "cosine", "pooling": "mean", "epochs": 1},
    "contrast": {"tasks": ("sts", "para"), "batch_size": 3, "accumulate": 3, "epochs": 1},
}
"""22 rows a task in batches of 8 leave a last batch of 6, and of 9 one of 4: rows 9 to 12 of it
in batches of 3 leave one row for two or three processes."""
EXTENDED = {
    "weights": {"tasks": ("sst", "sts"), "epochs": 1, "batch_size": 3, "accumulate": 3},
    "unfreeze": {"tasks": ("sst",), "pooling": "pooler"},
    "only": {"tasks": ("sst", "sts"), "epochs": 1},
    "penalties": {"tasks": ("sst", "sts"), "epochs": 1, "batch_size": 3, "accumulate": 3},
    "losses": {"tasks": ("sst", "sts"), "epochs": 1},
    "bottleneck": {
        "tasks": ("sst", "sts"),
        "epochs": 1,
        "gradient_checkpointing": True,
        "pooling": "attention",
        "layer_mix": True,
    },
    "pal": {"tasks": ("sst", "sts"), "epochs": 1, "batch_size": 3, "accumulate": 3},
    "distill": {"tasks": ("sts", "sst"), "epochs": 1, "batch_size": 3, "accumulate": 3},
}
"""The same, with an extension of the same name."""
UNEVEN = ("accumulate", "pretrain")
TEACHER = "multitask alone"
"""Folder of a run that teaches."""
MAKERS = {"pretrain": pretrain_config, "contrast": contrast_config}
"""How the settings of kinds are made that are no fine-tuning."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tiny(tmp_path_factory.mktemp("tiny"))
    write_backbone(folder / "convbert", encoder=ConvBert, embedding_size=12, num_groups=2)
    write_backbone(folder / "modernbert", encoder=ModernBert, local_attention=8)
    return folder


def settings_of(folder, kind, **changes):
    make = MAKERS.get(kind, config)
    # A dropout that hardly ever draws a zero, for what needs one.
    changes |= {"head_dropout": 1e-9} if kind in ("penalties", "losses") else {}
    return make(folder, **{"lr": 1e-3, "log_every": 4, **{**ALONE, **EXTENDED}[kind], **changes})


@dataclass(frozen=True, kw_only=True)
class Both(base.Extension):
    """All tasks in every step, their gradients added up by DDP."""

    name = "both"

    def choose_tasks(self, step):
        return list(step.rows)


def in_process(rank, count, port, folder, kind, changes, strike):
    """One of the processes that torchrun would start."""
    gc.freeze()  # as in conftest.py
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # the port is the parent's, as torchrun's
    training.draw_run = lambda run: None
    torch.distributed.destroy_process_group = destroy_and_check
    base.EXTENSIONS["both"] = Both
    if strike:
        who, number, step = strike
        original = Trainer.step

        def deadly(trainer):
            if trainer.progress.step == step and rank == who:
                os.kill(os.getpid(), number)
            return original(trainer)

        Trainer.step = deadly
    with (folder / f"errors-{rank}.txt").open("w", encoding="utf-8") as sys.stderr:
        try:
            if kind is None:
                resume(changes, progress=False)
            else:
                train(extended(settings_of(folder, kind, **changes), kind), progress=False)
        except (ValueError, OSError, KeyboardInterrupt) as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(3)
        except SystemExit:
            os._exit(2)
    os._exit(0)


def destroy_and_check(destroy=torch.distributed.destroy_process_group):
    """The end of a DDP waits for the process group's threads, and they may wait for the GIL that it
    holds: it must be gone before the group is, or now and then a run that is finished hangs."""
    if not sys.exc_info()[0] and any(isinstance(x, nn.Module) and hasattr(x, "reducer")
                                     for x in gc.get_objects()):  # fmt: skip
        print("a DDP outlives the process group", file=sys.stderr, flush=True)
        os._exit(4)
    destroy()


def extended(settings, kind):
    chosen = {
        "surgery": (GradientSurgery(method="gradvac"),),
        "twice a step": (Both(),),
        "weights": (LossWeights(learned=True),),
        "unfreeze": (Unfreeze(every=0.5),),
        "only": (Unfreeze(only="layer 1"),),
        "penalties": (RDrop(), Smart(weight=0.0, momentum=(0.5, 0.5)), ClassWeights()),
        "losses": (RDrop(), Focal(), ClassWeights(), Anchor()),
        "bottleneck": (Bottleneck(kind="houlsby", size=5),),
        "pal": (Pal(size=6, heads=2),),
        "distill": (Distill(teachers=(str(settings.data_dir.parent / TEACHER),), weight=0.9),),
    }.get(kind, ())
    return replace(settings, extensions=chosen)


def run_processes(count, folder, kind, changes, strike=None):
    """Start the processes, and return their exit codes and what they said."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # on any free port
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__, "torch._dynamo"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        started = [
            context.Process(
                target=in_process, args=(rank, count, store.port, folder, kind, changes, strike)
            )
            for rank in range(count)
        ]
        for process in started:
            process.start()
    for process in started:
        process.join(100)
        assert process.exitcode is not None, "a process hangs"
    said = [(folder / f"errors-{rank}.txt").read_text(encoding="utf-8") for rank in range(count)]
    return [process.exitcode for process in started], said


@pytest.fixture(scope="module")
def alone(folder):
    """Each kind of run in one process."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_run", lambda run: None)
        patch.setattr(base, "EXTENSIONS", {**base.load_extensions(), "both": Both})
        for kind in (*ALONE, *EXTENDED):
            changes = {"out": folder / TEACHER} if kind == "multitask" else {}
            settings = extended(settings_of(folder, kind, **changes), kind)
            found[kind] = train(settings, progress=False).folder
    return found


def assert_same_training(found, expected):
    """The same losses, rates, norms, scores and weights, to what float32 sums in another order."""
    one, other = Run(found), Run(expected)
    lines = [without_seconds(run.metrics()) for run in (one, other)]
    assert len(lines[0]) == len(lines[1]) > 3
    for line, wanted in zip(*lines, strict=True):
        assert line.keys() == wanted.keys()
        for key, value in wanted.items():
            if key in ("loss", "grad_norm"):
                assert line[key] == pytest.approx(value, rel=1e-5, abs=1e-6), (wanted["step"], key)
            elif key == "train_loss":
                assert line[key] == pytest.approx(value, rel=1e-5)
            elif key == "scores":
                for task, scores in value.items():
                    assert line[key][task] == pytest.approx(scores, rel=1e-4, abs=1e-6), task
            elif wanted["kind"] in ("cosines", "log_variances") and key not in ("kind", "tasks"):
                assert np.array(line[key]) == pytest.approx(np.array(value), rel=1e-5, abs=3e-6), (
                    key
                )
            elif key not in ("score", "overall"):
                assert line[key] == value, key
    for name in ("best", "last"):
        tensors, wanted = (load_checkpoint(getattr(run, name))[0] for run in (one, other))
        assert tensors.keys() == wanted.keys()
        assert len(wanted) > 2
        for key, tensor in tensors.items():
            if key.startswith("optimizer/"):
                continue
            off = (tensor - wanted[key]).abs().max().item()
            assert off < 1e-6, f"{name}: {key} is off by {off:.1e}"
    if not other.predictions.exists():  # there is a backbone
        assert not other.text.exists() or contents(one.text) == contents(other.text)
        assert (one.backbone / "model.safetensors").exists()
        return
    files = [sorted(run.predictions.iterdir()) for run in (one, other)]
    assert [f.name for f in files[0]] == [f.name for f in files[1]]
    assert len(files[0]) > 1
    for a, b in zip(*files, strict=True):
        rows = [
            [re.split(r" , ", line) for line in f.read_text(encoding="utf-8").splitlines()[1:]]
            for f in (a, b)
        ]
        assert [row[0] for row in rows[0]] == [row[0] for row in rows[1]]
        values = [[float(row[1]) for row in part] for part in rows]
        assert values[0] == pytest.approx(values[1], abs=1e-4)


@pytest.mark.parametrize(
    "kind, count, shard",
    [(kind, 2, False) for kind in ALONE]
    + [(kind, 2, True) for kind in ALONE if kind not in ("surgery", "frozen")]
    + [(kind, 3, shard) for kind in UNEVEN for shard in (False, True)]
    + [("frozen", 3, False)]
    + [("weights", 2, False), ("weights", 2, True), ("unfreeze", 2, False), ("only", 2, True)]
    + [("penalties", 2, False), ("losses", 2, True)]
    + [("bottleneck", 2, False), ("bottleneck", 2, True), ("pal", 2, False)]
    + [("distill", 2, False), ("distill", 2, True)],
)
def test_several_processes_train_as_one(folder, alone, kind, count, shard):
    out = folder / f"{kind}-{count}-{shard}"
    codes, said = run_processes(count, folder, kind, {"out": out, "shard": shard})
    assert codes == [0] * count, said
    assert Run(out).record()["processes"] == count
    assert_same_training(out, alone[kind])


@pytest.mark.parametrize(
    "encoder, pooling, shard",
    [
        ("convbert", "cls", True),
        ("convbert", None, False),
        ("modernbert", "mean", False),
        ("modernbert", None, True),
    ],
)
def test_other_encoders_train_as_one(folder, monkeypatch, encoder, pooling, shard):
    """Fine-tuned, and pre-trained where there is no pooling."""
    monkeypatch.setattr(training, "draw_run", lambda run: None)
    kind = "single" if pooling else "pretrain"
    changes = {"backbone": str(folder / encoder), "epochs": 1}
    changes |= {"pooling": pooling} if pooling else {}
    expected = train(settings_of(folder, kind, **changes), progress=False).folder
    out = folder / f"{kind}-{encoder}-{shard}"
    codes, said = run_processes(2, folder, kind, {**changes, "out": out, "shard": shard})
    assert codes == [0, 0], said
    assert_same_training(out, expected)


def test_a_sharded_run_answers_with_its_best_weights(folder):
    """Not with what is left of the last ones, which are worse here by far."""
    out = folder / "best first"
    changes = {"tasks": ("sts",), "pooling": "mean", "lr": 3e-2, "seed": 6, "epochs": 2}
    codes, said = run_processes(2, folder, "single", {**changes, "out": out, "shard": True})
    assert codes == [0, 0], said
    assert Run(out).record()["best_epoch"] == 1
    Evaluate(run_folders=(out,), out=folder / "answers").run()
    found, expected = (
        np.loadtxt(place / "sts-dev-output.csv", delimiter=",", skiprows=1, usecols=1)
        for place in (out / "predictions", folder / "answers")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shard", [False, True])
def test_a_run_goes_on_with_another_number_of_processes(folder, alone, shard):
    out = folder / f"changing-{shard}"
    changes = {"out": out, "save_every": 1, "shard": shard}
    for count, step in ((2, 2), (3, 4)):
        strike = (0, signal.SIGKILL, step)
        work = ("multitask", changes) if count == 2 else (None, out)
        codes, said = run_processes(count, folder, *work, strike)
        assert codes[0] == -signal.SIGKILL
        assert load_checkpoint(out / "last.safetensors")[1]["progress"]["step"] == step
        for code, words in zip(codes[1:], said[1:], strict=True):
            assert code == 3
            assert re.fullmatch(
                r"ConnectionError process \d of \d lost contact with another, which was stopped "
                rf"or failed; saved in {re.escape(str(out))}/last.safetensors; continue with: "
                rf"torchrun ... train --resume {re.escape(str(out))}\n",
                words,
            ), words
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_run", lambda run: None)
        resume(out, progress=False)
    assert_same_training(out, alone["multitask"])


def test_a_signal_to_one_process_stops_all_at_the_same_step(folder):
    """With dropout, so that the resumed run must draw what the run left alone draws."""
    dropped = {"encoder_dropout": 0.2, "head_dropout": 0.2}
    left, cut = folder / "left", folder / "cut"
    codes, said = run_processes(2, folder, "single", {"out": left, **dropped})
    assert codes == [0, 0], said
    strike = (1, signal.SIGTERM, 1)
    codes, said = run_processes(2, folder, "single", {"out": cut, **dropped}, strike)
    assert codes == [3, 3]
    for words in said:
        assert words == (
            f"KeyboardInterrupt stopped; saved in {cut}/last.safetensors; "
            f"continue with: minbert train --resume {cut}\n"
        )
    stopped = load_checkpoint(cut / "last.safetensors")[1]["progress"]["step"]
    assert stopped == 3, "the end of the epoch is the first step at which they agree"
    codes, said = run_processes(2, folder, None, cut)
    assert codes == [0, 0], said
    for name in ("best.safetensors", "last.safetensors"):
        tensors, wanted = (load_checkpoint(path / name)[0] for path in (cut, left))
        for key, tensor in tensors.items():
            assert tensor.equal(wanted[key]), f"{name}: {key}"


def test_processes_draw_their_own_dropout(monkeypatch):
    draws = []
    for rank in (0, 1, 0):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        with random_numbers_of(11711, 5, torch.device("cpu")):
            draws.append(torch.rand(4))
    assert draws[0].equal(draws[2])
    assert not draws[0].eq(draws[1]).any()


def test_an_error_of_the_first_process_ends_the_others(folder):
    out = folder / "taken"
    out.mkdir()
    (out / "config.json").write_text("{}", encoding="utf-8")
    codes, said = run_processes(2, folder, "single", {"out": out})
    assert codes == [3, 2]
    assert said[0].startswith(f"ValueError {out} holds a run already")
    assert said[1] == ""


def test_torchrun_starts_the_command_line(folder):
    out = folder / "by torchrun"
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "-m", "multitask", "train", "--tasks", "sst", "--data-dir", str(folder / "data"),
            "--backbone", str(folder / "backbone"), "--out", str(out), "--epochs", "1",
            "--device", "cpu",
        ],
        cwd=ROOT, capture_output=True, encoding="utf-8", timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "record.json").read_text(encoding="utf-8"))["processes"] == 2
    assert done.stdout.count("best epoch") == 1, "one process speaks"
    assert done.stderr.count("epoch 1 of 1: sst accuracy") == 1


# The parts, in one process


def test_one_process_is_all_there_is():
    assert (distributed.rank(), distributed.count(), distributed.is_writer()) == (0, 1, True)
    assert distributed.share([1, 2, 3]) == [1, 2, 3]
    assert distributed.gather([1, 2]) == [1, 2]
    assert distributed.by_writer(lambda: 5) == 5
    objective = Objective(nn.Linear(2, 2))
    assert spread(objective, shard=True, all_used=True).module is objective


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shares_cover_every_row_once(monkeypatch, count):
    monkeypatch.setattr(distributed, "count", lambda: count)
    for rows in ([7], [7, 8, 9, 4], list(range(12))):
        covered, batches = [], []
        for rank in range(count):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            own, counted = distributed.share_of_batch(rows)
            assert len(own)
            covered += list(distributed.share(rows))
            batches += list(own) if counted else []
        assert sorted(covered) == sorted(batches) == sorted(rows)
