"""`minbert lab check`: what is done, what is wrong and why, what is left of a student's copy.

The student's code runs in a process of its own (lab/outcomes.py); what comes out is compared here.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from lab.diagnose import Verdict, judge
from lab.exercises import BY_NAME, EXERCISES, TRAINED, WHOLE, Exercise
from lab.outcomes import KEPT, Launch, Output, outcomes
from lab.stamp import PLACE, Stamp
from lab.suspects import Whole, judge_whole
from lab.whose import copy_around


def find_copy(start: Path) -> Path:
    """The student's copy that a folder is in.

    Raises:
        ValueError: it is in none.
    """
    copy = copy_around(start)
    if copy is None:
        raise ValueError(
            f"{start} is in no student's copy; go into yours, or make one: "
            "minbert lab start my-work"
        )
    return copy


def assigned(root: Path) -> tuple[Exercise, ...]:
    """The exercises of a copy: those that it has expected numbers for."""
    return tuple(e for e in EXERCISES if expected_path(root, e).exists())


def stamp_of(root: Path) -> Stamp | None:
    """The version that a copy was made from, if it says."""
    try:
        return Stamp.read((root / PLACE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def expected_path(root: Path, exercise: Exercise) -> Path:
    return root / "lab" / "golden" / "expected" / f"{exercise.name}.json"


def expected_of(root: Path, exercise: Exercise) -> dict[str, Any]:
    return json.loads(expected_path(root, exercise).read_text(encoding="utf-8"))


def verdicts(
    root: Path, exercises: Sequence[Exercise], output: Output
) -> Generator[tuple[Exercise, Verdict]]:
    """What there is to say of exercises of a student's copy, one after the other."""
    launch = Launch(root, root / "lab" / "golden" / "supplied")
    for exercise, found in outcomes(launch, exercises, output):
        yield exercise, judge(found, expected_of(root, exercise))


def show_whole(verdict: Whole) -> bool:
    """Print what there is to say of the whole of a student's copy; True if it is right."""
    print(f"{SIGNS[verdict.status]}     {'the whole: a few steps of training':<46}{verdict.status}")
    if verdict.message:
        print(f"      {verdict.message}")
    for name, what in verdict.suspects.items():
        print(f"      suspect: {BY_NAME[name]}: {what}")
    return verdict.status != "wrong"


SIGNS = {"done": "✓", "wrong": "✗", "not started": "·"}


def show(exercise: Exercise, verdict: Verdict) -> None:
    """Print the lines of one exercise."""
    earned = exercise.points if verdict.status == "done" else 0
    print(
        f"{SIGNS[verdict.status]} {exercise.number:>2}  {exercise.title:<46}"
        f"{verdict.status:<12}{earned}/{exercise.points}",
        flush=True,
    )
    if verdict.message:
        print(f"      {verdict.message}")
    if verdict.status == "wrong":
        for place in exercise.places:
            print(f"      {place.path}: {place.name}")


def check(
    root: Path,
    exercises: Sequence[Exercise],
    *,
    go_on: bool = False,
    terminal: bool = False,
) -> bool:
    """Check exercises and print a list of progress; True if all of them are done.

    When all of the copy's are done, the whole is checked too.
    """
    output = Output()
    done: list[Exercise] = []
    open_ones: list[Exercise] = []
    points = sum(exercise.points for exercise in exercises)
    together = True
    every = tuple(exercises) == assigned(root)
    # A copy may be older than these checks.
    wholes = [e for e in (TRAINED, WHOLE) if every and expected_path(root, e).exists()]
    launch = Launch(root, root / "lab" / "golden" / "supplied", terminal=terminal)
    with contextlib.closing(outcomes(launch, [*exercises, *wholes], output)) as run:
        for exercise, found in run:
            if exercise in (TRAINED, WHOLE):
                whole = judge_whole(found, expected_of(root, exercise))
                if exercise == WHOLE or whole.status == "done":
                    together = show_whole(whole)
                    break
                continue  # the trace of the other one names suspects
            verdict = judge(found, expected_of(root, exercise))
            show(exercise, verdict)
            (done if verdict.status == "done" else open_ones).append(exercise)
            stops = verdict.status == "wrong" and not go_on
            if stops or (open_ones and len(done) + len(open_ones) == len(exercises)):
                break
    if output.text.strip():
        print("\nYour code printed:")
        print("\n".join(f"  {line}" for line in output.text.strip().splitlines()[:20]))
        if output.length > KEPT:
            print(f"  ... and so on, {output.length:,} bytes in all")
    earned = sum(exercise.points for exercise in done)
    print(f"\n{len(done)} of {len(exercises)} done, {earned} of {points} points.", end=" ")
    if open_ones:
        print(f"Next is {open_ones[0]}; hints: minbert lab hint {open_ones[0].number}")
    elif together:
        print("Well done!")
    else:
        print("Alone they are right, together they are not: grading takes a suspect's points.")
    return not open_ones and together
