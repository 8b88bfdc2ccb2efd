"""What a run says of itself while it trains: a line an epoch, on a terminal and in a log.

epoch 1 of 3: sst accuracy 0.41, loss 1.39, development loss 1.34; the best so far; 4 min left
"""

from __future__ import annotations

import math
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from tqdm import tqdm

from data.tasks import get_task
from multitask.loop.state import Progress
from multitask.runs.loggers import Line, Logger
from multitask.runs.run import Run
from multitask.text_table import words_of

HEARTBEAT_S = 300.0
"""Seconds between two lines of a log; a terminal has a bar."""


def epoch_bar(progress: Progress, steps: int, epochs: int, *, shown: bool) -> tqdm:
    """The bar of an epoch of so many steps, from where it stands; a log has none."""
    epoch = progress.evaluated // progress.scores_per_epoch
    return tqdm(
        total=steps,
        initial=progress.step - epoch * steps,
        desc=f"epoch {epoch + 1}/{epochs}",
        unit="step",
        leave=False,
        disable=None if shown else True,
    )


class EpochLines(Logger):
    """Prints on stderr."""

    def __init__(self) -> None:
        self._epochs = self._total = 0
        self._best = -math.inf
        self._steps = self._steps_before = 0
        self._started = self._said = time.monotonic()
        self._losses: dict[str, list[float]] = defaultdict(list)  # task -> losses not yet said

    def begin(self, run: Run, lines: Sequence[Line], total_steps: int) -> None:
        self._epochs, self._total = run.config().epochs, total_steps
        for line in lines:
            self._note(line)
        self._steps_before = self._steps
        self._losses.clear()
        self._started = self._said = time.monotonic()

    def write(self, lines: Sequence[Line]) -> None:
        for line in lines:
            if line["kind"] == "epoch":
                self._say(epoch_line(line, self._epochs, self._best) + self._left())
            self._note(line)
        late = time.monotonic() - self._said >= HEARTBEAT_S
        if late and not sys.stderr.isatty() and self._losses:
            losses = ", ".join(f"{t} loss {fmean(each):.3f}" for t, each in self._losses.items())
            self._say(f"step {self._steps} of {self._total}: {losses}{self._left()}")

    def _note(self, line: Line) -> None:
        if line["kind"] == "epoch" and line["epoch"]:
            self._best = max(self._best, line["score"])
        elif line["kind"] == "step":
            self._steps = line["step"] + 1
            self._losses[line["task"]].append(line["loss"])

    def _left(self) -> str:
        """About how long it will take to the last epoch, scores included."""
        taken, left = self._steps - self._steps_before, self._total - self._steps
        if not taken or not left:
            return ""
        return f"; {words_of((time.monotonic() - self._started) / taken * left)} left"

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        self._said = time.monotonic()
        self._losses.clear()


def epoch_line(line: Line, epochs: int, best: float) -> str:
    """An epoch's line of metrics.jsonl in words: of one task all metrics, of several the first.

    Args:
        line: the line.
        epochs: how many there are to be.
        best: the best score before, a mean over tasks.
    """
    parts, several = [], len(line["scores"]) > 1
    for task, scores in line["scores"].items():
        metrics = get_task(task).metrics[: 1 if several else None]
        said = [f"{name} {scores[name]:.3f}" for name in metrics if name != "loss"]
        losses = {"loss": line["train_loss"].get(task), "development loss": scores.get("loss")}
        said += [f"{name} {value:.3f}" for name, value in losses.items() if value is not None]
        parts.append(f"{task} {', '.join(said)}")
    if not line["epoch"]:
        return f"before training: {'; '.join(parts)}"
    better = line["score"] > best
    verdict = "the best so far" if better else f"best so far {abs(best):.3f}"
    mean = f"; mean {line['score']:.3f}" if several else ""
    return f"epoch {line['epoch']:.4g} of {epochs}: {'; '.join(parts)}{mean}; {verdict}"
