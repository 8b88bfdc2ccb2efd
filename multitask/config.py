"""The config of a run: every setting, in sections (settings.py), with the extensions.

TrainConfig is of fine-tuning, PretrainConfig of pre-training. Each holds the rules that more than
one section is about, and goes to config.json and back.

This file imports no torch, so that `minbert --help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from data.tasks import COURSE, MLM, Task
from minbert.checks import check_unused
from minbert.files import brief, checked
from multitask.extensions.base import Extension, extension_from_dict, extension_to_dict
from multitask.settings import (
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


AnyConfig = TrainConfig | PretrainConfig
"""The config of a run, of either kind."""


def config_from_dict(values: Mapping[str, Any]) -> AnyConfig:
    """The config that `to_dict` gave, of the class that it was."""
    pretrains = isinstance(values, dict) and values.get("command") == PretrainConfig.command
    return PretrainConfig.from_dict(values) if pretrains else TrainConfig.from_dict(values)


def _to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_to_json(each) for each in value]
    return str(value) if isinstance(value, Path) else value
