"""Several ways to train, side by side: what the scripts of the extensions call.

compare({"plain": config, "LoRA": replace(config, lr=1e-3, extensions=(LoRA(rank=8),))})
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from data.tasks import get_task
from multitask.config import AnyConfig, TrainConfig
from multitask.experiments.compare_runs import RunComparison, compare_runs
from multitask.experiments.differences import differences_table, points_of, write_points
from multitask.experiments.estimate import seconds_of
from multitask.experiments.groups import Group
from multitask.experiments.jobs import Job, jobs_of, missing
from multitask.experiments.queue import Queue
from multitask.runs.run import Run
from multitask.text_table import spread, table, words_of

Columns = Mapping[str, Callable[[Run], str]]
"""Header of a column -> what it says of a finished run, the first of a row's."""


def compare(
    configs: Mapping[str, AnyConfig],
    out: Path = Path("runs/compare"),
    columns: Columns | None = None,
    *,
    seeds: int = 1,
) -> str:
    """Train each config, after saying what that will take, and return a table of what came of it.

    What is done already is not trained again. The table has the development scores, the trainable
    parameters and the seconds of training of each; with several seeds mean ± standard deviation. A
    second table says how far each is from the first that answers tasks, and what chance makes of
    it; `minbert report --keep OUT` keeps it with the runs' records.

    Args:
        configs: by the names of their rows. One may start from the folder of an earlier one.
        out: a run is written to its config's own `out`, or else to a folder of its name in this
            one.
        columns: more columns.
        seeds: train each with so many seeds, its own and those after it, in folders NAME-SEED.

    Raises:
        ValueError: a folder holds a run with other settings.
    """
    placed = {
        name: replace(config, out=config.out or out / re.sub(r"\W+", "-", name))
        for name, config in configs.items()
    }
    by_name = with_seeds(placed, seeds)
    jobs = jobs_of(config for found in by_name.values() for config in found)
    announce(jobs)
    Queue(jobs, apart=False).work()
    made = iter(job.run for job in jobs)
    runs = {name: [next(made) for _ in found] for name, found in by_name.items()}
    points = points_of(_with_the_first(runs))
    parts = [comparison_table(runs, columns)]
    if points:
        write_points(out, points)
        parts.append(differences_table(points))
    return "\n\n".join(parts)


def _with_the_first(runs: Mapping[str, list[Run]]) -> list[RunComparison]:
    """Comparisons of rows with the first one that answers tasks, where they have a task in
    common."""
    tasks = {name: _tasks(found[0]) for name, found in runs.items() if _tasks(found[0])}
    if not tasks:
        return []
    first, *others = tasks
    return [
        compare_runs(Group(first, tuple(runs[first])), Group(name, tuple(runs[name])))
        for name in others
        if tasks[first] & tasks[name]
    ]


def _tasks(run: Run) -> set[str]:
    """The tasks that a run answers."""
    config = run.config()
    return set(config.tasks) if isinstance(config, TrainConfig) else set()


def comparison_table(runs: Mapping[str, list[Run]], columns: Columns | None = None) -> str:
    """A row for each name: its runs, which differ in their seeds."""
    columns = columns or {}
    records = {name: [run.record() for run in found] for name, found in runs.items()}
    every = [record for found in records.values() for record in found]
    metrics = {task: get_task(task).metrics[0] for record in every for task in record["dev"]}
    header = ["run", *(f"{task} {metric}" for task, metric in metrics.items()), *columns]
    rows = []
    for name, found in records.items():
        scores = [
            spread([r["dev"][task][metric] for r in found if task in r["dev"]]) or "-"
            for task, metric in metrics.items()
        ]
        own = [describe(runs[name][0]) for describe in columns.values()]
        trained = f"{found[0]['parameters']['trained']:,}"
        seconds = f"{fmean(record['seconds'] for record in found):.0f}"
        rows.append([name, *scores, *own, trained, seconds])
    return table([*header, "trainable parameters", "seconds"], rows)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the runs of a script have in common."""

    data_dir: Path | None = None
    """Folder with the tasks' files; by default the small data that the project ships."""
    backbone: str = "minilm"
    """minilm, a folder, or a hub name such as bert-base-uncased."""
    epochs: int = 3
    """Passes over the data."""
    seeds: int = 1
    """Train each with so many seeds."""
    limit: int | None = None
    """Use so many training rows of each task, taken at equal distances; by default all."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, ..."""
    out: Path | None = None
    """Folder of the runs; by default one of the script's name under runs/."""

    @property
    def folder(self) -> Path:
        """Where the runs are written."""
        return self.out or Path("runs") / Path(sys.argv[0]).stem

    def config(self, *tasks: str, **settings: Any) -> TrainConfig:
        """The config of plain fine-tuning on tasks, with what is set otherwise."""
        common: dict[str, Any] = {
            "data_dir": self.data_dir,
            "backbone": self.backbone,
            "epochs": self.epochs,
            "limit": self.limit,
            "device": self.device,
            "pooling": "mean",
            "on_bad_row": "skip",
        }
        return TrainConfig(tasks=tasks, **common | settings)

    def show(self, configs: Mapping[str, AnyConfig], columns: Columns | None = None) -> None:
        """Train what is missing, and print the table."""
        print(compare(configs, self.folder, columns, seeds=self.seeds))


def with_seeds(configs: Mapping[str, AnyConfig], seeds: int) -> dict[str, list[AnyConfig]]:
    """Each config with each seed; one that starts from another starts from that of its seed."""
    if seeds == 1:
        return {name: [config] for name, config in configs.items()}
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, it is {seeds}")
    folders = {str(config.out) for config in configs.values()}
    found = {}
    for name, config in configs.items():
        found[name] = [
            replace(
                config,
                seed=seed,
                out=Path(f"{config.out}-{seed}"),
                backbone=_of_seed(config.backbone, folders, seed),
            )
            for seed in range(config.seed, config.seed + seeds)
        ]
    return found


def _of_seed(backbone: str, folders: set[str], seed: int) -> str:
    """The folder with this seed, where a backbone is one of these folders or in one."""
    for folder in folders:
        if backbone == folder or backbone.startswith(f"{folder}/"):
            return f"{folder}-{seed}{backbone[len(folder) :]}"
    return backbone


def announce(jobs: list[Job]) -> None:
    """Say what is to be trained, and about how long that takes."""
    seconds = seconds_of(missing(jobs))
    print(f"{len(jobs)} runs, with a score after each epoch:")
    for job in jobs:
        config = job.config
        when = f"about {words_of(seconds[job.name])}" if job.name in seconds else "done already"
        tasks = ", ".join(config.tasks)
        print(f"  {job.name}: {tasks}, {config.epochs} epochs, {when}, in {config.out}")
