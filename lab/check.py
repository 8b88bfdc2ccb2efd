"""`minbert lab check`: what is done, what is wrong and why, what is left.

The student's code runs in a process of its own (lab/runner.py) with a time limit for each exercise.
What it gives comes back through a file and is compared here, so that code which hangs, exits or
prints without end is named like any other mistake.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from lab.diagnose import Verdict, judge
from lab.exercises import EXERCISES, Exercise

SECONDS = 10.0
"""Time for an exercise; a check takes a small part of a second."""
START_SECONDS = 60.0
"""Time to import torch, which is slow on a busy machine."""
KEPT = 4000
"""Characters kept of what the student's code prints."""


@dataclass
class Launch:
    """How the runner is started."""

    root: Path
    """The project whose code is run."""
    supplied: Path
    """Folder with the calls of upstream functions."""
    seed: int = 0
    seconds: float = SECONDS
    python: Sequence[str] = (sys.executable, "-B")
    """The interpreter with its flags, and what wraps it."""
    arguments: Sequence[str] = ("-m", "lab.runner")
    environment: dict[str, str] = field(default_factory=lambda: {**os.environ})


class Output:
    """What a process prints: the beginning is kept, the rest counted."""

    def __init__(self) -> None:
        self.text, self.length = "", 0

    def drain(self, pipe: IO[bytes]) -> None:
        while block := pipe.read1(1 << 16):
            self.length += len(block)
            if len(self.text) < KEPT:
                self.text = (self.text + block.decode(errors="replace"))[:KEPT]


def outcomes(
    launch: Launch, exercises: Sequence[Exercise], output: Output, *, folder: Path | None = None
) -> Iterator[tuple[Exercise, dict[str, Any]]]:
    """Run exercises and give the outcome of each: its cases, and how it ended.

    An exercise that hangs or ends the process is given up; the next ones run in a new process. A
    process that does not get as far as the first exercise is a ValueError.
    What they give is written into a file in `folder`, by default one for all users.
    """
    left = list(exercises)
    while left:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            results = Path(own) / "results.jsonl"
            results.touch()
            for found in _one_process(launch, tuple(left), results, output):
                yield left.pop(0), found


def _one_process(
    launch: Launch, exercises: Sequence[Exercise], results: Path, output: Output
) -> Iterator[dict[str, Any]]:
    """Outcomes from one process, until it ends or has to be ended."""
    options = ["--results", str(results), "--supplied", str(launch.supplied)]
    options += ["--seed", str(launch.seed), *(exercise.name for exercise in exercises)]
    process = subprocess.Popen(
        [*launch.python, *launch.arguments, *options],
        cwd=launch.root,
        env={"OMP_NUM_THREADS": "1", **launch.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    reader = threading.Thread(target=output.drain, args=(process.stdout,), daemon=True)
    reader.start()
    cases: list[Any] = []
    started, limit, began = False, START_SECONDS, time.monotonic()
    given = 0
    try:
        with results.open(encoding="utf-8", errors="replace") as lines:
            rest = ""
            while True:
                ended = process.poll() is not None  # looked up first: then nothing more comes
                rest += lines.read()
                *complete, rest = rest.split("\n")
                for line in complete:
                    event, *values = _parse(line)
                    if event == "begin":
                        cases, limit, began = [], launch.seconds, time.monotonic()
                        started = True
                    elif event == "case":
                        cases.append(values)
                    elif event == "end":
                        yield {"cases": cases, "error": values[0]}
                        given, cases = given + 1, []
                        if given == len(exercises):
                            return
                late = time.monotonic() - began > limit
                if (ended or late) and not started:
                    reader.join(timeout=1)
                    reason = (output.text.strip().splitlines() or ["it took too long"])[-1]
                    raise ValueError(
                        f"the checks could not start: {reason}; is all installed? bash setup.sh"
                    )
                if ended:
                    text = f"the process ended in the middle (code {process.returncode})"
                    if process.returncode < 0:
                        text += f", by {signal.Signals(-process.returncode).name}"
                    yield {"cases": cases, "error": _error("ended", text)}
                    return
                if late:
                    text = f"no answer within {limit:.0f} seconds; is there an endless loop?"
                    yield {"cases": cases, "error": _error("timeout", text)}
                    return
                time.sleep(0.02)
    finally:
        kill(process)
        reader.join(timeout=1)


def _parse(line: str) -> list[Any]:
    """A line of the results; what the student's code may have written among them is passed over."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return [""]
    match values:
        case ["begin", str()] | ["case", str(), _] | ["end", None]:
            return values
        case ["end", {"type": str(), "message": str(), "where": str() | None}]:
            return values
    return [""]


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "message": message, "where": None}


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started in its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


# The student's copy


def is_copy(root: Path) -> bool:
    """Whether a folder is a student's copy."""
    return (root / "lab" / "golden" / "expected").is_dir()


def find_copy(start: Path) -> Path:
    """The student's copy that a folder is in.

    Raises:
        ValueError: it is in none.
    """
    for folder in (start, *start.parents):
        if is_copy(folder):
            return folder
    raise ValueError(
        f"{start} is in no student's copy; go into yours, or make one: minbert lab start my-work"
    )


def assigned(root: Path) -> tuple[Exercise, ...]:
    """The exercises of a copy: those that it has expected numbers for."""
    return tuple(e for e in EXERCISES if expected_path(root, e).exists())


def expected_path(root: Path, exercise: Exercise) -> Path:
    return root / "lab" / "golden" / "expected" / f"{exercise.name}.json"


def verdicts(
    root: Path, exercises: Sequence[Exercise], output: Output
) -> Iterator[tuple[Exercise, Verdict]]:
    """What there is to say of exercises of a student's copy, one after the other."""
    launch = Launch(root, root / "lab" / "golden" / "supplied")
    for exercise, found in outcomes(launch, exercises, output):
        expected = json.loads(expected_path(root, exercise).read_text(encoding="utf-8"))
        yield exercise, judge(found, expected)


SIGNS = {"done": "✓", "wrong": "✗", "not started": "·"}


def check(root: Path, exercises: Sequence[Exercise], *, go_on: bool = False) -> bool:
    """Check exercises and print a list of progress; True if all of them are done."""
    output = Output()
    done: list[Exercise] = []
    open_ones: list[Exercise] = []
    points = sum(exercise.points for exercise in exercises)
    found = verdicts(root, exercises, output)
    for exercise, verdict in found:
        earned = exercise.points if verdict.status == "done" else 0
        print(
            f"{SIGNS[verdict.status]} {exercise.number:>2}  {exercise.title:<46}"
            f"{verdict.status:<12}{earned}/{exercise.points}",
            flush=True,
        )
        (done if earned else open_ones).append(exercise)
        if verdict.message:
            print(f"      {verdict.message}")
        if verdict.status == "wrong":
            for place in exercise.places:
                print(f"      {place.path}: {place.name}")
            if not go_on:
                break
    found.close()
    if output.text.strip():
        print("\nYour code printed:")
        print("\n".join(f"  {line}" for line in output.text.strip().splitlines()[:20]))
        if output.length > KEPT:
            print(f"  ... and so on, {output.length:,} bytes in all")
    earned = sum(exercise.points for exercise in done)
    print(f"\n{len(done)} of {len(exercises)} done, {earned} of {points} points.", end=" ")
    if open_ones:
        print(f"Next is {open_ones[0]}; hints: minbert lab hint {open_ones[0].number}")
    else:
        print("Well done!")
    return not open_ones
