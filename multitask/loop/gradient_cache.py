"""Steps whose rows are compared with one another, however many: cached gradients.

Gao et al. (2021), arXiv:2101.06983. A loss L of all embeddings v_1, ..., v_N of a step reaches the
weights W by them alone: dL/dW = Σ_i (dL/dv_i) (dv_i/dW). So

    1. embed all batches, without keeping what a backward pass needs
    2. L and dL/dv_i, from embeddings alone
    3. embed each batch again with the same dropout, and go back from dL/dv_i

gives the gradient of one large batch in the memory of a small one. A single batch is embedded once.

Of several processes each embeds its rows, all get all embeddings, and each goes back from its own.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from data.batching import Batch
from multitask import distributed
from multitask.contrastive import ContrastiveLoss
from multitask.objective import Objective


class Embeddings(Objective):
    """The objective of a contrastive stage, whose forward pass ends at embeddings."""

    def forward(self, batch: Batch, task: str) -> Tensor:  # pyrefly: ignore[bad-override]
        """Embeddings (B, C, H) of a batch's rows."""
        return self.model(batch, task)


def loss_and_gradients(
    loss: ContrastiveLoss, vectors: Sequence[Tensor], batches: Sequence[Batch], sizes: Sequence[int]
) -> tuple[Tensor, list[Tensor]]:
    """The loss of all rows of a step, and its gradient at this process's embeddings.

    Args:
        loss: of all embeddings.
        vectors: of each batch, this process's embeddings (B, C, H).
        batches: what they are of.
        sizes: rows of each batch in all processes; a process beyond them has a row that does not
            count, and gets no gradient.

    Returns:
        () the loss, which the first process has and others as 0; and (B, C, H) for each batch.
    """
    whole = [_gathered(x.detach(), n) for x, n in zip(vectors, sizes, strict=True)]
    groups = torch.cat([_gathered(_of(b.groups), n) for b, n in zip(batches, sizes, strict=True)])
    labels = None
    if batches[0].labels is not None:
        found = [_gathered(_of(b.labels), n) for b, n in zip(batches, sizes, strict=True)]
        labels = torch.cat(found)
    every = torch.cat(whole).requires_grad_()
    with torch.enable_grad():
        value = loss(every, groups, labels)
    (gradient,) = torch.autograd.grad(value, every)
    own = [part[distributed.rank() :: distributed.count()] for part in gradient.split(list(sizes))]
    own = [g if len(g) else g.new_zeros(x.shape) for g, x in zip(own, vectors, strict=True)]
    value = value.detach()
    return value if distributed.is_writer() else torch.zeros_like(value), own


@contextmanager
def replayed(state: Tensor, device_state: Tensor | None, device: torch.device) -> Generator[None]:
    """A block in which dropout draws as it did from these states; then as if nothing had been."""
    with torch.random.fork_rng(devices=[device] if device_state is not None else []):
        torch.set_rng_state(state)
        if device_state is not None:
            torch.cuda.set_rng_state(device_state, device)
        yield


def random_states(device: torch.device) -> tuple[Tensor, Tensor | None, torch.device]:
    """What `replayed` takes."""
    own = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), own, device


def _of(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def _gathered(own: Tensor, size: int) -> Tensor:
    """The rows of all processes, (size, ...), in the order that one process has: process p has
    rows p, p + count, ..."""
    count = distributed.count()
    if count == 1:
        return own
    most = -(-size // count)
    padded = own.new_zeros(most, *own.shape[1:])
    padded[: len(own)] = own
    parts = torch.stack(distributed.all_of(padded))  # (count, most, ...)
    return parts.transpose(0, 1).flatten(0, 1)[:size]
