"""Unfreezing: the parts of the encoder that learn, one more from time to time, or only one.

Gradual unfreezing (Howard & Ruder, 2018, arXiv:1801.06146) trains the heads alone at first, then
from the top down one more part every `every` epochs: the pooler, the last layer, ..., the
embeddings. A part that is frozen has no gradient, no update and no weight decay; its moments
start when it is unfrozen. Checkpoints hold every part that is ever to learn.

With `only`, one part of the encoder learns from the first step to the last, and the heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minbert.checks import check_unused
from multitask.extensions.base import Extension, Step, register

if TYPE_CHECKING:
    from multitask.settings import Settings
    from multitask.trained_model import TrainedModel


@register("unfreeze")
@dataclass(frozen=True, kw_only=True)
class Unfreeze(Extension):
    """Train the heads first, then one more part of the encoder at a time; or only one part."""

    every: float = 1.0
    """Epochs from one part to the next below it; 0.5 unfreezes two an epoch."""
    only: str | None = None
    """Part of the encoder that learns, and no other: embeddings, "layer 1", ..., pooler."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.every < float("inf"):
            raise ValueError(f"every must be positive and finite, it is {self.every}")
        if self.only is not None:
            check_unused(self, f"only {self.only} learns, from the start; leave it out", "every")

    def check(self, config: Settings) -> None:
        if config.caches_features:
            raise ValueError("unfreeze trains parts of the encoder, and frozen trains none of it")
        if config.shard and self.only is None:
            raise ValueError(
                "shard does not go with gradual unfreezing, for split weights learn from the start "
                "or not at all; leave one of the two out, or use unfreeze.only"
            )

    def prepare(self, model: TrainedModel) -> None:
        if self.only is None:
            return
        parts = dict(model.encoder.depths())
        if self.only not in parts:
            raise ValueError(
                f"unfreeze.only is {self.only!r}; the encoder's parts are {', '.join(parts)}"
            )
        for part, module in parts.items():
            if part != self.only:
                module.requires_grad_(False)

    def begin_step(self, model: TrainedModel, step: Step) -> None:
        if self.only is not None:
            return
        learning = 1 + int(step.number / (self.every * step.per_epoch))  # the heads, and so on
        trained = set(step.parameters.values())  # and not what another extension froze for good
        for distance, (_, module) in enumerate(reversed(model.depths())):
            for parameter in trained.intersection(module.parameters()):
                parameter.requires_grad_(distance < learning)
