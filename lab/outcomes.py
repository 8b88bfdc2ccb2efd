"""Exercises of a student's code, run in a process of their own: what comes out of each.

That process (lab/runner.py) has limits of time for each exercise: of what it computes, which a busy
machine does not change, and of what it takes in all. What it gives comes back through a pipe, so
that code which hangs, exits or prints without end is named like any other mistake. All that comes
may be that code's own work: it is bounded, and taken in the runner's order alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from lab.exercises import Exercise
from lab.runner import SECONDS, times_as_long

WAIT = 60.0
"""Seconds on the clock for an exercise: for code that waits, and for machines with much to do."""
START_SECONDS = 300.0
"""Time to import torch, which is slow on a busy machine."""
KEPT = 4000
"""Characters kept of what the student's code prints."""
LARGEST = 2**23
"""Bytes that an exercise may give; it gives a few thousand."""


@dataclass
class Launch:
    """How the runner is started."""

    root: Path
    """The project whose code is run."""
    supplied: Path
    """Folder with the calls of upstream functions."""
    seed: int = 0
    seconds: float = SECONDS
    """Of computing, for an exercise."""
    wait: float = WAIT
    """Seconds until an exercise is given up in any case."""
    command: Sequence[str] = (sys.executable, "-B", "-m", "lab.runner")
    """The runner's options follow it."""
    options: Sequence[str] = ()
    """More options of the runner."""
    environment: dict[str, str] = field(default_factory=lambda: {**os.environ})
    terminal: bool = False
    """Whether it talks to the terminal, without a limit of time: breakpoint() opens a debugger,
    and so does an exception."""


class Output:
    """What a process prints: the beginning is kept, the rest counted."""

    def __init__(self) -> None:
        self.text, self.length = "", 0

    def add(self, block: bytes) -> None:
        self.length += len(block)
        if len(self.text) < KEPT:
            self.text = (self.text + block.decode(errors="replace"))[:KEPT]


def outcomes(
    launch: Launch, exercises: Sequence[Exercise], output: Output
) -> Generator[tuple[Exercise, dict[str, Any]]]:
    """Run exercises and give the outcome of each: its cases, and how it ended.

    An exercise that hangs or ends the process is given up; the next ones run in a new process, as
    they do after one that left threads behind. A process that does not get as far as the first
    exercise is a ValueError.
    """
    left = list(exercises)
    while left:
        for found in _one_process(launch, tuple(left), output):
            yield left.pop(0), found


def _one_process(
    launch: Launch, exercises: Sequence[Exercise], output: Output
) -> Iterator[dict[str, Any]]:
    """Outcomes from one process, until it ends or has to be ended."""
    results, theirs = os.pipe()
    options = ["--results", str(theirs), "--supplied", str(launch.supplied)]
    options += ["--pdb"] if launch.terminal else []
    options += ["--seed", str(launch.seed), *time_options(launch), *launch.options]
    options += [exercise.name for exercise in exercises]
    with open(results, "rb", buffering=0) as pipe, open(theirs, "wb") as other_end:
        process = subprocess.Popen(
            [*launch.command, *options],
            cwd=launch.root,
            env={"OMP_NUM_THREADS": "1", **launch.environment},
            stdin=None if launch.terminal else subprocess.DEVNULL,
            stdout=None if launch.terminal else subprocess.PIPE,
            stderr=None if launch.terminal else subprocess.STDOUT,
            start_new_session=not launch.terminal,
            pass_fds=(theirs,),
        )
        other_end.close()
        try:
            yield from follow(process, pipe, launch, exercises, output)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)  # if it has done all it ends by itself
        finally:
            kill(process)


def time_options(launch: Launch) -> list[str]:
    """The runner's option for another limit than its own; of an older copy it knows none."""
    return [] if launch.seconds == SECONDS else ["--seconds", str(launch.seconds)]


def follow(
    process: subprocess.Popen[bytes],
    results: IO[bytes],
    launch: Launch,
    exercises: Sequence[Exercise],
    output: Output,
) -> Iterator[dict[str, Any]]:
    """Outcomes from the lines of `results`, as long as they come in time, order and bounds."""
    left = [exercise.name for exercise in exercises]
    cases: list[Any] | None = None  # of the exercise that has begun
    started, limit, began = False, START_SECONDS, time.monotonic()
    rest, size = bytearray(), 0
    with selectors.DefaultSelector() as pipes:
        pipes.register(results, selectors.EVENT_READ)
        if process.stdout is not None:
            pipes.register(process.stdout, selectors.EVENT_READ)
        while True:
            ended = process.poll() is not None  # looked up first: then nothing more comes
            ready = [key.fileobj for key, _ in pipes.select(0 if ended else 0.05)]
            if process.stdout is not None and process.stdout in ready:
                block = os.read(process.stdout.fileno(), 1 << 16)
                output.add(block)
                if not block:
                    pipes.unregister(process.stdout)
            block = os.read(results.fileno(), 1 << 16) if results in ready else b""
            size += len(block)
            rest += block
            *lines, rest = rest.split(b"\n") if b"\n" in block else [rest]
            for line in lines:
                match _parse(line):
                    case ["begin", name] if cases is None and name == left[0]:
                        started, cases = True, []
                        limit = times_as_long(name) * launch.wait
                    case ["case", str() as title, value] if cases is not None:
                        cases.append([title, value])
                        continue
                    case ["end", error] if cases is not None and _is_error(error):
                        yield {"cases": cases, "error": error}
                        left, cases, size = left[1:], None, 0
                        if not left:
                            if process.stdout is not None and pipes.select(
                                0
                            ):  # the runner has flushed it
                                os.set_blocking(process.stdout.fileno(), False)
                                output.add(process.stdout.read(1 << 16) or b"")
                            return
                    case _:
                        size = LARGEST + 1
                        break
                began = time.monotonic()
            late = time.monotonic() - began > limit and not launch.terminal
            over = not block and (ended or results in ready)  # exited, or closed its end
            if not started and (late or over):
                reason = (output.text.strip().splitlines() or ["it took too long"])[-1]
                raise ValueError(
                    f"the checks could not start: {reason}; is all installed? bash setup.sh"
                )
            if size > LARGEST:
                text = "what came out of it is not what a check gives"
                yield {"cases": [], "error": _error("ended", text)}
                return
            if over and cases is None and len(left) < len(exercises):
                return  # between two exercises: the next ones run in a new process
            if late or over:
                how = _how(process) if over else ""
                if late and not over:
                    text = f"no answer within {limit:g} seconds; what does it wait for?"
                elif how.endswith("SIGXCPU"):
                    most = f"{times_as_long(left[0]) * launch.seconds:g} seconds of computing"
                    text = f"no answer in {most}; is there an endless loop?"
                else:
                    text = f"the process ended in the middle{how}"
                kind = "timeout" if text.startswith("no answer") else "ended"
                yield {"cases": cases or [], "error": _error(kind, text)}
                return


def _parse(line: bytearray) -> Any:
    """A line of the results, or None."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _is_error(value: Any) -> bool:
    match value:
        case None | {"type": str(), "message": str(), "where": str() | None}:
            return True
    return False


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "message": message, "where": None}


def _how(process: subprocess.Popen[bytes]) -> str:
    """How a process ended; one inside of a sandbox gives 128 + the signal's number."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    code = process.returncode
    if code is None:
        return ", and left the checks without a result"
    number = -code if code < 0 else code - 128
    names = {each.value: each.name for each in signal.Signals}
    return f" (code {code})" + (f", by {names[number]}" if number in names else "")


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started in its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # there is no such group where it has the terminal
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
