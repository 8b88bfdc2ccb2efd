"""IA3: a factor for each key, value and inner feature trains, beside the heads; nothing else does.

TrainConfig(lr=5e-3, extensions=(IA3(),))

The formulas are in minbert/adapters/layers.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minbert.adapters import IA3Settings, add_ia3, merge_and_remove
from multitask.extensions.base import Extension, register

if TYPE_CHECKING:
    from multitask.trained_model import TrainedModel


@register("ia3")
@dataclass(frozen=True, kw_only=True)
class IA3(IA3Settings, Extension):
    """Learned factors of features: use a learning rate of about 5e-3 with it."""

    freezes = True

    def prepare(self, model: TrainedModel) -> None:
        add_ia3(model.encoder, self)

    def export(self, model: TrainedModel) -> None:
        merge_and_remove(model.encoder)
