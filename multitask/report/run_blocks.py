"""The report's tables and figures about folders of runs: GLUE, methods, batches, encoders.

A block is drawn from a `RunSet` alone, and ends with what was run and the records that it is from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, mean, median
from typing import TYPE_CHECKING

from data.tasks import TASKS
from minbert.files import checked
from multitask.experiments import differences
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
from multitask.report.records import RECORDS, Record, passes
from multitask.report.run_set import RunSet
from multitask.report.study_figures import save
from multitask.report.study_tables import commits, constant_cells, machines
from multitask.runs.file_types import ComparedGroup
from multitask.runs.run_figure import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")


@dataclass(frozen=True)
class Block:
    """A place in the report."""

    title: str
    command: str
    """What makes the runs that it is drawn from."""
    draw: Callable[[RunSet, Path], str]
    """Gives its Markdown; a figure is written to the path."""


def block_text(found: RunSet, block: str, report: Path, kind: str = "svg") -> str:
    """What stands between the markers of a block; draws the figure, where it is one, as svg or
    pdf."""
    chosen = BLOCKS[block]
    if not found.runs:
        return f"There is no record of these runs yet: make them with `{chosen.command}`.\n"
    path = report.parent / "figures" / f"{found.name}-{block.removeprefix('figure-')}.{kind}"
    try:
        text = chosen.draw(found, path)
    except KeyError as error:
        raise ValueError(
            f"records/{found.name} does not fit block {block}, for it lacks {error.args[0]}: the "
            f"block is drawn from what {chosen.command} wrote"
        ) from None
    if block.startswith("figure-"):
        return f"![{chosen.title}]({path.relative_to(report.parent).as_posix()})\n{text}"
    return text


# GLUE


def tasks_table(found: RunSet, path: Path) -> str:
    """A row for each metric of each task: median and range over seeds, and how it was trained."""
    records = {task: [] for task in TASKS}
    for record in found.runs.values():
        records[_only_task(record)].append(record)
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
        f"train few parameters; seconds are the median over seeds. {TASKS_NOTE} {_was_run(found)}\n"
    )
    return f"{markdown(header, rows, left=2)}\n{note}{_sources(found)}"


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
    return f"{markdown(header, lines, left=3)}\n{note}\n{notes}{_sources(found)}"


def _system(found: RunSet) -> System:
    return system_of(found.name, found.runs.values())


# The comparison of methods


def methods_table(found: RunSet, path: Path) -> str:
    """A row for each task, method and rank, at the method's best rate."""
    points = _peft_points(found)
    note = (
        "Each method at the rate with the best development score of four; score and seconds are "
        f"medians over seeds. {_was_run(found)}\n"
    )
    table = markdown(peft.HEADER, peft.comparison_rows(points), left=3)
    return f"{table}\n{note}{_sources(found)}"


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
    note = f"Each method at its best rate, with the first seed. {_was_run(found)}\n"
    return f"{markdown(peft.SWEEPS_HEADER, rows, left=3)}\n{note}{_sources(found)}"


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
    return _sources(found)


# Any comparison


def comparison_table(found: RunSet, path: Path) -> str:
    """A row for each group of runs and task: score, difference from the first, and what else the
    runs say of their answers."""
    points = checked(found.points["comparison.json"], list[ComparedGroup])
    header = [*differences.HEADER, "loss", "calibration error"]
    rows = []
    for cells, records in zip(differences.rows(points), _records_of_rows(points, found.runs)):
        task = cells[1]
        losses = [r["dev"][task]["loss"] for r in records if "loss" in r["dev"][task]]
        analyses = [r["analysis"][task] for r in records]
        errors = [a["expected_calibration_error"] for a in analyses if a.get("calibration")]
        more = (f"{fmean(values):.3f}" if values else "" for values in (losses, errors))
        rows.append([*cells, *more])
    seeds = sorted({len(point.runs) for point in points})
    note = (
        f"Development sets; {' or '.join(map(str, seeds))} runs a row, of other seeds; score, loss "
        "and calibration error are means over them. Interval and p are those of `minbert compare` "
        f"with the first row. {_was_run(found)}\n"
    )
    return f"{markdown(header, rows, left=3)}\n{note}{_sources(found)}"


def _records_of_rows(
    points: Sequence[ComparedGroup], runs: Mapping[str, Record]
) -> Iterable[list[Record]]:
    """For each row of the table its runs' records; none of runs that answer together."""
    for point in points:
        for _ in point.scores:
            yield [] if point.together else [runs[name] for name in point.runs]


# Accumulation and precision


def batches_table(found: RunSet, path: Path) -> str:
    """What the same optimizer step costs in batches of several sizes and precisions."""
    header, rows = batches_rows(found.runs.values())
    note = f"Memory is the most that the process took. {_was_run(found)}\n"
    return f"{markdown(header, rows, left=0)}\n{note}{_sources(found)}"


def batches_rows(records: Iterable[Record]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of runs that differ in batch size, accumulation and precision."""
    found = sorted(
        records,
        key=lambda record: (
            PRECISIONS.index(record["config"]["precision"]),
            record["config"]["accumulate"],
        ),
    )
    tasks = sorted({_only_task(record) for record in found})
    if len(tasks) > 1:
        raise ValueError(
            f"runs of several tasks, {', '.join(tasks)}, are no comparison; keep one's"
        )
    (task,) = tasks
    metric = TASKS[task].metrics[0]
    rows = [
        [
            str(record["config"]["batch_size"]),
            str(record["config"]["accumulate"]),
            record["config"]["precision"],
            f"{record['seconds']:.0f}",
            f"{record['peak_memory_mb']:.0f}",
            f"{record['dev'][task][metric]:.3f}",
        ]
        for record in found
    ]
    return ["batch", "accumulate", "precision", "seconds", "memory, MB", metric], rows


# Encoders from scratch


def encoders_table(found: RunSet, path: Path) -> str:
    """A row for each encoder: size, perplexity of held-out text, score after fine-tuning."""
    points = found.points["encoders.json"]
    header, rows = encoders_rows(points, found.runs)
    note = (
        "Perplexity is of a token of the encoder's own tokenizer; bits are of a character of the "
        "text, so that they compare: the loss of a masked token, in bits, times tokens per "
        f"character. {_was_run(found)}\n"
    )
    return f"{markdown(header, rows)}\n{note}{_sources(found)}"


def encoders_rows(
    points: Sequence[Record], runs: Mapping[str, Record]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a comparison of encoders: see scripts/encoders.py."""
    rows = []
    task = _only_task(runs[points[0]["tuned"]])
    metric = TASKS[task].metrics[0]
    for point in points:
        learnt, tuned = runs[point["run"]], runs[point["tuned"]]
        scores = learnt["dev"]["mlm"]
        rows.append(
            [
                point["encoder"],
                f"{point['layers']:,}",
                f"{point['embeddings']:,}",
                f"{point['tokens'] / point['characters']:.3f}",
                f"{scores['perplexity']:.1f}",
                f"{scores['loss'] / math.log(2) * point['tokens'] / point['characters']:.3f}",
                f"{learnt['seconds']:.0f}",
                f"{tuned['dev'][task][metric]:.3f}",
                f"{tuned['seconds']:.0f}",
            ]
        )
    header = [
        "encoder",
        "parameters of layers",
        "of embeddings",
        "tokens a character",
        "perplexity",
        "bits a character",
        "seconds",
        f"{task} {metric}",
        "seconds of fine-tuning",
    ]
    return header, rows


def perplexity_figure(found: RunSet, path: Path) -> str:
    """Perplexity of held-out text against steps and against seconds."""
    points = found.points["encoders.json"]

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import ScalarFormatter

        panels = figure.subplots(1, 2, sharey=True)
        for point, colour, mark in zip(points, COLOURS, "osD^"):
            steps, seconds, values = zip(*point["curve"])
            for axes, x in zip(panels, (steps, seconds)):
                axes.plot(x, values, color=colour, marker=mark, label=point["encoder"])
        for axes, label in zip(panels, ("optimizer step", "seconds")):
            axes.set(xlabel=label, yscale="log")
            axes.yaxis.set_major_formatter(ScalarFormatter())
            axes.yaxis.set_minor_formatter(ScalarFormatter())
        panels[0].set_ylabel("perplexity of held-out text")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")

    save(path, (9, 3.4), draw)
    return _sources(found)


# The plateau of STS


def plateau_table(found: RunSet, path: Path) -> str:
    """A row for each start and change: score, when the plateau is left, norms of gradients."""
    points = found.points["plateau.json"]
    note = (
        "The plateau is left where the mean loss of 20 batches is below .8 of that of one answer "
        "to all rows. Norms are of gradients before they are clipped, medians of the first 10 "
        "steps, of those from 20 to where it is left, and of those after, means over seeds. "
        f"{_was_run(found)}\n"
    )
    return f"{markdown(*plateau_rows(points, found.runs), left=2)}\n{note}{_sources(found)}"


def plateau_rows(
    points: Sequence[Record], runs: Mapping[str, Record]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of runs from two starts: see scripts/plateau.py."""
    by_row: dict[tuple[str, str], list[Record]] = {}
    for point in points:
        by_row.setdefault((point["start"], point["change"]), []).append(point)
    rows = []
    for (start, change), own in by_row.items():
        scores = [runs[point["run"]]["dev"]["sts"]["pearson"] for point in own]
        left = [point["left"] for point in own]
        norms = []
        for name in ("first_norm", "plateau_norm", "after_norm"):
            values = [point[name] for point in own if point[name] is not None]
            norms.append(f"{mean(values):.1f}" if values else "-")
        rows.append(
            [
                start,
                change,
                ", ".join(f"{score:.3f}" for score in scores),
                ", ".join("-" if step is None else str(step) for step in left),
                *norms,
            ]
        )
    header = ["start", "changed", "Pearson's r by seed", "left at step", "norm at first"]
    return [*header, "on the plateau", "after it"], rows


# What every block ends with


def _only_task(record: Record) -> str:
    tasks = record["config"]["tasks"]
    if record["config"]["command"] != "train" or len(tasks) != 1:
        raise KeyError("runs with one task each")
    return tasks[0]


def _setting(records: Sequence[Record], name: str) -> str:
    """A setting's value in runs, or its values."""
    values = sorted({record["config"][name] for record in records})
    return ", ".join(f"{value:g}" for value in values)


def _was_run(found: RunSet) -> str:
    """On what and from what the runs were made, and what was cut of their data."""
    records = found.runs.values()
    limits = sorted({r["config"]["limit"] for r in records if r["config"]["limit"]})
    rows = " or ".join(f"{limit:,}" for limit in limits)
    cut = f" Only {rows} training rows of a task, taken at equal distances." if limits else ""
    sources = sorted({r["backbone"]["source"] for r in records})
    start = f" Backbone: {sources[0]}." if len(sources) == 1 else ""
    return f"{machines(records)}{start}{cut} {commits(records)}"


def _sources(found: RunSet) -> str:
    """Where the records behind a block are."""
    return f"\nFrom the [{len(found.runs)} records]({RECORDS.name}/{found.name}) of these runs.\n"


GLUE, PEFT = "minbert glue run", "minbert glue peft"
COMPARE = "minbert compare --out"
ACCUMULATION, ENCODERS = "python scripts/accumulation.py", "python scripts/encoders.py"
PLATEAU = "python scripts/plateau.py"
BLOCKS = {
    "tasks": Block("Scores of each task", GLUE, tasks_table),
    "overall": Block("Overall scores", GLUE, overall_table),
    "methods": Block("Methods at their best rates", PEFT, methods_table),
    "figure-parameters": Block("Score against trainable parameters", PEFT, parameters_figure),
    "figure-rates": Block("Learning rate against score", PEFT, rates_figure),
    "comparison": Block("Runs beside the first", COMPARE, comparison_table),
    "sweeps": Block("Batch sizes and warm-ups", PEFT, sweeps_table),
    "figure-batch-sizes": Block("Batch size against score", PEFT, batch_sizes_figure),
    "figure-warmups": Block("Warm-up against score", PEFT, warmups_figure),
    "batches": Block("Batches, accumulation and precision", ACCUMULATION, batches_table),
    "encoders": Block("Encoders from scratch", ENCODERS, encoders_table),
    "plateau": Block("The plateau of STS", PLATEAU, plateau_table),
    "figure-perplexity": Block("Perplexity of held-out text", ENCODERS, perplexity_figure),
}
"""Block -> what it is; its name is none of the study's blocks."""
