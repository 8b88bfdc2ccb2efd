"""The exercises, in the order of learning: one record each.

A record names functions of the library; the code itself carries no marks. The check of an exercise
is the function of its name in lab/checks, its right answer and its mistakes are in lab/answers.
"""

from __future__ import annotations

from dataclasses import replace

from lab.exercises.bert import BERT
from lab.exercises.extensions import EXTENSIONS
from lab.exercises.heads import HEADS
from lab.exercises.loop import LOOP
from lab.exercises.optim import OPTIM
from lab.exercises.record import PARTS, Exercise
from lab.exercises.tokens_costs import TOKENS_COSTS

__all__ = [
    "BY_NAME", "EXERCISES", "PARTS", "TRAINED", "WHOLE", "Exercise", "numbered", "parse_numbers",
]  # fmt: skip

EXERCISES: tuple[Exercise, ...] = tuple(
    replace(exercise, number=number)
    for number, exercise in enumerate(
        (*BERT, *OPTIM, *HEADS, *EXTENSIONS, *LOOP, *TOKENS_COSTS), start=1
    )
)

WHOLE = Exercise(
    name="whole",
    title="the whole",
    part="extensions",
    targets=(),
    points=0,
    hints=(
        "Every exercise alone is right where it was tried; here they work together.",
        "Look at the functions that are named, and at what their docstrings say of every option.",
        "minbert lab check N --pdb opens a debugger at a breakpoint() of yours.",
    ),
)
"""No exercise: a few steps of training through all of them, when they are done
(lab/checks/whole.py)."""
TRAINED = replace(WHOLE, name="trained")
"""The same without a trace of what each function did, which is all that there is to see where it
comes out right."""

BY_NAME: dict[str, Exercise] = {e.name: e for e in (*EXERCISES, TRAINED, WHOLE)}


def numbered(number: int) -> Exercise:
    """The exercise of this number.

    Raises:
        ValueError: there is none.
    """
    if not 1 <= number <= len(EXERCISES):
        raise ValueError(f"there is no exercise {number}; they are 1 to {len(EXERCISES)}")
    return EXERCISES[number - 1]


def parse_numbers(text: str) -> tuple[Exercise, ...]:
    """The exercises of "3", "1-4" or "1-4,7".

    Raises:
        ValueError: this is no list of numbers.
    """
    chosen: dict[int, Exercise] = {}
    for piece in text.split(","):
        first, dash, last = piece.partition("-")
        try:
            numbers = range(int(first), int(last if dash else first) + 1)
        except ValueError:
            raise ValueError(f"{text!r} is no list of exercises; write 3, 1-4 or 1-4,7") from None
        chosen |= {number: numbered(number) for number in numbers}
    if not chosen:
        raise ValueError(f"{text!r} names no exercise; the smaller number comes first, as in 1-4")
    return tuple(chosen.values())
