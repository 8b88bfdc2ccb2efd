"""BitFit, LoRA over ranks, and full fine-tuning, each at a learning rate of its own.

Every method is first trained at a few rates, LoRA at rank 8, and the rate with the best development
score is taken for all of its ranks. LoRA's strength is held constant, s = alpha / r = 2, or falls
with the root of the rank, s = alpha / √r, equal at rank 8 (Kalajdzievski, 2023, arXiv:2312.03732).
The sweep shows as well why BitFit wants a larger rate: few parameters must do all the moving.
At the rate that was chosen, the batch size and the warm-up may be swept in the same way.

OUT/mrpc/lora-8-0.001-11711/ ...    a run folder each, done once
OUT/peft.json                       the points that figures are drawn from
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from data.tasks import TASKS
from minbert.files import read_json, write_json
from multitask.config import TrainConfig
from multitask.extensions.base import Extension
from multitask.extensions.bitfit import BitFit
from multitask.extensions.lora import LoRA
from multitask.glue.glue_run import finish_glue
from multitask.runs.run_figure import COLOURS, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANKS = (1, 2, 4, 8, 16, 32)
SWEPT_RANK = 8
STRENGTH = 2.0
"""s of LoRA at rank 8, and at every rank where it is held constant."""
RATES = {
    "full": (2e-5, 5e-5, 1e-4, 2e-4),
    "LoRA": (2e-4, 5e-4, 1e-3, 2e-3),
    "LoRA, rank-stabilised": (2e-4, 5e-4, 1e-3, 2e-3),
    "BitFit": (5e-4, 1e-3, 2e-3, 4e-3),
}
"""Method -> the learning rates that are tried."""
SWEEPS = {"rate": "rates", "batch size": "batch-sizes", "warm-up": "warmups"}
"""What is swept -> the name of its figure."""
LINES = {"LoRA, rank-stabilised": "o--"}
"""At rank 8 it is LoRA, whose line then shows through."""


@dataclass(frozen=True)
class Point:
    """A run of the comparison."""

    task: str
    method: str
    rank: int | None
    lr: float
    seed: int
    score: float
    """The task's first metric on the development set."""
    trained: int
    """Parameters that train, heads included."""
    seconds: float
    run: str
    """Its folder."""
    sweep: str = "rate"
    """What was swept where it was run: of SWEEPS; runs over ranks and seeds are the rate's."""
    batch_size: int | None = None
    """Rows of a step; none in points of before it was swept."""
    warmup: float | None = None
    """Share of the steps in which the rate goes up; none as with the batch size."""

    @property
    def value(self) -> float:
        """That of what was swept."""
        found = {"rate": self.lr, "batch size": self.batch_size, "warm-up": self.warmup}
        value = found[self.sweep]
        if value is None:
            raise ValueError(f"a point of {self.run} lacks its {self.sweep}; run the sweep again")
        return value


def extensions_of(method: str, rank: int | None) -> tuple[Extension, ...]:
    """What a method adds to a config."""
    if method == "full":
        return ()
    if method == "BitFit":
        return (BitFit(),)
    assert rank is not None, f"{method} has a rank"
    if method == "LoRA":
        return (LoRA(rank=rank, alpha=STRENGTH * rank),)
    return (LoRA(rank=rank, alpha=STRENGTH * math.sqrt(SWEPT_RANK), rank_stabilised=True),)


def compare_methods(
    base: TrainConfig,
    out: Path,
    *,
    ranks: Sequence[int] = RANKS,
    seeds: Sequence[int],
    batch_sizes: Sequence[int] = (),
    warmups: Sequence[float] = (),
) -> list[Point]:
    """Train one task by every method, at the rates of the sweep and then over ranks and seeds, and
    at the best rate in batches of other sizes and with other warm-ups.

    Args:
        base: the config of full fine-tuning; its rate and seed are set here.
        out: folder of the runs.
        ranks: of LoRA.
        seeds: the first is the sweeps'; the chosen rates run with all.
        batch_sizes, warmups: to be swept, each beside the config's other settings.

    Raises:
        ValueError: a batch size or a warm-up is none, said before anything is trained.
    """
    for size in batch_sizes:
        replace(base, batch_size=size)
    for share in warmups:
        replace(base, warmup=share)

    def trained(
        method: str, rank: int | None, lr: float, seed: int, sweep: str = "rate", **changed: Any
    ) -> Point:
        # At the swept rank both kinds of LoRA are one, and so are their runs.
        kind = "LoRA" if rank == SWEPT_RANK else method
        name = kind.lower().replace(", ", "-") + (f"-{rank}" if rank else "")
        config = replace(
            base,
            lr=lr,
            seed=seed,
            extensions=(*base.extensions, *extensions_of(kind, rank)),
            **changed,
        )
        name += f"-{lr:g}"  # and what is not the base's, whose run is that of the rate's sweep
        if config.batch_size != base.batch_size:
            name += f"-batch-{config.batch_size}"
        if config.warmup != base.warmup:
            name += f"-warmup-{config.warmup:g}"
        config = replace(config, out=out / f"{name}-{seed}")
        (done,) = finish_glue([config])
        return Point(
            task=done.task,
            method=method,
            rank=rank,
            lr=lr,
            seed=seed,
            score=done.score,
            trained=done.record["parameters"]["trained"],
            seconds=done.record["seconds"],
            run=str(config.out),
            sweep=sweep,
            batch_size=config.batch_size,
            warmup=config.warmup,
        )

    points = {}
    for method, rates in RATES.items():
        rank = SWEPT_RANK if method.startswith("LoRA") else None
        sweep = [trained(method, rank, lr, seeds[0]) for lr in rates]
        best = max(sweep, key=lambda point: point.score).lr
        chosen = [
            trained(method, r, best, seed) for r in (ranks if rank else [None]) for seed in seeds
        ]
        sizes = [
            trained(method, rank, best, seeds[0], "batch size", batch_size=size)
            for size in batch_sizes
        ]
        shares = [
            trained(method, rank, best, seeds[0], "warm-up", warmup=share) for share in warmups
        ]
        every = (*sweep, *chosen, *sizes, *shares)
        points |= {(method, point.sweep, point.run): point for point in every}
    return list(points.values())


def write_comparison(points: Sequence[Point], out: Path) -> list[Path]:
    """Write the points and the figures of every task; what was written of others stays."""
    path = out / "peft.json"
    before = read_json(path, list[Point]) if path.exists() else []
    compared = {point.task for point in points}
    points = [*(point for point in before if point.task not in compared), *points]
    points.sort(key=lambda point: list(TASKS).index(point.task))
    write_json(path, [asdict(point) for point in points])
    paths = [path]
    width = 4.5 * len({point.task for point in points}) + 2
    draw: dict[str, Callable[[Figure], None]] = {"parameters": partial(draw_sizes, points=points)}
    for sweep, name in SWEEPS.items():
        if any(point.sweep == sweep for point in points):
            draw[name] = partial(draw_sweep, points=points, sweep=sweep)
    for name, panel in draw.items():
        paths.append(save_figure(out / f"{name}.svg", (width, 4), panel))
    return paths


def at_best_rate(points: Sequence[Point]) -> Iterator[tuple[str, str, int | None, list[Point]]]:
    """Task, method and rank, with the runs at the method's best rate for the task."""
    points = [point for point in points if point.sweep == "rate"]
    for task, method in dict.fromkeys((p.task, p.method) for p in points):
        own = [p for p in points if (p.task, p.method) == (task, method)]
        swept = [p for p in own if p.rank in (None, SWEPT_RANK) and p.seed == own[0].seed]
        best = max(swept, key=lambda point: point.score).lr
        for rank in sorted({p.rank for p in own}, key=lambda rank: rank or 0):
            runs = [p for p in own if p.rank == rank and p.lr == best]
            if runs:
                yield task, method, rank, runs


HEADER = ("task", "method", "rank", "rate", "trained", "score", "seeds", "seconds")


def comparison_rows(points: Sequence[Point]) -> list[list[str]]:
    """HEADER's cells for each task, method and rank, at the method's best rate: median over
    seeds."""
    return [
        [
            f"{task} {TASKS[task].metrics[0]}",
            method,
            "" if rank is None else str(rank),
            f"{runs[0].lr:g}",
            f"{runs[0].trained:,}",
            f"{median(run.score for run in runs):.3f}",
            f"{len(runs)}",
            f"{median(run.seconds for run in runs):.0f}",
        ]
        for task, method, rank, runs in at_best_rate(points)
    ]


def draw_sizes(figure: Figure, points: Sequence[Point]) -> None:
    """Score against trainable parameters, each method at its best rate."""
    for axes, task in _axes(figure, points):
        for method, colour in zip(RATES, COLOURS):
            best = [runs for t, m, _, runs in at_best_rate(points) if (t, m) == (task, method)]
            if best:
                x = [runs[0].trained for runs in best]
                y = [median(run.score for run in runs) for runs in best]
                axes.plot(x, y, LINES.get(method, "o-"), color=colour, label=method)
        axes.set(xscale="log", xlabel="trainable parameters", title=task)
        axes.set_ylabel(f"development {TASKS[task].metrics[0]}")


SWEEPS_HEADER = ("task", "method", "swept", "value", "rate", "score", "seconds")


def sweep_rows(points: Sequence[Point]) -> list[list[str]]:
    """SWEEPS_HEADER's cells for each batch size and warm-up that was swept; none without."""
    return [
        [
            f"{point.task} {TASKS[point.task].metrics[0]}",
            point.method,
            point.sweep,
            f"{point.value:g}",
            f"{point.lr:g}",
            f"{point.score:.3f}",
            f"{point.seconds:.0f}",
        ]
        for point in points
        if point.sweep != "rate"
    ]


def draw_sweep(figure: Figure, points: Sequence[Point], sweep: str = "rate") -> None:
    """Score against what was swept, each method with the first seed, LoRA at rank 8."""
    points = [point for point in points if point.sweep == sweep]
    for axes, task in _axes(figure, points):
        for method, colour in zip(RATES, COLOURS):
            own = [p for p in points if (p.task, p.method) == (task, method)]
            swept = {
                p.value: p.score
                for p in own
                if p.rank in (None, SWEPT_RANK) and p.seed == own[0].seed
            }
            if swept:
                line = LINES.get(method, "o-")
                axes.plot(*zip(*sorted(swept.items())), line, color=colour, label=method)
        axes.set(xlabel="learning rate" if sweep == "rate" else sweep, title=task)
        if sweep == "rate":
            axes.set_xscale("log")
        elif sweep == "batch size":
            sizes = sorted({p.batch_size for p in points if p.task == task and p.batch_size})
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, map(str, sizes))
        axes.set_ylabel(f"development {TASKS[task].metrics[0]}")


def _axes(figure: Figure, points: Sequence[Point]) -> Iterator[tuple]:
    tasks = list(dict.fromkeys(point.task for point in points))
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        yield axes, task
        axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
