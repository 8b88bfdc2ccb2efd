"""How a check calls the code under test: seeded inputs, supplied upstream, recorded results.

A check is a generator of (case, value): what it did, and what came out.

    @check("pooler")
    def pooler(draw):
        from minbert.encoders.bert import Bert
        ...
        yield "the pooled vectors", bert.pool(states, layout)

Imports stand inside, so that a file that does not import fails its own exercises only. Inputs
come from `draw`, a function of the seed, so that a check can be repeated on other numbers.

Upstream: the functions of the exercises that this one `uses` are wrapped. A call with inputs that
were seen when the expected numbers were made returns what was recorded then, so a mistake in an
early exercise does not reach a later one. Nothing but numbers has to be known for that.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import random
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from lab.exercises import BY_NAME, TRAINED, WHOLE, Exercise
from lab.source import Target
from lab.values import decode, encode, is_tensor, same

if TYPE_CHECKING:
    from torch import Tensor, nn

M = TypeVar("M", bound="nn.Module")
Check = Callable[["Draw"], Iterator[tuple[str, Any]]]
CHECKS: dict[str, Check] = {}
PACKAGES = ("minbert", "optim", "data", "multitask")
"""Where the code under test is."""
PREFIXES = tuple(f"{name}." for name in PACKAGES)


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


# Functions replaced while a check runs


def resolve(target: Target) -> tuple[Any, str, Any]:
    """Owner, attribute and function of a target."""
    owner: Any = sys.modules.get(target.module) or importlib.import_module(target.module)
    *outer, name = target.name.split(".")
    for part in outer:
        owner = getattr(owner, part)
    return owner, name, getattr(owner, name)


@functools.lru_cache(maxsize=1)
def project_modules(count: int) -> list[Any]:
    """The modules with code under test, looked up anew when more modules have been imported."""
    return [m for key, m in sys.modules.items() if f"{key}.".startswith(PREFIXES)]


@contextmanager
def planted(target: Target, function: Callable[..., Any]) -> Generator[None]:
    """Put a function in a target's place, wherever it has been imported to."""
    owner, name, original = resolve(target)
    owners, placed = [owner], function
    if "." in target.name:
        original = vars(owner)[name]  # as it stands in the class: a method is not bound there
        if isinstance(original, classmethod):
            placed = classmethod(function)
    else:
        modules = project_modules(len(sys.modules))
        owners += [m for m in modules if m is not owner and vars(m).get(name) is original]
    for each in owners:
        setattr(each, name, placed)
    try:
        yield
    finally:
        for each in owners:
            setattr(each, name, original)


Call = dict[str, Any]
"""One recorded call: target, what went in, what came out, and the inputs afterwards."""


def upstream(exercise: Exercise) -> list[Target]:
    """The targets that are supplied when this exercise is checked."""
    return [place for name in exercise.uses for place in BY_NAME[name].places]


@contextmanager
def recorded(exercise: Exercise, calls: list[Call]) -> Generator[None]:
    """Write down every call of the functions upstream."""

    def wrap(target: Target, function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            arguments = bound(signature, args, kwargs)
            entry = {"target": str(target), "given": _fingerprints(arguments)}
            entry["result"] = encode(function(*args, **kwargs))
            if entry["result"] is None:
                entry["after"] = _fingerprints(arguments)
            calls.append(entry)
            return decode(entry["result"])

        return call

    with ExitStack() as stack:
        for target in upstream(exercise):
            stack.enter_context(planted(target, wrap(target, resolve(target)[2])))
        yield


@contextmanager
def supplied(exercise: Exercise, calls: Sequence[Call]) -> Generator[None]:
    """Answer known calls of the functions upstream from the record; others run as they are."""

    def wrap(target: Target, function: Callable[..., Any]) -> Callable[..., Any]:
        known = [call for call in calls if call["target"] == str(target)]
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            arguments = bound(signature, args, kwargs)
            given = _fingerprints(arguments)
            for entry in known:
                if same(given, entry["given"]):
                    for argument, left in zip(arguments, entry.get("after", ())):
                        if is_tensor(left):  # changed in place
                            argument.detach().copy_(decode(left))
                    return decode(entry["result"])
            return function(*args, **kwargs)

        return call

    with ExitStack() as stack:
        for target in upstream(exercise):
            stack.enter_context(planted(target, wrap(target, resolve(target)[2])))
        yield


def bound(signature: inspect.Signature, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    """The arguments of a call in the order of the signature, however they were passed."""
    call = signature.bind(*args, **kwargs)
    call.apply_defaults()
    return list(call.arguments.values())


def _fingerprints(arguments: list[Any]) -> list[Any]:
    return [_fingerprint(value) for value in arguments]


def _fingerprint(value: Any) -> Any:
    """What an argument is, for recognising it: a module by two sums over each parameter."""
    if hasattr(value, "named_parameters"):
        sums = [
            [p.double().sum().item(), p.double().abs().sum().item()] for p in value.parameters()
        ]
        return {"module": type(value).__name__, "training": value.training, "sums": sums}
    if hasattr(value, "per_sequence"):  # a layout
        return [encode(tensor) for tensor in vars(value).values() if hasattr(tensor, "detach")]
    if isinstance(value, list) and not (value and all(isinstance(item, str) for item in value)):
        return "list"  # one that collects results
    return encode(value)


def cases(exercise: Exercise, seed: int) -> Iterator[tuple[str, Any]]:
    """The cases of an exercise's check, encoded, one by one until there is an exception."""
    for case, value in raw_cases(exercise, seed):
        digests = exercise in (TRAINED, WHOLE)  # which are JSON already
        yield case, value if digests else encode(value)


def raw_cases(exercise: Exercise, seed: int) -> Iterator[tuple[str, Any]]:
    """The cases of an exercise's check as they are, with a dropout that draws nothing."""
    with planted(Target("torch.nn.functional", "dropout"), without_chance):
        yield from load_checks()[exercise.name](Draw(seed, exercise.name))


class Shown(NamedTuple):
    """A call of an exercise's function, for somebody to look at."""

    name: str
    arguments: dict[str, Any]
    """As they were before the call; modules and the like as they are."""

    def __str__(self) -> str:
        shown = {k: v for k, v in self.arguments.items() if k not in ("self", "cls")}
        parts = [f"{name} {in_few_words(value)}" for name, value in shown.items()]
        return f"{self.name}({', '.join(parts)})"


@contextmanager
def watched(exercise: Exercise, calls: list[Shown]) -> Generator[None]:
    """Write down how the functions of an exercise are called, but for calls within calls."""
    inside: list[str] = []

    def wrap(target: Target, function: Callable[..., Any]) -> Callable[..., Any]:
        function = getattr(function, "__func__", function)  # of a class method
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not inside:
                given = signature.bind(*args, **kwargs).arguments
                calls.append(Shown(target.name, {k: kept(v) for k, v in given.items()}))
            inside.append(target.name)
            try:
                return function(*args, **kwargs)
            finally:
                inside.pop()

        return call

    with ExitStack() as stack:
        for target in exercise.places:
            stack.enter_context(planted(target, wrap(target, resolve(target)[2])))
        yield


def kept(value: Any) -> Any:
    """A copy of what a function may change: of a tensor or an array."""
    if hasattr(value, "detach") and not hasattr(value, "named_parameters"):
        return value.detach().clone()
    return value.copy() if type(value).__module__ == "numpy" else value


def in_few_words(value: Any) -> str:
    """An argument of a call: a number as it is, of a tensor its shape, else its type."""
    if value is None or isinstance(value, bool | int | str):
        return repr(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple | list) and len(value) <= 3:
        return f"({', '.join(map(in_few_words, value))})"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = str(value.dtype).removeprefix("torch.")
        return str(tuple(value.shape)) if kind == "float32" else f"{tuple(value.shape)} {kind}"
    kind = getattr(value, "kind", "")
    return (
        f"{value.name} of kind {kind}" if isinstance(kind, str) and kind else type(value).__name__
    )


def cases_with_calls(exercise: Exercise, seed: int) -> Iterator[tuple[str, Any]]:
    """The same, each value as {"result": value, "calls": what went into the exercise's functions
    meanwhile}."""
    calls: list[dict[str, Any]] = []

    def wrap(target: Target, function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            calls.append({"target": target.name, "given": encode(dict(given))})
            return function(*args, **kwargs)

        return call

    with ExitStack() as stack:
        for target in exercise.places:
            stack.enter_context(planted(target, wrap(target, resolve(target)[2])))
        for case, value in cases(exercise, seed):
            yield case, {"result": value, "calls": calls.copy()}
            calls.clear()
