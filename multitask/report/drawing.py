"""How the report's figures look.

They have no background and a grey that reads on white and on black, and colours that colour-blind
readers can tell apart (Okabe & Ito).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from multitask.runs.run_figure import COLOURS, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#7a7a7a"
STYLE = {
    "svg.fonttype": "path",
    "font.size": 9,
    "text.color": GREY,
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "axes.titlecolor": GREY,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.facecolor": "none",
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.markersize": 4.5,
}
OURS = {"color": COLOURS[0], "marker": "o", "linestyle": "-"}
THEIRS = {"color": COLOURS[1], "marker": "o", "linestyle": "--", "markerfacecolor": "none"}


def save(path: Path, size: tuple[float, float], draw: Callable[[Figure], None]) -> Path:
    """Write what `draw` puts on a figure of this size in inches, in the report's style."""
    return save_figure(path, size, draw, STYLE)


def heat_map(
    axes: Axes,
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    form: str,
    limits: float | None = None,
) -> Any:
    """Values as colours with their numbers, from 0 to 1, or from -limits to limits.

    The colour maps are light, so that black numbers read on them against any page.
    """
    from matplotlib.colors import LinearSegmentedColormap

    colours = ["#f3f6fa", "#8fc1e3"] if limits is None else ["#f0b27a", "#f7f7f7", "#8fc1e3"]
    low, high = (0.0, 1.0) if limits is None else (-limits, limits)
    shades = LinearSegmentedColormap.from_list("shades", colours)
    image = axes.imshow(values, cmap=shades, vmin=low, vmax=high)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(False)
    for i, line in enumerate(values):
        for j, value in enumerate(line):
            axes.text(j, i, form.format(value), ha="center", va="center", color="black")
    return image


def plot_seeds(
    axes: Axes, x: Sequence[float], scores: Sequence[Sequence[float]], label: str | None = None
) -> None:
    """Means over seeds, with bars of one standard deviation where there are several seeds."""
    errors = [stdev(values) if len(values) > 1 else 0.0 for values in scores]
    axes.plot(x, [mean(values) for values in scores], **OURS, label=label)
    if any(errors):
        axes.errorbar(x, [mean(values) for values in scores], errors, fmt="none", color=COLOURS[0])
