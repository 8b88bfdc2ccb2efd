"""How much each token of a row has to do with an output.

    gradient x input        Σ_h x_h ∂F/∂x_h: how F changes at this point
    integrated gradients    Σ_h (x_h - x'_h) ∫₀¹ ∂F/∂x_h (x' + a (x - x')) da, which sum to
                            F(x) - F(x'): Sundararajan, Taly & Yan (2017), arXiv:1703.01365

x is a token's embedding, (H,), what goes into the first layer; F one output of the task's head. The
baseline x' is the row with [MASK] in the place of each token of its texts.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from data.batching import Batch
from minbert.encoder import Encoder
from minbert.layouts import Packed
from minbert.tokenization import Tokenizer
from multitask.model import MultitaskModel

STEPS = 24
"""Points between the baseline and the row, by Gauss and Legendre's rule."""
TOKENS = 2048
"""Tokens that go through the encoder at once, with what their gradients need."""


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Attributions of one output to the T tokens of a row."""

    gradient_x_input: Tensor
    """(T,)"""
    integrated_gradients: Tensor
    """(T,)"""
    baseline: float
    """The output of the baseline."""
    error: float
    """By how much the integrated gradients miss F(x) - F(x')."""


def attribute(
    model: MultitaskModel,
    batch: Batch,
    task: str,
    target: int,
    tokenizer: Tokenizer,
    *,
    steps: int = STEPS,
) -> Attribution:
    """Attribute an output to the tokens of a row.

    Args:
        model: in eval mode.
        batch: one row, packed.
        task: whose head it is.
        target: number of the output.
        tokenizer: for the baseline.
        steps: points at which to take the gradient.
    """
    baseline = _baseline(batch, tokenizer)
    with torch.no_grad():
        x, start = (_embeddings(model, each, task) for each in (batch, baseline))  # (T, H) each
    (at_end,), (gradient,) = _gradients(model, batch, task, target, x[None])
    with torch.no_grad():
        at_start = model(baseline, task)[0, target]
    places, weights = (torch.from_numpy(a).to(x) for a in np.polynomial.legendre.leggauss(steps))
    between = (places + 1) / 2  # of -1 to 1
    mean = torch.zeros_like(x)
    for some, weight in zip(between.split(_copies(x)), (weights / 2).split(_copies(x))):
        points = start + some.view(-1, 1, 1) * (x - start)  # (steps, T, H)
        _, gradients = _gradients(model, batch, task, target, points)
        mean += torch.einsum("s,sth->th", weight, gradients)
    integrated = ((x - start) * mean).sum(dim=-1)
    return Attribution(
        gradient_x_input=(x * gradient).sum(dim=-1),
        integrated_gradients=integrated,
        baseline=float(at_start),
        error=abs(float(integrated.double().sum() - (at_end - at_start).double())),
    )


def _copies(x: Tensor) -> int:
    """How many rows of so many tokens go through the encoder at once."""
    return max(1, TOKENS // len(x))


def _baseline(batch: Batch, tokenizer: Tokenizer) -> Batch:
    """The row with [MASK] for each token of its texts."""
    ids = batch.input_ids
    assert ids is not None
    special = torch.tensor([tokenizer.cls_id, tokenizer.sep_id], device=ids.device)
    masked = torch.full_like(ids, tokenizer.mask_id)
    return replace(batch, input_ids=torch.where(torch.isin(ids, special), ids, masked))


@contextmanager
def embedded(encoder: Encoder, change: Callable[[Tensor], Tensor]) -> Generator[None]:
    """Have `change` take the embeddings (..., H) to what goes into the first layer."""
    embeddings = dict(encoder.depths())["embeddings"]
    handle = embeddings.register_forward_hook(lambda module, inputs, output: change(output))
    try:
        yield
    finally:
        handle.remove()


def _embeddings(model: MultitaskModel, batch: Batch, task: str) -> Tensor:
    """(T, H) of a row."""
    seen: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    with embedded(model.encoder, keep):
        model(batch, task)
    return seen[0].detach()


def _gradients(
    model: MultitaskModel, batch: Batch, task: str, target: int, points: Tensor
) -> tuple[Tensor, Tensor]:
    """The output (M,), and its gradient (M, T, H), where the row's embeddings are (M, T, H)."""
    assert isinstance(batch.layout, Packed)
    lengths, copies = batch.layout.lengths.tolist(), len(points)

    def all_first_then_all_second(x: Tensor) -> Tensor:
        """(M, T, ...) -> (M T, ...): of two sequences, the first of all M rows come first."""
        return torch.cat([part.flatten(0, 1) for part in x.split(lengths, dim=1)])

    def of_all(ids: Tensor | None) -> Tensor | None:
        return None if ids is None else all_first_then_all_second(ids.expand(copies, -1))

    many = replace(
        batch,
        ids=batch.ids * copies,
        labels=None,
        input_ids=of_all(batch.input_ids),
        token_type_ids=of_all(batch.token_type_ids),
        layout=Packed([n for n in lengths for _ in range(copies)]).to(points.device),
    )
    with torch.enable_grad():
        leaf = points.detach().requires_grad_()
        with embedded(model.encoder, lambda _: all_first_then_all_second(leaf)):
            outputs = model(many, task)[:, target]  # (M,)
        (gradient,) = torch.autograd.grad(outputs.sum(), leaf)
    return outputs.detach(), gradient
