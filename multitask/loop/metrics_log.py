"""Metrics as lines of metrics.jsonl, of which loggers are told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from data.tasks import Task
from multitask.distributed import is_writer
from multitask.loop.state import Progress
from multitask.metrics import summary
from multitask.runs.loggers import Logger
from multitask.runs.run import Run


class MetricsLog:
    """Where the trainer's lines go: one for each step, one for each epoch.

    Nothing happens but in the process that writes.
    """

    def __init__(self, run: Run, loggers: Sequence[Logger], total_steps: int) -> None:
        self.run, self.loggers, self.total_steps = run, loggers, total_steps
        self._begun = False

    def begin(self) -> None:
        """Tell loggers that training begins; the first line does that too."""
        if self._begun or not is_writer():
            return
        self._begun = True
        lines = self.run.metrics() if self.loggers else []
        for logger in self.loggers:
            logger.begin(self.run, lines, self.total_steps)

    def write(self, lines: list[dict[str, Any]]) -> None:
        """Append lines."""
        if not is_writer():
            return
        self.begin()
        self.run.log(lines)
        for logger in self.loggers:
            logger.write(lines)

    def end(self) -> None:
        """Tell loggers that training is over."""
        for logger in self.loggers if self._begun else ():
            logger.end()

    def write_epoch(
        self,
        epoch: float,
        scores: Mapping[str, Mapping[str, float]],
        progress: Progress,
        tasks: Mapping[str, Task],
    ) -> None:
        """Append the line of an epoch with its development scores; 0 is before training.

        Raises:
            ValueError: a score is not finite.
        """
        for task, metrics in scores.items():
            for name, value in metrics.items():
                if not math.isfinite(value):
                    raise ValueError(
                        f"the development {name} of {task} is {value} in epoch {epoch}; lower "
                        "--lr, or use --precision fp32"
                    )
        line = {
            "kind": "epoch",
            "epoch": epoch,
            "step": progress.step,
            "scores": scores,
            "train_loss": {name: total / rows for name, (total, rows) in progress.losses.items()},
            **summary(scores, tasks),
        }
        self.write([line])
