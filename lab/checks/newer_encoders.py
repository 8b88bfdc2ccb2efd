"""Checks of part 4, what newer encoders changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from lab.checks.bert import modes
from lab.harness import Draw, check, gradients, marked_dropout

Cases = Iterator[tuple[str, Any]]


@check("rope")
def rope(draw: Draw) -> Cases:
    from minbert.attention import apply_rope, rope_angles

    restarted = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 2, 0, 1]])
    for theta in (10.0, 10_000.0):
        yield f"rope_angles, θ = {theta:g}", rope_angles(restarted, 6, theta)
    yield "rope_angles at place 9 of head size 2", rope_angles(torch.tensor(9), 2, 100.0)
    far = torch.tensor([257, 1000, 8191])
    yield "rope_angles at places beyond 256", rope_angles(far, 4, 10_000.0)
    angles = draw.normal(2, 5, 3)
    x = draw.normal(2, 5, 4, 6, grad=True)
    turned = apply_rope(x, angles.cos(), angles.sin())
    yield "apply_rope, padded", turned
    yield "gradients of x", gradients(turned, x)
    packed = apply_rope(x[0], angles[0].cos(), angles[0].sin())
    yield "apply_rope, packed", packed
    half = apply_rope(x.bfloat16(), angles.cos(), angles.sin())
    yield "the dtype of x is kept", str(half.dtype)


@check("local_attention")
def local_attention(draw: Draw) -> Cases:
    from minbert import attention

    real = torch.tensor([[True] * 7, [True] * 3 + [False] * 4])[:, None, None, :]
    places = torch.arange(9)
    known = draw.integers(0, 2, 9).bool()
    for window in (1, 2):
        yield (
            f"within_window of {window}",
            attention.within_window(places[3:6], places, known, window),
        )
    for window in (1, 3, 9):
        yield f"local_mask of window {window}", attention.local_mask(real, window)
    query, key, value = (draw.normal(2, 2, 7, 3) for _ in range(3))
    dropout = marked_dropout()
    for mode in modes(dropout):
        found = attention.local_attention(query, key, value, real, 2, dropout)
        yield mode + "context and probabilities", found


@check("convolution")
def convolution(draw: Draw) -> Cases:
    from minbert.attention import dynamic_convolution

    for batch, length, heads, size, width in ((2, 6, 2, 3, 3), (1, 3, 3, 2, 5), (1, 2, 1, 3, 7)):
        value = draw.normal(batch, length, heads * size)
        kernel = draw.normal(batch, length, heads, width)
        name = f"{heads} heads, {length} tokens, K = {width}"
        yield name, dynamic_convolution(value, kernel)
