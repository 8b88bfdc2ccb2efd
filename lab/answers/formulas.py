"""What several answers are made of, from their definitions, in float64."""

from __future__ import annotations

import math

import torch
from torch import nn


def normed(norm: nn.LayerNorm, x):
    """LayerNorm from its definition, in float64."""
    y = x.double()
    centred = y - y.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return (centred / deviation * norm.weight.double() + norm.bias.double()).to(x.dtype)


def linear(module: nn.Linear, x):
    """x Wᵀ + b, in float64."""
    return (
        torch.einsum("...i,oi->...o", x.double(), module.weight.double()) + module.bias.double()
    ).to(x.dtype)


def softmax(scores, dim=-1):
    """Softmax from its definition, in float64."""
    exponentials = (scores.double() - scores.double().amax(dim, keepdim=True)).exp()
    return (exponentials / exponentials.sum(dim, keepdim=True)).to(scores.dtype)


def gelu(x):
    """x Φ(x), in float64."""
    return (x.double() * 0.5 * (1 + torch.erf(x.double() / math.sqrt(2)))).to(x.dtype)
