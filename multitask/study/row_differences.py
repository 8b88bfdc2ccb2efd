"""Is a row of the study better than another? Their runs of each task, over seeds, row by row."""

from __future__ import annotations

from collections.abc import Sequence

from multitask.experiments.compare_runs import compare_runs
from multitask.experiments.groups import Group
from multitask.study.folder import StudyFolder, merged
from multitask.study.table_rows import TASKS

HEADER = (
    "row", "task", "metric", "seeds", "first", "row's", "difference", "95% interval", "p",
)  # fmt: skip


def row_differences(study: StudyFolder, variant: str, rows: Sequence[str]) -> list[list[str]]:
    """HEADER's cells: each row beside the first of them, on each task that both have finished.

    Interval and p are those of `minbert compare`.

    Raises:
        ValueError: a row has no task in common with the first.
    """
    first, *others = ({task: _group(study, variant, row, task) for task in TASKS} for row in rows)
    lines = []
    for row, groups in zip(rows[1:], others, strict=True):
        common = [task for task in TASKS if first[task].runs and groups[task].runs]
        if not common:
            raise ValueError(
                f"{rows[0]} and {row} have finished no task in common in {study.folder} as "
                f"{variant}; see minbert study status {study.folder}"
            )
        for task in common:
            found = compare_runs(first[task], groups[task], data_dir=study.data_dir)
            seeds = f"{len(first[task].runs)}, {len(groups[task].runs)}"
            for metric, d in found.tasks[task].differences.items():
                scores = (f"{d.first:.3f}", f"{d.second:.3f}")
                lines.append([row, task, metric, seeds, *scores, *d.cells])
    return lines


def _group(study: StudyFolder, variant: str, row: str, task: str) -> Group:
    """The finished runs of a row on a task, of which there may be none."""
    results = (
        result
        for plan in merged(study.plans())
        for result in plan["results"]
        if plan["variant"] == variant and (result["row"], result["task"]) == (row, task)
    )
    runs = (study.run_of(result["stages"][-1]) for result in results)
    return Group(row, tuple(run for run in runs if run.record_path.exists()))
