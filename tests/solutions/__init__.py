"""Right solutions of the exercises, written differently: at least one for every function."""

from collections.abc import Callable
from typing import Any

from lab.exercises import BY_NAME, Exercise
from lab.source import Target

Function = Callable[..., Any]
SOLUTIONS: list[tuple[Exercise, Target, Function]] = []


def solution(exercise: str, of: str = "") -> Callable[[Function], Function]:
    """Decorator: this function solves an exercise, or where it has several functions, that one."""
    (target,) = (p for p in BY_NAME[exercise].places if of in ("", p.name))

    def add(function: Function) -> Function:
        SOLUTIONS.append((BY_NAME[exercise], target, function))
        return function

    return add
