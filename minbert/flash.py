"""Attention within the sequences of a packed batch by one kernel of a GPU, without any padding.

FlashAttention (Dao et al., 2022, arXiv:2205.14135; 2023, arXiv:2307.08691) takes all T tokens and
the places where sequences begin. PyTorch has it in two forms, of which neither does everything:

    varlen_attn                             a window of near tokens, but no dropout
    F.scaled_dot_product_attention          of jagged nested tensors: dropout, but no window

Both compute in 16 bits only. minbert/attend.py asks `serves`, and goes by the layout's
`per_sequence` where the answer is no: on a CPU, in float32, on a GPU older than Ampere. A reader of
the encoders may skip this file.

T tokens in all, B sequences, N heads, D head size
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert.layouts import Layout, Packed
from minbert.quick import current_route

LARGEST_HEAD = 256
"""The kernels take heads of up to so many features, a multiple of 8."""


def serves(
    layout: Layout, query: Tensor, dropout: nn.Module, *, window: int | None = None
) -> TypeGuard[Packed]:
    """Whether `attention` can be called with these.

    Args:
        layout, dropout, window: as there.
        query: (..., N, D).
    """
    if not isinstance(layout, Packed) or not isinstance(dropout, nn.Dropout):
        return False
    head_size = query.size(-1)
    return (
        on_gpu(query)
        and current_route() != "plain"
        and head_size % 8 == 0
        and head_size <= LARGEST_HEAD
        and (_reach(layout, window) is None or (_rate(dropout) == 0 and _varlen() is not None))
    )


def attention(
    layout: Packed,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: nn.Module,
    *,
    window: int | None = None,
) -> Tensor:
    """softmax(Q Kᵀ / √D) V within each sequence; nothing here waits for the GPU.

    Args:
        layout: where sequences begin.
        query, key, value: (T, N, D).
        dropout: for the attention probabilities.
        window: attend to this many places on either side only.

    Returns:
        The context (T, N * D).
    """
    rate, reach, varlen = _rate(dropout), _reach(layout, window), _varlen()
    if rate == 0 and varlen is not None:
        bounds = (layout.offsets, layout.offsets, layout.max_length, layout.max_length)
        window_size = (-1, -1) if reach is None else (reach, reach)
        context = varlen(query, key, value, *bounds, window_size=window_size)
    else:
        context = jagged_attention(layout, query, key, value, rate)
    return context.flatten(1)


def jagged_attention(
    layout: Packed, query: Tensor, key: Tensor, value: Tensor, rate: float
) -> Tensor:
    """The context (T, N, D) through nested tensors (B, N, *, D), with this rate of dropout."""

    def nest(x: Tensor) -> Tensor:
        tokens = torch.nested.nested_tensor_from_jagged(
            x.contiguous(),
            layout.offsets,
            min_seqlen=layout.min_length,  # otherwise both are read back from the GPU
            max_seqlen=layout.max_length,
        )
        return tokens.transpose(1, 2)

    context = F.scaled_dot_product_attention(nest(query), nest(key), nest(value), dropout_p=rate)
    return context.transpose(1, 2).values()


def on_gpu(x: Tensor) -> bool:
    """Whether x is where the kernels are, and of a kind that they take."""
    return (
        x.device.type == "cuda"
        and x.dtype in (torch.bfloat16, torch.float16)
        and torch.cuda.get_device_capability(x.device) >= (8, 0)
    )


def _rate(dropout: nn.Module) -> float:
    return dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0


def _reach(layout: Packed, window: int | None) -> int | None:
    """The window, or None where it holds every sequence whole."""
    return None if window is None or window >= layout.max_length - 1 else window


@functools.cache
def _varlen() -> Callable[..., Any] | None:
    """PyTorch's varlen_attn, or None where PyTorch is too old to have it with a window.

    Looked up when it is first needed, for its import takes a second.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None
