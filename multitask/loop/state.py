"""Where a run stands, and the checkpoint that keeps it: progress, weights, moments."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta, Struct
from torch import Tensor, nn

from minbert.files import brief, checked
from multitask import distributed
from multitask.dataset import TaskData
from multitask.runs.checkpoint import (
    load_checkpoint,
    load_optimizer,
    load_tensors,
    optimizer_state,
    save_checkpoint,
)
from multitask.runs.file_types import Count

PAIR = Meta(min_length=2, max_length=2)


@dataclass
class Progress:
    """Where a run stands: what a checkpoint keeps beside the tensors."""

    step: Count = 0
    """Optimizer steps taken."""
    evaluated: Count = 0
    """Development scores after training steps."""
    scores_per_epoch: Annotated[int, Meta(ge=1)] = 1
    """How many of them an epoch has."""
    draws: dict[str, Count] = field(default_factory=dict)
    """Batches taken of each task."""
    losses: dict[str, Annotated[list[int | float], PAIR]] = field(default_factory=dict)
    """Sum of losses and number of rows of each task in this epoch."""
    before: dict[str, dict[str, float]] | None = None
    """Development scores before training, where asked for."""
    best_score: float = -math.inf
    best_epoch: int = 0
    """Number of the best score: `epoch_of` has its epoch."""
    best: dict[str, dict[str, float]] = field(default_factory=dict)
    """The best development scores."""
    memory: dict[str, Any] = field(default_factory=dict)
    """What extensions keep: see `Step.memory`."""
    seconds: float = 0.0
    """Time spent in all sessions of the run."""

    def epoch_of(self, score: int) -> int | float:
        """Epochs trained at the score of this number: a fraction where an epoch has several."""
        whole, part = divmod(score, self.scores_per_epoch)
        return score / self.scores_per_epoch if part else whole

    def has(self, line: Mapping[str, Any]) -> bool:
        """Whether a line of metrics.jsonl was written before this point."""
        if line["kind"] != "epoch":
            return line["step"] < self.step
        epoch = line["epoch"]
        return epoch <= self.epoch_of(self.evaluated) if epoch else self.before is not None

    def check_log(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Raise ValueError unless every step and every epoch before this point is logged once.

        Args:
            lines: the first lines of metrics.jsonl, those that this point `has`.
        """
        next_of = {"step": 0, "epoch": int(self.before is None)}
        draws: Counter[str] = Counter()
        step, tasks = None, set()
        for number, line in enumerate(lines, start=1):
            kind = line["kind"]
            if kind not in next_of:
                continue  # what an extension noted
            actual, expected = line[kind], next_of[kind]
            if kind == "epoch":
                actual = round(actual * self.scores_per_epoch)
            else:
                if actual != step:
                    step, tasks = actual, set()
                elif line["task"] not in tasks:  # of several tasks together
                    expected = actual
                tasks.add(line["task"])
                draws[line["task"]] += 1
            if actual != expected:
                raise ValueError(f"line {number} is of {kind} {actual}, not of {kind} {expected}")
            next_of[kind] = expected + 1
        for kind, end in (("step", self.step), ("epoch", self.evaluated + 1)):
            if next_of[kind] != end:
                raise ValueError(f"it ends after line {len(lines)}, before {kind} {next_of[kind]}")
        for task, count in self.draws.items():
            if draws[task] != count:
                raise ValueError(f"{draws[task]} of its lines are of task {task}, not {count}")


class SavedState(Struct):
    """The JSON values of last.safetensors."""

    progress: Progress
    steps: dict[str, Count]
    """Updates of each parameter."""
    scaler: dict[str, int | float]
    rows: dict[str, int]


def save_weights(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors (whole, where they are split) and JSON values, in the first process alone."""
    whole = {name: distributed.full(tensor) for name, tensor in tensors.items()}
    if distributed.is_writer():
        save_checkpoint(path, whole, state)


def save_state(
    path: Path,
    progress: Progress,
    parameters: Mapping[str, nn.Parameter],
    kept: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    data: Mapping[str, TaskData],
) -> None:
    """Write all that a run needs to go on; `kept` is what extensions keep."""
    scaling = scaler.state_dict()  # first, for it has the optimizer's steps put right
    names: dict[Tensor, str] = {parameter: name for name, parameter in parameters.items()}
    moments, steps = optimizer_state(optimizer, names)
    tensors = {f"model/{name}": parameter for name, parameter in parameters.items()}
    tensors |= {f"kept/{name}": tensor for name, tensor in kept.items()}
    tensors |= {f"optimizer/{name}": tensor for name, tensor in moments.items()}
    state = {
        "progress": asdict(progress),
        "steps": steps,
        "scaler": scaling,
        "rows": _rows(data),
    }
    save_weights(path, tensors, state)


def load_state(
    path: Path,
    parameters: Mapping[str, nn.Parameter],
    kept: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    data: Mapping[str, TaskData],
) -> Progress:
    """Put back what `save_state` wrote, and return where the run stands.

    Raises:
        ValueError: the file is no state of this model, or the training rows are others.
    """
    tensors, state = load_checkpoint(path)
    if "progress" not in state:
        raise ValueError(
            f"{path} holds weights alone, and nothing says where to go on; it is a "
            "best.safetensors under another name"
        )
    saved = checked(state, SavedState, path)
    changed = [name for name, rows in _rows(data).items() if saved.rows.get(name) != rows]
    if changed:
        raise ValueError(
            f"the training rows of {', '.join(changed)} are not those that {path.parent} began "
            "with; put the files back, or start a new run"
        )
    if saved.progress.draws.keys() != data.keys():
        raise ValueError(f"{path} is of other tasks: {brief(list(saved.progress.draws))}")
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "kept": {}, "optimizer": {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = tensor
    load_tensors(parameters, parts["model"], path)
    load_tensors(kept, parts["kept"], path)
    load_optimizer(optimizer, parts["optimizer"], saved.steps, parameters)
    scaler.load_state_dict(saved.scaler)
    return saved.progress


def _rows(data: Mapping[str, TaskData]) -> dict[str, int]:
    """A checksum of each task's training rows: a run goes on with the rows it began with."""
    return {name: d.train.checksum for name, d in data.items()}
