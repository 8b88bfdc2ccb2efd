"""The report's tables and figures about folders of runs; those of GLUE are in glue_blocks.py.

A block is drawn from a `RunSet` alone, and ends with what was run and the records that it is from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, mean
from typing import TYPE_CHECKING

from data.tasks import TASKS
from minbert.files import checked
from multitask.experiments import differences
from multitask.report import glue_blocks as glue
from multitask.report.markdown import markdown
from multitask.report.notes import only_task, sources, was_run
from multitask.report.records import Record
from multitask.report.run_set import RunSet
from multitask.report.study_figures import save
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
        f"with the first row. {was_run(found)}\n"
    )
    return f"{markdown(header, rows, left=3)}\n{note}{sources(found)}"


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
    note = f"Memory is the most that the process took. {was_run(found)}\n"
    return f"{markdown(header, rows, left=0)}\n{note}{sources(found)}"


def batches_rows(records: Iterable[Record]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of runs that differ in batch size, accumulation and precision."""
    found = sorted(
        records,
        key=lambda record: (
            PRECISIONS.index(record["config"]["precision"]),
            record["config"]["accumulate"],
        ),
    )
    tasks = sorted({only_task(record) for record in found})
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
        f"character. {was_run(found)}\n"
    )
    return f"{markdown(header, rows)}\n{note}{sources(found)}"


def encoders_rows(
    points: Sequence[Record], runs: Mapping[str, Record]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a comparison of encoders: see scripts/encoders.py."""
    rows = []
    task = only_task(runs[points[0]["tuned"]])
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
    return sources(found)


# The plateau of STS


def plateau_table(found: RunSet, path: Path) -> str:
    """A row for each start and change: score, when the plateau is left, norms of gradients."""
    points = found.points["plateau.json"]
    note = (
        "The plateau is left where the mean loss of 20 batches is below .8 of that of one answer "
        "to all rows. Norms are of gradients before they are clipped, medians of the first 10 "
        "steps, of those from 20 to where it is left, and of those after, means over seeds. "
        f"{was_run(found)}\n"
    )
    return f"{markdown(*plateau_rows(points, found.runs), left=2)}\n{note}{sources(found)}"


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


GLUE, PEFT = "minbert glue run", "minbert glue peft"
COMPARE = "minbert compare --out"
ACCUMULATION, ENCODERS = "python scripts/accumulation.py", "python scripts/encoders.py"
PLATEAU = "python scripts/plateau.py"
BLOCKS = {
    "tasks": Block("Scores of each task", GLUE, glue.tasks_table),
    "overall": Block("Overall scores", GLUE, glue.overall_table),
    "methods": Block("Methods at their best rates", PEFT, glue.methods_table),
    "figure-parameters": Block("Score against trainable parameters", PEFT, glue.parameters_figure),
    "figure-rates": Block("Learning rate against score", PEFT, glue.rates_figure),
    "comparison": Block("Runs beside the first", COMPARE, comparison_table),
    "sweeps": Block("Batch sizes and warm-ups", PEFT, glue.sweeps_table),
    "figure-batch-sizes": Block("Batch size against score", PEFT, glue.batch_sizes_figure),
    "figure-warmups": Block("Warm-up against score", PEFT, glue.warmups_figure),
    "batches": Block("Batches, accumulation and precision", ACCUMULATION, batches_table),
    "encoders": Block("Encoders from scratch", ENCODERS, encoders_table),
    "plateau": Block("The plateau of STS", PLATEAU, plateau_table),
    "figure-perplexity": Block("Perplexity of held-out text", ENCODERS, perplexity_figure),
}
"""Block -> what it is; its name is none of the study's blocks."""
