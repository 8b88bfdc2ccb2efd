"""LoRA and DoRA: a low-rank change to the weights trains, beside the heads; the encoder is frozen.

TrainConfig(lr=1e-3, extensions=(LoRA(rank=8, targets=("query", "value")),))

The formulas are in minbert/adapters/layers.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minbert.adapters import LoRASettings, add_lora, merge_and_remove
from multitask.extensions.base import Extension, register

if TYPE_CHECKING:
    from multitask.trained_model import TrainedModel


@register("lora")
@dataclass(frozen=True, kw_only=True)
class LoRA(LoRASettings, Extension):
    """Low-rank adaptation: use a learning rate of about 1e-3 with it."""

    freezes = True

    def prepare(self, model: TrainedModel) -> None:
        add_lora(model.encoder, self)

    def export(self, model: TrainedModel) -> None:
        merge_and_remove(model.encoder)
