"""R-Drop: two draws of dropout must agree (Liang et al., 2021, arXiv:2106.14448).

Each batch goes through the model twice, and dropout makes two outputs a, b of it. A row's loss is

    (loss(a) + loss(b)) / 2  +  weight (KL(p‖q) + KL(q‖p)) / 2      p, q the probabilities of a, b

as in the published code; the paper has twice as much of both. For a regression, whose outputs are
numbers, the second part is weight (a - b)² / 2. A step takes about twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from multitask.extensions.base import Extension, register
from multitask.heads import divergences

if TYPE_CHECKING:
    from multitask.forward_pass import ForwardPass
    from multitask.settings import Settings


@register("rdrop")
@dataclass(frozen=True, kw_only=True)
class RDrop(Extension):
    """Run each batch twice, and have the outputs of both draws of dropout agree."""

    weight: float = 1.0
    """How much their difference counts, the paper's alpha: 1 to 5 there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight must be finite and at least 0, it is {self.weight}")

    def check(self, config: Settings) -> None:
        silent = config.encoder_dropout == 0 or config.caches_features
        if silent and getattr(config, "head_dropout", 0) == 0:
            raise ValueError(
                "rdrop compares two draws of dropout, and nothing drops out; raise head_dropout or "
                "encoder_dropout, or leave rdrop out"
            )

    def penalty(self, seen: ForwardPass) -> Tensor:
        other = seen.again()
        loss = (seen.losses_of(other) - seen.losses) / 2  # to be added to the first one's
        return loss + self.weight / 2 * divergences(seen.task, seen.outputs, other)
