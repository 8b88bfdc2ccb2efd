"""Metrics as lines of metrics.jsonl and, where asked for, as TensorBoard events."""

from __future__ import annotations

from typing import Any

from multitask.distributed import is_writer
from multitask.run import Run


class MetricsLog:
    """Where the trainer's lines go: one for each step, one for each epoch."""

    def __init__(self, run: Run, *, tensorboard: bool = False) -> None:
        self.run = run
        self.writer = None
        if tensorboard and is_writer():
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise ValueError(
                    "tensorboard is not installed; pip install tensorboard, or leave out "
                    "--tensorboard"
                ) from None
            self.writer = SummaryWriter(run.folder / "tensorboard")

    def write(self, lines: list[dict[str, Any]]) -> None:
        """Append lines, if this process is the one that writes."""
        if not is_writer():
            return
        self.run.log(lines)
        if self.writer is None:
            return
        for line in lines:
            for name, value in _scalars(line).items():
                self.writer.add_scalar(name, value, line["step"])
        self.writer.flush()


def _scalars(line: dict[str, Any]) -> dict[str, float]:
    if line["kind"] == "step":
        return {f"loss/{line['task']}": line["loss"], "lr": line["lr"]}
    if line["kind"] != "epoch":  # what an extension noted
        return {f"{line['kind']}/{k}": v for k, v in line.items() if isinstance(v, float)}
    scores = line["scores"].items()
    return {f"dev/{task}/{k}": v for task, metrics in scores for k, v in metrics.items()}
