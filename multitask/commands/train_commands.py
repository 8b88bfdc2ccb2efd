"""The commands that train: demo, train, pretrain, contrast."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

from multitask.commands import dashed, flags_of
from multitask.config import ContrastConfig, PretrainConfig, TrainConfig
from multitask.extensions.base import Extension, import_extension, load_extensions

BESIDE_RESUME = ("--resume", "--data-dir", "--device", "--show-groups")
"""Flags that go with --resume."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Fine-tune the four tasks on the small data that comes along, in a few minutes, offline."""

    out: Path = Path("runs/demo")
    """Run folder; an earlier demo in it is replaced."""
    epochs: int = 3
    """Passes over the data."""
    seed: int = 11711
    """Another seed gives another run."""

    def run(self) -> None:
        train = Train(
            out=self.out,
            overwrite=True,
            epochs=self.epochs,
            seed=self.seed,
            lr=1e-4,
            pooling="mean",
            evaluate_first=True,
        )
        print("One MiniLM encoder, four heads, on data/samples: a few minutes on two CPU cores.")
        train.run()


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the commands that train have beside their config's flags."""

    use: tuple[str, ...] = ()
    """Extensions to use with the settings they have by default; a flag of an extension, such as
    --lora.rank 4, uses it too. MODULE:CLASS or FILE.py:CLASS is one of your own, and is run."""
    resume: Path | None = None
    """Continue the run in this folder, with the settings it was started with; --data-dir and
    --device may say where its data is now, and where to compute."""

    config_class: ClassVar[type[TrainConfig] | type[PretrainConfig] | type[ContrastConfig]]
    flags: ClassVar[tuple[str, ...]] = ()
    """The flags that the command line gives, as they were typed."""

    def __post_init__(self) -> None:
        if self.resume is None:
            self.config_class(**self.settings())  # which checks them
            return
        allowed = (*BESIDE_RESUME, *(["--use"] if all(":" in use for use in self.use) else []))
        others = [flag for flag in self.flags if dashed(flag) not in allowed]
        if others:
            raise ValueError(
                f"--resume takes its settings from {self.resume}; leave out {', '.join(others)}"
            )

    def settings(self) -> dict[str, Any]:
        """The config's settings but for the extensions."""
        return {f.name: getattr(self, f.name) for f in fields(self.config_class)}

    def values(self) -> dict[str, Any]:
        """The config's settings."""
        return {**self.settings(), "extensions": self.chosen()}

    def run(self) -> None:
        from minbert.quick import keep_freed_memory
        from multitask import training
        from multitask.commands.words import finished
        from multitask.runs.run import Run

        if isinstance(self, Train) and self.show_groups:
            former = Run.open(self.resume).config() if self.resume else None
            print(training.describe_groups(former or TrainConfig(**self.values())))
            return
        keep_freed_memory()  # for this process does nothing else
        if self.resume:
            settings = self.settings()
            device = settings["device"] if "--device" in self.flags else None
            run = training.resume(self.resume, data_dir=settings["data_dir"], device=device)
        else:
            run = training.train(self.config_class(**self.values()))
        if os.environ.get("RANK", "0") == "0":
            print(finished(run))

    def chosen(self) -> tuple[Extension, ...]:
        """The extensions that the command line uses: see `with_extensions`."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Train(Training, TrainConfig):
    """Fine-tune one shared encoder with a head for each task."""

    show_groups: bool = False
    """Do not train: print the learning rate and the weight decay of every part of the model."""

    config_class = TrainConfig


@dataclass(frozen=True, kw_only=True)
class Pretrain(Training, PretrainConfig):
    """Train an encoder as a masked language model on text without labels, or make a new one."""

    config_class = PretrainConfig


@dataclass(frozen=True, kw_only=True)
class Contrast(Training, ContrastConfig):
    """Train an encoder's embeddings: texts that mean the same together, others apart."""

    config_class = ContrastConfig


def _used(words: Sequence[str]) -> list[str]:
    """What stands behind --use on a command line."""
    used = []
    for number, word in enumerate(words):
        flag, _, value = word.partition("=")
        if flag == "--use":
            behind = takewhile(lambda word: not word.startswith("-"), words[number + 1 :])
            used += [value, *behind] if value else behind
    return used


def import_own(use: str) -> type[Extension]:
    """The extension that MODULE:CLASS or FILE.py:CLASS names; the working folder is looked in too.

    Only a command line has that done: what a config.json names must be importable anyway.
    """
    place, _, name = use.rpartition(":")
    path = Path(place)
    folder = path.parent if path.suffix == ".py" else Path()
    module = path.stem if path.suffix == ".py" else place
    if path.suffix == ".py" and not path.is_file():
        raise ValueError(f"--use {use}: {path} does not exist")
    sys.path.append(os.path.abspath(folder))  # last: a file of the user's replaces no package
    return import_extension(f"{module}:{name}")


def with_extensions(command: type[Training], words: Sequence[str]) -> type[Training]:
    """A command that trains, with a group of flags for each extension.

    Importing the extensions imports torch, so this is for the command line that starts with it.

    Args:
        command: Train, Pretrain or Contrast.
        words: the command line, whose flags say which extensions are used.
    """
    own = {each: import_own(each) for each in _used(words) if ":" in each}
    known = load_extensions()
    flags = flags_of(words)
    given = {n for n in known for flag in flags if dashed(flag).startswith(f"--{dashed(n)}.")}

    def chosen(self: Training) -> tuple[Extension, ...]:
        used = [own[n].name if n in own else n.replace("-", "_") for n in self.use]  # as flags do
        unknown = sorted(set(used) - known.keys())
        if unknown:
            raise ValueError(f"no extension is called {unknown[0]!r}; known are {sorted(known)}")
        names = [*used, *(name for name in known if name in given)]
        return tuple(getattr(self, name) for name in dict.fromkeys(names))

    groups = [(name, cls, field(default=cls())) for name, cls in known.items()]
    namespace = {"chosen": chosen, "flags": flags, "__doc__": command.__doc__}
    return make_dataclass(
        command.__name__, groups, bases=(command,), namespace=namespace, frozen=True, kw_only=True
    )
