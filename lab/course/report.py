"""The list of a checkout's parts: what is right, wrong, not begun, not there."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lab.check import SIGNS
from lab.course.layout import course_of, missing_packages
from lab.course.parts import PARTS, Part
from lab.diagnose import judge, sentence
from lab.exercises import EXERCISES, Exercise
from lab.outcomes import KEPT, Launch, Output, outcomes
from lab.source import find
from lab.whose import quoted

SECONDS = 60.0
"""Time for a part: the first ones import all that the files do."""
RUNNER = Path(__file__).with_name("runner.py")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
SKIPPED = {"object": "Skipped"}
"""What comes of a `Skipped` of lab/course/given.py, which imports torch."""

Status = Literal["done", "wrong", "not started", "not checked", "not there"]


@dataclass(frozen=True)
class Found:
    """What is said of a part."""

    part: Part
    status: Status
    message: str = ""
    named: bool = False
    """Whether the message names a mistake of the catalogue."""


def findings(
    root: Path, parts: Sequence[Part], output: Output, *, terminal: bool = False
) -> Iterator[Found]:
    """What there is to say of parts of a checkout, one after the other."""
    there = [part for part in parts if (root / part.file).is_file()]
    launch = launch_of(root, terminal=terminal)
    with ThreadPoolExecutor(1) as pool:  # theirs is run meanwhile, in its own process
        wanted: dict[str, Future[dict[str, Any]]] = {
            part.name: pool.submit(expected_of, part) for part in there
        }
        found = outcomes(launch, there, output)
        try:
            for part in parts:
                if part not in there:
                    yield not_there(part)
                    continue
                _, outcome = next(found)
                yield say(root, part, outcome, wanted[part.name].result)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def launch_of(root: Path, *, terminal: bool = False) -> Launch:
    """How the runner is started on a checkout."""
    return Launch(
        root.resolve(),
        root.resolve(),
        seconds=SECONDS,
        wait=6 * SECONDS,
        command=(sys.executable, "-B", str(RUNNER)),
        environment={**os.environ, **OFFLINE},
        terminal=terminal,
    )


def expected_of(part: Part) -> dict[str, Any]:
    """What is right in a part, and what its mistakes give."""
    from lab.course.expected import expected

    return expected(part, seed=0)


def not_there(part: Part) -> Found:
    return Found(part, "not there", f"There is no {part.file}.")


def say(
    root: Path, part: Part, outcome: dict[str, Any], expected: Callable[[], dict[str, Any]]
) -> Found:
    """Judge what came out of a part."""
    error = outcome["error"]
    if error and (error["type"] == "NotImplementedError" or to_be_written(root, part)):
        return Found(part, "not started")
    if error and error["type"] == "NotHere":
        return Found(part, "not checked", sentence(error["message"]))
    wanted = expected()
    for case, (_, right) in zip(outcome["cases"], wanted["right"]["cases"]):
        if case[1] == SKIPPED:
            case[1] = right
    verdict = judge(outcome, wanted)
    return Found(part, verdict.status, verdict.message, verdict.named)


def to_be_written(root: Path, part: Part) -> bool:
    """Whether a function of a part still ends as the handout's does, by NotImplementedError."""
    for place in part.places:
        try:
            text = (root / place.path).read_text(encoding="utf-8", errors="replace")
            body = find(ast.parse(text), place.name).body
        except (OSError, SyntaxError, ValueError):
            continue
        if any(isinstance(line, ast.Raise) and "NotImplemented" in ast.unparse(line)
               for line in body):  # fmt: skip
            return True
    return False


def show(found: Found) -> None:
    """Print the lines of one part."""
    part, sign = found.part, SIGNS.get(found.status, "-")
    print(f"{sign} {part.number:>2}  {part.title:<46}{found.status}", flush=True)
    if found.message:
        print(f"      {found.message}")
    if found.status == "wrong":
        for place in part.places:
            print(f"      {place.path}: {place.name}")
        print(f"      hints: {part.hinted}")


def begin(root: Path) -> None:
    """Say whose code is checked, and what is not installed."""
    print(f"checking the code of {course_of(root)}'s minBERT in {quoted(root)}")
    if missing := missing_packages(root):
        print(
            f"not installed here: {', '.join(missing)}; the checks stand in for what is only "
            f"imported (else: pip install {' '.join(missing)})"
        )


def check(
    root: Path, parts: Sequence[Part], *, go_on: bool = False, terminal: bool = False
) -> bool:
    """Check parts of a checkout and print the list; True if all that are there are right."""
    begin(root)
    output, seen = Output(), list[Found]()
    for found in findings(root, parts, output, terminal=terminal):
        show(found)
        seen.append(found)
        if found.status == "wrong" and not go_on:
            break
    if output.text.strip():
        print("\nYour code printed:")
        print("\n".join(f"  {line}" for line in output.text.strip().splitlines()[:20]))
        if output.length > KEPT:
            print(f"  ... and so on, {output.length:,} bytes in all")
    done = [each for each in seen if each.status == "done"]
    open_ones = [each.part for each in seen if each.status in ("wrong", "not started")]
    print(f"\n{len(done)} of {len(parts)} parts are right.", end=" ")
    if open_ones:
        print(f"Next is {open_ones[0]}; hints: {open_ones[0].hinted}")
    else:
        print("Well done!" if len(done) == len(parts) else "What else is there could not be tried.")
    if len(parts) > 1:
        print(f"Not here: {ranges(elsewhere())} of the lab's exercises, which no part is made of.")
        print("Nothing of this is graded: minbert lab grade takes the lab's own copies.")
    return not open_ones


def elsewhere() -> list[Exercise]:
    """The lab's exercises that are no part of a checkout."""
    like = {name for part in PARTS for name in part.like}
    return [exercise for exercise in EXERCISES if exercise.name not in like]


def ranges(exercises: Sequence[Exercise]) -> str:
    """Numbers of exercises in few words: 2, 5, 18-20."""
    runs: list[list[int]] = []
    for exercise in exercises:
        if runs and runs[-1][-1] == exercise.number - 1:
            runs[-1].append(exercise.number)
        else:
            runs.append([exercise.number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
