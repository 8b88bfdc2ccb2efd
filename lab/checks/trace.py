"""A trace: what functions were given in a run of the whole, and what they gave, in few numbers.

A tensor is its shape and two sums of its numbers, so that a trace is small and rounding is allowed
for; lab/suspects.py compares it with the reference's.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lab.planting import planted, resolve
from lab.source import Target

MOST = 8
"""Calls of a function that are written down in a run: of a layer, all before the first step."""
GRADIENTS = 5
"""Calls of which the gradient is written down too, in two of the runs."""
ORDER = "data.draws:BatchStream._order"


class Trace:
    """The calls of the exercises' functions, in the order in which they end, of one run."""

    def __init__(self) -> None:
        self._busy = False
        self.begin(gradients=False)

    def begin(self, *, gradients: bool) -> None:
        """Begin a run anew.

        Args:
            gradients: whether the gradient of each call is written down too.
        """
        self._gradients = gradients
        self.calls: list[list[Any]] = []
        """Of each: function, how many of those before it were inside of it, given, gave."""
        self._left: dict[str, int] = {}

    @contextmanager
    def watching(self, targets: Iterable[Target]) -> Generator[None]:
        """Write down the calls of these functions."""
        with ExitStack() as stack:
            for target in targets:
                stack.enter_context(planted(target, self.wrapped(target)))
            yield

    def wrapped(self, target: Target) -> Callable[..., Any]:
        function = resolve(target)[2]
        function = getattr(function, "__func__", function)  # of a class method
        name, signature = str(target), inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            left = self._left.setdefault(name, MOST)
            if self._busy or not left:
                return function(*args, **kwargs)
            self._left[name] = left - 1
            again = signature.bind(*args, **kwargs)
            again.apply_defaults()
            # What is left out is None; a signature may be without it.
            arguments = [x for x in again.arguments.values() if x is not None]
            again.arguments |= {k: [*v] for k, v in again.arguments.items() if isinstance(v, list)}
            with self.aside():
                given, before = digest(arguments), len(self.calls)
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                if not type(error).__module__.startswith("torch."):  # checkpointing stops so
                    self.add(name, before, given, ["raises", type(error).__name__])
                raise
            with self.aside():
                changed = [x for x in arguments if result is None or changes(x)]
                shown = in_order(result) if name == ORDER and isinstance(result, list) else result
                gave = [digest(shown), digest(changed)]
                if self._gradients and left > MOST - GRADIENTS and learns(result):
                    gave.append(gradient_of(function, again))
            self.add(name, before, given, gave)
            return result

        return call

    def add(self, name: str, before: int, given: Any, gave: Any) -> None:
        self.calls.append([name, len(self.calls) - before, given, gave])

    @contextmanager
    def aside(self) -> Generator[None]:
        """Calls that come from writing down are no part of the trace."""
        self._busy, was = True, self._busy
        try:
            yield
        finally:
            self._busy = was


def changes(argument: Any) -> bool:
    """Whether a function that has a result may change this argument too."""
    return isinstance(argument, list) or hasattr(argument, "scaler")  # an engine, its gradients


def learns(result: Any) -> bool:
    """Whether there is a gradient to ask for; a model that was made has none."""
    return not isinstance(result, nn.Module) and any(x.requires_grad for x in tensors(result))


def gradient_of(function: Callable[..., Any], call: inspect.BoundArguments) -> Any:
    """Sums of the gradients that a call passes on to its inputs and its module's parameters.

    The function is called once more, on inputs without a history, for theirs is not its own.
    """
    for name, x in call.arguments.items():
        if isinstance(x, Tensor) and x.requires_grad:
            call.arguments[name] = x.detach().requires_grad_()
    outputs = [x for x in tensors(function(*call.args, **call.kwargs)) if x.requires_grad]
    inputs = [x for each in call.arguments.values() for x in tensors(each) if x.requires_grad]
    if not outputs or not inputs:
        return None
    weights = [torch.from_numpy(waves(x.numel())).view(x.shape).to(x.dtype) for x in outputs]
    found = torch.autograd.grad(outputs, inputs, weights, allow_unused=True)
    return [[x is not None for x in found], digest(in_one([x for x in found if x is not None]))]


def in_one(parts: list[Tensor]) -> Tensor:
    """All numbers of many tensors, so that rounding in a tiny one is small beside the others."""
    return torch.cat([torch.zeros(0), *(part.detach().flatten() for part in parts)])


def tensors(value: Any) -> list[Tensor]:
    """The tensors that a value holds; of a module its parameters."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, nn.Module):
        return list(value.parameters())
    if isinstance(value, list | tuple):
        return [x for item in value for x in tensors(item)]
    return []


@functools.lru_cache(maxsize=256)
def waves(count: int) -> np.ndarray:
    """A weight of its own for every number of a tensor, between -1 and 1."""
    return np.cos(1.7 * np.arange(1, count + 1))


def digest(value: Any) -> Any:
    """A value in a few numbers: of a tensor shape, two sums, and whether it has a gradient."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        if value.dim() == 0 and not value.requires_grad:
            return value.item()
        sums = sums_of(value.detach().numpy().ravel())
        return {"of": list(value.shape), "sums": sums, "learns": value.requires_grad}
    if isinstance(value, nn.Module):
        return [type(value).__name__, value.training, digest_all(list(value.parameters()))]
    if isinstance(value, np.ndarray | np.generic):
        return {"of": list(value.shape), "sums": sums_of(value.ravel()), "learns": False}
    if isinstance(value, torch.optim.Optimizer):
        return digest_learning([p for group in value.param_groups for p in group["params"]])
    if hasattr(value, "scaler"):  # an engine
        return digest_learning(value.parameters)
    if isinstance(value, list) and value and all(isinstance(x, nn.Parameter) for x in value):
        return digest_learning(value)
    if isinstance(value, list | tuple):
        return [digest(item) for item in value]
    if hasattr(value, "factor"):  # a share of a step
        return [digest(value.batch), value.factor]
    if hasattr(value, "_batch_size"):  # a stream of batches
        return [digest(value._lengths), value._batch_size, value._bucketed]
    if hasattr(value, "input_ids"):  # a batch
        return [digest(x) for x in vars(value).values() if not isinstance(x, tuple)]
    if hasattr(value, "per_sequence"):  # a layout
        return [digest(x) for x in vars(value).values() if isinstance(x, Tensor)]
    return type(value).__name__


def digest_learning(params: list[nn.Parameter]) -> Any:
    """The digests of parameters, and of their gradients."""
    return [digest_all(params), digest(in_one([p.grad for p in params if p.grad is not None]))]


def digest_all(parts: Sequence[Tensor]) -> Any:
    """The digest of many parameters, as one."""
    flat = [part.detach().numpy().ravel() for part in parts]
    return {
        "many": len(parts),
        "sums": sums_of(np.concatenate(flat) if flat else np.zeros(0)),
        "learns": sum(part.requires_grad for part in parts),
    }


def sums_of(numbers: np.ndarray) -> list[float]:
    """The root of the sum of squares, and a sum with weights."""
    numbers = numbers.astype(float)
    found = math.sqrt(numbers @ numbers), numbers @ waves(len(numbers))
    return [float(f"{number:.7g}") for number in found]


def in_order(batches: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Batches of rows, of which any order is right, in one order."""
    return sorted(
        (np.sort(np.atleast_1d(batch)) for batch in batches), key=lambda rows: rows.tolist()
    )
