"""What a run starts from, and what another may start from it: backbones and trained models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from data.tasks import Task
from minbert.adapters import merge_and_remove
from minbert.checks import check_unused
from minbert.classifier import PREFIX, Classifier
from minbert.encoder import Encoder
from minbert.loading import (
    Backbone,
    blank_backbone,
    empty_encoder,
    load_backbone,
    outlines,
    read_config,
)
from minbert.tokenization import Tokenizer
from multitask.config import AnyConfig, ContrastConfig, PretrainConfig, RunConfig, TrainConfig
from multitask.linear_head import LAST, LinearHeads, num_labels, scale_of
from multitask.model import EmbeddingModel, MultitaskModel
from multitask.runs.checkpoint import (
    check_tensors,
    load_checkpoint,
    load_tensors,
    load_trained,
    trainable,
)
from multitask.runs.run import Run, weights_sha256
from multitask.trained_model import TrainedModel

M_ = TypeVar("M_", bound=TrainedModel)


def backbone_of(config: RunConfig) -> Backbone:
    """The backbone that a config names; its pooler may be missing where it is not used, and for a
    linear head, as in transformers.

    What is missing, a masked-language-model head too, gets initial values that depend on the seed.
    """
    pretrains = isinstance(config, PretrainConfig)
    linear = isinstance(config, TrainConfig) and config.head == "linear"
    keeps = isinstance(config, TrainConfig) and linear and config.keep_heads
    if pretrains:
        fresh = ("pooler", "mlm_head")
    else:
        fresh = () if config.uses_pooler and not linear else ("pooler",)
    run, source = Run(Path(config.backbone).expanduser()), config.backbone
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if run.best.is_file():
            why = f"it is for a backbone from the hub, and {source} is a run; leave it out"
            check_unused(config, why, "revision")
            if isinstance(run.config(), TrainConfig):
                backbone = trained_backbone(run)
                head = backbone.encoder.make_mlm_head() if pretrains else None
                return replace(backbone, mlm_head=head)
            source = str(run.backbone)  # the run has written an ordinary one
        backbone = load_backbone(
            source,
            revision=config.revision,
            offline=config.offline,
            mlm_head=pretrains,
            fresh=fresh,
        )
    if keeps and backbone.classifier is not None:
        kept = tuple(note for note in backbone.dropped if not note.startswith(PREFIX))
        backbone = replace(backbone, dropped=kept)
    if config.uses_pooler and not linear and not backbone.encoder.has_pooler:
        raise ValueError(
            f"backbone {config.backbone!r} has no pooler; choose pooling cls, mean or max"
        )
    return backbone


def former_backbone(run: Run, config: RunConfig) -> Backbone:
    """The backbone that a run started from.

    Raises:
        ValueError: other weights are in its place.
    """
    if isinstance(config, PretrainConfig) and config.starts_from_scratch:
        cls, described = read_config(run.backbone / "config.json")
        tokenizer = Tokenizer.from_folder(run.backbone)
        return blank_backbone(cls, described, tokenizer, seed=config.seed)
    backbone = backbone_of(config)
    expected, actual = run.source(), weights_sha256(backbone)
    if actual != expected:
        raise ValueError(
            f"{run.folder} started from weights with sha256 {expected}, and {backbone.folder} "
            f"holds {actual}; put the former backbone back"
        )
    return backbone


def trained_model(run: Run) -> tuple[MultitaskModel, dict[str, Any]]:
    """A run's best model on the CPU, in eval mode, with the epoch and the scores that it had."""
    config = run.at_home(run.config())
    assert isinstance(config, TrainConfig)
    return _best(run, config, lambda encoder: MultitaskModel.from_config(config, encoder))


def embedding_model(run: Run) -> EmbeddingModel:
    """The best model of a contrastive stage, as above."""
    config = run.config()
    assert isinstance(config, ContrastConfig)
    return _best(run, config, lambda encoder: EmbeddingModel.from_config(config, encoder))[0]


def _best(run: Run, config: AnyConfig, make: Callable[[Encoder], M_]) -> tuple[M_, dict[str, Any]]:
    """A run's best model, which `make` makes of an encoder."""
    tensors, state = load_checkpoint(run.best)
    with outlines():
        outline = empty_encoder(run.backbone)
        kept = {name for name, _ in outline.named_parameters(prefix="encoder")}
        check_tensors(trainable(make(outline)), tensors, run.best)
    if kept <= tensors.keys():
        encoder = empty_encoder(run.backbone)
    else:  # the run left some of the encoder as it was
        encoder = former_backbone(run, config).encoder
    model = make(encoder)
    load_trained(model, tensors, run.best)
    return model.eval(), state


def trained_backbone(run: Run) -> Backbone:
    """A run's best encoder as a backbone to start from, with extensions merged into it."""
    trains = isinstance(run.config(), TrainConfig)
    model = trained_model(run)[0] if trains else embedding_model(run)
    for extension in run.config().extensions:
        extension.export(model)
    merge_and_remove(model.encoder)
    encoder = empty_encoder(run.backbone)  # its dropout and what is frozen as in a new one
    encoder.load_state_dict(model.encoder.state_dict())
    tokenizer = Tokenizer.from_folder(run.backbone)
    return Backbone(encoder.eval(), tokenizer, None, run.folder, dropped=(), fresh=())


def take_classifier(heads: LinearHeads, classifier: Classifier, source: Path) -> None:
    """Start the tasks whose labels a checkpoint's head has from that head.

    Labels are found by their names, and by their numbers where the checkpoint has none.

    Raises:
        ValueError: no task has these labels, or the head's tensors are not the encoder's.
    """
    taken = False
    for name, task in heads.tasks.items():
        order = _order(classifier, task)
        if order is None:
            continue
        expected = dict(heads.classifiers[name].named_parameters())
        tensors = {k.removeprefix(PREFIX): tensor for k, tensor in classifier.tensors.items()}
        middle, unit = scale_of(task)
        for key in tensors.keys() & set(LAST):
            tensors[key] = tensors[key][torch.tensor(order)]
            if unit != 1 or middle:
                tensors[key] = (tensors[key] - (middle if key.endswith("bias") else 0)) / unit
        load_tensors(expected, tensors, source)
        taken = True
    if not taken:
        wanted = "; ".join(
            f"{name} has {', '.join(task.classes) or 'a number'}"
            for name, task in heads.tasks.items()
        )
        raise ValueError(
            f"{source} has a head for {', '.join(classifier.labels)}, and {wanted}; name a task "
            "with these labels, or leave out --keep-heads"
        )


def _order(classifier: Classifier, task: Task) -> list[int] | None:
    """Which of the checkpoint's outputs each of the task's labels is; None if they differ."""
    found, regression = list(classifier.labels), classifier.problem == "regression"
    if len(found) != num_labels(task) or regression != (task.kind == "regression"):
        return None
    wanted = [name.casefold() for name in task.classes]
    names = [label.casefold() for label in found]
    if sorted(wanted) == sorted(names):
        return [names.index(name) for name in wanted]
    return list(range(len(found))) if regression or not classifier.has_names else None
