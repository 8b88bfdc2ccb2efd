"""From a config to a finished run: load, train, predict, record.

For example:

    run = train(TrainConfig(tasks=("sst",), epochs=2))
    run.record()["dev"]["sst"]["accuracy"]
"""

from __future__ import annotations

import gc
import shlex
import sys
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from minbert.claim import claimed
from minbert.files import write_json
from minbert.inference import tf32_products
from minbert.loading import Backbone
from minbert.quick import give_back_memory, route_of
from multitask import distributed
from multitask.analysis import analyse, constant_scores, learnt_nothing
from multitask.config import AnyConfig, ContrastConfig, PretrainConfig
from multitask.contrast_stage import load_pairs, save_embedder
from multitask.dataset import TaskData, cache_features, load_data
from multitask.environment import choose_device, environment, peak_memory_mb
from multitask.evaluate import Evaluation, write_predictions
from multitask.extensions.base import Together, origin_of
from multitask.linear_head import LinearHeads
from multitask.loop.epoch_lines import EpochLines
from multitask.loop.optimizer import groups_table, make_groups
from multitask.loop.trainer import Progress, Trainer
from multitask.metrics import summary
from multitask.model import EmbeddingModel, MaskedLanguageModel, MultitaskModel
from multitask.pretraining import load_text, make_backbone, save_backbone
from multitask.runs.checkpoint import load_checkpoint, load_tensors, trainable
from multitask.runs.loggers import Logger, TensorBoard
from multitask.runs.origin import backbone_of, former_backbone, take_classifier
from multitask.runs.run import Run, absolute
from multitask.runs.run_figure import draw_run
from multitask.settings import DeviceSettings, RunSettings

UNLABELLED = ("tokens", "pairs")
"""Kinds of tasks whose answers are no answers to rows, and are not analysed."""


def train(config: AnyConfig, *, progress: bool = True, loggers: Sequence[Logger] = ()) -> Run:
    """Train as a config says, and write a run folder.

    Args:
        config: every setting.
        progress: show bars, and print a line an epoch.
        loggers: told of every step and epoch.

    Raises:
        ValueError: a setting, a file or a row is wrong; the message says what to do.
        OSError: the disk is full, say; the message says how to go on.
        KeyboardInterrupt: after Ctrl-C; the message says where the state is saved, and `resume`
            continues.
    """
    with _computing(config) as device, _writing(Run.begin(config)) as run:
        if isinstance(config, PretrainConfig) and config.starts_from_scratch:
            backbone = make_backbone(config)
        else:
            backbone = backbone_of(config)
        data = _load_data(config, backbone, run)
        told = _told(config, progress, loggers)
        trainer = _make_trainer(config, run, backbone, data, device, told, progress=progress)
        trainer.begin()
        distributed.wait()  # until all have opened their text, which `create` moves
        distributed.by_writer(lambda: run.create(config, backbone))
        with _resumable(run):
            return _fit(trainer, backbone, progress=progress)


def resume(
    folder: str | Path,
    *,
    data_dir: str | Path | None = None,
    device: str | None = None,
    progress: bool = True,
    loggers: Sequence[Logger] = (),
) -> Run:
    """Continue a run from its last checkpoint, with the settings it was started with.

    Args:
        folder: the run folder.
        data_dir: where the data is now, if it has moved; its training rows must be the same.
        device: where to go on, if not on the device that the run began on.
        progress: show bars, and print a line an epoch.
        loggers: told of every step and epoch.

    Raises:
        ValueError: the folder holds no run, or one that cannot go on; the message says why.
    """
    run = Run.open(folder)
    early = run.config()  # to be read again once no other process writes
    device = device or early.device
    with _computing(replace(early, device=device)) as found, _writing(_held(run)) as run:
        former = run.config()
        place = absolute(data_dir) if data_dir else former.data_dir
        config = replace(former, device=device, data_dir=place)
        backbone = former_backbone(run, config)
        data = _load_data(config, backbone, run, resumed=True)
        with _resumable(run):
            own = run.at_home(config)
            told = _told(config, progress, loggers)
            trainer = _make_trainer(own, run, backbone, data, found, told, progress=progress)
            trainer.restore()
            if config != former:
                distributed.by_writer(lambda: write_json(run.config_path, config.to_dict()))
            return _fit(trainer, backbone, progress=progress)


def describe_groups(config: AnyConfig) -> str:
    """The parameter groups that a run would train, as a table."""
    model = make_model(config, backbone_of(config))
    return groups_table(make_groups(config, model, Together(config.extensions)), model)


@contextmanager
def _computing(settings: DeviceSettings) -> Generator[torch.device]:
    """The device and the process settings of a run."""
    device = choose_device(settings.device, settings.precision)
    gc.collect()  # of a run before in this process, which frames of handled errors keep alive
    give_back_memory()
    products = tf32_products() if settings.precision == "tf32" else nullcontext()
    with route_of(settings.route), products, distributed.processes(device):
        yield device


@contextmanager
def _writing(claim: AbstractContextManager[Run]) -> Generator[Run]:
    """The run of a claim that the first process, the only one that writes, makes for all."""
    with ExitStack() as stack:
        yield distributed.by_writer(lambda: stack.enter_context(claim))


@contextmanager
def _held(run: Run) -> Generator[Run]:
    """A run to go on with, claimed.

    Raises:
        ValueError: it cannot go on, or another process writes to it.
    """
    with claimed(run.folder):
        if run.record_path.exists() and not run.last.exists():
            raise ValueError(
                f"{run.folder} is finished, and its {run.last.name}, where it could go on from, is "
                "gone; train again with another --out, or replace it with --overwrite"
            )
        yield run


@contextmanager
def _resumable(run: Run) -> Generator[None]:
    """Say how a run that was cut short can be continued."""
    try:
        yield
    except (KeyboardInterrupt, OSError, RuntimeError) as error:
        saved = f"saved in {run.last}" if run.last.exists() else "nothing is saved yet"
        config = run.config()
        used = [f"--use {origin}" for e in config.extensions if (origin := origin_of(type(e)))]
        command = " ".join([config.command, "--resume", shlex.quote(str(run.folder)), *used])
        if isinstance(error, KeyboardInterrupt):
            message = f"stopped; {saved}; continue with: minbert {command}"
            raise KeyboardInterrupt(message) from None
        if isinstance(error, OSError):
            message = f"{error}; {saved}; then continue with: minbert {command}"
            raise type(error)(message) from error
        if not distributed.is_loss_of_contact(error):
            raise
        raise ConnectionError(
            f"process {distributed.rank()} of {distributed.count()} lost contact with another, "
            f"which was stopped or failed; {saved}; continue with: torchrun ... {command}"
        ) from None


def _load_data(
    config: AnyConfig, backbone: Backbone, run: Run, *, resumed: bool = False
) -> dict[str, TaskData]:
    """Read the data, and say what was left out or cut, of the backbone too."""
    notes = [f"backbone: left out {note}" for note in backbone.dropped]
    notes += [f"backbone: not in the checkpoint, starts anew: {name}" for name in backbone.fresh]
    max_positions = backbone.encoder.config.max_positions
    if isinstance(config, PretrainConfig):
        data = load_text(config, backbone, run, resumed=resumed)
    elif isinstance(config, ContrastConfig):
        data = load_pairs(config, backbone.tokenizer, max_positions)
    else:
        data = load_data(config, backbone.tokenizer, max_positions)
    limit = config.max_length or max_positions
    notes += [note for task_data in data.values() for note in task_data.notes(limit)]
    if distributed.is_writer():
        for note in notes:
            print(note, file=sys.stderr)
    return data


def make_model(
    config: AnyConfig, backbone: Backbone
) -> MultitaskModel | MaskedLanguageModel | EmbeddingModel:
    """The model before its first step."""
    if isinstance(config, PretrainConfig):
        return MaskedLanguageModel.from_config(config, backbone)
    if isinstance(config, ContrastConfig):
        return EmbeddingModel.from_config(config, backbone.encoder)
    model = MultitaskModel.from_config(config, backbone.encoder)
    if not config.keep_heads:
        return model
    assert backbone.folder is not None  # what is made from scratch is pre-trained
    best = Run(backbone.folder).best
    if not best.is_file():
        if backbone.classifier is None or not isinstance(model.heads, LinearHeads):
            raise ValueError(
                f"keep_heads takes the heads of a run, and backbone {config.backbone} is none; "
                "name a run folder, or a checkpoint with a classification head for --head linear, "
                "or leave out --keep-heads"
            )
        take_classifier(model.heads, backbone.classifier, backbone.folder)
        return model
    former = Run(backbone.folder).config()
    for setting in ("head_layers", "head_activation"):
        theirs, ours = getattr(former, setting, None), getattr(config, setting)
        if theirs != ours:
            raise ValueError(
                f"{backbone.folder} has {setting} {theirs} and this run {ours}, so that the layers "
                "which heads share cannot be kept; set it so, or leave out --keep-heads"
            )
    tensors, _ = load_checkpoint(best)
    heads = {name: p for name, p in trainable(model).items() if name.startswith("heads.")}
    names = heads.keys() & tensors.keys()
    if not any(name.startswith(("heads.outputs.", "heads.classifiers.")) for name in names):
        raise ValueError(
            f"{backbone.folder} has no head for {', '.join(config.tasks)}; leave out --keep-heads"
        )
    load_tensors({n: heads[n] for n in names}, {n: tensors[n] for n in names}, best)
    return model


def _told(settings: RunSettings, progress: bool, loggers: Sequence[Logger]) -> list[Logger]:
    """All that are told of a run's steps and epochs."""
    events = [TensorBoard()] if settings.tensorboard else []
    return [*([EpochLines()] if progress else []), *events, *loggers]


def _make_trainer(
    config: AnyConfig,
    run: Run,
    backbone: Backbone,
    data: dict[str, TaskData],
    device: torch.device,
    loggers: Sequence[Logger],
    *,
    progress: bool,
) -> Trainer:
    """The trainer before its first step; nothing in the run folder changes."""
    model = make_model(config, backbone).to(device)
    for name in model.left_out if distributed.is_writer() else ():
        print(f"adapter: left out {name}, of another model's head", file=sys.stderr)
    return Trainer(config, model, data, run, progress_bar=progress, loggers=loggers)


def _fit(trainer: Trainer, backbone: Backbone, *, progress: bool) -> Run:
    """Train to the end, and write what came of it."""
    run, model = trainer.run, trainer.model
    if isinstance(model, MultitaskModel) and trainer.config.caches_features:
        cache_features(model, trainer.data, progress=progress and distributed.is_writer())
    result = trainer.fit()
    distributed.wait()  # until the best weights are written
    tensors, _ = load_checkpoint(run.best)
    load_tensors(trainer.parameters, tensors, run.best)
    evaluations = {split: trainer.evaluate(split) for split in ("dev", "test")}
    if isinstance(model, MaskedLanguageModel):
        save_backbone(run, model)
    elif isinstance(model, EmbeddingModel):
        distributed.by_writer(lambda: save_embedder(run))
    if distributed.is_writer():
        _write_results(run, trainer, result, evaluations, backbone)
    distributed.wait()
    return run


def _write_results(
    run: Run,
    trainer: Trainer,
    result: Progress,
    evaluations: dict[str, dict[str, Evaluation]],
    backbone: Backbone,
) -> None:
    """Predictions, figure and record of a run that is finished."""
    config, model, data = run.config(), trainer.model, trainer.data
    if isinstance(model, MultitaskModel):
        for split, by_task in evaluations.items():
            for name, evaluation in by_task.items():
                write_predictions(run.predictions, model.tasks[name], split, evaluation)
    labelled = {
        n: e for n, e in evaluations["dev"].items() if model.tasks[n].kind not in UNLABELLED
    }
    lines = run.metrics()
    doubts = {n: learnt_nothing(model.tasks[n], e, lines) for n, e in labelled.items()}
    trained = sum(p.numel() for p in trainer.parameters.values())
    record = {
        "dev": result.best,
        **summary(result.best, model.tasks),
        "constant": {
            name: constant_scores(model.tasks[name], e.labels)
            for name, e in labelled.items()
            if e.labels is not None
        },
        "doubts": {name: why for name, why in doubts.items() if why},
        "analysis": {name: analyse(model.tasks[name], e) for name, e in labelled.items()},
        "best_epoch": result.epoch_of(result.best_epoch),
        "before": result.before,
        "epochs": result.epoch_of(result.evaluated),
        "steps": result.step,
        "seconds": round(result.seconds, 1),
        "peak_memory_mb": peak_memory_mb(),
        "parameters": {"trained": trained, "all": sum(p.numel() for p in model.parameters())},
        "rows": {
            name: {s: len(source.ids) for s, source in d.sources.items()}
            for name, d in data.items()
        },
        "skipped": [str(bad) for d in data.values() for bad in d.skipped],
        "truncated": {
            name: {split: len(ids) for split, ids in d.truncated.items()}
            for name, d in data.items()
        },
        "backbone": {
            "source": config.origin,
            "sha256": run.source(),
            "dropped": list(backbone.dropped),
            "fresh": list(backbone.fresh),
        },
        "config": config.to_dict(),
        **environment(model.device),
    }
    draw_run(run)
    write_json(run.record_path, record)  # last: a run with a record is a finished one
