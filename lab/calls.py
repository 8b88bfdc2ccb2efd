"""How the functions of an exercise are called while its check runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from lab.exercises import Exercise
from lab.harness import cases
from lab.planting import all_planted
from lab.source import Target
from lab.values import encode


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

    with all_planted(exercise.places, wrap):
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
    """The cases of an exercise's check, each value as {"result": value, "calls": what
    went into the exercise's functions meanwhile}."""
    calls: list[dict[str, Any]] = []

    def wrap(target: Target, function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            calls.append({"target": target.name, "given": encode(dict(given))})
            return function(*args, **kwargs)

        return call

    with all_planted(exercise.places, wrap):
        for case, value in cases(exercise, seed):
            yield case, {"result": value, "calls": calls.copy()}
            calls.clear()
