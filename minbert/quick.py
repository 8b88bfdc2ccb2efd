"""Quick routes on the CPU for what takes the time; a reader of the encoders may skip this file.

`Linear` and `Dropout` stand in for PyTorch's modules of these names: same parameters, same numbers
(for dropout: same distribution). Which route they take, and attention too (minbert/attend.py), is
one setting of the process:

    plain    what torch.nn.Linear and torch.nn.Dropout do, and attention step by step
    blas     dropout draws 16 random bits a number, attention is one kernel, and linear maps go to
             PyTorch's BLAS, which is MKL on x86
    onednn   the same, and linear maps go to oneDNN
    auto     blas or onednn, whichever is quicker on the CPU at hand, or what the environment
             variable MINBERT_ROUTE names

What torch.compile compiles (`--compile`) takes the plain route, for its compiler has its own.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from minbert.edition import PLAIN

Route = Literal["auto", "plain", "blas", "onednn"]

_route: Route = "plain" if PLAIN else "auto"


def use_route(route: Route) -> None:
    """Set the route for this process.

    Raises:
        ValueError: there is no such route, or PyTorch was built without oneDNN.
    """
    global _route
    _route = _checked(route, "route")


def _checked(route: str, source: str) -> Route:
    known: tuple[Route, ...] = get_args(Route)
    found = next((each for each in known if each == route), None)
    if found is None:
        raise ValueError(f"{source} is {route!r}; choose one of {', '.join(known)}")
    if found == "onednn" and not torch.backends.mkldnn.is_available():
        raise ValueError(
            f"{source} is onednn, which this build of PyTorch does not have; choose auto or blas"
        )
    return found


@contextmanager
def route_of(route: Route) -> Generator[None]:
    """Use a route for the time of a `with` block."""
    before = _route
    use_route(route)
    try:
        yield
    finally:
        use_route(before)


def current_route() -> Route:
    """The route in use, with `auto` resolved."""
    return automatic_route() if _route == "auto" else _route


@functools.cache
def automatic_route() -> Route:
    """What `auto` stands for in this process: MINBERT_ROUTE, if it is set, or by the CPU."""
    route = _checked(os.environ.get("MINBERT_ROUTE", "auto"), "MINBERT_ROUTE")
    if route != "auto":
        return route
    return "onednn" if onednn_is_quicker() else "blas"


def onednn_is_quicker() -> bool:
    """True on AMD CPUs with AVX-512, where MKL reaches about half of oneDNN's speed in float32.

    Elsewhere MKL is the quicker one. Looked up and not timed, so that a resumed run takes the
    route that it began with.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        amd = "AuthenticAMD" in platform.processor()
    return amd and torch.backends.cpu.get_cpu_capability() == "AVX512"


# Linear maps


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b."""
    quick = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    quick = quick and not torch.compiler.is_compiling()
    if quick and current_route() == "onednn" and not torch.is_autocast_enabled("cpu"):
        return onednn_linear(x, weight, bias)
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """x Wᵀ + b."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b, each matrix product of it and of its gradient through oneDNN."""
    y = OneDnnLinear.apply(x, weight, bias)
    y.data = _product(x.detach(), weight.detach(), None if bias is None else bias.detach())
    return y


class OneDnnLinear(torch.autograd.Function):
    """The gradient of y = x Wᵀ + b over T tokens: dx = dy W, dW = dyᵀ x, db = the sum of dy.

    y itself is put in place afterwards. So what the gradient needs is saved before the product is
    computed, as in F.linear, and `recomputed` stops there: it does not compute the last one again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        need_weight = ctx.needs_input_grad[1]  # without it, x need not be kept
        ctx.save_for_backward(x if need_weight else None, weight)
        return x.new_empty(*x.shape[:-1], weight.size(0))

    @staticmethod
    @once_differentiable
    # pyrefly: ignore[bad-override]  # as PyTorch documents it; its stub has *grad_outputs
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        rows = dy.reshape(-1, dy.size(-1))  # (T, out)
        return (
            _product(dy, weight.t(), None) if need_x else None,
            _product(rows.t(), x.reshape(-1, x.size(-1)).t(), None) if need_weight else None,
            rows.sum(dim=0) if need_bias else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b through oneDNN, which knows float32 and not float64, and no product of nothing."""
    if x.dtype == torch.float64 or x.numel() == 0:
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


# Dropout


class Dropout(nn.Dropout):
    """x with each number zeroed with probability p, and the others divided by 1 - p."""

    def forward(self, input: Tensor) -> Tensor:
        quick = self.training and 0 < self.p < 1 and input.device.type == "cpu"
        if quick and not torch.compiler.is_compiling() and current_route() != "plain":
            return input * dropout_factors(input, self.p)
        return super().forward(input)


def dropout_factors(x: Tensor, p: float) -> Tensor:
    """0 with probability p, else 1 / (1 - p), shaped like x, from PyTorch's generator.

    A number needs 16 random bits, where F.dropout draws a whole random float for it. So p is
    rounded to a multiple of 2⁻¹⁶, and the mean of the factors is still exactly 1.
    """
    zeroed = min(max(round(p * 2**16), 1), 2**16 - 1)  # of the 2¹⁶ values of 16 bits
    count = x.numel()
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[:count].view(x.shape)  # from -2¹⁵ to 2¹⁵ - 1
    kept = torch.ge(bits, zeroed - 2**15, out=torch.empty(x.shape, dtype=x.dtype))
    return kept.mul_(2**16 / (2**16 - zeroed))


# Memory


def memory() -> int:
    """Bytes of memory that this machine has, or that this container may use."""
    found = [2**33]  # where the system does not say, as Windows
    if hasattr(os, "sysconf"):
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # there is no such file, or it says "max"
            found.append(int(Path("/sys/fs/cgroup", limit).read_text(encoding="utf-8")))
    return min(found)


LARGE = memory() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) // 128
"""Bytes from which on an intermediate result is not kept for the backward pass.

An encoder of 12 layers has 24 of them, so that they take a fifth of the machine's memory at most.
"""


def recomputed(
    function: Callable[..., Tensor], *tensors: Tensor, size: int | None = None
) -> Tensor:
    """function(*tensors); what is large on the way is computed again in the backward pass.

    For cheap steps before a linear map: of what bert-base keeps otherwise, two fifths are
    attention's probabilities and the inner features after GELU. The backward pass computes no
    further than it has to: of a linear map at the end, its input alone. The results are the same
    bits, so a run may begin where there is memory for them, and go on where there is not.

    Args:
        function: may draw random numbers, which are the same the second time.
        size: bytes of the intermediate results, by default of the first tensor; below LARGE they
            are kept, which is quicker.
    """
    x = tensors[0]
    if (
        torch.compiler.is_compiling()  # where a size may be a symbol
        or x.device.type != "cpu"
        or not (torch.is_grad_enabled() and x.requires_grad)
        or current_route() == "plain"
        or (x.nbytes if size is None else size) < LARGE
    ):
        return function(*tensors)
    return checkpoint(function, *tensors, use_reentrant=False)


def compose(*functions: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The functions one after the other, the last one first: compose(f, g)(x) is f(g(x)).

    Of a large x, nothing but x itself is kept for the backward pass: see `recomputed`.
    """

    def composed(x: Tensor) -> Tensor:
        for function in reversed(functions):
            x = function(x)
        return x

    return functools.partial(recomputed, composed)


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks of up to 1 GiB for the next step.

    By default it returns each large block to the system, which hands it back page by page, zeroed:
    a tenth of a training step or more. Other C libraries are left alone.
    """
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # of malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 2**30)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 2**26)


def give_back_memory() -> None:
    """Have glibc return all freed blocks, before work whose blocks would not fit into them."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
