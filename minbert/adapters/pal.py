"""Projected attention layers (PALs): a narrow attention beside each layer of an encoder.

    TS(x) = V_D g(V_E x)                    H -> m -> H features
    y = N(a + h + TS(x))                    at the sum after the feed-forward block

x goes into the layer, as its attention sees it; a and h are the sum's two parts, N its LayerNorm. g
is attention over m features without an output map, each layer's own; V_E and V_D are one pair for
all layers, which is what keeps PALs small. With tasks' own PALs and a trained encoder, all tasks
share almost everything: the 1.13 times the parameters of one BERT for eight tasks, in the paper.

Stickland & Murray (2019), arXiv:1902.02671. V_D is zero at first, so that the encoder computes what
it did before. Their code has a GELU after V_D, which their formula has not; here is the formula.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minbert.adapters.task_sets import STD, AdaptedSum, PerTaskSettings, names_of, prepare
from minbert.attend import attend
from minbert.checks import check_counts, convert_fields
from minbert.encoder import Encoder
from minbert.layouts import Layout
from minbert.per_task import PerTask
from minbert.quick import Dropout, Linear


@dataclass(frozen=True, kw_only=True)
class PalSettings(PerTaskSettings):
    """Projected attention layers, by their size."""

    size: int = 48
    """m, features of the attention; the paper has 204 beside the 768 of bert-base."""
    heads: int = 4
    """Attention heads; a divisor of the size."""
    frozen: bool = False
    """Freeze the encoder; else it trains too, as in the paper."""

    def __post_init__(self) -> None:
        convert_fields(self)
        check_counts(self, "size", "heads")
        if self.size % self.heads:
            raise ValueError(
                f"size {self.size} is not divisible by heads {self.heads}; choose a divisor"
            )


class Projections(nn.Module):
    """V_E and V_D, which all layers share."""

    def __init__(self, hidden_size: int, size: int) -> None:
        super().__init__()
        self.encode = Linear(hidden_size, size)
        self.decode = Linear(size, hidden_size)

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """V_E normal with STD; V_D and both biases zero, so that TS(x) = 0."""
        nn.init.normal_(self.encode.weight, std=STD, generator=generator)
        for parameter in (self.encode.bias, self.decode.weight, self.decode.bias):
            nn.init.constant_(parameter, 0)


class Pal(nn.Module):
    """TS of one layer: V_D g(V_E x), with g multi-head attention."""

    def __init__(self, projections: Projections, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.projections, self.num_heads = projections, heads
        self.query, self.key, self.value = (Linear(size, size) for _ in range(3))
        self.dropout = Dropout(dropout)

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Matrices normal with STD, biases zero."""
        for linear in (self.query, self.key, self.value):
            nn.init.normal_(linear.weight, std=STD, generator=generator)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, layout: Layout, window: int | None = None) -> Tensor:
        """TS(x), (..., H) -> (..., H); attention sees as far as the layer's own."""
        x = self.projections.encode(x)  # (..., m)
        q, k, v = self.query(x), self.key(x), self.value(x)  # (..., m) each
        context = attend(layout, q, k, v, self.num_heads, self.dropout, window=window)  # (..., m)
        return self.projections.decode(context)


class PalSum(AdaptedSum):
    """N(a + h + TS(x)), h = dropout(output); x comes by `look`, before attention is called."""

    def __init__(self, base: nn.Module, adapters: PerTask) -> None:
        super().__init__(base, adapters)
        self._beside: Tensor | None = None

    def look(self, attention: nn.Module, inputs: tuple[Any, ...]) -> None:
        """A hook of the layer's attention: see what it is called with."""
        x, layout, *_ = inputs
        self._beside = self.adapters(x, layout, getattr(attention, "window", None))

    def forward(self, residual: Tensor, output: Tensor) -> Tensor:
        beside, self._beside = self._beside, None
        assert beside is not None, "attention is called before the sum"
        return self.norm(residual + self.dropout(output) + beside)  # (..., H)


def add_pals(
    encoder: Encoder,
    settings: PalSettings,
    tasks: Iterable[str],
    *,
    generator: torch.Generator | None = None,
) -> None:
    """Give an encoder PALs; arguments and errors are those of `add_bottlenecks`."""
    _, place = encoder.SUMS
    prepare(encoder, settings)
    hidden_size, size = encoder.config.hidden_size, settings.size
    names = names_of(settings, tasks)
    projections = {name: Projections(hidden_size, size) for name in names}
    for each in projections.values():
        each.initialise(generator)
    for layer in encoder.layers_by_name.values():
        attention = layer.get_submodule("attention")
        dropout = attention.get_submodule("dropout")
        rate = dropout.p if isinstance(dropout, nn.Dropout) else 0.0
        pals = {name: Pal(projections[name], size, settings.heads, rate) for name in names}
        for each in pals.values():
            each.initialise(generator)
        adapted = PalSum(layer.get_submodule(place), PerTask(encoder.choice, pals))
        layer.set_submodule(place, adapted)
        attention.register_forward_pre_hook(adapted.look)
    encoder.train(encoder.training)  # what is new too
