"""Decay towards the pretrained values, in the place of zero: L2-SP (Li et al., 2018, 1802.01483).

    w <- w - lr strength (w - w_0)        w_0 the weight that the run started from

Before each update, at the step's learning rate: decoupled from the gradient as AdamW's weight decay
is, and for the same reason, that Adam would divide it away. Over n steps at a mean rate r it takes
away 1 - exp(-n r strength) of what a weight would otherwise drift.

It holds for the encoder; heads start from random values. AdamW's own decay (`--weight-decay`)
pulls to zero beside it. w_0 is kept with the run: last.safetensors is a third larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from multitask.extensions.base import Extension, Step, register
from multitask.runs.checkpoint import trainable

if TYPE_CHECKING:
    from multitask.settings import Settings
    from multitask.trained_model import TrainedModel


@register("anchor")
@dataclass(frozen=True, kw_only=True)
class Anchor(Extension):
    """Pull the encoder's weights back to their pretrained values."""

    strength: float = 10.0
    """Of the pull: at a rate of 5e-5, 10 takes away a two-thousandth of the distance a step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"strength must be finite and at least 0, it is {self.strength}")

    def check(self, config: Settings) -> None:
        frozen = [name for name in getattr(config, "freezing", ()) if name != "bitfit"]
        if frozen:
            raise ValueError(
                f"anchor pulls pretrained weights back, and with {frozen[0]} they stay where they "
                "are; leave one of the two out"
            )
        if getattr(config, "starts_from_scratch", False):
            raise ValueError("an encoder from scratch has no pretrained values; leave anchor out")
        if self.strength * config.lr > 1:
            raise ValueError(
                f"strength {self.strength} at lr {config.lr} goes beyond the pretrained values in "
                f"one step; it may be at most {1 / config.lr:g}"
            )

    def start(self, model: TrainedModel, labels: Mapping[str, Tensor | None]) -> None:
        for name, parameter in trainable(model).items():
            if name.startswith("encoder."):
                model.kept[f"{self.name}/{name}"] = parameter.detach().clone()

    @torch.no_grad()
    def begin_step(self, model: TrainedModel, step: Step) -> None:
        for group in step.groups:
            for name, parameter in zip(group["names"], group["params"], strict=True):
                start = model.kept.get(f"{self.name}/{name}")
                if start is not None and parameter.requires_grad:
                    parameter.lerp_(start, self.strength * group["lr"])
