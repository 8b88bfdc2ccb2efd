"""BitFit: the biases train, beside the heads; the rest of the encoder is frozen.

TrainConfig(lr=1e-3, extensions=(BitFit(roles=("query", "feed_forward_inner")),))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minbert.adapters import train_biases
from multitask.extensions.base import Extension, register

if TYPE_CHECKING:
    from multitask.trained_model import TrainedModel


@register("bitfit")
@dataclass(frozen=True, kw_only=True)
class BitFit(Extension):
    """Biases alone (Ben Zaken et al., 2022, arXiv:2106.10199): use a rate of about 1e-3 with it."""

    freezes = True

    roles: tuple[str, ...] = ("all",)
    """Roles whose biases train, such as query feed_forward_inner, about as good in the paper; all
    for every bias, those of LayerNorms too."""

    def prepare(self, model: TrainedModel) -> None:
        train_biases(model.encoder, self.roles)
