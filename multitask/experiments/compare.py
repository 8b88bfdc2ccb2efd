"""Several ways to train, side by side: what the scripts of the extensions call.

compare({"plain": config, "LoRA": replace(config, lr=1e-3, extensions=(LoRA(rank=8),))})
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from data.tasks import get_task
from multitask.config import TrainConfig
from multitask.dataset import load_data
from multitask.heads import loss_sum
from multitask.loop.environment import choose_device
from multitask.model import MultitaskModel
from multitask.runs.origin import backbone_of
from multitask.runs.run import Run
from multitask.text_table import table
from multitask.training import train


def compare(
    configs: Mapping[str, TrainConfig],
    out: Path = Path("runs/compare"),
    columns: Mapping[str, Callable[[Run], str]] | None = None,
) -> str:
    """Train each config, after saying what that will take, and return a table of what came of it.

    The table has the development scores, the trainable parameters and the seconds of training of
    each.

    Args:
        configs: by the names of their rows. One may start from the folder of an earlier one.
        out: a run is written to its config's own `out`, or else to a folder of its name in this
            one, where it replaces an earlier one.
        columns: more columns: header -> what it says of a finished run.
    """
    columns = columns or {}
    placed = {
        name: replace(config, out=config.out or out / re.sub(r"\W+", "-", name), overwrite=True)
        for name, config in configs.items()
    }
    print(f"{len(placed)} runs, with a score after each epoch:")
    sources: dict[str, str] = {}  # folder of a run that is not there yet -> its backbone
    for name, config in placed.items():
        backbone = sources.get(config.backbone, config.backbone)
        sources[str(config.out)] = backbone
        minutes = estimated_seconds(replace(config, backbone=backbone)) / 60
        print(
            f"  {name}: {', '.join(config.tasks)}, {config.epochs} epochs, "
            f"about {max(minutes, 0.1):.1f} minutes, in {config.out}"
        )
    runs = {name: train(config) for name, config in placed.items()}

    tasks = dict.fromkeys(task for config in placed.values() for task in config.tasks)
    metrics = {task: get_task(task).metrics[0] for task in tasks}
    header = ["run", *(f"{task} {metric}" for task, metric in metrics.items()), *columns]
    rows = []
    for name, run in runs.items():
        record = run.record()
        scores = (record["dev"].get(task, {}).get(metric) for task, metric in metrics.items())
        cells = ["-" if score is None else f"{score:.3f}" for score in scores]
        cells += [describe(run) for describe in columns.values()]
        trained = f"{record['parameters']['trained']:,}"
        rows.append([name, *cells, trained, f"{record['seconds']:.0f}"])
    return table([*header, "trainable parameters", "seconds"], rows)


def estimated_seconds(config: TrainConfig) -> float:
    """About how long a config trains, without scores: the time of one batch a task, times steps."""
    backbone = backbone_of(config)
    data = load_data(config, backbone.tokenizer, backbone.encoder.config.max_positions)
    device = choose_device(config.device, config.precision)
    model = MultitaskModel.from_config(config, backbone.encoder).to(device).train()
    seconds, steps = 0.0, 0.0  # of a pass over all rows
    for name, task_data in data.items():
        source = task_data.train
        rows = range(min(config.batch_size, len(source.ids)))
        batch = source.batch(rows).to(device)
        assert batch.labels is not None
        started = 0.0
        for _ in range(2):  # the first time warms up
            started = time.monotonic()
            loss_sum(model.tasks[name], model(batch, name), batch.labels).backward()
        batches = len(source.ids) / len(rows)
        seconds += (time.monotonic() - started) * batches
        steps += batches / config.accumulate
    passes = config.epochs * (config.steps_per_epoch or steps) / steps
    together = any(extension.combines for extension in config.extensions)  # all tasks in each step
    return seconds * passes * (len(data) if together else 1)
