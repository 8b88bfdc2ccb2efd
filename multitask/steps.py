"""The steps' lines of metrics.jsonl, whose numbers come from the device when it has made them.

    add, note    what a step computes is on the device, and it is not waited for
    read         begin to copy the numbers of the steps so far to the host
    write        wait for that copy, check the losses, and write

On a GPU the trainer writes when the next step is under way there, so that it always has work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from minbert.transfer import copied, to_host
from multitask import distributed
from multitask.log import MetricsLog
from multitask.state import Progress


@dataclass(frozen=True)
class StepLine:
    """A line, and its numbers on the device."""

    line: dict[str, Any]
    loss: Tensor
    ids: tuple[str, ...]
    """Of the rows."""
    norm: Tensor | None = None
    """The gradient's, where gradients are clipped."""


@dataclass(frozen=True)
class Arriving:
    """Lines whose numbers are on their way to the host."""

    steps: list[StepLine]
    losses: Tensor | None
    """(steps,), and one number more where several processes ask each other whether to stop."""
    notes: list[dict[str, Any]]
    copied: torch.cuda.Event | None


class StepLog:
    """Gathers lines, and writes them with their numbers."""

    def __init__(self, log: MetricsLog) -> None:
        self.pending: list[StepLine] = []
        self._notes: list[dict[str, Any]] = []
        self._arriving: Arriving | None = None
        self._log = log

    def add(self, line: dict[str, Any], loss: Tensor, ids: tuple[str, ...]) -> None:
        """Add the line of a task's part in a step."""
        self.pending.append(StepLine(line, loss, ids))

    def finish(self, count: int, lr: float, norm: Tensor | None) -> None:
        """Put the rate and the norm of the gradient into the last lines, those of a step."""
        for place in range(len(self.pending) - count, len(self.pending)):
            step = self.pending[place]
            self.pending[place] = replace(step, line={**step.line, "lr": lr}, norm=norm)

    def note(self, line: dict[str, Any]) -> None:
        """Add a line of an extension; its tensors become numbers."""
        self._notes.append(line)

    def read(self, *, asked: bool) -> None:
        """Begin to copy the numbers to the host.

        Several processes add up their losses here, and tell each other whether one was `asked` to
        stop.
        """
        steps, self.pending = self.pending, []
        notes, self._notes = self._notes, []
        losses = torch.stack([step.loss for step in steps]).double() if steps else None
        if steps and distributed.count() > 1:
            losses = torch.cat([losses, losses.new_full((1,), float(asked))])
            losses = distributed.sum_over_processes(losses)
        self._arriving = Arriving(
            [replace(step, norm=to_host(step.norm)) for step in steps],
            to_host(losses),
            [{key: to_host(value) for key, value in note.items()} for note in notes],
            None if losses is None else copied(losses.device),
        )

    def write(self, progress: Progress) -> tuple[float | None, bool]:
        """Write what was read since the last time, and add it to the epoch's losses.

        Returns:
            The last loss, if there is one, and whether a process was asked to stop.

        Raises:
            ValueError: a loss is not finite.
        """
        arriving, self._arriving = self._arriving, None
        if arriving is None:
            return None, False
        if arriving.copied is not None:
            arriving.copied.synchronize()
        losses = [] if arriving.losses is None else arriving.losses.tolist()
        stop = bool(losses) and distributed.count() > 1 and losses.pop() > 0
        lines = []
        for step, loss in zip(arriving.steps, losses, strict=True):
            number, task, rows = (step.line[name] for name in ("step", "task", "rows"))
            if not math.isfinite(loss):
                raise ValueError(
                    f"the loss is {loss} at step {number}, task {task}, rows "
                    f"{', '.join(step.ids)}; look at these rows, lower --lr, or use "
                    "--precision fp32"
                )
            norm = None if step.norm is None else float(step.norm)
            seconds = round(progress.seconds, 3)
            lines.append({**step.line, "grad_norm": norm, "loss": loss, "seconds": seconds})
            sums = progress.losses.setdefault(task, [0.0, 0])
            sums[0] += loss * rows
            sums[1] += rows
        for note in arriving.notes:
            lines.append({k: v.tolist() if isinstance(v, Tensor) else v for k, v in note.items()})
        self._log.write(lines)
        return losses[-1] if losses else None, stop
