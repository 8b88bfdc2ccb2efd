"""`minbert lab check --watch`: what a saved file changes is checked again, at once.

The times of files are looked up a few times a second, which works on every system and disk. A
process with PyTorch (lab/warm.py) waits for the next save, so that an answer takes a part of a
second. A file that holds exercises has those checked again, and any other file all of them.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from lab.check import expected_of, show
from lab.diagnose import judge
from lab.exercises import Exercise
from lab.handin import files_of
from lab.outcomes import Launch, Output, follow, kill, outcomes, time_options

PAUSE = 0.15
"""Seconds between two looks."""


E = TypeVar("E", bound=Exercise)


class Watch(ABC, Generic[E]):
    """Checks of a project, made again as its files change."""

    WARM: Sequence[str] = (sys.executable, "-B", "-m", "lab.warm")
    """How a runner that waits is started."""

    def __init__(self, launch: Launch, exercises: Sequence[E]) -> None:
        self.launch = launch
        self.exercises = exercises
        self.statuses: dict[str, str] = {}
        self.times = times_of(launch.root)
        self._spare: Spare | None = None

    @abstractmethod
    def say(self, exercise: E, outcome: dict[str, Any]) -> tuple[str, Callable[[], None]]:
        """The status of an exercise, and what prints all there is to say."""

    def run(self) -> None:
        """Check all that has been begun, then what changes, until Ctrl-C."""
        try:
            self.check(self.exercises)
            print("Watching; save a file to have it checked again, Ctrl-C ends it.", flush=True)
            while True:
                if self._spare is None:
                    self._spare = Spare(self.launch, self.WARM)
                time.sleep(PAUSE)
                self.look()
        finally:
            if self._spare is not None:
                self._spare.close()

    def look(self) -> tuple[E, ...]:
        """Check what has changed since the last look; gives the exercises that were checked."""
        now = times_of(self.launch.root)
        changed = {path for path in now.keys() | self.times.keys()
                   if now.get(path) != self.times.get(path)}  # fmt: skip
        self.times = now
        if not changed:
            return ()
        print(f"\n{time.strftime('%H:%M:%S')}  {', '.join(sorted(changed)[:3])}", flush=True)
        again = affected(changed, self.exercises)
        self.check(again)
        return again

    def check(self, exercises: Sequence[E]) -> None:
        """Check exercises and print what there is to say of those that were begun."""
        output = Output()
        for exercise, found in self._outcomes(exercises, output):
            status, tell = self.say(exercise, found)
            if {status, self.statuses.get(exercise.name)} - {"not started", None}:
                tell()
            self.statuses[exercise.name] = status
        if output.text.strip():
            print("Your code printed:", *output.text.strip().splitlines()[:20], sep="\n  ")
        done = list(self.statuses.values()).count("done")
        print(f"{done} of {len(self.exercises)} done.", flush=True)

    def _outcomes(
        self, exercises: Sequence[E], output: Output
    ) -> Iterator[tuple[E, dict[str, Any]]]:
        spare, self._spare = self._spare, None
        left = list(exercises)
        if spare is not None:
            for found in spare.outcomes(exercises, output):
                yield left.pop(0), found
        for _, found in outcomes(self.launch, tuple(left), output):  # after a hang: a new process
            yield left.pop(0), found


class CopyWatch(Watch[Exercise]):
    """Checks of a student's copy."""

    def __init__(self, root: Path, exercises: Sequence[Exercise]) -> None:
        super().__init__(Launch(root, root / "lab" / "golden" / "supplied"), exercises)

    def say(self, exercise: Exercise, outcome: dict[str, Any]) -> tuple[str, Callable[[], None]]:
        verdict = judge(outcome, expected_of(self.launch.root, exercise))
        return verdict.status, functools.partial(show, exercise, verdict)


class Spare:
    """A process that waits with PyTorch imported."""

    def __init__(self, launch: Launch, command: Sequence[str]) -> None:
        self.launch = launch
        results, self._theirs = os.pipe()
        self._results = os.fdopen(results, "rb", buffering=0)
        self._process = subprocess.Popen(
            command,
            cwd=launch.root,
            env={"OMP_NUM_THREADS": "1", **launch.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(self._theirs,),
        )

    def outcomes(self, exercises: Sequence[Exercise], output: Output) -> Iterator[dict[str, Any]]:
        """Run exercises, and give the outcomes that come from this one process."""
        words = ["--results", str(self._theirs), "--supplied", str(self.launch.supplied)]
        words += [*time_options(self.launch), *(exercise.name for exercise in exercises)]
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(words).encode() + b"\n")
            stdin.close()
            os.close(self._theirs)
            yield from follow(self._process, self._results, self.launch, exercises, output)
        finally:
            self._end()

    def close(self) -> None:
        """End it, where it was not needed."""
        os.close(self._theirs)
        self._end()

    def _end(self) -> None:
        kill(self._process)
        self._results.close()


def times_of(root: Path) -> dict[str, tuple[int, int]]:
    """Time and size of each file of the code under test, by its path."""
    found = {}
    for path in files_of(root):
        name = path.relative_to(root).as_posix()
        if path.suffix == ".py" and not name.startswith(("lab/", "tests/", "scripts/")):
            with contextlib.suppress(OSError):  # as an editor puts another in its place
                stat = path.stat()
                found[name] = (stat.st_mtime_ns, stat.st_size)
    return found


def affected(changed: set[str], exercises: Sequence[E]) -> tuple[E, ...]:
    """The exercises that changed files bear on: those in them; all, where one holds none."""
    held = {place.path.as_posix() for exercise in exercises for place in exercise.places}
    if changed - held:
        return tuple(exercises)
    return tuple(e for e in exercises if changed & {p.path.as_posix() for p in e.places})
