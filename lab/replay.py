"""`minbert lab replay 35`: the first case that is wrong, with its inputs, to look at and to try.

    python -m lab.replay NAME [--print]

runs in the student's copy, in a process of its own, for it imports the student's code. In the
prompt there are `result` and `expected`, the function that was called, and its arguments by name.
"""

from __future__ import annotations

import code
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lab.exercises import BY_NAME, Exercise
from lab.values import decode, encode, same

ROOT = Path(__file__).resolve().parent.parent


def start(root: Path, exercise: Exercise, *, printed: bool = False) -> int:
    """Replay an exercise of a student's copy; gives the exit code."""
    command = [sys.executable, "-B", "-m", "lab.replay", exercise.name]
    return subprocess.run([*command, *(["--print"] if printed else [])], cwd=root).returncode


def replay(exercise: Exercise, *, printed: bool) -> int:
    """Run an exercise's check up to the first case that is wrong, and show it."""
    from lab.harness import raw_cases
    from lab.upstream import supplied

    golden = ROOT / "lab" / "golden"
    path = golden / "expected" / f"{exercise.name}.json"
    if not path.exists():
        print(f"error: {exercise} is not set in this copy", file=sys.stderr)
        return 2
    right = json.loads(path.read_text(encoding="utf-8"))["right"]["cases"]
    known = json.loads((golden / "supplied" / f"{exercise.name}.json").read_text(encoding="utf-8"))
    with supplied(exercise, known):
        try:
            return first_wrong(exercise, raw_cases(exercise, seed=0), right, printed=printed)
        except NotImplementedError as error:
            if "exercise " not in str(error):
                raise
            print(f"{exercise} is not started")
            return 1


def first_wrong(
    exercise: Exercise,
    cases: Iterator[tuple[str, Any]],
    right: Sequence[Any],
    *,
    printed: bool,
    raises: tuple[type[Exception], ...] = (NotImplementedError,),
) -> int:
    """Show the first case that is wrong, and open a prompt in it; gives the exit code.

    An exception of the code under test is a wrong case too, but for those in `raises`.
    """
    from lab.calls import Shown, watched

    calls: list[Shown] = []
    number = 0
    with watched(exercise, calls):
        try:
            for title, value in cases:
                if not same(encode(value), right[number][1]):
                    wanted = decode(right[number][1])
                    show(title, exercise, calls, value, wanted, printed=printed)
                    return 1
                number += 1
        except raises:
            raise
        except Exception as error:
            title, wanted = right[number] if number < len(right) else ("", None)
            show(title, exercise, calls, error, decode(wanted), printed=printed)
            return 1
    print(f"{exercise} is done: there is no case that is wrong")
    return 0


def show(
    title: str,
    exercise: Exercise,
    calls: list[Any],
    result: Any,
    expected: Any,
    *,
    printed: bool,
) -> None:
    """Print a case, and open a prompt in it."""
    import torch

    torch.set_printoptions(precision=4, sci_mode=False, linewidth=100, threshold=200)
    last = calls[-1] if calls else None
    print(f"{title}\n")
    if last is not None:
        print(f"{last}\n")
        for name, value in last.arguments.items():
            print(f"{name} = {value!r}"[:2000])
    print(f"\nresult = {result!r}"[:2000])
    print(f"\nexpected = {expected!r}"[:2000])
    if printed or not sys.stdin.isatty():
        return
    names: dict[str, Any] = {"result": result, "expected": expected, "torch": torch}
    if last is not None:
        names |= {**last.arguments, last.name.split(".")[-1]: function_of(exercise, last.name)}
    code.interact(banner="", local=names, exitmsg="")


def function_of(exercise: Exercise, name: str) -> Any:
    """The student's function of this name, as it stands in its module."""
    place = next(place for place in exercise.places if place.name == name)
    found: Any = importlib.import_module(place.module)
    for word in name.split("."):
        found = getattr(found, word)
    return getattr(found, "__wrapped__", found)


if __name__ == "__main__":
    sys.exit(replay(BY_NAME[sys.argv[1]], printed="--print" in sys.argv))
