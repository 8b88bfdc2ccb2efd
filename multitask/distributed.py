"""One run on several processes, which PyTorch's own launcher starts:

    torchrun --nproc-per-node 4 -m multitask train --tasks sst --data-dir real-data

Each process has the whole model (or with --shard a part of each weight) and takes its share of the
rows of every batch; PyTorch adds up the gradients while the backward pass still goes on. The batch
size is that of all processes together, so a config gives the same losses, weights and scores on
any number of them, and a run may be resumed on another number. The first process alone writes
files.

Without torchrun there is one process, and nothing here does anything. See docs/distributed.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Processes in all."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_writer() -> bool:
    """Whether this process writes the run's files and shows its progress."""
    return rank() == 0


@contextmanager
def processes(device: torch.device) -> Generator[None]:
    """Join the processes that torchrun started, for the time of a `with` block."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # The others wait while the first process reads and tokenizes, which may take hours.
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(days=1))
    try:
        yield
    finally:
        dist.destroy_process_group()


def is_loss_of_contact(error: Exception) -> bool:
    """Whether an error came from another process of the run that is no longer there."""
    return count() > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error))


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of a sequence that all of them have."""
    return items[rank() :: count()]


def share_of_batch(rows: np.ndarray) -> tuple[np.ndarray, bool]:
    """This process's rows of a batch, and whether they count.

    A batch may have fewer rows than there are processes. DDP waits for all of them, so those that
    would have none take the first row, and multiply its loss by zero.
    """
    own = rows[rank() :: count()]
    return (own, True) if len(own) else (rows[:1], False)


def rounds(batches: Sequence[T]) -> Iterator[tuple[T, bool]]:
    """This process's batches, and whether they count: as many as every other process has.

    Where batches run out, the first one again, not to be counted: with sharded weights, a forward
    pass needs all processes.
    """
    for number in range(rank(), -(-len(batches) // count()) * count(), count()):
        counted = number < len(batches)
        yield batches[number if counted else 0], counted


def gather(items: list[T]) -> list[T]:
    """The lists of all processes as one, the first process's items first."""
    if count() == 1:
        return items
    parts: list[list[T]] = [[] for _ in range(count())]
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def by_writer(act: Callable[[], T]) -> T:
    """Let the first process alone do something, and give its result to all.

    Where it fails, the first process raises the error, and the others end.
    """
    if count() == 1:
        return act()
    outcome: list[Any] = [None, None]
    if is_writer():
        try:
            outcome[0] = act()
        except Exception as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1] if is_writer() else SystemExit(2)
    return outcome[0]


def wait() -> None:
    """Go on when every process has come here."""
    if count() > 1:
        dist.barrier()


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of a tensor that each process has one of."""
    if count() > 1:
        dist.all_reduce(values)
    return values


def all_of(tensor: Tensor) -> list[Tensor]:
    """The tensors of all processes, of one shape, the first process's first."""
    if count() == 1:
        return [tensor]
    parts = [torch.empty_like(tensor) for _ in range(count())]
    dist.all_gather(parts, tensor.contiguous())
    return parts


def average_gradients(gradients: Sequence[Tensor | None]) -> None:
    """Put the mean over processes into gradients that were made without DDP's own reduction."""
    present = [gradient for gradient in gradients if gradient is not None]
    if count() == 1 or not present:
        return
    flat = torch.cat([gradient.flatten() for gradient in present])
    dist.all_reduce(flat)
    flat /= count()
    parts = flat.split([gradient.numel() for gradient in present])
    for gradient, part in zip(present, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


# Tensors of which each process keeps a part: see parallel.py


def full(tensor: Tensor) -> Tensor:
    """The whole of a tensor that is split; all processes must call this. Others as they are."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def split_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor on a parameter's device and in its shape, and split where the parameter is."""
    tensor = tensor.to(parameter.device).reshape(parameter.shape)
    if not hasattr(parameter, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
