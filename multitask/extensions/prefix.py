"""Prefix tuning: each task has keys and values of its own in every layer of a shared encoder.

TrainConfig(lr=1e-2, extensions=(Prefix(length=16),))

The formulas are in minbert/adapters/prefix.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minbert.adapters import PrefixSettings, add_prefixes
from multitask.extensions.base import register
from multitask.extensions.bottleneck import TaskAdapters

if TYPE_CHECKING:
    from multitask.trained_model import TrainedModel


@register("prefix")
@dataclass(frozen=True, kw_only=True)
class Prefix(PrefixSettings, TaskAdapters):
    """Prefix tuning: use a learning rate of about 1e-2 with it."""

    def prepare(self, model: TrainedModel) -> None:
        add_prefixes(model.encoder, self, model.tasks)
