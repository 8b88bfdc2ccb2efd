"""The answers of several runs taken together.

    answers = ensemble(["runs/a", "runs/b", "runs/c"], "dev", how="mean")
    answers.evaluations["sst"].metrics["accuracy"]

Runs may be of different backbones, heads and settings; they are asked one after another, and no two
of them are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from data.readers import SAMPLES, OnBadRow
from data.tasks import Split, Task
from multitask.evaluate import Evaluation
from multitask.metrics import METRICS
from multitask.predictor import Predictor

How = Literal["mean", "vote"]
"""mean: of the classes' probabilities, or of a regression's numbers. vote: the class that most runs
answer, of those with equal votes the one with the highest mean probability; of numbers the median.
"""


@dataclass(frozen=True, kw_only=True)
class Together:
    """Answers of several runs."""

    tasks: dict[str, Task]
    """The tasks that all of them know, by name."""
    evaluations: dict[str, Evaluation]
    """Task -> the answers together."""
    single: list[dict[str, Evaluation]]
    """Each run's own."""
    data_dir: Path
    """Where the rows are from."""


def ensemble(
    runs: Sequence[str | Path],
    split: Split,
    how: How = "mean",
    *,
    data_dir: str | Path | None = None,
    on_bad_row: OnBadRow | None = None,
    precision: str = "auto",
) -> Together:
    """Answer a split with several runs together, and score the answers where there are labels.

    Args:
        runs: the run folders, two or more.
        split, data_dir, on_bad_row: as of `Predictor.evaluate`; data_dir is by default the first
            run's, so that all answer the same rows.
        how: see `How`.
        precision: as of `Predictor`.

    Raises:
        ValueError: the runs have no task in common, or did not answer the same rows.
    """
    check_runs(runs)
    found: list[dict[str, Evaluation]] = []
    tasks: dict[str, Task] = {}
    for folder in runs:
        predictor = Predictor(folder, precision=precision)
        data_dir = data_dir or predictor.config.data_dir or SAMPLES
        tasks |= predictor.model.tasks
        found.append(predictor.evaluate(split, data_dir=data_dir, on_bad_row=on_bad_row))
    common = [name for name in found[0] if all(name in each for each in found)]
    if not common:
        known = "; ".join(
            f"{folder}: {', '.join(each) or 'none'}" for folder, each in zip(runs, found)
        )
        raise ValueError(
            f"the runs have no task with a {split} split in common ({known}); name runs of one task"
        )
    return Together(
        tasks={name: tasks[name] for name in common},
        evaluations={
            name: combine(tasks[name], [each[name] for each in found], how) for name in common
        },
        single=found,
        data_dir=Path(data_dir or SAMPLES),
    )


def check_runs(runs: Sequence[str | Path]) -> None:
    """Raise ValueError unless there are several runs, each named once."""
    folders = [Path(run).expanduser().resolve() for run in runs]
    twice = next((run for n, run in enumerate(runs) if folders[n] in folders[:n]), None)
    if twice is not None:
        raise ValueError(f"{twice} is named twice; name each run once")
    if len(runs) < 2:
        raise ValueError(f"one run has nobody to agree with: {', '.join(map(str, runs))}; name two")


def combine(task: Task, evaluations: Sequence[Evaluation], how: How = "mean") -> Evaluation:
    """One task's answers out of those of several models to the same rows.

    Returns:
        Of a mean, with the probabilities averaged; of a vote, with the shares of votes. The loss is
        of these probabilities, and a vote has none, for it may give a right answer no vote.
    """
    first = evaluations[0]
    if any(list(each.ids) != list(first.ids) for each in evaluations):
        raise ValueError(
            f"the runs did not answer the same rows of {task.name}; give a folder with --data-dir, "
            "and one --on-bad-row"
        )
    loss = None
    if first.probabilities is None:
        numbers = np.stack([each.answers for each in evaluations])  # (runs, rows)
        answers = numbers.mean(axis=0) if how == "mean" else np.median(numbers, axis=0)
        probabilities = None
        if first.labels is not None:
            loss = float(np.mean(((answers - first.labels) / (task.unit or 1)) ** 2))
    else:
        chances = [each.probabilities for each in evaluations]
        mean = np.mean([each for each in chances if each is not None], axis=0)  # (rows, classes)
        votes = np.stack([each.answers for each in evaluations]).astype(int)
        if task.kind != "labels":  # whose answers are 0 and 1 of each class already
            votes = np.eye(mean.shape[1])[votes]
        shares = votes.mean(axis=0)  # (rows, classes)
        probabilities = mean if how == "mean" else shares
        # A mean probability is at most 1, so that it decides between equal numbers of votes alone.
        ranks = mean if how == "mean" else shares * len(evaluations) + mean / 2
        answers = ranks.argmax(axis=1)
        if task.kind == "labels":  # of equal votes the mean decides here too
            half = 0.5 if how == "mean" else len(evaluations) / 2 + 0.25
            answers = (ranks > half).astype(int)
        if first.labels is not None and how == "mean" and task.kind == "labels":
            right = np.where(first.labels > 0, mean, 1 - mean)
            loss = float(-np.log(np.clip(right, 1e-12, None)).mean())
        elif first.labels is not None and how == "mean":
            right = mean[np.arange(len(mean)), first.labels.astype(int)]
            loss = float(-np.log(np.clip(right, 1e-12, None)).mean())
    metrics = {}
    if first.labels is not None:
        metrics = {name: METRICS[name](first.labels, answers) for name in task.metrics}
        metrics |= {} if loss is None else {"loss": loss}
    return Evaluation(
        ids=first.ids,
        answers=answers,
        probabilities=probabilities,
        labels=first.labels,
        metrics=metrics,
    )
