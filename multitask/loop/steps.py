"""The steps' lines of metrics.jsonl, whose numbers come from the device when it has made them.

The trainer makes one call a step, and gets back the last loss that is known. On a GPU the numbers
of a step are copied while later steps are computed, and read one step after the copy began, so that
the device always has work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from minbert.transfer import copied, to_host
from multitask import distributed
from multitask.loop.engine import TaskLoss
from multitask.loop.interrupts import Interrupts
from multitask.loop.metrics_log import MetricsLog
from multitask.loop.state import Progress


@dataclass(frozen=True)
class StepLine:
    """What a step leaves behind; its numbers are on the device until they are asked for."""

    step: int
    lr: float
    losses: Sequence[TaskLoss]
    norm: Tensor | None
    """() the gradient's, where gradients are clipped."""
    notes: Sequence[dict[str, Any]] = ()
    """Lines of extensions."""


@dataclass(frozen=True)
class Arriving:
    """Lines whose numbers are on their way to the host."""

    lines: list[StepLine]
    losses: Tensor | None
    """(tasks of all steps,), and one number more where processes ask each other whether to stop."""
    copied: torch.cuda.Event | None


class StepLog:
    """Gathers steps, and writes them with their numbers."""

    def __init__(
        self,
        log: MetricsLog,
        interrupts: Interrupts,
        *,
        every: int,
        ahead: bool,
    ) -> None:
        """Gather steps for a log.

        Args:
            log: where the lines go.
            interrupts: the run's, of which several processes tell each other here.
            every: steps between two writes; before a score all are written, by `flush`.
            ahead: read numbers one step late, while the device computes.
        """
        self.runs_ahead = ahead
        self.pending: list[StepLine] = []
        self._log, self._interrupts = log, interrupts
        self._every = every
        self._arriving: Arriving | None = None

    def step(self, line: StepLine, progress: Progress) -> float | None:
        """Take the line of a step, and return the last loss that is known, if one is new.

        Losses are added to those of the epoch in `progress`.

        Raises:
            ValueError: a loss is not finite.
        """
        self.pending.append(line)
        loss = self._write(progress)  # of an earlier step, while the device is at this one
        if (line.step + 1) % self._every == 0:
            self._read()
            if not self.runs_ahead:
                loss = self._write(progress)
        return loss

    def flush(self, progress: Progress) -> None:
        """Write all steps up to now; raises as `step` does."""
        self._write(progress)
        self._read()
        self._write(progress)

    def _read(self) -> None:
        """Begin to copy the numbers to the host.

        Several processes add up their losses here, and tell each other whether one was asked to
        stop.
        """
        lines, self.pending = self.pending, []
        numbers = [part.loss for line in lines for part in line.losses]
        losses = torch.stack(numbers) if numbers else None
        if losses is not None and distributed.count() > 1:
            losses = losses.double()
            asked = losses.new_full((1,), float(self._interrupts.asked))
            losses = distributed.sum_over_processes(torch.cat([losses, asked]))
        self._arriving = Arriving(
            [
                replace(
                    line,
                    norm=to_host(line.norm),
                    notes=[{k: to_host(v) for k, v in note.items()} for note in line.notes],
                )
                for line in lines
            ],
            to_host(losses),
            None if losses is None else copied(losses.device),
        )

    def _write(self, progress: Progress) -> float | None:
        """Write what was read since the last time, and return the last loss of it."""
        arriving, self._arriving = self._arriving, None
        if arriving is None or arriving.losses is None:
            return None
        if arriving.copied is not None:
            arriving.copied.synchronize()
        losses = arriving.losses.tolist()
        if distributed.count() > 1 and losses.pop() > 0:
            self._interrupts.agree()
        numbers = iter(losses)
        lines = [
            step_line(line, part, next(numbers), progress)
            for line in arriving.lines
            for part in line.losses
        ]
        for line in arriving.lines:
            for note in line.notes:
                lines.append(
                    {k: v.tolist() if isinstance(v, Tensor) else v for k, v in note.items()}
                )
        self._log.write(lines)
        return losses[-1]


def step_line(line: StepLine, part: TaskLoss, loss: float, progress: Progress) -> dict[str, Any]:
    """A task's line of a step, whose loss is added to the epoch's."""
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss is {loss} at step {line.step}, task {part.task}, rows "
            f"{', '.join(part.ids)}; look at these rows, lower --lr, or use --precision fp32"
        )
    sums = progress.losses.setdefault(part.task, [0.0, 0])
    sums[0] += loss * len(part.ids)
    sums[1] += len(part.ids)
    return {
        "kind": "step",
        "step": line.step,
        "task": part.task,
        "rows": len(part.ids),
        "lr": line.lr,
        "grad_norm": None if line.norm is None else float(line.norm),
        "loss": loss,
        "seconds": round(progress.seconds, 3),
    }
