"""What adapters of tasks have in common: settings, and how they come to an encoder's layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn

from minbert.adapters.apply import freeze
from minbert.encoder import Encoder
from minbert.per_task import SHARED, Choice, PerTask

STD = 0.02
"""Standard deviation of what adapters begin with where it is not zero."""


@dataclass(frozen=True, kw_only=True)
class PerTaskSettings:
    """What all adapters that tasks may have of their own are asked."""

    per_task: bool = True
    """A set of parameters for each task; else one that all tasks share."""
    frozen: bool = True
    """Freeze the encoder, which all tasks share; else it trains too."""


class AdaptedSum(nn.Module):
    """Takes the place of a residual sum of an encoder's layer, and takes over what that consists
    of, so that its parameters keep their names."""

    dropout: nn.Module
    norm: nn.Module

    def __init__(self, base: nn.Module, adapters: PerTask) -> None:
        super().__init__()
        self.dropout, self.norm = base.get_submodule("dropout"), base.get_submodule("norm")
        self.adapters = adapters


def prepare(encoder: Encoder, settings: PerTaskSettings) -> None:
    """Freeze an encoder, if it is to be.

    Raises:
        ValueError: it has adapters of tasks already, or a part of it is frozen.
    """
    if any(isinstance(module, PerTask) for module in encoder.modules()):
        raise ValueError(
            "the encoder has adapters of tasks already, and they do not stand on each other; load "
            "it anew"
        )
    if settings.frozen:
        freeze(encoder)


def names_of(settings: PerTaskSettings, tasks: Iterable[str]) -> tuple[str, ...]:
    """What sets of parameters are called: a name for each task, or one for all of them."""
    return tuple(tasks) if settings.per_task else (SHARED,)


def sets_of(
    choice: Choice,
    settings: PerTaskSettings,
    tasks: Iterable[str],
    make: Callable[[], nn.Module],
) -> PerTask:
    """What `make` makes for each task, or once for all of them."""
    return PerTask(choice, {name: make() for name in names_of(settings, tasks)})
