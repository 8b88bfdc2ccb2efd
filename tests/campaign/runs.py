"""Runs to try things on: drawn settings, each run once left alone, and what it takes to go on."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from helpers import write_backbone, write_data

from campaign.cases import Case, check_finished, require
from minbert import Bert, ConvBert, ModernBert
from multitask.extensions.base import load_extensions

ENCODERS: dict[str, tuple[Any, dict[str, int]]] = {
    "bert": (Bert, {}),
    "convbert": (ConvBert, {"embedding_size": 12}),
    "modernbert": (ModernBert, {"local_attention": 8}),
}
COMMANDS = ("train", "train", "train", "train --frozen", "pretrain", "pretrain --from-scratch")
ADDING = ("lora", "ia3")
"""Extensions that add parameters, which pre-training does not."""
FLAGS = {
    "--accumulate": "2 3", "--save-every": "1 2 5", "--batches": "bucketed", "--layout": "padded",
    "--schedule": "constant cosine", "--patience": "1", "--optimizer": "plain", "--clip": "0",
    "--log-every": "3 5 100", "--limit": "13", "--seed": "1 18446744073709551615",
    "--precision": "bf16", "--steps-per-epoch": "3 7", "--max-length": "6",
    "--evaluate-first": "", "--tensorboard": "",
}  # fmt: skip
"""Settings of every run, and values for them."""
ENCODER_TRAINS = {"--gradient-checkpointing": "", "--encoder-dropout": "0 0.3"}
TRAIN = {"--pair": "concat cosine", "--both-orders": "", "--head-dropout": "0 0.4"}
PRETRAIN = {"--whole-words": "", "--mask-rate": "0.05 0.5"}
SAVING = tuple(
    os.path.join(*parts)
    for parts in (("minbert", "files.py"), ("minbert", "backbones.py"), ("runs", "run.py"),
                  ("runs", "checkpoint.py"), ("loop", "state.py"))
)  # fmt: skip
"""Files of the library through which a run writes its own."""


@dataclass(frozen=True)
class Alone:
    """A run that was left alone."""

    words: list[Any]
    """How it was called, but for --out."""
    folder: Path
    calls: int
    """Function calls that it made."""
    saving: int
    """Of these, those that write files."""
    seconds: float


def left_alone(case: Case) -> Alone:
    """A run with drawn settings; those that do not go together are drawn again."""
    ready = case.prepared("tiny", write_tiny)
    folder, counts = case.folder / "alone", case.folder / "calls"
    for _ in range(50):
        words, began = draw_run(case.draw, case.number, ready), time.monotonic()
        done = case.run(*words, "--out", folder, before=lambda: count_calls(counts))
        if done.status == 0:
            case.note(" ".join(map(str, words)))
            calls, saving = json.loads(counts.read_text(encoding="utf-8"))
            seconds = (time.monotonic() - began) / 1.5  # counting takes time, too
            return Alone(words, folder, calls, saving, seconds)
        require("Traceback" not in done.errors, f"{words}: {done.errors}")
        shutil.rmtree(folder, ignore_errors=True)
    raise AssertionError("no settings go together")


def write_tiny(folder: Path) -> None:
    """Backbones and data that runs start from."""
    for name, (encoder, sizes) in ENCODERS.items():
        write_backbone(folder / name, encoder=encoder, **sizes)
    write_backbone(folder / "wide", max_positions=128)  # as GLUE's recipes want
    write_data(folder / "data")


def draw_run(draw: random.Random, number: int, ready: Path) -> list[Any]:
    """A command that trains; encoders and extensions take turns, the rest is drawn."""
    encoder = list(ENCODERS)[number % len(ENCODERS)]
    known, names = load_extensions(), [None, *sorted(load_extensions())]
    if encoder == "modernbert":
        names.remove("bitfit")  # it has no biases
    extension = names[number // len(ENCODERS) % len(names)]
    commands = list(COMMANDS)
    if extension and (known[extension].between_tasks or extension in ADDING):
        commands = [each for each in commands if "pretrain" not in each]
    if extension and known[extension].freezes:
        commands = [each for each in commands if "frozen" not in each]
    command, _, flag = draw.choice(commands).partition(" ")
    tasks = draw.sample(["sst", "para", "sts", "cola"], draw.choice([1, 2, 2, 4]))
    words = [command, "--tasks", *tasks]
    words += ["--data-dir", ready / "data", "--device", "cpu", "--lr", "1e-2"]
    words += ["--epochs", draw.choice([1, 2])]
    if flag == "--from-scratch":
        words += [flag, encoder, "--size", "tiny", "--vocab-size", "300", "--batch-size", "8"]
    else:
        words += ["--backbone", ready / encoder, "--batch-size", draw.choice([3, 8]), *flag.split()]
    if extension:
        more = draw.choice(names[1:]) if draw.random() < 0.2 else extension
        words += ["--use", *dict.fromkeys([extension, more])]
    words += some(draw, FLAGS, 0.15)
    words += some(draw, {} if flag == "--frozen" else ENCODER_TRAINS, 0.3)
    if command == "pretrain":
        return words + some(draw, PRETRAIN, 0.3)
    pooling = ["cls", "mean", "max"] if encoder == "convbert" else ["pooler", "mean"]
    words += ["--head-size", "8", "--pooling", draw.choice(pooling)]
    return words + some(draw, TRAIN, 0.3)


def some(draw: random.Random, flags: Mapping[str, str], chance: float) -> list[str]:
    """Each of the flags with a chance, with one of its values."""
    words = []
    for flag, values in flags.items():
        if draw.random() < chance:
            words += [flag, draw.choice(values.split())] if values else [flag]
    return words


def words_to_go_on(alone: Alone, place: Path) -> list[Any]:
    """The command that continues a run, or begins it where there is none yet."""
    if (place / "config.json").exists():
        return [alone.words[0], "--resume", place]
    return [*alone.words, "--out", place]


def finish(case: Case, alone: Alone, place: Path) -> None:
    """Continue a run to its end."""
    done = case.run(*words_to_go_on(alone, place))
    check_finished(done)
    require("Traceback" not in done.errors, f"it finished with a traceback: {done.errors}")


def count_calls(path: Path) -> None:
    """Count this process's calls, and write their number and those of saving when it ends."""
    counts, end = [0, 0], os._exit

    def note(frame: FrameType, event: str, arg: object) -> None:
        counts[0] += 1
        counts[1] += frame.f_code.co_filename.endswith(SAVING)

    def write_and_end(status: int) -> None:
        sys.setprofile(None)
        path.write_text(json.dumps(counts), encoding="utf-8")
        end(status)

    os._exit = write_and_end
    sys.setprofile(note)
