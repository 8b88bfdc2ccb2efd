"""The figure of a run, and how the figures of documents are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.tasks import get_task
from minbert.files import replacing
from multitask.metrics import OF_LOSS
from multitask.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def save_figure(
    path: Path,
    size: tuple[float, float],
    draw: Callable[[Figure], None],
    style: Mapping[str, Any] | None = None,
) -> Path:
    """Write what `draw` puts on a figure: the same file, byte for byte, from the same numbers,
    whatever the user's own matplotlibrc says.

    Args:
        path: the file, .svg or .pdf.
        size: width and height in inches.
        draw: given the figure.
        style: settings of matplotlib, by their names in its rcParams.
    """
    from matplotlib import style as styles
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings = {"svg.hashsalt": "minbert", "pdf.fonttype": 42, **(style or {})}
    kind = path.suffix.removeprefix(".")
    unsaid = {"svg": ("Date", "Creator"), "pdf": ("CreationDate", "Creator", "Producer")}
    with styles.context(["default", settings]), replacing(path) as temporary:
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(temporary, format=kind, metadata=dict.fromkeys(unsaid[kind]))
    return path


def draw_run(run: Run) -> None:
    """Write figure.png from metrics.jsonl: losses by step, development scores by epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = run.metrics()
    epochs = [line for line in lines if line["kind"] == "epoch"]
    tasks = list(epochs[-1]["scores"])
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores = figure.subplots(1, 2)
    for name, colour in zip(tasks, COLOURS * len(tasks), strict=False):
        steps = [line for line in lines if line["kind"] == "step" and line["task"] == name]
        x = [line["step"] for line in steps]
        y = [line["loss"] for line in steps]
        losses.plot(x, y, color=colour, alpha=0.2, linewidth=0.8)
        losses.plot(x, _smooth(y), color=colour, linewidth=1.8)
        held_out = [(line["step"], line["scores"][name]["loss"]) for line in epochs]
        losses.plot(*zip(*held_out, strict=True), "o--", color=colour, markersize=4)
        metric = get_task(name).metrics[0]
        points = [(line["epoch"], line["scores"][name][metric]) for line in epochs]
        scores.plot(*zip(*points, strict=True), "o-", color=colour, label=f"{name} {metric}")
    losses.set(
        xlabel="optimizer step", ylabel="loss", title="Loss of batches, and (dots) of development"
    )
    losses.set_yscale("log")  # a squared error and a cross-entropy, legible side by side
    scores.set(xlabel="epoch", ylabel="development score", title="Score")
    if not any(get_task(name).metrics[0] in OF_LOSS for name in tasks):
        scores.set_ylim(None, 1)
    scores.xaxis.get_major_locator().set_params(integer=True)
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
    scores.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))  # hides no point
    with replacing(run.figure_path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _smooth(values: list[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average, corrected for its start at zero."""
    smooth, mean = [], 0.0
    for count, value in enumerate(values, start=1):
        mean = weight * mean + (1 - weight) * value
        smooth.append(mean / (1 - weight**count))
    return smooth
