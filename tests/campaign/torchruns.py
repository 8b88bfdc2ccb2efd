"""Runs on two processes of torchrun, of which one, or torchrun itself, is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from campaign.cases import Broken, Case, kind, require
from campaign.runs import write_tiny
from campaign.same import check_same

RUNS: dict[str, list[Any]] = {
    "train": ["train", "--tasks", "sst", "sts", "--head-size", "8", "--head-dropout", "0.2"],
    "frozen": ["train", "--tasks", "sst", "para", "--frozen", "--pair", "concat"],
    "shard": ["train", "--tasks", "sts", "--shard", "--head-size", "8"],
    "pretrain": ["pretrain", "--tasks", "sst", "--accumulate", "2"],
}


@kind(
    "torchrun",
    "The same where one of two processes dies, or torchrun alone, whose workers live on.",
    300,
)
def torchrun(case: Case) -> None:
    name = list(RUNS)[case.number % len(RUNS)]
    alone = case.prepared(f"torchrun-{name}", lambda folder: left_alone(case, name, folder))
    place = case.folder / "run"
    line = case.draw.randrange(
        len((alone / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    )
    victim = case.draw.choice(["torchrun", "torchrun", "worker 1", "worker 2"])
    number = case.draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
    case.note(f"{name}: {number.name} for {victim} at line {line + 1} of metrics.jsonl")
    process = launch(case, *words_of(case, name, place))
    while process.poll() is None and lines_in(place / "metrics.jsonl") <= line:
        time.sleep(0.005)
    if process.poll() is None:
        pid = process.pid if victim == "torchrun" else workers_of(process)[int(victim[-1]) - 1]
        os.kill(pid, number)
    process.wait()
    for _ in range(20):  # while orphaned workers write, they have the folder
        begun = (place / "config.json").exists()
        again = ["--resume", place] if begun else words_of(case, name, place)[1:]
        process = launch(case, RUNS[name][0], *again)
        if process.wait() == 0:
            check_same(place, alone)
            return
        said = (case.folder / "errors").read_text(encoding="utf-8", errors="replace")
        require("error: " in said, f"it ended with {process.returncode}: {said[-500:]}")
        time.sleep(0.5)
    raise Broken(f"it cannot be continued: {said[-500:]}")


def left_alone(case: Case, name: str, folder: Path) -> None:
    process = launch(case, *words_of(case, name, folder / "run"))
    require(process.wait() == 0, (case.folder / "errors").read_text(encoding="utf-8"))
    for path in (folder / "run").iterdir():
        shutil.move(path, folder)
    (folder / "run").rmdir()


def words_of(case: Case, name: str, place: Path) -> list[Any]:
    ready = case.prepared("tiny", write_tiny)
    rest = ["--data-dir", ready / "data", "--backbone", ready / "bert", "--save-every", "2"]
    rest += ["--log-every", "1", "--batch-size", "8", "--epochs", "2", "--device", "cpu"]
    return [*RUNS[name], *rest, "--out", place]


def launch(case: Case, *words: Any) -> subprocess.Popen[bytes]:
    """Start torchrun on two processes."""
    options = ["--standalone", "--nproc-per-node", "2", "-m", "multitask"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, *map(str, words)]
    path = os.pathsep.join(os.path.abspath(each) for each in sys.path)
    with (case.folder / "errors").open("wb") as errors:
        return subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": path}, stdout=errors, stderr=errors
        )


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """The process ids of torchrun's workers."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    return sorted(pid for pid, parent in pairs if parent == process.pid)


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
