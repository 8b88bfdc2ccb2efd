"""What a training step costs the host: operations that PyTorch dispatches, and milliseconds.

A GPU waits wherever the host is slower than its kernels, so this is what a step of a small batch
takes at least on any GPU. A model of 24 features has next to nothing to compute, and so shows it on
a CPU. `as_on_a_gpu` puts a stand-in that computes nothing in the place of the GPU's kernels, and
has the rest of the program take the way that it takes there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu import Clock, Plan, RandomRows, ours, theirs
from minbert import BertConfig, flash
from multitask.loop import engine

LENGTHS = [9, 31, 14, 22, 12, 40, 18, 27]
"""Tokens of rows, over and over."""
LAYERS = 12
PLAN = Plan(
    config=BertConfig(
        hidden_size=24,
        num_layers=LAYERS,
        num_heads=3,
        intermediate_size=96,
        max_positions=64,
    ),
    batch_size=16,
    warm_up=10,
    steps=30,
    device="cpu",
    precision="fp32",
)


class Operations(TorchDispatchMode):
    """Counts what PyTorch dispatches, apart for backward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.forward = self.backward = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.forward + self.backward

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch._C._current_graph_task_id() >= 0:
            self.backward += 1
        else:
            self.forward += 1
        return func(*args, **(kwargs or {}))


class Counter(Clock):
    """A clock of this process's own time, which other processes do not slow, that also counts the
    operations of one step of the warm-up, its last."""

    now = staticmethod(time.process_time)

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.operations = Operations()

    def step_begins(self, number: int) -> None:
        if number == self._plan.warm_up - 1:
            self.operations.__enter__()
        if number == self._plan.warm_up:
            self.operations.__exit__(None, None, None)
        super().step_begins(number)


Run = Callable[..., float]


@dataclass(frozen=True)
class Candidate:
    """A way to train."""

    run: Run
    where: Callable[[], Any] = ExitStack
    """Makes a `with` block in which it runs."""


@contextmanager
def as_on_a_gpu(generation: tuple[int, int] | None = (9, 0)) -> Generator[None]:
    """Take a CPU for a GPU whose attention kernels return their queries; None for one without."""
    kernels = torch.library.Library("aten", "IMPL")

    def forward(query: Tensor, *_: Any, **__: Any) -> tuple[Any, ...]:
        empty = query.new_empty(0)
        return query.clone(), empty, empty, empty

    def backward(gradient: Tensor, *_: Any, **__: Any) -> tuple[Tensor, ...]:
        return gradient.clone(), gradient.clone(), gradient.clone()

    def flash_forward(query: Tensor, *_: Any, **__: Any) -> tuple[Any, ...]:
        return *forward(query), query.new_empty(0)

    def efficient_forward(query: Tensor, *_: Any, **__: Any) -> tuple[Any, ...]:
        return *forward(query), 1, 1

    def efficient_backward(gradient: Tensor, *_: Any, **__: Any) -> tuple[Tensor, ...]:
        return *backward(gradient), gradient.new_empty(0)

    kernels.impl("_flash_attention_forward", flash_forward, "CPU")
    kernels.impl("_flash_attention_backward", backward, "CPU")
    kernels.impl("_efficient_attention_forward", efficient_forward, "CPU")
    kernels.impl("_efficient_attention_backward", efficient_backward, "CPU")
    flash._kernel.cache_clear()
    try:
        with (
            mock.patch.object(flash, "capability", return_value=generation),
            mock.patch.object(flash, "_works", return_value=True),
            mock.patch.object(engine, "on_gpu", return_value=True),
        ):
            yield
    finally:
        flash._kernel.cache_clear()
        kernels._destroy()


CANDIDATES = {
    "minbert, as on a GPU": Candidate(ours, as_on_a_gpu),
    "minbert, as on a CPU": Candidate(ours),
    "transformers' Trainer, sdpa": Candidate(partial(theirs, grouped=True)),
}


def measure(
    plan: Plan = PLAN, *, repeats: int = 3, candidates: dict[str, Candidate] = CANDIDATES
) -> dict[str, dict[str, Any]]:
    """The cost of each candidate's steps, in turns.

    Returns:
        Name -> milliseconds (the median over turns of a step's mean), lowest and highest,
        operations and operations_bf16 (of a step, in the plan's precision and in bfloat16), and
        forward_per_layer and backward_per_layer, from the difference to a model of half as many
        layers; or error.
    """
    found: dict[str, dict[str, Any]] = {}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, candidate in candidates.items():
            try:
                seconds, counted = _steps(candidate, plan)
                times[name].append(seconds / plan.steps * 1e3)
                if name not in found:
                    low = replace(plan, precision="bf16", warm_up=3, steps=1)
                    found[name] = {
                        "operations": counted.total,
                        "operations_bf16": _steps(candidate, low)[1].total,
                        **_per_layer(candidate, plan, counted),
                    }
            except ImportError as error:
                found[name] = {"error": f"{type(error).__name__}: {error}"}
    for name, milliseconds in times.items():
        if milliseconds:
            found[name] |= {
                "milliseconds": median(milliseconds),
                "lowest": min(milliseconds),
                "highest": max(milliseconds),
            }
    return found


def _per_layer(candidate: Candidate, plan: Plan, whole: Operations) -> dict[str, float]:
    layers = plan.config.num_layers
    fewer = replace(plan, config=replace(plan.config, num_layers=layers // 2), warm_up=3, steps=1)
    _, half = _steps(candidate, fewer)
    apart = layers - layers // 2
    return {
        "forward_per_layer": (whole.forward - half.forward) / apart,
        "backward_per_layer": (whole.backward - half.backward) / apart,
    }


def _steps(candidate: Candidate, plan: Plan) -> tuple[float, Operations]:
    """Seconds of the plan's steps, and the operations of one."""
    rows = RandomRows((LENGTHS * plan.rows)[: plan.rows], plan.config.vocab_size)
    clock = Counter(plan)
    with candidate.where():
        seconds = candidate.run(plan, rows, clock=clock)
    return seconds, clock.operations


HEADER = ["training step", "operations", "forward, a layer", "backward, a layer", "in bf16", "ms"]


def rows(found: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """A line of a table for each candidate that `measure` found."""
    return [
        [
            name,
            f"{one['operations']:,}",
            f"{one['forward_per_layer']:.0f}",
            f"{one['backward_per_layer']:.0f}",
            f"{one['operations_bf16']:,}",
            f"{one['milliseconds']:.0f} ({one['lowest']:.0f}-{one['highest']:.0f})",
        ]
        for name, one in found.items()
        if "milliseconds" in one
    ]
