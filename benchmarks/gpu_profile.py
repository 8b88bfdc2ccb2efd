"""Where a training step's time goes on a GPU: its share of it, launches, costliest kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from benchmarks.gpu import Clock, Plan, RandomRows, ours

KERNELS = 10
"""So many of the costliest are recorded."""


class Profiler(Clock):
    """A clock that has PyTorch's profiler watch the steps on it."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        kinds = [ProfilerActivity.CPU]
        if plan.device == "cuda":
            kinds.append(ProfilerActivity.CUDA)
        self.profiler = torch_profile(activities=kinds)

    def step_begins(self, number: int) -> None:
        if number == self._plan.warm_up:
            self.profiler.start()
        super().step_begins(number)
        if number == self._plan.warm_up + self._plan.steps:
            self.profiler.stop()


def profile(plan: Plan, rows: RandomRows) -> dict[str, Any]:
    """What a step of minbert's trainer has a device do.

    Returns:
        step_ms (without the profiler), device_ms, busy (the device's share of the step), launches
        and kernels (name, ms and number in a step) of the costliest; on a CPU, operations are in
        the place of kernels.
    """
    unwatched = ours(plan, rows) / plan.steps * 1e3
    profiler = Profiler(plan)
    ours(plan, rows, clock=profiler)
    on_device = plan.device == "cuda"
    wanted = torch.autograd.DeviceType.CUDA if on_device else torch.autograd.DeviceType.CPU
    averages = profiler.profiler.key_averages()
    found = [event for event in averages if event.device_type == wanted]

    def cost(event: Any) -> float:  # microseconds
        return event.self_device_time_total if on_device else event.self_cpu_time_total

    device = sum(map(cost, found)) / plan.steps / 1e3
    launches = sum(event.count for event in averages if "LaunchKernel" in event.key)
    return {
        "step_ms": unwatched,
        "device_ms": device,
        "busy": device / unwatched,
        "launches": launches / plan.steps,
        "kernels": [
            {
                "name": event.key[:120],
                "ms": cost(event) / plan.steps / 1e3,
                "calls": event.count / plan.steps,
            }
            for event in sorted(found, key=cost, reverse=True)[:KERNELS]
        ],
    }
