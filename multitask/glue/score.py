"""GLUE's scores: each task's metrics, and the overall score in each of its conventions.

Papers mean different things by "GLUE score". A convention is a list of columns, each the mean of
one or two metrics; the score is the mean of the columns. It is taken over the columns that were
run, and says which are missing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from data.tasks import TASKS
from multitask.glue.glue_run import MISMATCHED, read_runs
from multitask.text_table import table

Metric = tuple[str, str]
"""Set and metric, such as ("mrpc", "f1")."""
Scores = Mapping[Metric, float]

_COLA = (("cola", "matthews"),)
_SST2 = (("sst2", "accuracy"),)
_MATCHED, _MISMATCHED = ("mnli", "accuracy"), (MISMATCHED, "accuracy")
_QNLI, _RTE, _WNLI = (((task, "accuracy"),) for task in ("qnli", "rte", "wnli"))


@dataclass(frozen=True, kw_only=True)
class Convention:
    """A way to make one number of many."""

    name: str
    source: str
    columns: Mapping[str, tuple[Metric, ...]]
    """Column -> the metrics whose mean it is."""

    def covered(self, scores: Scores) -> list[str]:
        """Columns all of whose metrics are known."""
        return [c for c, metrics in self.columns.items() if all(m in scores for m in metrics)]

    def overall(self, scores: Scores, columns: Iterable[str] | None = None) -> float | None:
        """Mean of the columns' means, over the columns that are named, or those that are covered.

        None where one that is named is not covered, or none is.
        """
        covered = self.covered(scores)
        names = covered if columns is None else list(columns)
        if not names or not set(names) <= set(covered):
            return None
        return mean(mean(scores[m] for m in self.columns[column]) for column in names)


CONVENTIONS = (
    Convention(
        name="GLUE",
        source="the leaderboard: nine tasks, each the mean of its metrics, MNLI m and mm together",
        columns={
            "CoLA": _COLA,
            "SST-2": _SST2,
            "MRPC": (("mrpc", "f1"), ("mrpc", "accuracy")),
            "STS-B": (("stsb", "pearson"), ("stsb", "spearman")),
            "QQP": (("qqp", "f1"), ("qqp", "accuracy")),
            "MNLI": (_MATCHED, _MISMATCHED),
            "QNLI": _QNLI,
            "RTE": _RTE,
            "WNLI": _WNLI,
        },
    ),
    Convention(
        name="BERT",
        source="BERT's table: MNLI m and mm as columns, F1 of QQP and MRPC, Spearman, no WNLI",
        columns={
            "MNLI-m": (_MATCHED,),
            "MNLI-mm": (_MISMATCHED,),
            "QQP": (("qqp", "f1"),),
            "QNLI": _QNLI,
            "SST-2": _SST2,
            "CoLA": _COLA,
            "STS-B": (("stsb", "spearman"),),
            "MRPC": (("mrpc", "f1"),),
            "RTE": _RTE,
        },
    ),
    Convention(
        name="LoRA",
        source="LoRA's table: eight tasks with one metric each, accuracy but for CoLA (Matthews) "
        "and STS-B (Pearson), MNLI m and mm together",
        columns={
            "MNLI": (_MATCHED, _MISMATCHED),
            "SST-2": _SST2,
            "MRPC": (("mrpc", "accuracy"),),
            "CoLA": _COLA,
            "QNLI": _QNLI,
            "QQP": (("qqp", "accuracy"),),
            "RTE": _RTE,
            "STS-B": (("stsb", "pearson"),),
        },
    ),
    Convention(
        name="ELECTRA",
        source="ELECTRA's and ConvBERT's: eight tasks, accuracy but for CoLA (Matthews) and STS-B "
        "(Spearman), MNLI m alone",
        columns={
            "CoLA": _COLA,
            "SST-2": _SST2,
            "MRPC": (("mrpc", "accuracy"),),
            "STS-B": (("stsb", "spearman"),),
            "QQP": (("qqp", "accuracy"),),
            "MNLI": (_MATCHED,),
            "QNLI": _QNLI,
            "RTE": _RTE,
        },
    ),
)

METRICS: tuple[Metric, ...] = tuple(
    dict.fromkeys(m for c in CONVENTIONS for metrics in c.columns.values() for m in metrics)
)
"""Every metric that some convention takes."""

SHOWN: tuple[Metric, ...] = tuple(
    metric
    for name in dict.fromkeys(name for name, _ in METRICS)
    for metric in (*(m for m in METRICS if m[0] == name), (name, "loss"))
)
"""What a table shows: a set's metrics, then its loss, as ConvBERT's code and ModernBERT's notebook
print them."""


def _row(percents: str) -> dict[Metric, float]:
    """A published row, written as "cola matthews 56.5, sst2 accuracy 92.3"."""
    cells = (cell.split() for cell in percents.split(","))
    return {(name, metric): float(percent) / 100 for name, metric, percent in cells}


PUBLISHED: dict[str, dict[Metric, float]] = {
    "BERT-base-cased, transformers' run_glue, dev": _row(
        "cola matthews 56.5, sst2 accuracy 92.3, mrpc f1 88.9, mrpc accuracy 84.1, "
        "stsb pearson 88.6, stsb spearman 88.5, qqp f1 87.5, qqp accuracy 90.7, "
        "mnli accuracy 83.9, mnli-mm accuracy 84.1, qnli accuracy 90.7, rte accuracy 65.7, "
        "wnli accuracy 56.3"
    ),
    "RoBERTa-base, LoRA's table, dev": _row(
        "cola matthews 63.6, sst2 accuracy 94.8, mrpc accuracy 90.2, stsb pearson 91.2, "
        "qqp accuracy 91.9, mnli accuracy 87.6, mnli-mm accuracy 87.6, qnli accuracy 92.8, "
        "rte accuracy 78.7"
    ),
    "RoBERTa-base with LoRA of rank 8, LoRA's table, dev": _row(
        "cola matthews 63.4, sst2 accuracy 95.1, mrpc accuracy 89.7, stsb pearson 91.5, "
        "qqp accuracy 90.8, mnli accuracy 87.5, mnli-mm accuracy 87.5, qnli accuracy 93.3, "
        "rte accuracy 86.6"
    ),
    "ConvBERT-base, its paper, test": _row(
        "cola matthews 67.8, sst2 accuracy 95.7, mrpc accuracy 88.3, stsb spearman 89.7, "
        "qqp accuracy 90.0, mnli accuracy 88.3, qnli accuracy 93.2, rte accuracy 77.9"
    ),
    "ModernBERT-base, its paper, dev": _row(
        "cola matthews 65.1, sst2 accuracy 96.0, mrpc accuracy 92.2, stsb spearman 91.8, "
        "qqp accuracy 92.1, mnli accuracy 89.1, qnli accuracy 93.9, rte accuracy 87.4"
    ),
}
"""System -> its scores. LoRA's table has one figure for MNLI m and mm together."""

PASS_MARKS: Mapping[tuple[Metric, ...], float] = {
    (("cola", "matthews"),): 0.6,
    (("sst2", "accuracy"),): 0.88,
    (("mrpc", "accuracy"),): 0.8,
    (("stsb", "pearson"), ("stsb", "spearman")): 0.8,
    (("qqp", "f1"),): 0.8,
    (("qqp", "accuracy"),): 0.8,
    (("mnli", "accuracy"),): 0.8,
    ((MISMATCHED, "accuracy"),): 0.8,
    (("qnli", "accuracy"),): 0.85,
    (("rte", "accuracy"),): 0.7,
    (("wnli", "accuracy"),): 0.8,
}
"""What a course asks of the mean of some metrics, of runs that train few parameters, on the
development sets. MRPC's is accuracy: F1 of the answer "equivalent" to all its rows is .812."""


TASKS_HEADER = ("set", "metric", "median", "range", "seeds", "95% of the mean", "pass mark")
TASKS_NOTE = (
    "The interval is of the mean over seeds, by Student's t. The loss is the mean over development "
    "rows: cross-entropy, or squared error (mse)."
)


@dataclass(frozen=True)
class System:
    """The runs of one folder: scores over seeds."""

    name: str
    seeds: Mapping[Metric, list[float]]
    seconds: float
    """Of all runs."""
    constant: Mapping[Metric, float] = field(default_factory=dict)
    """What one answer to all rows scores, where a record says it."""

    @property
    def medians(self) -> dict[Metric, float]:
        return {metric: median(values) for metric, values in self.seeds.items()}


def read_system(folder: Path) -> System:
    """Development scores of the finished runs in a folder, under the folder's name."""
    records = ({**run.record, "dev": run.scores} for run in read_runs(folder))
    return system_of(folder.resolve().name, records)


def system_of(name: str, records: Iterable[Mapping[str, Any]]) -> System:
    """Development scores of runs' records."""
    seeds: dict[Metric, list[float]] = defaultdict(list)
    constant: dict[Metric, float] = {}
    seconds = 0.0
    for record in records:
        seconds += record["seconds"]
        for task, metric in SHOWN:
            if metric in record["dev"].get(task, {}):
                seeds[task, metric].append(record["dev"][task][metric])
            if metric in record.get("constant", {}).get(task, {}):
                constant[task, metric] = record["constant"][task][metric]
    return System(name, dict(seeds), seconds, constant)


def mark_of(metric: Metric) -> tuple[tuple[Metric, ...], float] | None:
    """The metrics whose mean has a mark, this one the first of them, and the mark."""
    found = ((metrics, mark) for metrics, mark in PASS_MARKS.items() if metrics[0] == metric)
    return next(found, None)


def verdict(system: System, metric: Metric) -> str:
    """Whether a metric's mark is reached: "✓ 0.80"; of one that a constant answer reaches, that."""
    metrics, mark = mark_of(metric) or ((), 0.0)
    if not metrics or not set(metrics) <= system.seeds.keys():
        return ""
    reached = mean(median(system.seeds[m]) for m in metrics) >= mark
    words = [f"{'✓' if reached else '✗'} {mark:.2f}"]
    if len(metrics) > 1:
        words.append(f"(mean with {', '.join(name for _, name in metrics[1:])})")
    if set(metrics) <= system.constant.keys():
        constant = mean(system.constant[m] for m in metrics)
        words += [f"(a constant answer: {constant:.3f})"] if constant >= mark else []
    return " ".join(words)


def title(metric: Metric) -> str:
    """What a metric is called: the loss of STS-B is a mean squared error."""
    name, kind = metric
    is_regression = name in TASKS and TASKS[name].kind == "regression"
    return "mse" if kind == "loss" and is_regression else kind


def interval(values: Sequence[float]) -> str:
    """Where the mean over all seeds is with 95%, mean ± t s / √n; nothing of fewer than three."""
    if len(values) < 3:
        return ""
    from scipy.stats import t

    width = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return f"{mean(values) - width:.3f} to {mean(values) + width:.3f}"


def task_rows(system: System) -> dict[Metric, list[str]]:
    """TASKS_HEADER's cells of what a table shows of each set, in its order."""
    rows = {}
    for metric in SHOWN:
        if metric not in system.seeds:
            continue
        values = system.seeds[metric]
        middle = median(values)
        spread = f"{min(values):.3f}-{max(values):.3f}" if len(values) > 1 else ""
        rows[metric] = [
            metric[0],
            title(metric),
            f"{middle:.3f}",
            spread,
            f"{len(values)}",
            interval(values),
            verdict(system, metric),
        ]
    return rows


def overall_rows(system: System) -> list[dict[str, Any]]:
    """The overall score in each convention, with the published scores over the same columns."""
    rows = []
    for convention in CONVENTIONS:
        covered = convention.covered(system.medians)
        missing = [column for column in convention.columns if column not in covered]
        published = {
            name: value
            for name, scores in PUBLISHED.items()
            if covered and (value := convention.overall(scores, covered)) is not None
        }
        rows.append(
            {
                "convention": convention.name,
                "source": convention.source,
                "score": convention.overall(system.medians),
                "columns": covered,
                "missing": missing,
                "published": published,
            }
        )
    return rows


def describe(system: System) -> str:
    """Scores of a system as text."""
    lines = [system.name, "", table(TASKS_HEADER, list(task_rows(system).values())), TASKS_NOTE, ""]
    for row in overall_rows(system):
        count = len(row["columns"])
        total = count + len(row["missing"])
        over = f"over all {total} columns"
        if row["missing"]:
            over = f"over {count} of {total} columns, without {', '.join(row['missing'])}"
        score = "-" if row["score"] is None else f"{100 * row['score']:.1f}"
        lines += [f"{row['convention']} score: {score} {over}", f"    {row['source']}"]
        lines += [f"    {100 * value:5.1f}  {name}" for name, value in row["published"].items()]
    lines.append("Published rows are over the same columns, where they have them all.")
    return "\n".join(lines)


def as_json(system: System) -> dict[str, Any]:
    """Scores of a system as JSON values."""
    return {
        "name": system.name,
        "metrics": [
            {
                "set": metric[0],
                "metric": title(metric),
                "median": median(values),
                "seeds": values,
                "pass_mark": (mark_of(metric) or (None, None))[1],
            }
            for metric, values in system.seeds.items()
        ],
        "overall": overall_rows(system),
        "seconds": system.seconds,
    }
