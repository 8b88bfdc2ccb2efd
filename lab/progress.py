"""`minbert lab next` and `minbert lab diff`: what to do now, and another way of what is done."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

from lab.check import assigned, verdicts
from lab.exercises import BY_NAME, Exercise
from lab.exercises.reading import in_lines
from lab.outcomes import Output
from lab.source import Target, body_of, find_line

REFERENCES = Path("lab", "golden", "references")
"""The library's bodies, in a copy whose teacher permits `lab diff`; packed, so that nobody meets
them by chance. Who wants to read them can."""


def show_next(root: Path) -> None:
    """Print the first exercise that is not done: where it is, what it takes, what is said of it."""
    exercises = assigned(root)
    found = list(verdicts(root, exercises, Output()))
    left = [(exercise, verdict) for exercise, verdict in found if verdict.status != "done"]
    if not left:
        print(f"All {len(exercises)} exercises are done. To hand in: minbert lab hand-in")
        return
    exercise, verdict = left[0]
    hours = sum(each.minutes for each, _ in left) / 60
    begun = [each for each, said in found if said.status != "not started"]
    if exercise.part not in {each.part for each in begun}:
        print("\n".join([*in_lines(exercise.part), ""]))
    print(f"{exercise.heading} ({exercise.points} points)")
    print(f"  {exercise.effort}")
    for place in exercise.places:
        print(f"  fill in   {place.path}:{_line(root, place)}: {place.name}")
    print(f"  read      README.md#{exercise.name}")
    if exercise.uses:
        used = ", ".join(f"{BY_NAME[name].number} {BY_NAME[name].title}" for name in exercise.uses)
        print(f"  calls     {used}")
    print(f"  then      minbert lab check {exercise.number}")
    print(f"  or        minbert lab hint {exercise.number}")
    if verdict.message:
        print(f"  now wrong {verdict.message}")
    print(f"{len(found) - len(left)} of {len(found)} done; about {hours:.1f} hours are left.")


def _line(root: Path, place: Target) -> int | str:
    try:
        return find_line((root / place.path).read_text(encoding="utf-8"), place.name)
    except (OSError, SyntaxError, ValueError):
        return "?"


def write_references(root: Path, bodies: dict[str, list[str]]) -> None:
    """Put the library's bodies, by their targets, into a copy."""
    packed = zlib.compress(json.dumps(bodies).encode())
    (root / REFERENCES).write_text(base64.b64encode(packed).decode() + "\n", encoding="utf-8")


def show_beside(root: Path, exercise: Exercise) -> None:
    """Print the library's bodies of an exercise beside the student's.

    Raises:
        ValueError: the copy has none, or the exercise is not done.
    """
    if not (root / REFERENCES).is_file():
        raise ValueError(
            "this copy has no solutions to show; a teacher puts them in with minbert lab start "
            "--with-references"
        )
    ((_, verdict),) = verdicts(root, [exercise], Output())
    if verdict.status != "done":
        raise ValueError(
            f"{exercise} is {verdict.status}; its solution is shown when yours is right"
        )
    packed = base64.b64decode((root / REFERENCES).read_text(encoding="utf-8"))
    bodies: dict[str, list[str]] = json.loads(zlib.decompress(packed))
    for place in exercise.places:
        own = body_of((root / place.path).read_text(encoding="utf-8"), place.name)
        print(f"{place.path}: {place.name}")
        print(beside(own, bodies[str(place)], shutil.get_terminal_size().columns))


def beside(left: Sequence[str], right: Sequence[str], columns: int) -> str:
    """Two texts in two columns, or one below the other where they are too wide for that."""
    left, right = ["yours", "-----", *left], ["the library's", "-------------", *right]
    width = max(map(len, left))
    if width + 3 + max(map(len, right)) > columns:
        return "\n".join(f"  {line}".rstrip() for line in (*left, "", *right))
    pairs = itertools.zip_longest(left, right, fillvalue="")
    return "\n".join(f"{one:{width}} | {other}".rstrip() for one, other in pairs)
