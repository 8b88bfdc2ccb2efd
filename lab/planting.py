"""Functions of the code under test, replaced while a check runs."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from typing import Any

from lab.source import Target

PACKAGES = ("minbert", "optim", "data", "multitask")
"""Where the code under test is."""
PREFIXES = tuple(f"{name}." for name in PACKAGES)


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


@contextmanager
def all_planted(
    targets: Iterable[Target], wrap: Callable[[Target, Callable[..., Any]], Callable[..., Any]]
) -> Generator[None]:
    """Put wrap(target, function) in the place of each target's function."""
    with ExitStack() as stack:
        for target in targets:
            stack.enter_context(planted(target, wrap(target, resolve(target)[2])))
        yield
