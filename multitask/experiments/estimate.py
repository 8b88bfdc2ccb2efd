"""How long jobs will take: from records of like jobs, or else from the time of one batch."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod
from statistics import median
from typing import NamedTuple

from data.readers import SAMPLES, read_split
from data.tasks import Split, get_task
from multitask.config import AnyConfig, ContrastConfig, PretrainConfig, TrainConfig
from multitask.dataset import load_data
from multitask.environment import choose_device
from multitask.experiments.jobs import Job
from multitask.heads import row_losses
from multitask.model import MultitaskModel
from multitask.runs.origin import backbone_of

MEASURED_ROWS = 64
"""Rows that are read for a measurement."""
SCORING = 0.3
"""Seconds of scoring a row in units of training on it."""
STARTING = 5.0
"""Seconds before a job's first step and after its last one."""
FACTORS = {
    "frozen": 0.5, "mlm": 1.6, "contrast": 1.0, "lora": 0.8, "ia3": 0.8, "bitfit": 0.8,
    "rdrop": 1.9, "smart": 3.4,
}  # fmt: skip
"""Seconds of training on a row in units of full fine-tuning, where there is no record."""


class Kind(NamedTuple):
    """What jobs have in common that take as long for a row of a task."""

    plain: TrainConfig
    """Full fine-tuning on a few rows in the same place; its tasks stand for nothing."""
    tasks: tuple[str, ...]
    methods: tuple[str, ...]


def seconds_of(jobs: Iterable[Job]) -> dict[str, float]:
    """Name of a job -> about how many seconds it takes in a process like this one."""
    jobs = list(jobs)
    rows: dict[tuple[str, str, str], int] = {}
    recorded: dict[tuple, list[float]] = defaultdict(list)
    measured: dict[tuple[TrainConfig, str], float] = {}
    work = {job.name: _work(job.config, rows) for job in jobs}
    for job in jobs:
        if job.is_done:
            seconds = job.run.record()["seconds"]
            recorded[_kind(job)].append(seconds / sum(work[job.name].values()))
    times = {}
    for job in jobs:
        kind, found = _kind(job), work[job.name]
        if kind in recorded:
            times[job.name] = STARTING + sum(found.values()) * median(recorded[kind])
            continue
        for task in found:
            if (kind.plain, task) not in measured:
                measured[kind.plain, task] = _measure(kind.plain, task)
        seconds = sum(measured[kind.plain, task] * amount for task, amount in found.items())
        times[job.name] = STARTING + seconds * prod(FACTORS.get(name, 1.0) for name in kind.methods)
    return times


def _kind(job: Job) -> Kind:
    config = job.config
    names = [e.name for e in config.extensions if e.name != "layer_lr"]
    if isinstance(config, PretrainConfig):
        names.append("mlm")
    if isinstance(config, ContrastConfig):
        names.append("contrast")
    if config.caches_features:
        names.append("frozen")
    plain = TrainConfig(
        backbone=job.chain[0].config.backbone,  # which is there already
        data_dir=config.data_dir,
        max_length=config.max_length,
        precision=config.precision,
        device=config.device,
        limit=MEASURED_ROWS,
        pooling="mean",
        on_bad_row="skip",
    )
    return Kind(plain, config.tasks, tuple(names))


def _work(config: AnyConfig, rows: dict[tuple[str, str, str], int]) -> Mapping[str, float]:
    """Task -> rows that a job goes through, one that is scored as a part of one."""
    place = str(config.data_dir or SAMPLES)

    def count(task: str, split: Split) -> int:
        key = place, task, split
        if key not in rows:
            found = read_split(get_task(task), split, config.data_dir or SAMPLES, on_bad_row="skip")
            rows[key] = len(found.examples)
        return rows[key]

    train = {task: float(count(task, "train")) for task in config.tasks}
    if config.limit:
        train = {task: min(number, config.limit) for task, number in train.items()}
    if config.steps_per_epoch:
        together = any(extension.combines for extension in config.extensions)
        drawn = config.steps_per_epoch * config.batch_size * config.accumulate
        train = dict.fromkeys(train, drawn / (1 if together else len(train)))
    epochs = 1 if config.caches_features else config.epochs  # features come once
    scoring = SCORING * (1 if config.caches_features else config.scores_per_epoch)
    return {task: epochs * (n + scoring * count(task, "dev")) for task, n in train.items()}


def _measure(plain: TrainConfig, task: str) -> float:
    """Seconds that a row of a task takes in full fine-tuning."""
    config = replace(plain, tasks=(task,))
    backbone = backbone_of(config)
    rows = load_data(config, backbone.tokenizer, backbone.encoder.config.max_positions)[task].train
    device = choose_device(config.device, config.precision)
    model = MultitaskModel.from_config(config, backbone.encoder).to(device).train()
    count = min(config.batch_size, len(rows.ids))
    batch = rows.batch(range(count)).to(device)
    assert batch.labels is not None
    started = 0.0
    for _ in range(2):  # the first time warms up
        started = time.monotonic()
        row_losses(model.tasks[task], model(batch, task), batch.labels).sum().backward()
    return (time.monotonic() - started) / count
