"""Two candidates measured point by point while something grows, and drawn as curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from benchmarks.measure import compare
from multitask.runs.run_figure import COLOURS, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Point = dict[str, Any]
"""The facts of one measurement, by name: what is done, and how large it is."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What is measured where, for one figure."""

    ours: Callable[[Point], Callable[[], None]]
    """Gets ready at a point, and returns the work to be timed; a function of a module."""
    theirs: Callable[[Point], Callable[[], None]]
    """The same with transformers."""
    points: tuple[Point, ...]
    curve: str
    """The fact that names the curve that a point is on."""
    along: Mapping[str, tuple[str, str]]
    """Name of a curve -> the fact along it, and its label."""
    work: str
    """What takes the time."""

    def measure(self, *, threads: int, repeats: int) -> list[dict[str, Any]]:
        """The facts of each point with what `compare` finds there, under candidates."""
        results = []
        for point in tqdm(self.points, desc="points"):
            candidates = {
                "minbert": partial(self.ours, point),
                "transformers": partial(self.theirs, point),
            }
            found = compare(candidates, threads=threads, repeats=repeats)
            results.append({**point, "candidates": found})
        return results

    def draw(self, results: list[dict[str, Any]], path: Path) -> None:
        """Write an SVG: time above, memory below, a column for each curve."""

        def draw(figure: Figure) -> None:
            axes = figure.subplots(2, len(self.along), sharex="col", squeeze=False)
            for column, (curve, (fact, label)) in enumerate(self.along.items()):
                line = [result for result in results if result[self.curve] == curve]
                x = [result[fact] for result in line]
                for name, colour in (("minbert", COLOURS[0]), ("transformers", COLOURS[5])):
                    for row, key in enumerate(("median", "peak_memory_mb")):
                        y = [result["candidates"][name][key] for result in line]
                        axes[row, column].plot(x, y, "o-", color=colour, label=name)
                axes[0, column].set_title(curve)
                axes[1, column].set_xlabel(label)
            for one in axes.flat:
                one.grid(alpha=0.3)
                one.set_ylim(0)
            axes[0, 0].set_ylabel(f"{self.work}, s")
            axes[1, 0].set_ylabel("peak memory, MB")
            axes[0, 0].legend(frameon=False)

        save_figure(path, (1 + 3.2 * len(self.along), 5.5), draw)
