"""Gradient clipping (Pascanu et al., 2013, arXiv:1211.5063, algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def clip_gradients(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Shorten the gradient of all parameters together, in place, to a norm of at most `limit`.

    With one norm |g| = √(Σ g²) over all numbers, every .grad is multiplied by
    min(1, limit / (|g| + 1e-6)), so the direction stays. Parameters without a gradient
    have no part. It is `torch.nn.utils.clip_grad_norm_`, to the bit.

    Returns:
        () the norm before; 0 where there is no gradient.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm
