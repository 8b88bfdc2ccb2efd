"""What is right, from formulas that are independent of the library, and the catalogue of mistakes.

An answer or a mistake is a function that can stand in the place of an exercise's function:

    @right("attention")
    def attention(query, key, value, mask, dropout): ...

    @mistake("attention", "the scores are not scaled; look at what is under the root in equation 1")
    def unscaled(query, key, value, mask, dropout): ...

Where an exercise has several functions, `of` names the one that is meant. A mistake's sentence says
what is wrong and where to look, and leaves the line to the student. None of these files is ever in
a handout: only the numbers that they give are.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
