"""The report's tables and figures about GLUE's tasks, and about ways to train few parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from data.tasks import TASKS
from minbert.files import checked
from multitask.glue import peft
from multitask.glue.score import (
    MISMATCHED,
    TASKS_HEADER,
    TASKS_NOTE,
    System,
    overall_rows,
    system_of,
    task_rows,
)
from multitask.report.markdown import markdown
from multitask.report.notes import only_task, sources, was_run
from multitask.report.records import Record, passes
from multitask.report.run_set import RunSet
from multitask.report.study_figures import save
from multitask.report.study_tables import constant_cells

# GLUE


def tasks_table(found: RunSet, path: Path) -> str:
    """A row for each metric of each task: median and range over seeds, and how it was trained."""
    records = {task: [] for task in TASKS}
    for record in found.runs.values():
        records[only_task(record)].append(record)
    rows = []
    for (name, metric), cells in task_rows(_system(found)).items():
        runs = records["mnli" if name == MISMATCHED else name]
        seconds = f"{median(run['seconds'] for run in runs):.0f}"
        seen = f"{median(passes(run) for run in runs):g}"
        settings = (_setting(runs, s) for s in ("lr", "batch_size"))
        constant = constant_cells(runs, [name], [metric])
        rows.append([*cells, *(constant or [""]), seen, *settings, seconds])
    header = [*TASKS_HEADER, "one answer", "passes", "rate", "batch", "seconds"]
    if not any(row[len(TASKS_HEADER)] for row in rows):  # of runs before it was recorded
        header, *rows = (
            r[: len(TASKS_HEADER)] + r[len(TASKS_HEADER) + 1 :] for r in (header, *rows)
        )
    note = (
        "Development sets; a run keeps its best epoch. The pass mark is a course's, for runs that "
        f"train few parameters; seconds are the median over seeds. {TASKS_NOTE} {was_run(found)}\n"
    )
    return f"{markdown(header, rows, left=2)}\n{note}{sources(found)}"


def overall_table(found: RunSet, path: Path) -> str:
    """The overall score in each convention, beside published ones over the same columns."""
    rows = [row for row in overall_rows(_system(found)) if row["score"] is not None]
    if not rows:
        raise KeyError("runs of GLUE's tasks")
    systems = list(dict.fromkeys(name for row in rows for name in row["published"]))
    header = ["convention", "columns", "not run", found.name, *systems]
    lines = []
    for row in rows:
        count = len(row["columns"])
        scores = [row["score"], *(row["published"].get(name) for name in systems)]
        lines.append(
            [
                row["convention"],
                f"{count} of {count + len(row['missing'])}",
                ", ".join(row["missing"]) or "-",
                *("-" if score is None else f"{100 * score:.1f}" for score in scores),
            ]
        )
    notes = "".join(f"- {row['convention']}: {row['source']}\n" for row in rows)
    note = "Means, times 100, over the columns that were run, of published systems too.\n"
    return f"{markdown(header, lines, left=3)}\n{note}\n{notes}{sources(found)}"


def _system(found: RunSet) -> System:
    return system_of(found.name, found.runs.values())


def _setting(records: Sequence[Record], name: str) -> str:
    """A setting's value in runs, or its values."""
    values = sorted({record["config"][name] for record in records})
    return ", ".join(f"{value:g}" for value in values)


# The comparison of methods


def methods_table(found: RunSet, path: Path) -> str:
    """A row for each task, method and rank, at the method's best rate."""
    points = _peft_points(found)
    note = (
        "Each method at the rate with the best development score of four; score and seconds are "
        f"medians over seeds. {was_run(found)}\n"
    )
    table = markdown(peft.HEADER, peft.comparison_rows(points), left=3)
    return f"{table}\n{note}{sources(found)}"


def parameters_figure(found: RunSet, path: Path) -> str:
    """Score against trainable parameters."""
    return _peft_figure(found, path, peft.draw_sizes)


def rates_figure(found: RunSet, path: Path) -> str:
    """Score against learning rate."""
    return _peft_figure(found, path, peft.draw_sweep)


def sweeps_table(found: RunSet, path: Path) -> str:
    """A row for each batch size and warm-up that was swept."""
    rows = peft.sweep_rows(_peft_points(found))
    if not rows:
        raise KeyError("runs in batches of several sizes, or with several warm-ups")
    note = f"Each method at its best rate, with the first seed. {was_run(found)}\n"
    return f"{markdown(peft.SWEEPS_HEADER, rows, left=3)}\n{note}{sources(found)}"


def batch_sizes_figure(found: RunSet, path: Path) -> str:
    """Score against batch size."""
    return _sweep_figure(found, path, "batch size")


def warmups_figure(found: RunSet, path: Path) -> str:
    """Score against the share of warm-up."""
    return _sweep_figure(found, path, "warm-up")


def _sweep_figure(found: RunSet, path: Path, sweep: str) -> str:
    if not any(point.sweep == sweep for point in _peft_points(found)):
        raise KeyError(f"a sweep over the {sweep}")
    return _peft_figure(found, path, partial(peft.draw_sweep, sweep=sweep))


def _peft_points(found: RunSet) -> list[peft.Point]:
    return checked(found.points["peft.json"], list[peft.Point])


def _peft_figure(found: RunSet, path: Path, draw: Callable[..., None]) -> str:
    points = _peft_points(found)
    tasks = {point.task for point in points}
    save(path, (3.6 * len(tasks) + 1.8, 3.4), lambda figure: draw(figure, points))
    return sources(found)
