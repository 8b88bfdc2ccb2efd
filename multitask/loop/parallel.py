"""An objective on one process or several: one small interface in three forms.

    Single      one process, whose gradients are its own
    Replicated  each process has the whole model; gradients are averaged (DDP)
    Sharded     each process has a part of every weight, gradient and moment (FSDP2)

The trainer calls `parallel(batch, ...)` as it would the objective, runs the backward pass inside
`parallel.reducing(wanted)`, and need not know which form it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from multitask.distributed import count
from multitask.objective import Objective


class Single:
    """One process: the objective as it is."""

    def __init__(self, objective: Objective) -> None:
        self.module: nn.Module = objective

    def __call__(self, *args: Any) -> Any:
        """What the objective returns."""
        return self.module(*args)

    def reducing(self, wanted: bool) -> AbstractContextManager[None]:
        """A block whose forward and backward pass bring the gradients of all processes together,
        if `wanted`; else they gather in each process, for the last batch of a step to bring."""
        return nullcontext()

    def close(self) -> None:
        """Let go of what is kept between steps."""


class Replicated(Single):
    """Distributed data parallel: gradients are averaged while the backward pass goes on.

    It must be gone when the process group ends: as the last one to hold the group it would wait for
    its threads, and keep them from the GIL that they want.
    """

    def __init__(self, objective: Objective, *, all_used: bool) -> None:
        """Wrap an objective.

        Args:
            objective: the same in every process.
            all_used: whether every step uses all parameters; else DDP looks for those that have no
                part in a step, as heads of other tasks.
        """
        self._ddp = DistributedDataParallel(objective, find_unused_parameters=not all_used)
        self.module = self._ddp

    def reducing(self, wanted: bool) -> AbstractContextManager[None]:
        return nullcontext() if wanted else self._ddp.no_sync()


class Sharded(Single):
    """Fully sharded data parallel (Zhao et al., 2023, arXiv:2304.11277).

    Each of `parts` is put together just before it computes, and given up again after.
    """

    def __init__(self, objective: Objective, parts: Sequence[nn.Module]) -> None:
        super().__init__(objective)
        # Here and not above, for a run without it need not wait for these imports.
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(objective.model.device.type, (count(),))
        for part in parts:
            fully_shard(part, mesh=mesh)
        self._sharded = fully_shard(objective.model, mesh=mesh)

    def reducing(self, wanted: bool) -> AbstractContextManager[None]:
        self._sharded.set_requires_gradient_sync(wanted)
        return nullcontext()

    def close(self) -> None:
        self._sharded.reshard()  # whole after its last forward pass, it would hide what is loaded


def spread(objective: Objective, *, shard: bool, all_used: bool) -> Single:
    """The form that this run's processes want; with one process there is nothing to spread."""
    if count() == 1:
        return Single(objective)
    if shard:
        return Sharded(objective, objective.model.parts())
    return Replicated(objective, all_used=all_used)
