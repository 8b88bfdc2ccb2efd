"""Scaled dot-product attention, and what newer encoders put beside it.

Everything here takes sequences in rows of their own, as `Layout.per_sequence` hands them over: see
minbert/layouts.py.

B batch, S longest sequence, N heads, D head size, H = N * D hidden size
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: nn.Module
) -> tuple[Tensor, Tensor]:
    """softmax(Q Kᵀ / √D) V, equation 1 of Vaswani et al. (2017), arXiv:1706.03762.

    Args:
        query, key, value: (B, N, S, D).
        mask: bool, broadcastable to (B, N, S, S); True where a token may be attended to.
        dropout: applied to the attention probabilities.

    Returns:
        The context (B, N, S, D) and the probabilities before dropout (B, N, S, S).
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))  # (B, N, S, S)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    probabilities = scores.softmax(dim=-1)  # each query's row sums to 1
    return dropout(probabilities) @ value, probabilities


def key_mask(mask: Tensor) -> Tensor:
    """(B, S) -> (B, 1, 1, S): real tokens as the keys that any head and query may attend to."""
    return mask[:, None, None, :]


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, S, H) -> (B, N, S, D): head n is the n-th slice of D features."""
    batch, length, hidden = x.shape
    return x.view(batch, length, num_heads, hidden // num_heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, N, S, D) -> (B, S, H): the inverse of `split_heads`."""
    batch, num_heads, length, head_size = x.shape
    return x.transpose(1, 2).reshape(batch, length, num_heads * head_size)


# Rotary positions


def rope_angles(positions: Tensor, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin of p θ^(-2i/D) for each position p and i < D/2: Su et al., arXiv:2104.09864.

    Args:
        positions: each token's place in its sequence, of any shape (...).
        head_size: D, even.
        theta: the base; the larger, the slower the last features turn.

    Returns:
        Two tensors (..., D/2) in float32, whatever the model computes in: in bfloat16, places
        beyond 256 could not be told apart.
    """
    exponents = torch.arange(0, head_size, 2, device=positions.device).float() / head_size
    frequencies = 1.0 / theta**exponents  # (D/2,)
    angles = positions.unsqueeze(-1).float() * frequencies  # (..., D/2)
    return angles.cos(), angles.sin()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of features (x_i, x_{i + D/2}), as a point in the plane, by its angle.

    The dot product of a query and a key then depends on the distance of their places alone.

    Args:
        x: queries or keys (..., N, D).
        cos, sin: (..., D/2), from `rope_angles`.
    """
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)  # (..., 1, D/2): the same in every head
    first, second = x.chunk(2, dim=-1)  # (..., N, D/2)
    turned = (first * cos - second * sin, first * sin + second * cos)
    return torch.cat(turned, dim=-1).to(x.dtype)  # (..., N, D)


# Local attention


def local_mask(mask: Tensor, window: int) -> Tensor:
    """Where a token may be attended to: up to `window` places away, |i - j| ≤ w, and real.

    Args:
        mask: (B, 1, 1, S) bool, True at real tokens.
        window: w, places on either side.

    Returns:
        (B, 1, S, S). Each token sees itself, so that padding far from real tokens sees something:
        the softmax over nothing is not a number, and would spread.
    """
    places = torch.arange(mask.size(-1), device=mask.device)  # (S,)
    return within_window(places, places, mask, window)


def within_window(queries: Tensor, keys: Tensor, real: Tensor, window: int) -> Tensor:
    """Whether a query at each place i may attend to a key at each place j: |i - j| ≤ w and real.

    Args:
        queries, keys: places (Q,) and (K,).
        real: bool, broadcastable to (..., Q, K); True where the key is a real token.
        window: w, places on either side.

    Returns:
        (..., Q, K); True at i = j, real or not.
    """
    distance = (queries.unsqueeze(1) - keys).abs()  # (Q, K)
    return (distance <= window) & real | (distance == 0)


def local_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, window: int, dropout: nn.Module
) -> tuple[Tensor, Tensor]:
    """Attention to near tokens (Beltagy et al., 2020, arXiv:2004.05150), step by step.

    As `scaled_dot_product_attention`, with the mask of `local_mask`: all S² scores are computed,
    and most of them masked.
    """
    return scaled_dot_product_attention(query, key, value, local_mask(mask, window), dropout)


def local_attention_in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    window: int,
    attend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """The context of `local_attention` in time and memory that grow with S, not with S².

    Cut the sequence into blocks of w places. What a block's queries may see lies in the block
    itself and the two beside it, so each block becomes a short row of a larger batch: w queries,
    3 w keys.

    Args:
        query, key, value: (B, N, S, D).
        mask: (B, 1, 1, S) bool, True at real tokens.
        window: w, at least 1.
        attend: attention of (B, N, w, D) to (B, N, 3 w, D) under a mask (B, 1, w, 3 w).

    Returns:
        (B, N, S, D).
    """
    batch, _, length, _ = query.shape
    blocks = math.ceil(length / window)

    def cut(x: Tensor) -> Tensor:
        """(B, S, ...) -> (B, blocks, w, ...), the last block filled up with zeros."""
        padding = [0, 0] * (x.dim() - 2) + [0, blocks * window - length]
        return nn.functional.pad(x, padding).unflatten(1, (blocks, window))

    def with_neighbours(x: Tensor) -> Tensor:
        """(B, blocks, w, ...) -> (B, blocks, 3 w, ...): the block before, its own, the next."""
        x = nn.functional.pad(x, [0, 0] * (x.dim() - 2) + [1, 1])
        return torch.cat([x[:, :-2], x[:, 1:-1], x[:, 2:]], dim=2)

    def as_batch(x: Tensor) -> Tensor:
        """(B, blocks, w, N, D) -> (B * blocks, N, w, D)."""
        return x.flatten(0, 1).transpose(1, 2)

    queries = as_batch(cut(query.transpose(1, 2)))
    keys, values = (as_batch(with_neighbours(cut(x.transpose(1, 2)))) for x in (key, value))
    real = with_neighbours(cut(mask[:, 0, 0])).flatten(0, 1)  # (B * blocks, 3 w)
    places = torch.arange(3 * window, device=mask.device)
    own = places[window : 2 * window]  # of the block in the middle
    allowed = within_window(own, places, real[:, None, None, :], window)  # (..., w, 3 w)
    context = attend(queries, keys, values, allowed)  # (B * blocks, N, w, D)
    context = context.transpose(1, 2).unflatten(0, (batch, blocks)).flatten(1, 2)
    return context[:, :length].transpose(1, 2)


# Dynamic convolution


def dynamic_convolution(value: Tensor, kernel: Tensor) -> Tensor:
    """y[s, n] = Σ_k kernel[s, n, k] value[s + k - K // 2, n], with zeros beyond both ends.

    The core of span-based dynamic convolution (Jiang et al., 2020, arXiv:2008.02496): every place
    has a kernel of its own.

    It is attention with weights on a band of K diagonals only, and computed as such: the matrix of
    N S² weights is smaller than the N S D K numbers of the windows, up to S = D K.

    Args:
        value: (B, S, A), N heads side by side.
        kernel: (B, S, N, K), each head's weights at each place; K is odd.

    Returns:
        (B, S, A).
    """
    length, size = kernel.size(1), kernel.size(3)
    value = nn.functional.pad(value, (0, 0, size // 2, size // 2))  # (B, S + K - 1, A)
    # Rows of K weights and S zeros, read as rows of one number less: each starts one further right.
    band = nn.functional.pad(kernel.transpose(1, 2), (0, length)).flatten(2)  # (B, N, S * (K + S))
    band = band[..., :-length].unflatten(2, (length, -1))  # (B, N, S, S + K - 1)
    return merge_heads(band @ split_heads(value, kernel.size(2)))
