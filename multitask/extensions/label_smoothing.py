"""Label smoothing: a label is right with probability 1 - epsilon, and else any of the classes.

    loss = (1 - epsilon) -log p[label] + epsilon / K  sum over the K classes of -log p[class]

(Szegedy et al., 2016, arXiv:1512.00567, section 7). A binary task has K = 2 classes, and where
several labels may hold each of them is a binary task. The logits of a smoothed task stay finite, so
its probabilities are less extreme; which class is likeliest is learnt as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

from multitask.extensions.base import Extension, check_classifies, register

if TYPE_CHECKING:
    from multitask.forward_pass import ForwardPass
    from multitask.settings import Settings


@register("label_smoothing")
@dataclass(frozen=True, kw_only=True)
class LabelSmoothing(Extension):
    """Give a part of each label to all classes alike; regressions keep their loss."""

    epsilon: float = 0.1
    """What is given away, of 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.epsilon < 1:
            raise ValueError(f"epsilon must be at least 0 and below 1, it is {self.epsilon}")

    def check(self, config: Settings) -> None:
        check_classifies(config, "label_smoothing")

    def losses(self, losses: Tensor, outputs: Tensor, seen: ForwardPass) -> Tensor:
        outputs, kind = outputs.float(), seen.task.kind
        if kind in ("classes", "tokens"):
            each = -outputs.log_softmax(dim=-1).mean(dim=-1)  # (B, K) -> (B,)
        elif kind in ("binary", "labels"):
            # -log σ(x) is softplus(-x), and -log (1 - σ(x)) is softplus(x).
            each = ((F.softplus(outputs) + F.softplus(-outputs)) / 2).mean(dim=-1)
        else:
            return losses
        return (1 - self.epsilon) * losses + self.epsilon * each
