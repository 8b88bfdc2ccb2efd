"""Search over settings: a grid, or random draws from it, each with several seeds.

    lr=1e-5,5e-5,1e-4     these values
    lr=1e-5..1e-3         a range, for random draws: floats on a log scale, whole numbers evenly
    lora.rank=4,8         a setting of an extension

A sweep is a folder of runs, made by the engine of queue.py: what is done is passed over, what was
cut short goes on, and several processes may work on one sweep.
"""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from data.tasks import get_task
from multitask.config import PLACES, TrainConfig
from multitask.experiments.compare import announce, with_seeds
from multitask.experiments.jobs import jobs_of
from multitask.experiments.queue import Queue
from multitask.extensions.base import load_extensions
from multitask.extensions.median_stop import MedianStop
from multitask.runs.run import Run
from multitask.runs.run_figure import COLOURS, save_figure
from multitask.text_table import table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Choice = Mapping[str, Any]
"""Name of a setting, such as lr or lora.rank -> its value."""
MOST_TICKS = 6
"""So many numbers have a tick each; more have a scale."""
NOT_SWEPT = PLACES | {"extensions", "tasks", "seed", "data_dir", "task_files"}


@dataclass(frozen=True)
class Axis:
    """A setting that is searched, and its values or its range."""

    name: str
    values: tuple[Any, ...]
    is_range: bool = False
    """Whether `values` are the two ends of a range."""

    @classmethod
    def parse(cls, text: str) -> Axis:
        """What `NAME=VALUE,VALUE` or `NAME=LOW..HIGH` says.

        Raises:
            ValueError: it says neither, or there is no such setting, or a value is none of it.
        """
        name, equals, right = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not right.strip():
            raise ValueError(
                f"{text!r} is no setting to search; write NAME=VALUE,VALUE or NAME=LOW..HIGH"
            )
        kind = _kind_of(name)
        low, dots, high = right.partition("..")
        words = [low, high] if dots else right.split(",")
        values = tuple(_value(name, word.strip(), kind) for word in words)
        if dots and not (
            all(type(value) in (int, float) for value in values) and 0 < values[0] < values[1]
        ):
            raise ValueError(f"{text!r}: a range goes from a number above 0 to a larger one")
        if len(set(values)) != len(values):
            raise ValueError(f"{text!r} names a value twice; name each once")
        return cls(name, values, is_range=bool(dots))

    def draw(self, generator: random.Random) -> Any:
        """A random value."""
        if not self.is_range:
            return generator.choice(self.values)
        low, high = self.values
        if isinstance(low, int) and isinstance(high, int):
            return generator.randint(low, high)
        return float(f"{math.exp(generator.uniform(math.log(low), math.log(high))):.3g}")


@dataclass(frozen=True)
class Trial:
    """A choice of settings, and its finished runs, which differ in their seeds."""

    settings: Choice
    runs: tuple[Run, ...]

    @property
    def scores(self) -> list[float]:
        """The best development score of each run, the mean over tasks."""
        return [run.record()["score"] for run in self.runs]


def sweep(
    base: TrainConfig,
    over: Sequence[str],
    out: Path,
    *,
    seeds: int = 1,
    trials: int | None = None,
    stop_hopeless: bool = False,
) -> list[Trial]:
    """Train with every choice of settings, and return those that were trained, the best first.

    Args:
        base: the settings that stay.
        over: what is searched: see `Axis.parse`.
        out: folder of the runs.
        seeds: of each choice.
        trials: draw so many choices at random, in place of all of a grid.
        stop_hopeless: stop runs that lag behind: see extensions/median_stop.py.

    Raises:
        ValueError: a setting is wrong, or no run could be finished; the message says why.
    """
    axes = [Axis.parse(text) for text in over]
    if stop_hopeless:
        base = replace(base, extensions=(*base.extensions, MedianStop()))
    chosen = choices(axes, trials, base.seed)
    configs = {_name(settings): changed(base, settings) for settings in chosen}
    placed = {name: replace(config, out=out / name) for name, config in configs.items()}
    by_name = with_seeds(placed, seeds)
    jobs = jobs_of(config for found in by_name.values() for config in found)
    announce(jobs)
    queue = Queue(jobs, keep_weights="all")
    queue.work()
    made = {str(job.run.folder): job.run for job in jobs if job.is_done}
    found = [
        Trial(settings, tuple(made[str(c.out)] for c in by_name[name] if str(c.out) in made))
        for settings, name in zip(chosen, configs, strict=True)
    ]
    found = [trial for trial in found if trial.runs]
    if not found:
        raise ValueError("; ".join(dict.fromkeys(queue.failed.values())) or "nothing was trained")
    return sorted(found, key=lambda trial: -median(trial.scores))


def choices(axes: Sequence[Axis], trials: int | None, seed: int) -> list[Choice]:
    """All choices of a grid, or so many random ones, each once."""
    names = [axis.name for axis in axes]
    if not axes or len(set(names)) != len(names):
        raise ValueError("name each setting to search once: --over lr=1e-5,5e-5 batch_size=16,32")
    if trials is None:
        if ranged := [axis.name for axis in axes if axis.is_range]:
            raise ValueError(
                f"{ranged[0]} has a range, which is drawn from: say how often with --trials, or "
                "list its values"
            )
        return [dict(zip(names, values)) for values in product(*(axis.values for axis in axes))]
    if trials < 1:
        raise ValueError(f"trials must be at least 1, it is {trials}")
    generator = random.Random(seed)
    found: dict[tuple, Choice] = {}
    for _ in range(50 * trials):  # a small grid may not have so many
        if len(found) == trials:
            break
        values = tuple(axis.draw(generator) for axis in axes)
        found.setdefault(values, dict(zip(names, values)))
    return list(found.values())


def changed(base: TrainConfig, settings: Choice) -> TrainConfig:
    """A config with these settings; an extension that it lacks is added."""
    own: dict[str, Any] = {}
    extensions = {extension.name: extension for extension in base.extensions}
    for name, value in settings.items():
        extension, dot, setting = name.partition(".")
        if dot:
            former = extensions.get(extension) or load_extensions()[extension]()
            extensions[extension] = replace(former, **{setting: value})
        else:
            own[name] = value
    return replace(base, **own, extensions=tuple(extensions.values()))


def sweep_table(trials: Sequence[Trial]) -> str:
    """A row for each choice, the best first: median over seeds, smallest and largest score."""
    names = list(trials[0].settings)
    tasks = trials[0].runs[0].record()["dev"]
    metrics = {task: get_task(task).metrics[0] for task in tasks}
    rows = []
    for trial in trials:
        records = [run.record() for run in trial.runs]
        scores = [
            median(record["dev"][task][metric] for record in records)
            for task, metric in metrics.items()
        ]
        spread = f"{min(trial.scores):.3f}-{max(trial.scores):.3f}"
        rows.append(
            [
                ", ".join(_shown(trial.settings[name]) for name in names),
                *(f"{score:.3f}" for score in scores),
                f"{median(trial.scores):.3f}",
                spread if len(records) > 1 else "-",
                str(len(records)),
                f"{median(record['epochs'] for record in records):g}",
                f"{median(record['seconds'] for record in records):.0f}",
            ]
        )
    header = [", ".join(names), *(f"{task} {metric}" for task, metric in metrics.items())]
    return table([*header, "score", "range", "seeds", "epochs", "seconds"], rows)


def draw_sweep(trials: Sequence[Trial], path: Path) -> Path:
    """The score against each setting: a point for each run, and the medians."""
    names = list(trials[0].settings)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, names):
            _draw_setting(axes, name, trials)
        panels[0].set_ylabel("development score")

    return save_figure(path, (3.2 * len(names) + 0.8, 3.2), draw)


def _draw_setting(axes: Axes, name: str, trials: Sequence[Trial]) -> None:
    by_value: dict[Any, list[float]] = {}
    for trial in trials:
        by_value.setdefault(trial.settings[name], []).extend(trial.scores)
    numbers = all(type(value) in (int, float) and value > 0 for value in by_value)
    values = sorted(by_value, key=None if numbers else str)
    places = values if numbers else range(len(values))
    for place, value in zip(places, values):
        axes.plot([place] * len(by_value[value]), by_value[value], "o", color=COLOURS[0], alpha=0.4)
    axes.plot(places, [median(by_value[value]) for value in values], color=COLOURS[1])
    axes.set_xlabel(name)
    axes.grid(alpha=0.3)
    if numbers:
        axes.set_xscale("log")
    if len(values) <= MOST_TICKS or not numbers:
        axes.minorticks_off()
        axes.set_xticks(list(places), [_shown(value) for value in values])


def _kind_of(name: str) -> Any:
    """The type of a setting.

    Raises:
        ValueError: there is none of this name, or it is not to be searched.
    """
    extension, dot, setting = name.partition(".")
    owner: type = TrainConfig
    if dot:
        if extension not in load_extensions():
            raise ValueError(f"no extension is called {extension!r}; known: {[*load_extensions()]}")
        owner = load_extensions()[extension]
    known = [f.name for f in dataclasses.fields(owner) if dot or f.name not in NOT_SWEPT]
    if (setting or name) not in known:
        raise ValueError(f"{name!r} is no setting to search; known are {', '.join(known)}")
    return get_type_hints(owner)[setting or name]


def _value(name: str, word: str, kind: Any) -> Any:
    """A value as it is written."""
    if get_origin(kind) is Literal and word not in get_args(kind):
        raise ValueError(f"{name} is one of {', '.join(get_args(kind))}, and not {word!r}")
    try:
        return msgspec.convert(word, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{name}={word}: {error}; write what minbert train takes for it") from None


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _name(settings: Choice) -> str:
    """The name of a choice's folder."""
    text = " ".join(f"{name} {_shown(value)}" for name, value in settings.items())
    return re.sub(r"[^\w.+-]+", "-", text)
