"""Prefix tuning: learned keys and values in every layer, which all tokens may attend to.

    softmax(Q [P_K; K]ᵀ / √D) [P_V; V]         P_K, P_V (L, A), each layer's own

L is the prefix's length, A the size of a key, all heads together. The encoder reads on as if there
were L more tokens before each text, of which it only ever sees the keys and values: they take no
position (in ModernBERT, keys of the prefix are not turned), and local attention sees them too.

Li & Liang (2021), arXiv:2101.00190. Their prefix comes out of a network that is thrown away after
training; here keys and values themselves are trained, as in P-tuning v2 (Liu et al., 2021,
arXiv:2110.07602). P_V is zero at first and P_K small, so that at first a prefix does no more than
take a share of the attention from the text, about L / (L + S) of S tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minbert.adapters.task_sets import STD, PerTaskSettings, prepare, sets_of
from minbert.checks import check_counts, convert_fields
from minbert.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class PrefixSettings(PerTaskSettings):
    """Prefixes, by their length."""

    length: int = 8
    """L, keys and values that each layer has beside those of the text."""

    def __post_init__(self) -> None:
        convert_fields(self)
        check_counts(self, "length")


class Prefix(nn.Module):
    """P_K and P_V of one layer."""

    def __init__(self, length: int, size: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.empty(length, size))
        self.values = nn.Parameter(torch.empty(length, size))

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """P_K normal with STD, P_V zero."""
        nn.init.normal_(self.keys, std=STD, generator=generator)
        nn.init.zeros_(self.values)

    def forward(self) -> tuple[Tensor, Tensor]:
        """(L, A) twice."""
        return self.keys, self.values


def put_before(attention: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A hook of a layer's attention: call it with a layout that has the prefix."""
    x, layout, *rest = inputs
    return x, layout.with_prefix(*attention.get_submodule("adapters")()), *rest


def add_prefixes(
    encoder: Encoder,
    settings: PrefixSettings,
    tasks: Iterable[str],
    *,
    generator: torch.Generator | None = None,
) -> None:
    """Give an encoder prefixes; arguments and errors are those of `add_bottlenecks`.

    Unlike theirs, outputs are not at first those that the encoder had.
    """

    def make() -> Prefix:
        made = Prefix(settings.length, encoder.attention_size)
        made.initialise(generator)
        return made

    prepare(encoder, settings)
    tasks = tuple(tasks)
    for layer in encoder.layers_by_name.values():
        attention = layer.get_submodule("attention")
        attention.add_module("adapters", sets_of(encoder.choice, settings, tasks, make))
        attention.register_forward_pre_hook(put_before)
    encoder.train(encoder.training)  # what is new too
