"""Per-layer learning rates: parts near the input, which hold what is general, learn slower.

With L layers, the part at distance d from the top learns at the rate lr * decay^d:

    heads d = 0, pooler d = 1, layer L d = 2, ..., layer 1 d = L + 1, embeddings d = L + 2

(the "discriminative fine-tuning" of Howard & Ruder, 2018, arXiv:1801.06146, with the layer-wise
decay of Clark et al., 2020, arXiv:2003.10555). `minbert train --show-groups` prints the rates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multitask.extensions.base import Extension, register

if TYPE_CHECKING:
    from multitask.trained_model import TrainedModel


@register("layer_lr")
@dataclass(frozen=True, kw_only=True)
class LayerLR(Extension):
    """Learning rates that decay from the heads down to the embeddings."""

    decay: float = 0.95
    """Factor from one part to the part below it: heads, pooler, last layer, ..., embeddings."""
    heads: float = 1.0
    """Factor of the heads' rate, which leaves the rates of the other parts as they are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must be above 0 and at most 1, it is {self.decay}")
        if not 0 < self.heads < float("inf"):
            raise ValueError(f"heads must be positive and finite, it is {self.heads}")

    def lr_scale(self, model: TrainedModel) -> Mapping[str, float]:
        parts = [part for part, _ in reversed(model.depths())]
        scale = {part: self.decay**distance for distance, part in enumerate(parts)}
        scale["heads"] = self.heads
        return {name: scale[part] for name, part in model.part_of().items()}
