"""The config of a run: every setting, in sections (settings.py), with the extensions.

TrainConfig is of fine-tuning, PretrainConfig of pre-training, ContrastConfig of contrastive stages.
Each holds the rules that more than
one section is about, and goes to config.json and back.

This file imports no torch, so that `minbert --help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from data.tasks import COURSE, MLM, Task, get_task
from minbert.checks import check_unused
from minbert.files import brief, checked
from multitask.extensions.base import Extension, extension_from_dict, extension_to_dict
from multitask.settings import (
    ContrastSettings,
    HeadSettings,
    MaskingSettings,
    ScratchSettings,
    Settings,
    TextSettings,
)

PLACES = {
    "out", "overwrite", "device", "route", "optimizer", "layout", "log_every", "save_every",
    "tensorboard", "offline",
}  # fmt: skip
"""Settings that say where and how a run computes, and not what."""


C_ = TypeVar("C_", bound="RunConfig")


@dataclass(frozen=True, kw_only=True)
class RunConfig(Settings):
    """Every run's sections, and its extensions."""

    command: ClassVar[str]
    """The command that makes such a run."""
    title: ClassVar[str]
    """What such a run is called."""
    makes_backbone: ClassVar[bool] = False
    """Whether what comes of the run is a backbone, which answers no task by itself."""

    extensions: tuple[Extension, ...] = ()
    """What changes the training: see multitask/extensions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.extensions if isinstance(self.extensions, list | tuple) else [self.extensions]
        if others := [each for each in given if not isinstance(each, Extension)]:
            raise ValueError(f"extensions has {brief(others[0])}; give objects such as LoRA()")
        object.__setattr__(self, "extensions", tuple(given))
        if self.shard and any(extension.combines for extension in self.extensions):
            raise ValueError(
                "shard does not go with an extension that combines gradients, which takes whole "
                "gradients; leave one of the two out"
            )
        if len(self.freezing) > 1:
            raise ValueError(
                f"{' and '.join(self.freezing)} each say what is left of the encoder to train; "
                "use one"
            )
        defining = [extension.name for extension in self.extensions if extension.defines]
        if len(defining) > 1:
            raise ValueError(f"{' and '.join(defining)} each say what a row's loss is; use one")
        for extension in self.extensions:
            extension.check(self)

    @property
    def origin(self) -> str:
        """What the encoder's weights come from."""
        return self.backbone

    @property
    def reads(self) -> tuple[str, ...]:
        """The tasks whose files are read."""
        return self.tasks

    @property
    def freezing(self) -> list[str]:
        """The settings that say what is left of the encoder to train."""
        return [extension.name for extension in self.extensions if extension.freezes]

    @property
    def uses_pooler(self) -> bool:
        """Whether the outputs depend on the encoder's pooler."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """This config as JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["extensions"] = [extension_to_dict(e) for e in self.extensions]
        return {"command": self.command, **{name: _to_json(v) for name, v in values.items()}}

    @classmethod
    def from_dict(cls: type[C_], values: Mapping[str, Any]) -> C_:
        """The config that `to_dict` gave; unknown settings, and values of another kind, are an
        error."""
        settings = dict(checked(values, dict[str, Any]))
        command, extensions = settings.pop("command", cls.command), settings.pop("extensions", [])
        if command != cls.command:
            raise ValueError(f"command is {brief(command)}, and this is a config of {cls.command}")
        made = tuple(extension_from_dict(e) for e in checked(extensions, list[Any]))
        return replace(checked(settings, cls), extensions=made)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(HeadSettings, RunConfig):
    """Fine-tune one shared encoder with a head for each task."""

    command: ClassVar[str] = "train"
    title: ClassVar[str] = "fine-tuning"

    tasks: tuple[str, ...] = COURSE
    """Tasks to train on, one or several: sst, para, sts, cola, cfimdb, para_large of the course, or
    sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli of GLUE (cola is GLUE's too). With --task-file none
    of them is trained unless it is named."""

    def __post_init__(self) -> None:
        if self.task_files and self.tasks is COURSE:  # the default, and not the same names given
            object.__setattr__(self, "tasks", ())
        super().__post_init__()
        if not self.tasks:
            raise ValueError("tasks is empty; name at least one")
        for name in self.pair_of:
            if name not in self.tasks:
                known = ", ".join(self.tasks)
                raise ValueError(f"pair_of has {name}, and tasks of this run are {known}")
            if not get_task(name).is_pair:
                raise ValueError(f"pair_of has {name}, whose rows are single texts; leave it out")
        if self.frozen:
            why = "frozen computes the encoder's features once, without dropout; leave it out"
            check_unused(self, why, "encoder_dropout", "gradient_checkpointing", "compile", "shard")
        choosing = [extension.name for extension in self.extensions if extension.chooses]
        if len(choosing) > 1:
            raise ValueError(f"{' and '.join(choosing)} both choose the tasks of a step; use one")

    @property
    def freezing(self) -> list[str]:
        settings = {"frozen": self.frozen, "adapter": self.adapter is not None}
        return super().freezing + [name for name, freezes in settings.items() if freezes]

    @property
    def caches_features(self) -> bool:
        return self.frozen

    @property
    def uses_pooler(self) -> bool:
        return self.pooling == "pooler"


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(ScratchSettings, MaskingSettings, TextSettings, RunConfig):
    """Train an encoder as a masked language model on text without labels."""

    command: ClassVar[str] = "pretrain"
    title: ClassVar[str] = "pre-training"
    makes_backbone: ClassVar[bool] = True

    tasks: tuple[str, ...] = ()
    """Tasks whose training rows are the text, and whose development rows are held out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tasks and not self.text:
            raise ValueError(
                "there is no text; name tasks whose rows to read (--tasks sst) or files (--text)"
            )
        idle = [extension.name for extension in self.extensions if extension.between_tasks]
        if idle:
            raise ValueError(
                f"{idle[0]} is about several tasks, and pre-training has one, the masked language "
                "model, whatever the text comes from; leave it out"
            )
        if self.starts_from_scratch:
            why = "an encoder from scratch starts from random weights; leave it out"
            check_unused(self, why, "backbone", "revision")

    @property
    def trained_tasks(self) -> tuple[Task, ...]:
        return (MLM,)

    @property
    def origin(self) -> str:
        if self.from_scratch:
            return f"{self.from_scratch} of size {self.size}, from scratch"
        return f"{self.encoder_config}, from scratch" if self.encoder_config else self.backbone


@dataclass(frozen=True, kw_only=True)
class ContrastConfig(ContrastSettings, TextSettings, RunConfig):
    """Train an encoder's embeddings on pairs of texts, or on texts without labels."""

    command: ClassVar[str] = "contrast"
    title: ClassVar[str] = "contrastive"
    makes_backbone: ClassVar[bool] = True
    takes_pairs = True

    tasks: tuple[str, ...] = ()
    """Tasks whose training rows are the pairs, or for simcse the texts."""
    batch_size: int = 64
    """Rows that go through the model at once."""
    accumulate: int = 1
    """Batches that make one optimizer step: each text is compared with those of batch_size x
    accumulate rows, in the memory that batch_size takes, and in a third more time (GradCache)."""
    evaluate_first: bool = True
    """Score the development rows before training too."""

    def __post_init__(self) -> None:
        named = self.tasks
        super().__post_init__()
        # A task file that is only to be scored on is not trained on.
        trained = tuple(n for n in self.tasks if n in named or n not in self.score_on)
        object.__setattr__(self, "tasks", trained)
        if not self.tasks and not self.text:
            raise ValueError(
                "there is nothing to train on; name tasks of pairs (--tasks para), or for "
                "--objective simcse any tasks, or files of texts (--text)"
            )
        if self.text and self.objective != "simcse":
            raise ValueError(
                f"objective {self.objective} needs pairs, and text files have none; take "
                "--objective simcse, or pairs as a task file of kind pairs"
            )
        if self.objective == "simcse" and self.encoder_dropout == 0:
            raise ValueError(
                "encoder_dropout is 0, and dropout is all that tells the two embeddings of a text "
                "apart; leave it out, or give more"
            )
        for name in self.tasks:
            if self.objective != "simcse":
                self.check_pairs(name, graded=self.objective != "mnr")
        for name in self.score_on:
            self.check_pairs(name, graded=True)
        for extension in self.extensions:
            if extension.between_tasks or not hooks_of(extension) <= KNOWN_HOOKS:
                raise ValueError(
                    f"{extension.name} changes how the losses of tasks come about, or what learns "
                    "when, and a contrastive stage has one loss, of all rows of a step together, "
                    "and no head; leave it out"
                )

    def check_pairs(self, name: str, *, graded: bool) -> None:
        """Raise ValueError unless a task has pairs, of which positives are known, or all labels."""
        task = get_task(name)
        if task.kind != "pairs" and not task.is_pair:
            raise ValueError(
                f"{name} has one text a row, and objective {self.objective} compares two; take a "
                "task of pairs, or --objective simcse"
            )
        if task.kind == "labels" or (task.kind == "pairs" and graded):
            found = "several labels a row" if task.classes else "no labels"
            raise ValueError(
                f"{name} has {found}, and what is wanted is how alike its pairs are; name another "
                "task, or for pairs without labels --objective mnr"
            )
        if task.kind in ("classes", "binary"):
            self.class_of_positives(task)

    def knows_positives(self, task: Task) -> bool:
        """Whether it is known which class of a task's means the same."""
        return self.positive_class in task.classes or (task.kind == "binary" and task.symmetric)

    def class_of_positives(self, task: Task) -> int:
        """The number of the class of a task whose pairs are positives."""
        if self.positive_class in task.classes:
            return task.classes.index(self.positive_class)
        if self.knows_positives(task):  # para, mrpc, qqp
            return 1
        raise ValueError(
            f"{task.name} has classes {', '.join(task.classes)}, and positive_class is "
            f"{self.positive_class!r}; name the class whose pairs mean the same: --positive-class"
        )

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.tasks, *self.score_on)))

    @property
    def uses_pooler(self) -> bool:
        return self.pooling == "pooler"


KNOWN_HOOKS = {"check", "prepare", "lr_scale", "stops", "export"}
"""Hooks of extensions that contrastive stages have."""


def hooks_of(extension: Extension) -> set[str]:
    """The hooks that an extension overrides."""
    hooks = {n for n, hook in vars(Extension).items() if n[0] != "_" and callable(hook)}
    return {n for n in hooks if getattr(type(extension), n) is not getattr(Extension, n)}


AnyConfig = TrainConfig | PretrainConfig | ContrastConfig
"""The config of a run, of any kind."""


def config_from_dict(values: Mapping[str, Any]) -> AnyConfig:
    """The config that `to_dict` gave, of the class that it was."""
    command = values.get("command") if isinstance(values, dict) else None
    if command == PretrainConfig.command:
        return PretrainConfig.from_dict(values)
    if command == ContrastConfig.command:
        return ContrastConfig.from_dict(values)
    return TrainConfig.from_dict(values)


def _to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_to_json(each) for each in value]
    return str(value) if isinstance(value, Path) else value
