"""What all submissions of a class are held against, made once."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Sequence
from compileall import compile_dir
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any

from lab import handout, sandbox
from lab.copies import Copies
from lab.exercises import TRAINED, WHOLE, Exercise
from lab.outcomes import WAIT
from lab.runner import SECONDS


@dataclass
class Marking:
    """What all submissions are held against."""

    exercises: Sequence[Exercise]
    seed: int
    clean: Path
    """A copy of the library with all exercises blank."""
    supplied: Path
    expected: dict[str, Any]
    """By exercise, in memory: no process that runs a submission's code can read them."""
    kind: sandbox.Kind
    ours: dict[str, bytes]
    """The Python files of the clean copy, by their paths."""
    nursery: sandbox.Nursery | None
    """Of the kind "forked"."""
    copies: Copies
    seconds: float = SECONDS
    wait: float = WAIT
    """As in Launch."""

    @classmethod
    def prepare(
        cls,
        folder: Path,
        exercises: Sequence[Exercise],
        seed: int,
        kind: sandbox.Kind,
        jobs: int = 1,
    ) -> Marking:
        """Make a clean copy and the expected numbers of a seed, in so many processes."""
        from lab import golden

        clean, supplied = folder / "clean", folder / "supplied"
        handout.copy(clean, exercises=exercises)
        shutil.copy(handout.ROOT / "lab" / "guard.py", clean / "lab")
        compile_dir(clean, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
        nursery = sandbox.Nursery(folder, clean) if kind == sandbox.QUICK else None
        supplied.mkdir()
        expected = {}  # while that imports
        wanted = [WHOLE, TRAINED, *exercises]  # what takes longest first
        for exercise, (numbers, calls) in zip(wanted, golden.expected_of(wanted, seed, jobs)):
            expected[exercise.name] = numbers
            (supplied / f"{exercise.name}.json").write_text(json.dumps(calls), encoding="utf-8")
        for parent, _, files in [*os.walk(clean), *os.walk(supplied)]:
            Path(parent).chmod(0o755)  # another user reads them
            for name in files:
                Path(parent, name).chmod(0o644)
        ours = {p.relative_to(clean).as_posix(): p.read_bytes() for p in clean.rglob("*.py")}
        copies = Copies(clean, folder, walls=kind in (sandbox.QUICK, *sandbox.WALLS))
        return cls(exercises, seed, clean, supplied, expected, kind, ours, nursery, copies)

    def close(self) -> None:
        """End what is kept running."""
        if self.nursery is not None:
            self.nursery.close()

    @functools.cached_property
    def wanted(self) -> set[str]:
        """The files that hold exercises."""
        return {place.path.as_posix() for e in self.exercises for place in e.places}
