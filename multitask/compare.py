"""Several ways to train, side by side: what the scripts of the extensions call.

compare({"plain": config, "LoRA": replace(config, lr=1e-3, extensions=(LoRA(rank=8),))})
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from data.tasks import get_task
from multitask.config import TrainConfig
from multitask.console import table
from multitask.dataset import load_data
from multitask.environment import choose_device
from multitask.heads import loss_sum
from multitask.model import MultitaskModel
from multitask.run import backbone_of
from multitask.training import train


def compare(configs: Mapping[str, TrainConfig], out: Path = Path("runs/compare")) -> str:
    """Train each config, after saying what that will take, and return a table of what came of it.

    A run is written to its config's `out`, or else to a folder of its name in `out`, where it
    replaces an earlier one. The table has the development scores, the trainable parameters and
    the seconds of training of each.
    """
    placed = {
        name: replace(config, out=config.out or out / re.sub(r"\W+", "-", name), overwrite=True)
        for name, config in configs.items()
    }
    print(f"{len(placed)} runs, with a score after each epoch:")
    for name, config in placed.items():
        minutes = estimated_seconds(config) / 60
        print(f"  {name}: {', '.join(config.tasks)}, {config.epochs} epochs, "
              f"about {max(minutes, 0.1):.1f} minutes, in {config.out}")  # fmt: skip
    records = {name: train(config).record() for name, config in placed.items()}

    tasks = dict.fromkeys(task for config in placed.values() for task in config.tasks)
    columns = [(task, get_task(task).metrics[0]) for task in tasks]
    header = ["run", *(f"{task} {metric}" for task, metric in columns)]
    rows = []
    for name, record in records.items():
        scores = (record["dev"].get(task, {}).get(metric) for task, metric in columns)
        cells = ["-" if score is None else f"{score:.3f}" for score in scores]
        trained = f"{record['parameters']['trained']:,}"
        rows.append([name, *cells, trained, f"{record['seconds']:.0f}"])
    return table([*header, "trainable parameters", "seconds"], rows)


def estimated_seconds(config: TrainConfig) -> float:
    """About how long a config trains, without scores: the time of one batch a task, times steps."""
    backbone = backbone_of(config)
    data = load_data(config, backbone.tokenizer, backbone.encoder.config.max_positions)
    device = choose_device(config.device, config.precision)
    model = MultitaskModel.from_config(config, backbone.encoder).to(device).train()
    seconds, steps = 0.0, 0
    for name, task_data in data.items():
        source = task_data.train
        rows = range(min(config.batch_size, len(source.ids)))
        batch = source.batch(rows).to(device)
        started = 0.0
        for _ in range(2):  # the first pass warms up
            started = time.monotonic()
            loss_sum(model.tasks[name], model(batch, name), batch.labels).backward()
        passes = len(source.ids) / len(rows)
        seconds += (time.monotonic() - started) * passes
        steps += passes / config.accumulate
    share = 1.0 if config.steps_per_epoch is None else config.steps_per_epoch / steps
    return seconds * share * config.epochs
