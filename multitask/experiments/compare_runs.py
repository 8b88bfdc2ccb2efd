"""Is B better than A? Two runs, or two groups of runs that differ in their seeds, row by row.

compare_runs("runs/plain", "runs/lora").tasks["sst"].differences["accuracy"].p

Rows are the development rows that all of them answered: their answers are in the run folders, and
labels and texts in the data folder. significance.py says what a difference is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.readers import SAMPLES, Example, read_split
from data.tasks import Task, get_task
from multitask.analysis import constant_scores
from multitask.config import PLACES, TrainConfig
from multitask.experiments.groups import SPLIT, Answer, Group, group_of
from multitask.experiments.significance import Difference, compare_answers
from multitask.metrics import METRICS
from multitask.runs.run import Run

TOLERANCE = 0.02
"""By how much a score may be another than the recorded one, as on another device."""


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A row that the groups answer otherwise."""

    id: str
    texts: tuple[str, ...]
    label: float | list[int]
    first: float | list[int]
    second: float | list[int]
    """Answers: of several runs the most frequent class or set of labels, or the mean number."""
    change: float
    """By how much the second is further off: of classes, in the share of runs that are wrong; of
    several labels at once, in the share of labels."""


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    """The answers of two groups to the rows of a task."""

    rows: int
    left_out: int
    """Rows that not all of them answered, or that have no label now."""
    constant: Mapping[str, float]
    """Metric -> score of one answer to all these rows."""
    differences: Mapping[str, Difference]
    """By metric."""
    flips: Sequence[Flip]
    """Those that the second answers worse, worst first, and then those that it answers better."""

    @property
    def lost(self) -> int:
        """Rows that the second answers worse."""
        return sum(flip.change > 0 for flip in self.flips)

    @property
    def gained(self) -> int:
        """Rows that the second answers better."""
        return sum(flip.change < 0 for flip in self.flips)


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Two groups of runs."""

    first: Group
    second: Group
    tasks: Mapping[str, TaskComparison]
    settings: Mapping[str, tuple[str, str]]
    """Setting -> its values, where they differ."""


def compare_runs(
    first: str | Path | Group, second: str | Path | Group, *, data_dir: str | Path | None = None
) -> RunComparison:
    """Compare two runs, or two groups, on the tasks that they have in common.

    Args:
        first: a run folder, or what else `group_of` takes.
        second: another.
        data_dir: where the development rows are; by default where the first run read them.

    Raises:
        ValueError: there is no finished run, no common task, or these are not the rows that the
            runs answered.
    """
    one, other = (x if isinstance(x, Group) else group_of(str(x)) for x in (first, second))
    configs = {run: _config(run) for run in (*one.runs, *other.runs)}
    alone = one.together is None and other.together is None
    if alone and len(configs) < len(one.runs) + len(other.runs):
        raise ValueError(f"{one.name} and {other.name} have a run in common; compare others")
    tasks = [n for n in configs[one.runs[0]].tasks if all(n in c.tasks for c in configs.values())]
    if not tasks:
        raise ValueError(f"{one.name} and {other.name} have no task in common; compare others")
    place = Path(data_dir or configs[one.runs[0]].data_dir or SAMPLES)
    known = [get_task(name) for name in tasks]
    answers = [group.answers(known, place) for group in (one, other)]
    return RunComparison(
        first=one,
        second=other,
        tasks={
            task.name: _compare_task(
                task, (one, other), [each[task.name] for each in answers], place
            )
            for task in known
        },
        settings=_settings(
            [configs[run] for run in one.runs], [configs[run] for run in other.runs]
        ),
    )


def _config(run: Run) -> TrainConfig:
    """The config of a finished run that answers tasks."""
    config = run.config()
    if not isinstance(config, TrainConfig):
        raise ValueError(f"{run.folder} is a {config.title} run and answers no task; name others")
    if not run.record_path.exists():
        raise ValueError(f"{run.folder} is not finished: minbert train --resume {run.folder}")
    return config


def _compare_task(
    task: Task,
    groups: Sequence[Group],
    answers: Sequence[Sequence[Mapping[str, Answer]]],
    data_dir: Path,
) -> TaskComparison:
    """Compare two groups on a task, by the answers of each."""
    examples = read_split(task, SPLIT, data_dir, on_bad_row="skip").examples
    labelled = {row.id: row for row in examples if row.label is not None}
    several = task.kind == "labels"
    both = [*answers[0], *answers[1]]
    ids = [i for i in labelled if all(i in found for found in both)]
    if not ids:
        raise ValueError(
            f"{data_dir} has none of the {task.name} rows that all runs answered; name their data "
            "with --data-dir"
        )
    rows = [labelled[i] for i in ids]
    every = set(labelled).union(*both)
    labels = np.array([row.label for row in rows], dtype=np.float64)
    found = np.array([[by_id[i] for i in ids] for by_id in both], dtype=np.float64)
    if len(every) == len(ids):
        each = np.split(found, [len(answers[0])])
        for group, own in zip(groups, each):
            if group.together is None:
                _check_scores(task, labels, dict(zip(group.runs, own)), data_dir)
    constant = constant_scores(task, labels)
    sets = None
    if several:  # (n, classes); a row's label and answers are numbers of its rows from here on
        sets, numbers = np.unique(
            np.concatenate([labels[None], found]).reshape(-1, labels.shape[1]),
            axis=0,
            return_inverse=True,
        )
        labels, *found = numbers.reshape(-1, len(ids))
    one, other = np.split(np.array(found), [len(answers[0])])
    return TaskComparison(
        rows=len(ids),
        left_out=len(every) - len(ids),
        constant={name: constant[name] for name in task.metrics},
        differences={
            name: compare_answers(name, labels, one, other, sets) for name in task.metrics
        },
        flips=_flips(task, rows, labels, one, other, sets),
    )


def _check_scores(
    task: Task, labels: np.ndarray, answers: Mapping[Run, np.ndarray], data_dir: Path
) -> None:
    """Raise ValueError where answers do not score on these labels what the run recorded."""
    metric = task.metrics[0]
    for run, found in answers.items():
        recorded = run.record()["dev"][task.name][metric]
        actual = METRICS[metric](labels, found)
        if abs(actual - recorded) > TOLERANCE:
            raise ValueError(
                f"{run.folder} recorded {recorded:.3f} for the {metric} of {task.name}, and its "
                f"answers have {actual:.3f} by the labels in {data_dir}; name the data that it "
                "was scored on with --data-dir, or write its answers again with minbert evaluate"
            )


def _flips(
    task: Task,
    rows: Sequence[Example],
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    sets: np.ndarray | None,
) -> list[Flip]:
    """The rows that are answered worse or better, by how much; of equals, in the file's order."""

    def far_off(answers: np.ndarray) -> np.ndarray:
        if sets is not None:
            return (sets[answers] != sets[labels]).mean(-1)
        return answers != labels if task.classes else np.abs(answers - labels)

    def shown(value: float) -> float | list[int]:
        return float(value) if sets is None else np.flatnonzero(sets[int(value)]).tolist()

    off = [far_off(answers).mean(0) for answers in (first, second)]
    if task.classes:
        from scipy.stats import mode

        answered = [mode(answers, axis=0).mode for answers in (first, second)]
    else:
        answered = [answers.mean(0) for answers in (first, second)]
    change = off[1] - off[0]
    order = np.lexsort((-np.abs(change), change < 0))
    return [
        Flip(
            id=rows[i].id,
            texts=rows[i].texts,
            label=shown(labels[i]),
            first=shown(answered[0][i]),
            second=shown(answered[1][i]),
            change=float(change[i]),
        )
        for i in order
        if change[i]
    ]


def _settings(
    first: Sequence[TrainConfig], second: Sequence[TrainConfig]
) -> dict[str, tuple[str, str]]:
    """Those that decide numbers and have other values; of a group all of its values."""

    def values(configs: Sequence[TrainConfig]) -> dict[str, str]:
        found: dict[str, dict[str, None]] = {}
        for config in configs:
            for name, value in config.to_dict().items():
                found.setdefault(name, {})[_words(value)] = None
        return {name: ", ".join(each) for name, each in found.items() if name not in PLACES}

    one, other = values(first), values(second)
    return {name: (one[name], other[name]) for name in one if one[name] != other[name]}


def _words(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_words, value)) or "none"
    if isinstance(value, dict):  # an extension, or settings of single tasks
        settings = ", ".join(f"{k}={v}" for k, v in value.items() if k != "name")
        return f"{value['name']}({settings})" if "name" in value else settings or "none"
    return str(value)
