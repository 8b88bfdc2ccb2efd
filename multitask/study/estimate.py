"""How long stages will take: from records of like stages, or else from a few batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from statistics import median

from data.readers import read_split
from data.tasks import get_task
from multitask.config import TrainConfig
from multitask.study.folder import StudyFolder
from multitask.study.plan import Stage

MEASURED_ROWS = 64
"""Rows read for a measurement."""
FROZEN, MLM, LORA, SCORING = 0.25, 1.6, 0.8, 1.3
"""Seconds relative to full fine-tuning of the same rows, where nothing was measured; scoring
the development rows after each epoch comes on top of all."""


def seconds_of(stages: Iterable[Stage], study: StudyFolder) -> dict[str, float]:
    """Stage -> about how many seconds it takes on this machine."""
    stages = list(stages)
    rows = _rows(study, {task for stage in stages for task in stage.config.tasks})
    known = _recorded(stages, study)
    per_row: dict[str, float] = {}

    def measured(task: str) -> float:
        if task not in per_row:
            per_row[task] = _measure(study, task)
        return per_row[task]

    found = {}
    for stage in stages:
        steps, size = _steps(stage, rows), stage.config.batch_size
        like = known.get(_likeness(stage))
        if like is not None:
            found[stage.name] = steps * size * like
            continue
        tasks = stage.config.tasks
        a_row = sum(measured(task) * rows[task] for task in tasks) / sum(rows[t] for t in tasks)
        found[stage.name] = steps * size * a_row * _factor(stage)
    return found


def _steps(stage: Stage, rows: dict[str, int]) -> float:
    config = stage.config
    an_epoch = sum(min(rows[t], config.limit or rows[t]) for t in config.tasks) / config.batch_size
    together = len(config.tasks) if any(e.combines for e in config.extensions) else 1
    return config.epochs * (config.steps_per_epoch or an_epoch) * together


def _factor(stage: Stage) -> float:
    config = stage.config
    if isinstance(config, TrainConfig) and config.frozen:
        return SCORING * FROZEN
    if stage.kind == "mlm":
        return SCORING * MLM
    return SCORING * (LORA if any(e.name in ("lora", "ia3", "bitfit")
                                  for e in config.extensions) else 1.0)  # fmt: skip


def _likeness(stage: Stage) -> tuple:
    """What stages have in common that take as long for a row."""
    config = stage.config
    names = tuple(e.name for e in config.extensions if e.name != "layer_lr")
    return stage.kind, config.tasks, names, getattr(config, "frozen", False)


def _recorded(stages: Iterable[Stage], study: StudyFolder) -> dict[tuple, float]:
    """Seconds a row, by likeness, of the stages that are finished."""
    found: dict[tuple, list[float]] = {}
    for stage in stages:
        if study.is_done(stage):
            record = study.run_of(stage.name).record()
            a_row = record["seconds"] / (record["steps"] * stage.config.batch_size)
            found.setdefault(_likeness(stage), []).append(a_row)
    return {key: median(values) for key, values in found.items()}


def _measure(study: StudyFolder, task: str) -> float:
    """Seconds that a row of a task takes in full fine-tuning."""
    from multitask.compare import estimated_seconds

    config = TrainConfig(
        tasks=(task,), data_dir=study.data_dir, backbone=study.backbone, epochs=1,
        limit=MEASURED_ROWS, on_bad_row="skip", pooling="mean",
    )  # fmt: skip
    return estimated_seconds(config) / MEASURED_ROWS


def _rows(study: StudyFolder, tasks: Iterable[str]) -> dict[str, int]:
    """Training rows of each task."""
    return {
        task: len(read_split(get_task(task), "train", study.data_dir, on_bad_row="skip").examples)
        for task in tasks
    }


