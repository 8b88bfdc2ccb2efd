"""Tensors between the host and a GPU, while both go on with their work.

A copy goes on by itself if its end on the host is in pinned memory, which the system never moves.
On a CPU nothing is copied.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def on_gpu(device: torch.device) -> bool:
    """Whether a device computes on its own while the host goes on."""
    return device.type == "cuda"


def to_device(x: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device; what is computed with it there waits for the copy, the host does not.

    From a GPU to the host, though, it is waited for.
    """
    if x.device.type == "cpu" and torch.device(device).type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def to_host(value: Any) -> Any:
    """A tensor's copy on the host, to be read once `copied` has come; other values as they are."""
    return value.to("cpu", non_blocking=True) if isinstance(value, Tensor) else value


def copied(device: torch.device) -> torch.cuda.Event | None:
    """What to `synchronize` with before the copies made so far are read; None for a CPU."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event
