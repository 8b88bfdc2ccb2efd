"""Comparisons of several groups of runs with the first, as a table, and as the points that reports
draw: comparison.json, in the folder of the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import to_builtins

from data.tasks import get_task
from minbert.files import write_json
from multitask.experiments.compare_runs import RunComparison
from multitask.experiments.groups import Group
from multitask.experiments.significance import cells_of
from multitask.runs.file_types import ComparedGroup, ComparedScore
from multitask.text_table import table

FILE = "comparison.json"
HEADER = ("run", "task", "metric", "score", "difference", "95% interval", "p")


def points_of(found: Sequence[RunComparison]) -> list[ComparedGroup]:
    """The groups of comparisons with one group: that one, and then the others."""
    first: dict[str, dict[str, ComparedScore]] = {}
    others = []
    for comparison in found:
        scores: dict[str, dict[str, ComparedScore]] = {}
        for task, compared in comparison.tasks.items():
            for metric, d in compared.differences.items():
                first.setdefault(task, {})[metric] = ComparedScore(d.first)
                scores.setdefault(task, {})[metric] = ComparedScore(
                    d.second, difference=d.difference, low=d.low, high=d.high, p=d.p
                )
        others.append(_point(comparison.second, scores))
    return [_point(found[0].first, first), *others] if found else []


def _point(group: Group, scores: Mapping[str, Mapping[str, ComparedScore]]) -> ComparedGroup:
    return ComparedGroup(
        name=group.name,
        runs=[str(run.folder) for run in group.runs],
        together=group.together,
        scores={task: dict(each) for task, each in scores.items()},
    )


def write_points(folder: Path, points: Sequence[ComparedGroup]) -> Path:
    """Write the points, for `minbert report --keep FOLDER`; the runs are in this folder too."""
    write_json(folder / FILE, to_builtins(list(points)))
    return folder / FILE


def differences_table(points: Sequence[ComparedGroup]) -> str:
    """The points as text, each task by its first metric."""
    return table(HEADER, rows(points))


def rows(points: Sequence[ComparedGroup]) -> list[list[str]]:
    """Rows of the table: a group's score of each task by its first metric, and how far that is from
    the first group's."""
    found = []
    for point in points:
        for task, scores in point.scores.items():
            metric = get_task(task).metrics[0]
            score = scores[metric]
            cells = [point.name, task, metric, f"{score.score:.3f}"]
            d, low, high, p = score.difference, score.low, score.high, score.p
            if d is None or low is None or high is None or p is None:
                cells += ["", "", ""]
            else:
                cells += cells_of(d, low, high, p)
            found.append(cells)
    return found
