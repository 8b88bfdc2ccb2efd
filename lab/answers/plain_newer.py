"""Newer encoders as students write it, and mistakes that change a line."""

from __future__ import annotations

import torch
from torch import nn

from lab.answers import plain


@plain("rope", of="rope_angles")
def rope_angles(positions, head_size, theta):
    i = torch.arange(head_size // 2, device=positions.device).float()
    freqs = theta ** (-2 * i / head_size)
    phi = positions.float()[..., None] * freqs
    return torch.cos(phi), torch.sin(phi)


rope_angles.but("the base is always 10000; it is `theta`", "theta **", "10000.0 **")
rope_angles.but(
    "the angles are computed in bfloat16, where places beyond 256 are not told apart",
    "positions.float()[..., None]",
    "positions.bfloat16()[..., None]",
)
rope_angles.but(
    "the exponents end at 1: 2i is divided by D, so that the last is below 1",
    "-2 * i / head_size",
    "-2 * i / (head_size - 2)",
)


@plain("rope", of="apply_rope")
def apply_rope(x, cos, sin):
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    cos = cos.unsqueeze(-2)
    sin = sin.unsqueeze(-2)
    out = torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
    return out.to(x.dtype)


apply_rope.but("a minus is missing: a cos φ - b sin φ", "a * cos - b * sin", "a * cos + b * sin")
apply_rope.but("the second half stays as it was; both turn", "a * sin + b * cos]", "b]")
apply_rope.but(
    "the angles get their new dimension in front; heads are the last but one",
    "cos = cos.unsqueeze(-2)",
    "cos = cos.unsqueeze(0)",
    "sin = sin.unsqueeze(-2)",
    "sin = sin.unsqueeze(0)",
)
apply_rope.but(
    "the two halves have changed places",
    "[a * cos - b * sin, a * sin + b * cos]",
    "[a * sin + b * cos, a * cos - b * sin]",
)
apply_rope.but(
    "x is changed in place; make a new tensor",
    "out = torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)\n    return out.to(x.dtype)",
    (
        "new = a * cos - b * sin, a * sin + b * cos\n"
        "    x[..., :half], x[..., half:] = new\n"
        "    return x"
    ),
)


@plain("local_attention", of="local_mask")
def local_mask(mask, window):
    from minbert.attention import within_window

    places = torch.arange(mask.shape[-1], device=mask.device)
    return within_window(places, places, mask, window)


local_mask.but(
    "the mask of one sequence is returned; each has its own, (B, 1, S, S)",
    "return within_window(places, places, mask, window)",
    "return within_window(places, places, mask, window)[0, 0]",
)


@plain("local_attention", of="within_window")
def within_window(queries, keys, real, window):
    d = (queries[:, None] - keys[None, :]).abs()
    return ((d <= window) & real) | (d == 0)


within_window.but(
    "the window is halved: w places lie on either side", "d <= window", "d <= window // 2"
)
within_window.but(
    "real tells of the queries here; it is about the keys, the last dimension",
    "(d <= window) & real",
    "(d <= window) & real.transpose(-1, -2)",
)
within_window.but("far keys are seen and near ones are not", "d <= window", "d >= window")
within_window.but(
    "places are counted from 0; take those that are passed in",
    "(queries[:, None] - keys[None, :]).abs()",
    "(torch.arange(len(queries))[:, None] - torch.arange(len(keys))).abs()",
)
within_window.but(
    "queries and keys have changed places: (Q, K)",
    "queries[:, None] - keys[None, :]",
    "queries[None, :] - keys[:, None]",
)
within_window.but("the window is one place too wide", "d <= window", "d <= window + 1")


@plain("convolution")
def dynamic_convolution(value, kernel):
    B, S, A = value.shape
    N, K = kernel.shape[2], kernel.shape[3]
    heads = value.view(B, S, N, A // N)
    padded = nn.functional.pad(heads, (0, 0, 0, 0, K // 2, K // 2))
    out = torch.zeros_like(heads)
    for k in range(K):
        out = out + kernel[:, :, :, k : k + 1] * padded[:, k : k + S]
    return out.reshape(B, S, A)


dynamic_convolution.but(
    "all places use the first one's kernel; each has its own",
    "kernel[:, :, :, k : k + 1] *",
    "kernel[:, :1, :, k:k + 1] *",
)
dynamic_convolution.but(
    "all places use the mean kernel; each has its own",
    "kernel[:, :, :, k : k + 1] *",
    "kernel.mean(dim=1, keepdim=True)[:, :, :, k:k + 1] *",
)
dynamic_convolution.but(
    "head n takes every N-th feature; it owns a slice side by side",
    "value.view(B, S, N, A // N)",
    "value.view(B, S, A // N, N).transpose(2, 3)",
)
dynamic_convolution.but(
    "the width is always 9; take it from the kernel's shape",
    "N, K = kernel.shape[2], kernel.shape[3]",
    "N, K = kernel.shape[2], 9",
)
dynamic_convolution.but(
    "the kernel's last weight is left out", "for k in range(K):", "for k in range(K - 1):"
)
dynamic_convolution.but(
    "the heads stay apart, (B, S, N, D); put them side by side, (B, S, A)",
    "return out.reshape(B, S, A)",
    "return out",
)
dynamic_convolution.but(
    "the sum is divided by K; the weights alone count",
    "return out.reshape(B, S, A)",
    "return out.reshape(B, S, A) / K",
)
