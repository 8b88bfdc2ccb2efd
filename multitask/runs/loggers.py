"""Where the lines of metrics.jsonl go besides: a logger is told each of them as it is written.

    class Printer(Logger):
        def write(self, lines):
            print(*map(scalars, lines))

    train(config, loggers=(Printer(),))

docs/watching.md has one for Weights & Biases.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multitask.runs.run import Run

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Line = Mapping[str, Any]
"""A line of metrics.jsonl: see multitask/runs/file_types.py."""


class Logger:
    """What is told of a run while it trains, in the process that writes; override what is needed.

    An error that it raises stops the run, which can be resumed.
    """

    def begin(self, run: Run, lines: Sequence[Line], total_steps: int) -> None:
        """Training begins, or goes on after these lines; it ends after so many steps at most."""

    def write(self, lines: Sequence[Line]) -> None:
        """These lines were written: a few steps, or an epoch."""

    def end(self) -> None:
        """Training is over, at its end or before."""


def scalars(line: Line) -> dict[str, float]:
    """The numbers of a line that make curves, by name; its step is line["step"]."""
    if line["kind"] == "step":
        found = {f"loss/{line['task']}": line["loss"], "lr": line["lr"]}
        norm = line.get("grad_norm")  # known where gradients are clipped
        return found if norm is None else {**found, "grad_norm": norm}
    if line["kind"] != "epoch":  # what an extension noted
        return {f"{line['kind']}/{k}": v for k, v in line.items() if isinstance(v, float)}
    scores = line["scores"].items()
    return {f"dev/{task}/{k}": v for task, metrics in scores for k, v in metrics.items()}


class TensorBoard(Logger):
    """Events in the run folder; those of a resumed run's former processes are written again."""

    def __init__(self) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ValueError(
                "tensorboard is not installed; pip install tensorboard, or leave out --tensorboard"
            )
        self._writer: SummaryWriter | None = None

    def begin(self, run: Run, lines: Sequence[Line], total_steps: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(run.events, ignore_errors=True)
        self._writer = SummaryWriter(run.events)
        self.write(lines)

    def write(self, lines: Sequence[Line]) -> None:
        assert self._writer is not None
        for line in lines:
            for name, value in scalars(line).items():
                self._writer.add_scalar(name, value, line["step"])
        self._writer.flush()

    def end(self) -> None:
        if self._writer is not None:
            self._writer.close()
