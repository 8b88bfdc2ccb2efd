"""Metrics as lines of metrics.jsonl and, where asked for, as TensorBoard events."""

from __future__ import annotations

import importlib.util
import math
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from data.tasks import Task
from multitask.loop.distributed import is_writer
from multitask.loop.state import Progress
from multitask.metrics import summary
from multitask.runs.run import Run

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class MetricsLog:
    """Where the trainer's lines go: one for each step, one for each epoch."""

    def __init__(self, run: Run, *, tensorboard: bool = False) -> None:
        self.run, self.tensorboard = run, tensorboard
        self._writer: SummaryWriter | None = None
        if tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ValueError(
                "tensorboard is not installed; pip install tensorboard, or leave out --tensorboard"
            )

    def write(self, lines: list[dict[str, Any]]) -> None:
        """Append lines, if this process is the one that writes."""
        if not is_writer():
            return
        self.run.log(lines)
        if not self.tensorboard:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            shutil.rmtree(self.run.events, ignore_errors=True)
            self._writer = SummaryWriter(self.run.events)
            lines = self.run.metrics()  # of a resumed run's former processes too
        for line in lines:
            for name, value in _scalars(line).items():
                self._writer.add_scalar(name, value, line["step"])
        self._writer.flush()

    def write_epoch(
        self,
        epoch: int,
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


def _scalars(line: dict[str, Any]) -> dict[str, float]:
    if line["kind"] == "step":
        return {f"loss/{line['task']}": line["loss"], "lr": line["lr"]}
    if line["kind"] != "epoch":  # what an extension noted
        return {f"{line['kind']}/{k}": v for k, v in line.items() if isinstance(v, float)}
    scores = line["scores"].items()
    return {f"dev/{task}/{k}": v for task, metrics in scores for k, v in metrics.items()}
