"""How long stages will take: from records of like stages, or else from a few batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import prod
from statistics import median

from data.readers import read_split
from data.tasks import Split, get_task
from multitask.config import TrainConfig
from multitask.experiments.compare import estimated_seconds
from multitask.study.folder import StudyFolder
from multitask.study.plan import Stage

MEASURED_ROWS = 64
"""Rows trained on for a measurement."""
SCORING = 0.3
"""Seconds of scoring a row in units of training on it."""
STARTING = 5.0
"""Seconds before a stage's first step and after its last one."""
FACTORS = {"frozen": 0.5, "mlm": 1.6, "lora": 0.8, "ia3": 0.8, "bitfit": 0.8}
"""Seconds of training on a row in units of full fine-tuning, where there is no record."""


def seconds_of(stages: Iterable[Stage], study: StudyFolder) -> dict[str, float]:
    """Stage -> about how many seconds it takes in a process like this one."""
    stages = list(stages)
    rows = {
        task: {split: _rows(study, task, split) for split in ("train", "dev")}
        for task in sorted({task for stage in stages for task in stage.config.tasks})
    }
    recorded: dict[tuple, list[float]] = defaultdict(list)
    for stage in stages:
        if study.is_done(stage):
            seconds = study.run_of(stage.name).record()["seconds"]
            recorded[_kind(stage)].append(seconds / sum(_work(stage, rows).values()))
    measured: dict[str, float] = {}
    times = {}
    for stage in stages:
        work = _work(stage, rows)
        if _kind(stage) in recorded:
            times[stage.name] = STARTING + sum(work.values()) * median(recorded[_kind(stage)])
            continue
        for task in work.keys() - measured.keys():
            measured[task] = _measure(study, task)
        factor = prod(FACTORS.get(name, 1.0) for name in _kind(stage)[2])
        seconds = factor * sum(measured[task] * amount for task, amount in work.items())
        times[stage.name] = STARTING + seconds
    return times


def _kind(stage: Stage) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """What stages have in common that take as long for a row."""
    config = stage.config
    names = [e.name for e in config.extensions if e.name != "layer_lr"]
    if stage.kind == "mlm":
        names.append("mlm")
    if getattr(config, "frozen", False):
        names.append("frozen")
    return stage.kind, config.tasks, tuple(names)


def _work(stage: Stage, rows: dict[str, dict[str, int]]) -> dict[str, float]:
    """Task -> rows that a stage goes through, one that is scored as a part of one."""
    config = stage.config
    train = {
        task: min(rows[task]["train"], config.limit or rows[task]["train"]) for task in config.tasks
    }
    if config.steps_per_epoch:
        together = any(extension.combines for extension in config.extensions)
        drawn = config.steps_per_epoch * config.batch_size / (1 if together else len(train))
        train = dict.fromkeys(train, drawn)
    epochs = 1 if config.caches_features else config.epochs  # features come once
    return {task: epochs * (n + SCORING * rows[task]["dev"]) for task, n in train.items()}


def _measure(study: StudyFolder, task: str) -> float:
    """Seconds that a row of a task takes in full fine-tuning."""
    config = TrainConfig(
        tasks=(task,),
        data_dir=study.data_dir,
        backbone=study.backbone,
        epochs=1,
        limit=MEASURED_ROWS,
        pooling="mean",
        on_bad_row="skip",
    )
    return estimated_seconds(config) / MEASURED_ROWS


def _rows(study: StudyFolder, task: str, split: Split) -> int:
    return len(read_split(get_task(task), split, study.data_dir, on_bad_row="skip").examples)
