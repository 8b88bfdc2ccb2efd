"""Curves of several runs over each other: what they lost and what they scored, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.tasks import get_task
from multitask.experiments.groups import Group
from multitask.runs.run import Run
from multitask.runs.run_figure import COLOURS, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_curves(groups: Sequence[Group], path: Path) -> Path:
    """Write a figure (SVG): a column for each task that all have, rows for the losses and for each
    metric, a colour for each group, a line for each run.

    Raises:
        ValueError: the runs have no task in common.
    """
    runs = [run for group in groups for run in group.runs]
    trained = [run.config().tasks for run in runs]
    tasks = [name for name in trained[0] if all(name in others for others in trained)]
    if not tasks:
        raise ValueError(f"{runs[0].folder} and the other runs have no task in common to draw")
    metrics = {name: get_task(name).metrics for name in tasks}
    rows = 1 + max(map(len, metrics.values()))

    def draw(figure: Figure) -> None:
        panels = figure.subplots(rows, len(tasks), squeeze=False, sharex="col")
        for group, colour in zip(groups, COLOURS * len(groups)):
            for number, run in enumerate(group.runs):
                lines = [line for line in run.metrics() if line["kind"] == "epoch"]
                label = group.name if number == 0 else None
                for name, (losses, *scores) in zip(tasks, panels.T):
                    _draw_losses(losses, lines, name, colour, label)
                    x = [line["epoch"] for line in lines]
                    for metric, axes in zip(metrics[name], scores):
                        y = [line["scores"][name][metric] for line in lines]
                        axes.plot(x, y, "o-", color=colour, markersize=4)
                        axes.set_ylabel(metric)
        for name, column in zip(tasks, panels.T):
            column[0].set_title(name)
            for axes in column[1 + len(metrics[name]) :]:
                axes.set_visible(False)
            column[len(metrics[name])].set_xlabel("epoch")
            column[len(metrics[name])].tick_params(labelbottom=True)
        panels[0, 0].set_ylabel("loss: training,\ndevelopment dashed")
        for axes in panels.flat:
            axes.grid(alpha=0.3)
            end = axes.dataLim.xmax
            if end > 0:
                axes.set_xlim(-0.05 * end, 1.05 * end)  # with room for whole epochs, if but one
            axes.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center")

    return save_figure(path, (4 * len(tasks) + 1, 2.5 * rows + 0.5), draw)


def _draw_losses(
    axes: Axes, lines: Sequence[dict[str, Any]], task: str, colour: str, label: str | None
) -> None:
    trained = [line for line in lines if task in line.get("train_loss", {})]
    x, y = [line["epoch"] for line in trained], [line["train_loss"][task] for line in trained]
    axes.plot(x, y, "o-", color=colour, markersize=3, label=label)
    x, y = [line["epoch"] for line in lines], [line["scores"][task]["loss"] for line in lines]
    axes.plot(x, y, "o--", color=colour, markersize=3)


def draw_systems(systems: Sequence[tuple[str, Sequence[Run]]], folder: Path) -> list[Path]:
    """A figure for each task that several folders of runs of one task each have: TASK.svg.

    Args:
        systems: the name and the runs of each folder.
        folder: where the figures go.

    Raises:
        ValueError: no task is in two of the folders.
    """
    found: dict[str, list[Group]] = {}
    for name, runs in systems:
        by_task: dict[str, list[Run]] = {}
        for run in runs:
            by_task.setdefault(run.config().tasks[0], []).append(run)
        for task, own in by_task.items():
            found.setdefault(task, []).append(Group(name, tuple(own)))
    common = {task: groups for task, groups in found.items() if len(groups) > 1}
    if not common:
        names = " and ".join(name for name, _ in systems)
        raise ValueError(f"{names} have no task in common; they have {', '.join(found)}")
    folder.mkdir(parents=True, exist_ok=True)
    return [draw_curves(groups, folder / f"{task}.svg") for task, groups in common.items()]
