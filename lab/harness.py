"""How a check calls the code under test: seeded inputs, no chance, and what came out.

A check is a generator of (case, value): what it did, and what came out.

    @check("pooler")
    def pooler(draw):
        from minbert.encoders.bert import Bert
        ...
        yield "the pooled vectors", bert.pool(states, layout)

Imports stand inside, so that a file that does not import fails its own exercises only. Inputs
come from `draw`, a function of the seed, so that a check can be repeated on other numbers.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from lab.exercises import BY_NAME, TRAINED, WHOLE, Exercise
from lab.planting import planted
from lab.source import Target
from lab.values import encode

if TYPE_CHECKING:
    from torch import Tensor, nn

M = TypeVar("M", bound="nn.Module")
Check = Callable[["Draw"], Iterator[tuple[str, Any]]]
CHECKS: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    """Decorator: this generator is the check of the exercise of this name."""

    def add(function: Check) -> Check:
        assert name in BY_NAME, f"no exercise is called {name!r}"
        CHECKS[name] = function
        return function

    return add


def load_checks() -> dict[str, Check]:
    """All checks by the name of their exercise."""
    import_files("lab.checks")
    return CHECKS


def import_files(package: str) -> None:
    """Import every file of a package, so that its decorators do their work."""
    for file in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{file.name}")


class Draw:
    """Inputs that are a function of the seed, on every machine and with every version."""

    def __init__(self, seed: int, name: str) -> None:
        self.random = random.Random(f"{seed} {name}")

    def normal(self, *shape: int, grad: bool = False) -> Tensor:
        """Standard normal numbers, float32."""
        import torch

        count = functools.reduce(int.__mul__, shape, 1)
        flat = [self.random.gauss(0, 1) for _ in range(count)]
        return torch.tensor(flat).view(shape).requires_grad_(grad)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Integers from low to high - 1, int64."""
        import torch

        count = functools.reduce(int.__mul__, shape, 1)
        return torch.tensor(self.random.choices(range(low, high), k=count)).view(shape)

    def number(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)

    def fill(self, module: M) -> M:
        """The module with a value of its own for every parameter, none of them special."""
        for name, parameter in module.named_parameters():
            values = 0.5 * self.normal(*parameter.shape)
            parameter.data = values + ("norm" in name and "weight" in name)
        return module


def marked_dropout() -> nn.Dropout:
    """A dropout whose numbers are those of `without_chance` while a check runs."""
    from torch import nn

    return nn.Dropout(0.33)


def without_chance(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """What F.dropout does while a check runs: what is positive grows by p, the rest shrinks by p.

    So its place and its rate show in the numbers and nothing is drawn; and since it acts on each
    number alone, a loop, another order of dimensions or another scale give the same.
    """
    import torch

    if not training:
        return input
    marked = input * torch.where(input > 0, 1 + p, 1 - p)
    return input.copy_(marked) if inplace else marked


def mark_dropouts(module: M) -> M:
    """The module with a marked dropout for each of its own."""
    from torch import nn

    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(parent, name, marked_dropout())
    return module


def plain(value: Any) -> Any:
    """A number as Python's, of numpy's, or of a scalar tensor; all else as it is."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return value.item()
    return value


def whole_numbers(value: Any) -> Any:
    """A tensor of int32 as int64, for either will do; all else as it is."""
    return value.long() if str(getattr(value, "dtype", "")) == "torch.int32" else value


CUT_OFF = "no gradient: the result is cut off from its inputs (detach, .data, no_grad?)"
CUT_OFF_FROM = "no gradient: the result does not depend on it, or is cut off from it (detach?)"


def gradients(output: Tensor, *inputs: Tensor) -> Any:
    """Gradients of a sum of the output, each number with a weight of its own.

    A sentence takes their place where there are none.
    """
    import torch

    if not output.requires_grad:
        return CUT_OFF
    # The weights of a single number would be -1 alone, whose sign nobody expects.
    weights = torch.linspace(-1, 1, output.numel()).view(output.shape) if output.dim() else 1
    found = torch.autograd.grad((output * weights).sum(), inputs, allow_unused=True)
    return [CUT_OFF_FROM if x is None else x for x in found]


def cases(exercise: Exercise, seed: int) -> Iterator[tuple[str, Any]]:
    """The cases of an exercise's check, encoded, one by one until there is an exception."""
    for case, value in raw_cases(exercise, seed):
        digests = exercise in (TRAINED, WHOLE)  # which are JSON already
        yield case, value if digests else encode(value)


def raw_cases(exercise: Exercise, seed: int) -> Iterator[tuple[str, Any]]:
    """The cases of an exercise's check as they are, with a dropout that draws nothing."""
    with planted(Target("torch.nn.functional", "dropout"), without_chance):
        yield from load_checks()[exercise.name](Draw(seed, exercise.name))
