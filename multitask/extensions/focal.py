"""Focal loss: rows that are answered well already count less (Lin et al., 2017, arXiv:1708.02002).

    loss = (1 - p)^gamma  -log p        p the probability of the label

With gamma 0 it is the cross-entropy. At gamma 2 a row with p = 0.9 counts a hundredth of that, one
with p = 0.1 four fifths. Where several labels may hold, each of them has a p of its own, and a
row's loss is their mean. The paper's factor alpha is a class weight: use class_weights beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from multitask.extensions.base import Extension, check_classifies, register

if TYPE_CHECKING:
    from multitask.forward_pass import ForwardPass
    from multitask.settings import Settings


@register("focal")
@dataclass(frozen=True, kw_only=True)
class Focal(Extension):
    """Weigh rows by how wrong their answers are; regressions keep their loss."""

    gamma: float = 2.0
    """Exponent: 0 weighs all alike."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.gamma < float("inf"):
            raise ValueError(f"gamma must be finite and at least 0, it is {self.gamma}")

    def check(self, config: Settings) -> None:
        check_classifies(config, "focal")

    def losses(self, losses: Tensor, outputs: Tensor, seen: ForwardPass) -> Tensor:
        if seen.task.kind == "regression":
            return losses
        if seen.task.kind == "labels":
            signs = (
                2 * seen.labels - 1
            )  # softplus(-x) is -log σ(x), and softplus(x) is -log (1 - σ(x))
            return self._focal(F.softplus(-signs * outputs.float())).mean(dim=-1)  # (B, K) -> (B,)
        return self._focal(losses)

    def _focal(self, losses: Tensor) -> Tensor:
        """From -log p."""
        wrong = -torch.expm1(-losses)  # 1 - p, exact for p near 1
        # Where it is 0, a power below 1 has no slope, and the loss is 0 anyway.
        return wrong.clamp(min=1e-30) ** self.gamma * losses
