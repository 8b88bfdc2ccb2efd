"""What is right, from formulas that are independent of the library, and the catalogue of mistakes.

An answer or a mistake is a function that can stand in the place of an exercise's function:

    @right("attention")
    def attention(query, key, value, mask, dropout): ...

    @mistake("attention", "the scores are not scaled; look at what is under the root in equation 1")
    def unscaled(query, key, value, mask, dropout): ...

Where an exercise has several functions, `of` names the one that is meant. A mistake's sentence says
what is wrong and where to look, and leaves the line to the student. None of these files is ever in
a handout: only the numbers that they give are.

Many mistakes are a word or a line of what would be right. Such a one is written as what it changes:

    @plain("attention")
    def attention(query, key, value, mask, dropout): ...    # right, as a student writes it

    attention.but("the scores are divided by D; equation 1 has a root there", "math.sqrt(d)", "d")
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lab.exercises import BY_NAME
from lab.harness import import_files
from lab.source import Target

Function = Callable[..., Any]


@dataclass(frozen=True)
class Mistake:
    """A typical mistake, as code."""

    exercise: str
    name: str
    says: str
    target: Target
    function: Function


RIGHT: dict[Target, Function] = {}
MISTAKES: list[Mistake] = []


def right(exercise: str, of: str = "") -> Callable[[Function], Function]:
    """Decorator: this function does what an exercise's function should do."""

    def add(function: Function) -> Function:
        RIGHT[_target(exercise, of)] = function
        return function

    return add


def mistake(exercise: str, says: str, of: str = "") -> Callable[[Function], Function]:
    """Decorator: this function makes a typical mistake, which `says` names in one sentence."""

    def add(function: Function) -> Function:
        MISTAKES.append(Mistake(exercise, function.__name__, says, _target(exercise, of), function))
        return function

    return add


class Plain:
    """A right answer as a student writes it, and the mistakes that change its text."""

    def __init__(self, exercise: str, target: Target, function: Function) -> None:
        self.exercise, self.target, self.function = exercise, target, function
        lines = inspect.getsource(function).splitlines(keepends=True)
        start = next(n for n, line in enumerate(lines) if n and line.startswith(("def ", "@")))
        self.source = "".join(lines[start:])
        self.count = 0

    def but(self, says: str, *changes: str) -> None:
        """A mistake: of each two texts, the second stands in the place of the first.

        What is called in it is imported in the function, but for math, np, torch, nn and F.
        """
        source = self.source
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert source.count(old) == 1, f"{self.function.__name__} has {old!r} not once"
            source = source.replace(old, new)
        self.count += 1
        made: dict[str, Any] = {"math": math, "np": np, "torch": torch, "nn": nn, "F": F}
        exec(source, made)
        function = made[self.function.__name__]
        name = f"{self.function.__name__}_{self.count}"
        MISTAKES.append(Mistake(self.exercise, name, says, self.target, function))


PLAIN: list[Plain] = []


def plain(exercise: str, of: str = "") -> Callable[[Function], Plain]:
    """Decorator: this function is right too, and the text that mistakes change a little."""

    def add(function: Function) -> Plain:
        PLAIN.append(Plain(exercise, _target(exercise, of), function))
        return PLAIN[-1]

    return add


def load_answers() -> None:
    """Fill RIGHT and MISTAKES, and import what they stand for: a module that is imported while
    something is planted would keep it."""
    import_files("lab.answers")
    for target in RIGHT:
        importlib.import_module(target.module)


def _target(exercise: str, of: str) -> Target:
    places = [p for p in BY_NAME[exercise].places if of in ("", p.name, p.name.split(".")[-1])]
    assert len(places) == 1, f"{exercise}: name the function with of=, one of {places}"
    return places[0]
