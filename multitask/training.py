"""From a config to a finished run: load, train, predict, record.

run = train(TrainConfig(tasks=("sst",), epochs=2))
run.record()["dev"]["sst"]["accuracy"]
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minbert.files import write_json
from minbert.loading import Backbone, fingerprint
from minbert.quick import keep_freed_memory, route_of
from multitask.checkpoint import load_checkpoint, load_trained
from multitask.config import TrainConfig
from multitask.dataset import TaskData, cache_features, load_data
from multitask.environment import choose_device, environment, peak_memory_mb
from multitask.evaluate import summary, write_predictions
from multitask.figures import draw_run
from multitask.model import MultitaskModel
from multitask.run import Run, backbone_of
from multitask.trainer import Trainer


def train(config: TrainConfig, *, progress: bool = True) -> Run:
    """Train as a config says, and write a run folder.

    Raises:
        ValueError: a setting, a file or a row is wrong; the message says what to do.
        KeyboardInterrupt: after Ctrl-C; the message says where the state is saved, and `resume`
            continues.
    """
    choose_device(config.device, config.precision)
    backbone = backbone_of(config)
    data = _load_data(config, backbone)
    run = Run.create(config, backbone)
    with _resumable(run):
        return _train(config, run, backbone, data, resumed=False, progress=progress)


def resume(folder: Path, *, progress: bool = True) -> Run:
    """Continue a run from its last checkpoint, with the settings it was started with."""
    run = Run.open(folder)
    config = run.config()
    backbone = run.load_backbone(config)
    data = _load_data(config, backbone)
    with _resumable(run):
        return _train(config, run, backbone, data, resumed=True, progress=progress)


@contextmanager
def _resumable(run: Run) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        saved = f"saved in {run.last}" if run.last.exists() else "nothing is saved yet"
        command = f"minbert train --resume {shlex.quote(str(run.folder))}"
        raise KeyboardInterrupt(f"stopped; {saved}; continue with: {command}") from None


def _load_data(config: TrainConfig, backbone: Backbone) -> dict[str, TaskData]:
    """Read the data, and say what was left out or cut, of the backbone too."""
    for note in backbone.dropped:
        print(f"backbone: left out {note}", file=sys.stderr)
    for name in backbone.fresh:
        print(f"backbone: not in the checkpoint, starts anew: {name}", file=sys.stderr)
    max_positions = backbone.encoder.config.max_positions
    data = load_data(config, backbone.tokenizer, max_positions)
    limit = config.max_length or max_positions
    for name, task_data in data.items():
        for bad in task_data.skipped:
            print(f"left out {bad}", file=sys.stderr)
        for split, count in task_data.truncated.items():
            if count:
                print(f"{name} {split}: cut {count} rows to {limit} tokens", file=sys.stderr)
    return data


def _train(
    config: TrainConfig,
    run: Run,
    backbone: Backbone,
    data: dict[str, TaskData],
    *,
    resumed: bool,
    progress: bool,
) -> Run:
    keep_freed_memory()
    with route_of(config.route):
        return _fit(config, run, backbone, data, resumed=resumed, progress=progress)


def _fit(
    config: TrainConfig,
    run: Run,
    backbone: Backbone,
    data: dict[str, TaskData],
    *,
    resumed: bool,
    progress: bool,
) -> Run:
    device = choose_device(config.device, config.precision)
    model = MultitaskModel.from_config(config, backbone.encoder).to(device)
    if config.frozen:
        cache_features(model, data, progress=progress)
    trainer = Trainer(config, model, data, run, progress_bar=progress)
    if resumed:
        trainer.restore()
    result = trainer.fit()

    tensors, _ = load_checkpoint(run.best)
    load_trained(model, tensors, run.best)
    for split in ("dev", "test"):
        for name, evaluation in trainer.evaluate(split).items():
            write_predictions(run.predictions, model.tasks[name], split, evaluation)
    trained = sum(p.numel() for p in trainer.parameters.values())
    record = {
        "dev": result.best,
        **summary(result.best, model.tasks),
        "best_epoch": result.best_epoch,
        "before": result.before,
        "epochs": result.evaluated,
        "steps": result.step,
        "seconds": round(result.seconds, 1),
        "peak_memory_mb": peak_memory_mb(),
        "parameters": {"trained": trained, "all": sum(p.numel() for p in model.parameters())},
        "rows": {name: {s: len(source.ids) for s, source in d.sources.items()}
                 for name, d in data.items()},
        "skipped": [str(bad) for d in data.values() for bad in d.skipped],
        "truncated": {name: d.truncated for name, d in data.items()},
        "backbone": {"source": config.backbone, "sha256": fingerprint(backbone.folder),
                     "dropped": list(backbone.dropped), "fresh": list(backbone.fresh)},
        "config": config.to_dict(),
        **environment(device),
    }  # fmt: skip
    draw_run(run)
    write_json(run.record_path, record)  # last: a run with a record is a finished one
    return run
