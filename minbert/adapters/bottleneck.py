"""Bottleneck adapters: a narrow network beside each residual sum of a frozen encoder.

    A(z) = W_up f(W_down z + b) + c                    H -> m -> H features, f a nonlinearity

    Houlsby     y = N(x + h + A(h))                    at both sums of a layer
    Pfeiffer    y = N(x + h + A(N(x + h)))             at the sum after the feed-forward block

x goes into a block and h comes out of it, after its dropout; N is the LayerNorm of the sum, which
in ModernBERT is none. W_up is zero at first, so that the encoder computes what it did before.

Houlsby et al. (2019), arXiv:1902.00751: "h + A(h)" there is one adapter, with a residual of its own
inside. Pfeiffer et al. (2020), arXiv:2005.00247 and arXiv:2007.07779: half as many parameters, and
N is there twice. Neither paper's trained LayerNorms are here: norms stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert.adapters.task_sets import STD, AdaptedSum, PerTaskSettings, prepare, sets_of
from minbert.checks import check_counts, convert_fields
from minbert.encoder import Encoder
from minbert.quick import Linear

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "swish": F.silu,
}
"""f by name: the first is Houlsby's code, the second Pfeiffer's."""


@dataclass(frozen=True, kw_only=True)
class BottleneckSettings(PerTaskSettings):
    """Bottlenecks, by where they stand and how narrow they are."""

    kind: Literal["houlsby", "pfeiffer"] = "pfeiffer"
    """houlsby: after attention and after the feed-forward block, before the sum; pfeiffer: after
    the feed-forward block, on the sum and its norm."""
    size: int = 64
    """m, features of the bottleneck."""
    activation: Literal["gelu", "relu", "swish"] = "gelu"
    """The nonlinearity in the bottleneck."""

    def __post_init__(self) -> None:
        convert_fields(self)
        check_counts(self, "size")


class Bottleneck(nn.Module):
    """A(z) = W_up f(W_down z + b) + c, without a residual of its own."""

    def __init__(self, hidden_size: int, size: int, activation: str = "gelu") -> None:
        super().__init__()
        self.down = Linear(hidden_size, size)
        self.up = Linear(size, hidden_size)
        self.activation = ACTIVATIONS[activation]

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """W_down normal with STD; W_up and both biases zero, so that A(z) = 0."""
        nn.init.normal_(self.down.weight, std=STD, generator=generator)
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, z: Tensor) -> Tensor:
        """A(z), (..., H) -> (..., H)."""
        return self.up(self.activation(self.down(z)))


class HoulsbySum(AdaptedSum):
    """N(x + h + A(h)), h = dropout(output)."""

    def forward(self, residual: Tensor, output: Tensor) -> Tensor:
        h = self.dropout(output)
        return self.norm(residual + h + self.adapters(h))  # (..., H)


class PfeifferSum(AdaptedSum):
    """N(x + h + A(N(x + h))), h = dropout(output)."""

    def forward(self, residual: Tensor, output: Tensor) -> Tensor:
        total = residual + self.dropout(output)
        return self.norm(total + self.adapters(self.norm(total)))  # (..., H)


def add_bottlenecks(
    encoder: Encoder,
    settings: BottleneckSettings,
    tasks: Iterable[str],
    *,
    generator: torch.Generator | None = None,
) -> None:
    """Give an encoder bottleneck adapters, and freeze the rest unless that trains too.

    Args:
        encoder: changed in place; its outputs are not, for A is zero at first. From now on it is
            called in `with encoder.choice.of(task):` where each task has its own.
        settings: kind, size, and whose they are.
        tasks: by name.
        generator: of the initial values; by default PyTorch's own.

    Raises:
        ValueError: the encoder has such adapters already, or a part of it is frozen.
    """
    attention_sum, feed_forward_sum = encoder.SUMS
    kind, places = PfeifferSum, (feed_forward_sum,)
    if settings.kind == "houlsby":
        kind, places = HoulsbySum, (attention_sum, feed_forward_sum)

    def make() -> Bottleneck:
        made = Bottleneck(encoder.config.hidden_size, settings.size, settings.activation)
        made.initialise(generator)
        return made

    prepare(encoder, settings)
    tasks = tuple(tasks)
    for layer in encoder.layers_by_name.values():
        for place in places:
            adapters = sets_of(encoder.choice, settings, tasks, make)
            layer.set_submodule(place, kind(layer.get_submodule(place), adapters))
    encoder.train(encoder.training)  # what is new too
