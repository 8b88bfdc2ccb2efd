"""The report's figure of what a row gets wrong: where, how far off, and how sure of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.tasks import get_task
from multitask.report.drawing import GREY, heat_map, save
from multitask.report.records import Record, Study
from multitask.report.study_tables import LABELS
from multitask.runs.run_figure import COLOURS
from multitask.study.table_rows import TASKS as STUDIED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_mistakes(study: Study, row: str | None, path: Path) -> Path | None:
    """What a row gets wrong; None where it has not been run."""
    if row is None:
        return None
    last = {}
    for task in STUDIED:
        for stages in study.results("corrected", row, task)[:1]:
            last[task] = stages[-1]["analysis"][task]
    if not last:
        return None

    def draw(figure: Figure) -> None:
        *panels, calibration = figure.subplots(2, 3).flat
        for axes, (task, panel) in zip(panels, _PANELS):
            if task in last:
                panel(axes, last[task])
            else:
                axes.set_axis_off()
        for task, colour in zip(("sst", "para", "cola"), COLOURS):
            if task in last:
                _calibration(calibration, last[task], LABELS[task], colour)
        calibration.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        calibration.set(title="Calibration", xlim=(0.2, 1.02), ylim=(0, 1.02))
        calibration.set(xlabel="mean probability of the answer", ylabel="share answered right")
        calibration.legend(loc="lower right")

    return save(path, (11, 6.6), draw)


_SENTIMENTS = ("--", "-", "0", "+", "++")


def _confusion_of_sst(axes: Axes, analysis: Record) -> None:
    _confusion(axes, analysis, _SENTIMENTS)
    axes.set(
        title="SST: answers by label",
        xlabel="answer, very negative to very positive",
        ylabel="label",
    )


def _distances(axes: Axes, analysis: Record) -> None:
    counts = [0] * 5
    for label, line in enumerate(analysis["confusion"]):
        for answer, rows in enumerate(line):
            counts[abs(label - answer)] += rows
    wrong = max(1, sum(counts[1:]))
    shares = [count / wrong for count in counts[1:]]
    bars = axes.bar(range(1, 5), shares, color=COLOURS[0])
    axes.bar_label(bars, [f"{share:.0%}" for share in shares], color=GREY)
    axes.plot(1, 0.87, "D", color=COLOURS[1], markerfacecolor="none", label="bert-base, published")
    axes.set(
        title="SST: wrong answers, how far off",
        xlabel="classes between answer and label",
        ylabel="share of wrong answers",
        ylim=(0, 1),
        xticks=range(1, 5),
    )
    axes.legend(loc="upper right")


def _wrong_by_class(axes: Axes, analysis: Record) -> None:
    shares = [
        1 - line[label] / max(1, sum(line)) for label, line in enumerate(analysis["confusion"])
    ]
    bars = axes.bar(range(5), shares, color=COLOURS[0])
    axes.bar_label(bars, [f"{share:.0%}" for share in shares], color=GREY)
    axes.set(
        title="SST: wrong answers by label",
        xlabel="label, very negative to very positive",
        ylabel="share of the label's rows",
        ylim=(0, 1.1),
    )
    axes.set_xticks(range(5), _SENTIMENTS)


def _deviations(axes: Axes, analysis: Record) -> None:
    edges, counts = zip(*analysis["deviations"])
    axes.bar(edges, counts, width=0.25, align="edge", color=COLOURS[0])
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set(title="STS: answer - label", xlabel="deviation, in points of 0 to 5", ylabel="rows")


def _confusion_of_cola(axes: Axes, analysis: Record) -> None:
    _confusion(axes, analysis, get_task("cola").classes)
    axes.set(title="LIN: answers by label", xlabel="answer", ylabel="label")


_PANELS: Sequence[tuple[str, Callable[[Any, Record], None]]] = (
    ("sst", _confusion_of_sst),
    ("sst", _distances),
    ("sst", _wrong_by_class),
    ("sts", _deviations),
    ("cola", _confusion_of_cola),
)


def _confusion(axes: Axes, analysis: Record, classes: Sequence[str]) -> None:
    """The share of each answer among the rows of each label."""
    shares = [[rows / max(1, sum(line)) for rows in line] for line in analysis["confusion"]]
    heat_map(axes, shares, classes, classes, "{:.0%}")


def _calibration(axes: Axes, analysis: Record, label: str, colour: str) -> None:
    points = [(sure, right) for rows, sure, right in analysis["calibration"] if rows >= 10]
    error = analysis["expected_calibration_error"]
    if points:
        axes.plot(*zip(*points), "o-", color=colour, label=f"{label}, error {error:.3f}")
