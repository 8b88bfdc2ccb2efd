"""What a student waits for, from the clone to the hand-in: each step a command, timed."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.grade import run
from lab import handout
from lab.exercises import EXERCISES


def measure(*, setup: bool) -> list[dict[str, Any]]:
    """Go through the steps in a temporary folder; gives each one's name, seconds and CPU seconds.

    What the student writes meanwhile takes no time here: the library's own bodies are put in.

    Args:
        setup: whether to make the copy's own environment, which installs what it needs from where
            pip is told to look, and to use it from then on; else this Python is used.

    Raises:
        ValueError: a step ended otherwise than it should.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    found: list[dict[str, Any]] = []

    def step(name: str, command: Sequence[str], at: Path, code: int = 0) -> None:
        seconds, used = run(command, folder=at, environment=environment, code=code)
        found.append({"step": name, "seconds": round(seconds, 2), "cpu_seconds": round(used, 2)})

    with tempfile.TemporaryDirectory(prefix="student-") as place:
        folder = Path(place)
        clone, copy = folder / "minbert", folder / "my-work"
        lab = [sys.executable, "-m", "lab"]
        step(
            "clone", ["git", "clone", "-q", "--no-hardlinks", str(handout.ROOT), "minbert"], folder
        )
        step("lab start", [*lab, "start", str(copy)], clone)
        if setup:
            step("setup.sh, wheels at hand", ["bash", "setup.sh"], copy)
            lab = [str(copy / ".venv" / "bin" / "python"), "-m", "lab"]
        step("first check: nothing is begun", [*lab, "check"], copy, code=1)
        handout.solve(copy, EXERCISES[0])
        step("check of one exercise", [*lab, "check", "1"], copy)
        for exercise in EXERCISES[1:]:
            handout.solve(copy, exercise)
        step(f"check of all {len(EXERCISES)}, and the whole", [*lab, "check"], copy)
        step("hand-in: the zip file, unpacked and checked", [*lab, "hand-in"], copy)
    return found


HEADER = ["step", "s", "CPU s"]


def rows(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The lines of a table of what `measure` found."""
    return [[x["step"], f"{x['seconds']:.1f}", f"{x['cpu_seconds']:.1f}"] for x in found]
