"""What is right in a part of a checkout, and what each known mistake gives: as lab/golden.py, but
worked out when it is asked for, which takes about a second, and never written down."""

from __future__ import annotations

import importlib
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from lab.calls import Shown, watched
from lab.course import reference
from lab.course.checks import cases
from lab.course.mistakes import STAND_FOR, known, right_of
from lab.course.parts import Part
from lab.diagnose import equal
from lab.planting import planted
from lab.runner import describe


def load(name: str) -> Any:
    """What stands for a module of a checkout."""
    return importlib.import_module(STAND_FOR.get(name, reference.__name__))


def expected(part: Part, seed: int) -> dict[str, Any]:
    """Right outcome and mistakes' outcomes of a part, as `judge` takes them."""
    with ExitStack() as stack:
        for target, function in right_of(part).items():
            stack.enter_context(planted(target, function))
        calls: list[Shown] = []
        with watched(in_reference(part), calls):
            right = outcome(part, seed, calls)
        assert right["error"] is None, f"{part}: the reference raised {right['error']}"
        mistakes = []
        for mistake in known(part):
            with planted(mistake.target, mistake.function):
                wrong = {"says": mistake.says, **outcome(part, seed)}
            if not equal(wrong, right):  # some are none here
                mistakes.append(wrong)
    return {"right": right, "mistakes": mistakes}


def in_reference(part: Part) -> Part:
    """The part with the reference's functions in the place of the checkout's."""
    places = [(load(place.module).__name__, place.name) for place in part.places]
    return replace(part, targets=tuple(f"{module}:{name}" for module, name in places))


def outcome(part: Part, seed: int, calls: list[Shown] | None = None) -> dict[str, Any]:
    """What a check gives on the reference as it is; with `calls`, the last one of each case."""
    found: dict[str, Any] = {"cases": [], "error": None, "calls": []}
    try:
        for case in cases(part.name, seed, load):
            found["cases"].append(case)
            if calls is not None:
                found["calls"].append(str(calls[-1]) if calls else "")
    except Exception as error:
        found["error"] = describe(error)
    return found
