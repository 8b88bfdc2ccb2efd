"""Projected attention layers, a set for each task, beside an encoder that all tasks train.

TrainConfig(lr=1e-4, extensions=(Pal(size=48),))

The formulas are in minbert/adapters/pal.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minbert.adapters import PalSettings, add_pals
from multitask.extensions.base import register
from multitask.extensions.bottleneck import TaskAdapters

if TYPE_CHECKING:
    from multitask.settings import Settings
    from multitask.trained_model import TrainedModel


@register("pal")
@dataclass(frozen=True, kw_only=True)
class Pal(PalSettings, TaskAdapters):
    """Projected attention layers: use the rate of fine-tuning, or 1e-3 with a frozen encoder."""

    def check(self, config: Settings) -> None:
        super().check(config)
        if config.shard:
            raise ValueError(
                "shard does not go with pal, whose projections are shared by all layers, for a "
                "layer's weights are put together for itself alone; leave one of the two out"
            )

    def prepare(self, model: TrainedModel) -> None:
        add_pals(model.encoder, self, model.tasks)
