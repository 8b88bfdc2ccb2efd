"""Attention within the sequences of a packed batch by one kernel of a GPU, without any padding.

Both kernels take all T tokens and the places where sequences begin, and drop out probabilities:

    flash attention         16 bits, on Ampere or newer; knows windows of near tokens
                            (Dao, 2023, arXiv:2307.08691)
    efficient attention     32 bits too, and older GPUs; knows no windows
                            (Rabe & Staats, 2021, arXiv:2112.05682)

PyTorch has them as operations that its own nested tensors call, which take a fraction of the
host's time without these, but which are not documented. So they are looked up by their signatures,
and each is tried once, with its gradients, before it is relied on. Where there is none, as on a CPU
or another maker's GPU, minbert/attend.py goes by the layout's `per_sequence`. A reader of the
encoders may skip this file.

T tokens in all, B sequences, N heads, D head size
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from minbert.attention import key_mask, local_mask, scaled_dot_product_attention
from minbert.layouts import Layout, Packed
from minbert.quick import current_route

Kernel = Callable[[Packed, Tensor, Tensor, Tensor, float, int | None], Tensor]
"""kernel(layout, query, key, value, rate of dropout, window) -> context; all (T, N, D)."""

LARGEST_HEAD = 192
"""Heads of up to so many features, a multiple of 8, are taken; beyond, some GPUs have no backward
pass with dropout."""


def kernel_for(
    layout: Layout, query: Tensor, num_heads: int, dropout: nn.Module, *, window: int | None = None
) -> Kernel | None:
    """The kernel that computes `attention` of these, or None where there is none.

    Args:
        layout, dropout, window: as there.
        query: (..., H).
        num_heads: N.
    """
    packed = isinstance(layout, Packed) and isinstance(dropout, nn.Dropout)
    if not packed or current_route() == "plain":
        return None
    windowed = _reach(layout, window) is not None
    return _kernel(query.device, query.dtype, query.size(-1) // num_heads, windowed)


def attention(
    kernel: Kernel,
    layout: Packed,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    dropout: nn.Module,
    *,
    window: int | None = None,
) -> Tensor:
    """softmax(Q Kᵀ / √D) V within each sequence; nothing here waits for the GPU.

    Args:
        kernel: from `kernel_for`.
        layout: where sequences begin.
        query, key, value: (T, H).
        num_heads: N.
        dropout: for the attention probabilities.
        window: attend to this many places on either side only.

    Returns:
        The context (T, H).
    """
    rate = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
    q, k, v = (x.view(x.size(0), num_heads, -1) for x in (query, key, value))  # (T, N, D)
    return kernel(layout, q, k, v, rate, _reach(layout, window)).flatten(1)


def _reach(layout: Packed, window: int | None) -> int | None:
    """The window, or None where it holds every sequence whole."""
    return None if window is None or window >= layout.max_length - 1 else window


# The kernels


def flash(
    layout: Packed, query: Tensor, key: Tensor, value: Tensor, rate: float, window: int | None
) -> Tensor:
    """By flash attention."""
    bounds = (layout.offsets, layout.offsets, layout.max_length, layout.max_length)
    causal = debug = False
    return torch.ops.aten._flash_attention_forward.default(
        query, key, value, *bounds, rate, causal, debug,
        window_size_left=window, window_size_right=window,
    )[0]  # fmt: skip


def efficient(
    layout: Packed, query: Tensor, key: Tensor, value: Tensor, rate: float, window: int | None
) -> Tensor:
    """By efficient attention, which wants a batch: one of T tokens."""
    assert window is None
    tokens = [x.unsqueeze(0) for x in (query, key, value)]  # (1, T, N, D)
    bounds = (layout.offsets, layout.offsets, layout.max_length, layout.max_length)
    no_bias, no_mask = None, 0
    for_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in tokens)
    return torch.ops.aten._efficient_attention_forward.default(
        *tokens, no_bias, *bounds, rate, no_mask, for_gradient
    )[0].squeeze(0)


# Which of them there is


def capability(device: torch.device) -> tuple[int, int] | None:
    """The generation of a GPU that has the kernels, (8, 0) for Ampere; None for other devices."""
    if device.type != "cuda" or torch.version.hip:
        return None
    return torch.cuda.get_device_capability(device)


def described(device: torch.device) -> str:
    """Which kernel there is for each precision, in words, of heads of 64 features."""
    kinds = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    found = {name: _kernel(device, dtype, 64, False) for name, dtype in kinds.items()}
    return ", ".join(
        f"{name} {'padded' if kernel is None else kernel.__name__}"
        for name, kernel in found.items()
    )


@functools.cache
def _kernel(
    device: torch.device, dtype: torch.dtype, head_size: int, windowed: bool
) -> Kernel | None:
    """The first of the kernels that takes these and works."""
    generation = capability(device)
    if generation is None or head_size % 8 or head_size > LARGEST_HEAD:
        return None
    low = {torch.float16, torch.bfloat16}
    known: list[Kernel] = []
    if generation >= (8, 0) and dtype in low and _has_flash():
        known.append(flash)
    if generation < (8, 0):
        low.remove(torch.bfloat16)
    if dtype in {torch.float32, *low} and not windowed and _has_efficient():
        known.append(efficient)
    return next((one for one in known if _works(one, device, dtype, head_size, windowed)), None)


def _has_flash() -> bool:
    """Whether this PyTorch has flash attention with the arguments that are passed above."""
    first = (
        "query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k", "dropout_p",
        "is_causal", "return_debug_mask",
    )  # fmt: skip
    names = _arguments("_flash_attention_forward")
    return names[: len(first)] == first and {"window_size_left", "window_size_right"} <= {*names}


def _has_efficient() -> bool:
    """The same of efficient attention."""
    first = (
        "query", "key", "value", "bias", "cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q",
        "max_seqlen_k", "dropout_p", "custom_mask_type", "compute_log_sumexp",
    )  # fmt: skip
    return _arguments("_efficient_attention_forward")[: len(first)] == first


def _arguments(operation: str) -> tuple[str, ...]:
    """What an operation of PyTorch's calls its arguments; none where there is no such operation."""
    found = getattr(getattr(torch.ops.aten, operation, None), "default", None)
    return () if found is None else tuple(argument.name for argument in found._schema.arguments)


def _works(
    kernel: Kernel, device: torch.device, dtype: torch.dtype, head_size: int, windowed: bool
) -> bool:
    """Whether a kernel gives what attention step by step gives, and its gradients too."""
    if device.type == "meta":
        return True  # there are no numbers to compare
    layout, window = Packed([3, 17]), 2 if windowed else None
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cuda", enabled=False):
        places = torch.arange(4 * 20 * 2 * head_size, dtype=torch.float64)
        numbers = (0.7 * places).sin().to(dtype).view(4, 20, 2, head_size)
        try:
            found = _with_gradients(kernel, layout.to(device), numbers.to(device), window)
        except RuntimeError:  # not built for this GPU, say
            return False
        expected = _with_gradients(_step_by_step, layout, numbers.double(), window)
    pairs = zip(found, expected, strict=True)
    return all((x.cpu() - y).abs().max() < 0.05 * y.abs().max() for x, y in pairs)


def _with_gradients(
    kernel: Kernel, layout: Packed, numbers: Tensor, window: int | None
) -> list[Tensor]:
    """The context, and the gradients of query, key and value, of numbers (4, T, N, D)."""
    query, key, value, weights = numbers.unbind()
    q, k, v = (x.clone().requires_grad_() for x in (query, key, value))
    context = kernel(layout, q, k, v, 0.0, window)
    return [context.detach(), *torch.autograd.grad(context, (q, k, v), weights)]


def _step_by_step(
    layout: Packed, query: Tensor, key: Tensor, value: Tensor, rate: float, window: int | None
) -> Tensor:
    """What both kernels stand for: `per_sequence` with the arithmetic of minbert/attention.py."""
    assert rate == 0

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        keys = key_mask(mask) if window is None else local_mask(key_mask(mask), window)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, N, S, D)
        context, _ = scaled_dot_product_attention(q, k, v, keys, nn.Identity())
        return context.transpose(1, 2)  # (B, S, N, D)

    return layout.per_sequence(attend, query, key, value)
