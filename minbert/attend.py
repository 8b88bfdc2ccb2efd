"""Attention as an encoder calls it: `attend`, which alone chooses how it is computed.

    by one kernel of a GPU     packed batches as they are: minbert/flash.py
    by PyTorch's kernel        padded rows, where it knows the dropout
    in blocks                  near tokens of long rows: `local_attention_in_blocks`
    step by step               everything else, and whatever asks for the probabilities

All of them compute what minbert/attention.py spells out; the plain route of minbert/quick.py takes
the last one always.

B batch, S longest sequence, T tokens in all, N heads, D head size, H = N * D hidden size.
"..." is (B, S) in a padded batch and (T,) in a packed one: see minbert/layouts.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert import flash
from minbert.attention import (
    key_mask,
    local_attention,
    local_attention_in_blocks,
    local_mask,
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)
from minbert.layouts import Layout, Packed
from minbert.quick import current_route, recomputed


def attend(
    layout: Layout,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    dropout: nn.Module,
    *,
    window: int | None = None,
    attentions: list[Tensor] | None = None,
) -> Tensor:
    """Multi-head attention: in each head, each token attends to the tokens of its own sequence.

    Args:
        layout: where the tokens of each sequence lie; its prefix is attended to by all tokens,
            however near a window is.
        query, key, value: (..., H), the N heads side by side.
        num_heads: N.
        dropout: applied to the attention probabilities.
        window: attend to this many places on either side only.
        attentions: a list to which the probabilities before dropout are added, (B, N, S, S); with
            a prefix (B, N, S, L + S).

    Returns:
        The context (..., H).
    """
    prefix = layout.prefix
    if attentions is None and prefix is None:
        kernel = flash.kernel_for(layout, query, num_heads, dropout, window=window)
        if kernel is not None and isinstance(layout, Packed):
            return flash.attention(
                kernel, layout, query, key, value, num_heads, dropout, window=window
            )

    def attend_in_rows(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (split_heads(x, num_heads) for x in (query, key, value))  # (B, N, S, D)
        keys = key_mask(mask)  # (B, 1, 1, S): no query attends to padding
        before = None if prefix is None else [split_heads(x[None], num_heads) for x in prefix]
        if attentions is None:
            context = quick_attention(q, k, v, keys, dropout, window=window, prefix=before)
        else:
            if before is not None:
                allowed = keys if window is None else local_mask(keys, window)
                k, v, allowed = with_prefix(k, v, allowed, *before)
                found = scaled_dot_product_attention(q, k, v, allowed, dropout)
            elif window is None:
                found = scaled_dot_product_attention(q, k, v, keys, dropout)
            else:
                found = local_attention(q, k, v, keys, window, dropout)
            context, probabilities = found
            attentions.append(probabilities)
        return merge_heads(context)  # (B, S, H)

    return layout.per_sequence(attend_in_rows, query, key, value)


def with_prefix(
    key: Tensor, value: Tensor, mask: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Keys, values and mask with a prefix before them, which all queries may attend to.

    Args:
        key, value: (B, N, S, D).
        mask: (B, 1, 1 or S, S) bool.
        keys, values: the prefix, (1, N, L, D).

    Returns:
        (B, N, L + S, D) twice, and (B, 1, 1 or S, L + S).
    """
    before = (x.to(key.dtype).expand(len(key), -1, -1, -1) for x in (keys, values))
    key, value = (torch.cat([x, y], dim=2) for x, y in zip(before, (key, value), strict=True))
    return key, value, F.pad(mask, (keys.size(2), 0), value=True)


LONG = 256
"""Tokens from which on the S² scores of a sequence are not kept for the backward pass."""


def quick_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: nn.Module,
    *,
    window: int | None = None,
    prefix: Sequence[Tensor] | None = None,
) -> Tensor:
    """The context of `scaled_dot_product_attention`, (B, N, S, D), without its probabilities.

    Args:
        query, key, value, mask, dropout: as there; with a window, mask is (B, 1, 1, S).
        window: attend to this many places on either side only, as `local_attention` does; long
            sequences are cut into blocks.
        prefix: keys and values (1, N, L, D) that all queries may attend to beside the others.
    """
    length = query.size(-2)

    def compute(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        if prefix is not None:
            assert mask is not None
            key, value, mask = with_prefix(key, value, mask, *prefix)
        return _attention(query, key, value, mask, dropout, long=length >= LONG)

    if window is None or window >= length - 1:
        return compute(query, key, value, mask)
    assert mask is not None
    if current_route() != "plain" and length > 4 * window:
        return local_attention_in_blocks(query, key, value, mask, window, compute)
    return compute(query, key, value, local_mask(mask, window))


def _attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: nn.Module, long: bool
) -> Tensor:
    """By PyTorch's kernel where that serves, which never holds all S² scores, else step by step.

    On a CPU the kernel knows no dropout, and its gradient is a few times further off than the plain
    one's (2e-5 for MiniLM), so there it serves inference, and training on long sequences.
    """
    p = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
    inference = not (torch.is_grad_enabled() and query.requires_grad)
    known = isinstance(dropout, nn.Dropout) and (
        not on_cpu(query) or (p == 0 and (inference or long))
    )
    if known and current_route() != "plain":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=p)

    def context(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return scaled_dot_product_attention(query, key, value, mask, dropout)[0]

    scores = query.nbytes // query.size(-1) * key.size(-2)  # of B N S S numbers
    return recomputed(context, query, key, value, size=scores * (3 if p else 1))


def on_cpu(x: Tensor) -> bool:
    """Whether x is where PyTorch's kernel knows no dropout."""
    return x.device.type == "cpu"
