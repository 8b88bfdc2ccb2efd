"""What an adapter adds to one module: LoRA, DoRA, IA3, or the whole module trained in its place.

    LoRA   y = W x + b + s B A drop(x)     A (r, in), B (out, r), s = alpha / r
    DoRA   y = g (W + s B A) x + b         g = m / ‖W + s B A‖, a gain for each output
    IA3    y = l (W x + b) or W (l x) + b  l, a factor for each output or input
    Whole  y = W' x + b'                   W', b' begin as W, b

LoRA: Hu et al. (2021), arXiv:2106.09685; rank-stabilised, s = alpha / √r: Kalajdzievski (2023),
arXiv:2312.03732. DoRA: Liu et al. (2024), arXiv:2402.09353. IA3: Liu et al. (2022),
arXiv:2205.05638.

The module itself, `base`, computes what it did before, by its own quick route. It is frozen, so
that the backward pass makes no gradient for it.
"""

from __future__ import annotations

import copy
import math
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert.quick import Dropout

M = TypeVar("M", bound=nn.Module)
W = TypeVar("W", nn.Linear, nn.Embedding)


class Adapter(nn.Module, Generic[M]):
    """What stands beside a module of a kind, `base`, which comes as an argument of each call."""

    def forward(self, base: M, x: Tensor, /) -> Tensor:
        """What the base would give for x, with the changes."""
        raise NotImplementedError

    def merged(self, base: M) -> dict[str, Tensor]:
        """The base's parameters that do the same alone."""
        raise NotImplementedError


class Adapted(nn.Module):
    """A module with adapters beside it, by name; at most one of them takes part."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.adapters = nn.ModuleDict()
        self.active: str | None = None
        self._originals: dict[str, Tensor] = {}

    @property
    def adapter(self) -> Adapter[Any] | None:
        """The adapter that takes part."""
        if self.active is None or self.active not in self.adapters:
            return None
        adapter = self.adapters[self.active]
        assert isinstance(adapter, Adapter)
        return adapter

    @property
    def is_merged(self) -> bool:
        """Whether the base holds the adapter's changes in its own weights."""
        return bool(self._originals)

    @property
    def weight(self) -> Tensor:
        """The weight with the adapter's changes, for a module that is tied to this one."""
        if self.adapter is None or self.is_merged:
            return self.base.get_parameter("weight")
        return self.adapter.merged(self.base)["weight"]

    def forward(self, x: Tensor) -> Tensor:
        if self.is_merged and self.training:
            raise ValueError("a merged adapter does not train; unmerge it, or call .eval()")
        if self.adapter is None or self.is_merged:
            return self.base(x)
        return self.adapter(self.base, x)

    @torch.no_grad()
    def merge(self) -> None:
        """Put the adapter's changes into the base's weights; does nothing where they are.

        `adapter.merged(base)` gives the new values by parameter; the old ones go to `_originals`.
        """
        if self.adapter is None or self.is_merged:
            return
        for name, value in self.adapter.merged(self.base).items():
            parameter = self.base.get_parameter(name)
            self._originals[name] = parameter.clone()  # to undo it without a rounding error
            parameter.copy_(value)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put the base's own weights back, bit for bit; does nothing where they are."""
        for name, value in self._originals.items():
            self.base.get_parameter(name).copy_(value)
        self._originals = {}


class LoRA(Adapter[W]):
    """A change s B A of rank r to a matrix, which at first is zero; see the head of this file.

    Args:
        base: the linear map or embedding table to change.
        rank: r, of at least 1.
        alpha: the strength of the change.
        dropout: on the input of A.
        rank_stabilised: take s = alpha / √r.
        dora: train the length of each row of the matrix too.
    """

    def __init__(
        self,
        base: W,
        rank: int,
        *,
        alpha: float,
        dropout: float = 0.0,
        rank_stabilised: bool = False,
        dora: bool = False,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, it is {rank}")
        self.rank, self.alpha, self.rank_stabilised = rank, alpha, rank_stabilised
        self.scale = alpha / (math.sqrt(rank) if rank_stabilised else rank)
        self.dropout: nn.Dropout = Dropout(dropout)
        matrix = self.matrix(base)
        self.A = nn.Parameter(matrix.new_zeros(rank, matrix.size(1)))
        self.B = nn.Parameter(matrix.new_zeros(matrix.size(0), rank))
        self.magnitude = nn.Parameter(matrix.detach().norm(dim=1)) if dora else None

    def matrix(self, base: W) -> Tensor:
        """W of the base, (out, in)."""
        return base.weight

    def changed(self, matrix: Tensor) -> Tensor:
        """W + s B A, (out, in)."""
        return matrix + self.scale * (self.B @ self.A)

    def gain(self, matrix: Tensor) -> Tensor:
        """g = m / ‖W + s B A‖, (out,), of DoRA; the norm counts as a constant in the gradient."""
        assert self.magnitude is not None
        with torch.no_grad():
            norm = self.changed(matrix).norm(dim=1)
        return self.magnitude / norm

    def merged_matrix(self, matrix: Tensor) -> Tensor:
        """g (W + s B A), (out, in)."""
        changed = self.changed(matrix)
        return changed if self.magnitude is None else self.gain(matrix).unsqueeze(-1) * changed


class LoRALinear(LoRA[nn.Linear]):
    """LoRA or DoRA of a linear map."""

    def initialise(self, generator: torch.Generator | None) -> None:
        """A as nn.Linear begins, evenly from -1/√in to 1/√in; B, which is zeros, stays so."""
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5), generator=generator)

    def forward(self, base: nn.Linear, x: Tensor) -> Tensor:
        """y = W x + b + s B A drop(x), (..., in) -> (..., out).

        With DoRA, `self.rescaled(base, W x + b, drop(x), s B A drop(x))`.
        """
        y, dropped = base(x), self.dropout(x)
        change = F.linear(F.linear(dropped, self.A) * self.scale, self.B)  # (..., out)
        if self.magnitude is None:
            return y + change
        return self.rescaled(base, y, dropped, change)

    def rescaled(self, base: nn.Linear, y: Tensor, dropped: Tensor, change: Tensor) -> Tensor:
        """DoRA's output (..., out): without dropout, g (W x + change) + b."""
        # Dropout is on what is added to y alone: the base itself never sees it.
        if self.training and self.dropout.p > 0:
            mapped = F.linear(dropped, base.weight)
        else:
            mapped = y if base.bias is None else y - base.bias
        gain = self.gain(base.weight)
        return y + (gain - 1) * mapped + gain * change

    def merged(self, base: nn.Linear) -> dict[str, Tensor]:
        return {"weight": self.merged_matrix(base.weight)}


class LoRAEmbedding(LoRA[nn.Embedding]):
    """LoRA or DoRA of an embedding table, the linear map of one-hot vectors: W is the table's
    transpose, (H, V). Dropout has no place on token ids."""

    def matrix(self, base: nn.Embedding) -> Tensor:
        return base.weight.t()

    def initialise(self, generator: torch.Generator | None) -> None:
        """A zeros, B normal: what is seldom looked up is the one that moves from zero."""
        nn.init.normal_(self.B, generator=generator)

    def forward(self, base: nn.Embedding, ids: Tensor) -> Tensor:
        """y = E[ids] + s B A[:, ids], (...) -> (..., H); with DoRA, times `self.gain`."""
        y = base(ids)  # (..., H)
        low = F.embedding(ids, self.A.t(), base.padding_idx)  # (..., r)
        changed = y + F.linear(low * self.scale, self.B)
        return changed if self.magnitude is None else self.gain(self.matrix(base)) * changed

    def merged(self, base: nn.Embedding) -> dict[str, Tensor]:
        return {"weight": self.merged_matrix(self.matrix(base)).t()}


class IA3(Adapter[nn.Linear]):
    """A factor for each output of a linear map, or with `on_input` for each of its inputs."""

    def __init__(self, base: nn.Linear, *, on_input: bool = False) -> None:
        super().__init__()
        self.on_input = on_input
        self.scale = nn.Parameter(base.weight.new_ones(base.weight.size(1 if on_input else 0)))

    def forward(self, base: nn.Linear, x: Tensor) -> Tensor:
        return base(x * self.scale) if self.on_input else base(x) * self.scale

    def merged(self, base: nn.Linear) -> dict[str, Tensor]:
        if self.on_input:
            return {"weight": base.weight * self.scale}
        merged = {"weight": base.weight * self.scale.unsqueeze(-1)}
        return merged if base.bias is None else {**merged, "bias": base.bias * self.scale}


class Whole(Adapter[nn.Module]):
    """A copy of the module, trained and saved whole in its place."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(base).requires_grad_(True)

    def forward(self, base: nn.Module, x: Tensor) -> Tensor:
        return self.module(x)

    def merged(self, base: nn.Module) -> dict[str, Tensor]:
        return dict(self.module.named_parameters())
