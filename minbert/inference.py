"""Forward passes alone: in which precision, and how many tokens at once.

On a GPU an encoder answers in 16 bits, which is several times faster there, and takes batches as
large as its memory allows. A CPU computes as it is told, in 32 bits by default.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from minbert.encoder import Encoder
from minbert.low_precision import LOW, LowPrecision, suits
from minbert.transfer import on_gpu

PRECISIONS = ("auto", "fp32", "tf32", *LOW)
"""Precisions of answers."""
TOKENS = 4096
"""About so many go through an encoder at once on a CPU."""
MOST_TOKENS = 65_536
"""The same on a GPU, which more would not make faster."""


def automatic_precision(device: torch.device) -> str:
    """What `auto` stands for: bf16 on a GPU that has it, else fp16, and fp32 where neither is
    quicker."""
    if not on_gpu(device):
        return "fp32"
    if torch.version.hip:
        return "bf16"
    generation = torch.cuda.get_device_capability(device)
    if generation >= (8, 0):  # Ampere
        return "bf16"
    return "fp16" if generation >= (7, 0) else "fp32"  # Volta, Turing


def chosen_precision(precision: str, device: torch.device) -> str:
    """fp32, tf32, bf16 or fp16.

    Raises:
        ValueError: there is no such precision, or this device has none of it.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
    if device.type == "mps" and precision in LOW:
        raise ValueError(
            f"precision {precision} has not been tried on Apple's GPUs; use --precision fp32, or "
            "bf16 with --device cpu"
        )
    if precision == "fp16" and not on_gpu(device):
        raise ValueError(f"precision fp16 needs a GPU, the device is {device}; use bf16 or fp32")
    if precision == "tf32" and not _has_tf32(device):
        raise ValueError(
            f"precision tf32 needs an NVIDIA GPU of the Ampere generation or newer, the device is "
            f"{device}; use fp32"
        )
    return automatic_precision(device) if precision == "auto" else precision


def _has_tf32(device: torch.device) -> bool:
    nvidia = on_gpu(device) and not torch.version.hip
    return nvidia and torch.cuda.get_device_capability(device) >= (8, 0)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """A `with` block whose matrix products are computed in this precision: fp32, tf32, bf16 or
    fp16."""
    if precision in LOW:
        return torch.autocast(device.type, LOW[precision])
    return tf32_products() if precision == "tf32" else nullcontext()


@contextmanager
def tf32_products() -> Generator[None]:
    """A block in which a GPU multiplies matrices of 32 bits by the first 19 bits of each number:
    with the exponents of float32 and ten places after the point, in place of 23."""
    products = torch.backends.cuda.matmul
    before = products.allow_tf32
    products.allow_tf32 = True
    try:
        yield
    finally:
        products.allow_tf32 = before


@contextmanager
def answering(encoder: Encoder, precision: str) -> Generator[None]:
    """A block for forward passes without gradients.

    On a GPU the encoder computes with copies in 16 bits, cast once, if it suits them; what is
    around it, and any other, goes by autocast, which is the caller's: see `autocast`.
    """
    parameters = list(encoder.parameters())
    whole = all(type(p) is torch.nn.Parameter and p.dtype == torch.float32 for p in parameters)
    if precision not in LOW or not on_gpu(parameters[0].device) or not whole or not suits(encoder):
        yield
        return
    with torch.no_grad():
        copies = LowPrecision(encoder, LOW[precision])
        copies.refresh()
        try:
            with copies.in_use():
                yield
        finally:
            copies.remove()


def tokens_at_once(encoder: Encoder) -> int:
    """How many tokens to send through an encoder at once: on a GPU, as many as a part of its memory
    takes, which is the same part each time unless little of it is free."""
    device = next(encoder.parameters()).device
    if not on_gpu(device):
        return TOKENS
    free, everything = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    # A token's vector after each layer is kept to the end, and in a layer there are about twenty
    # more, in 32 bits at most.
    each = 4 * encoder.config.hidden_size * (encoder.config.num_layers + 20)
    return min(max(min(everything // 16, free // 2) // each, TOKENS), MOST_TOKENS)


def batches_by_length(
    lengths: Sequence[int] | np.ndarray, *, tokens: int = TOKENS
) -> Iterator[np.ndarray]:
    """Row numbers for inference, longest rows first, about `tokens` tokens a batch."""
    batch: list[int] = []
    total = 0
    for row in np.argsort(-np.asarray(lengths), kind="stable"):
        batch.append(int(row))
        total += int(lengths[row])
        if total >= tokens:
            yield np.array(batch)
            batch, total = [], 0
    if batch:
        yield np.array(batch)
