"""`minbert lab grade`: many submissions, each in a sandbox, against hidden numbers.

Of a submission only the files that hold exercises are taken, into a clean copy of the library in
which all exercises are blank: its tests, lab, conftest and site hooks are not even looked at but to
name what was altered. The code runs on a fresh seed in a process of its own (lab/guard.py), and the
numbers that it gives are compared here, out of its reach.

    OUT/NAME/results.json    as Gradescope reads it
    OUT/class.csv            a line for each submission
"""

from __future__ import annotations

import csv
import functools
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import handout
from lab.check import KEPT, SECONDS, Launch, Output, outcomes
from lab.diagnose import Verdict, judge
from lab.exercises import EXERCISES, Exercise
from lab.submission import Submission, open_submission

GIB = 2**30
LIMITS = {"memory": 6 * GIB, "file_size": 2**24, "cpu_seconds": 240}
NAMESPACES = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")
HOOKS = ("conftest.py", "sitecustomize.py", "usercustomize.py")


@dataclass
class Grade:
    """What a submission reached."""

    name: str
    verdicts: dict[str, Verdict]
    """By exercise."""
    notes: list[str] = field(default_factory=list)
    """For the teacher: what was altered, tried, or printed."""
    seconds: float = 0.0
    leaderboard: dict[str, float] = field(default_factory=dict)

    @property
    def score(self) -> int:
        return sum(points_of(e, self.verdicts.get(e.name)) for e in EXERCISES)


def points_of(exercise: Exercise, verdict: Verdict | None) -> int:
    return exercise.points if verdict is not None and verdict.status == "done" else 0


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
    seconds: float = SECONDS
    """Time for an exercise."""

    @classmethod
    def prepare(cls, folder: Path, exercises: Sequence[Exercise], seed: int) -> Marking:
        """Make a clean copy and the expected numbers of a seed."""
        from lab import golden

        clean, supplied = folder / "clean", folder / "supplied"
        handout.copy(clean, exercises=exercises)
        shutil.copy(handout.ROOT / "lab" / "guard.py", clean / "lab")
        supplied.mkdir()
        expected = {}
        for exercise in exercises:
            expected[exercise.name], calls = golden.expected(exercise, seed)
            (supplied / f"{exercise.name}.json").write_text(json.dumps(calls), encoding="utf-8")
        return cls(exercises, seed, clean, supplied, expected)


def grade(
    paths: Sequence[Path],
    out: Path,
    *,
    exercises: Sequence[Exercise] = EXERCISES,
    seed: int | None = None,
    labels: Path | None = None,
) -> list[Grade]:
    """Grade submissions and write the results.

    Args:
        paths: folders or zip files.
        out: folder for the results.
        exercises: those that were set.
        seed: of the hidden inputs, by default a fresh one, which the results name.
        labels: folder with the tasks' data, to score predictions for the leaderboard.
    """
    seed = secrets.randbelow(2**31) if seed is None else seed
    grades: list[Grade] = []
    with tempfile.TemporaryDirectory(prefix="grade-") as folder:
        marking = Marking.prepare(Path(folder), exercises, seed)
        for path in paths:
            found = grade_one(path, marking, Path(folder), hidden=[out, *paths], labels=labels)
            taken = {each.name for each in grades}
            stem, number = found.name, 2
            while found.name in taken:
                found.name, number = f"{stem}-{number}", number + 1
            grades.append(found)
            write_results(out / found.name / "results.json", found, marking)
            print(f"{found.name}: {found.score} of {sum(e.points for e in exercises)} points")
            for note in found.notes:
                print(f"  {note}")
    write_class(out / "class.csv", grades, exercises)
    print(f"seed {seed}; results are in {out}")
    return grades


def grade_one(
    path: Path,
    marking: Marking,
    folder: Path,
    *,
    hidden: Sequence[Path] = (),
    labels: Path | None = None,
) -> Grade:
    """Grade one submission; whatever it is, there is a grade."""
    began = time.monotonic()
    wanted = {str(place.path) for e in marking.exercises for place in e.places}
    try:
        submission = open_submission(path, wanted)
    except ValueError as error:
        verdict = Verdict("wrong", str(error))
        return Grade(path.stem, {e.name: verdict for e in marking.exercises}, [str(error)])
    found = Grade(submission.name, {}, altered(submission, marking.clean))
    with tempfile.TemporaryDirectory(prefix="submission-", dir=folder) as own:
        work, scratch = Path(own) / "work", Path(own) / "scratch"
        shutil.copytree(marking.clean, work)
        scratch.mkdir()
        for name in sorted(wanted):
            try:
                text = submission.read(name)
            except ValueError as error:
                found.notes.append(str(error))
                continue
            if text is None:
                found.notes.append(f"{name} was not handed in")
            else:
                (work / name).write_text(text, encoding="utf-8")
        output = Output()
        launch = sandboxed(work, scratch, marking, [*hidden, folder / "clean"])
        for exercise, outcome in outcomes(launch, marking.exercises, output, folder=scratch):
            try:
                verdict = judge(outcome, marking.expected[exercise.name])
            except Exception:  # values that no check gives: the submission wrote them itself
                verdict = Verdict("wrong", "What came out of it cannot be read.")
            found.verdicts[exercise.name] = verdict
        notes = scratch / "notes"
        if notes.exists():
            tried = notes.read_text(encoding="utf-8", errors="replace").split("\n")
            found.notes += [f"tried: {line}" for line in dict.fromkeys(tried) if line][:20]
        if output.length > KEPT:
            found.notes.append(f"printed {output.length:,} bytes")
    if labels is not None or any(name.startswith("predictions/") for name in submission.places):
        from lab.predictions import inspect

        problems, found.leaderboard = inspect(submission, labels)
        found.notes += problems
    found.seconds = time.monotonic() - began
    return found


def sandboxed(work: Path, scratch: Path, marking: Marking, hidden: Sequence[Path]) -> Launch:
    """How the runner starts on a submission: limits, few rights, nothing of our environment."""
    packages = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
    settings = {
        **LIMITS,
        "scratch": str(scratch),
        "notes": str(scratch / "notes"),
        "packages": packages,
        "hidden": [
            *(str(path) for path in handout.ROOT.iterdir() if not holds(path, packages)),
            *(str(path.resolve()) for path in hidden),
        ],
    }
    return Launch(
        root=work,
        supplied=marking.supplied,
        seed=marking.seed,
        seconds=marking.seconds,
        python=(*namespaces(), sys.executable, "-I", "-S", "-B"),
        arguments=(str(work / "lab" / "guard.py"), json.dumps(settings)),
        environment={"HOME": str(scratch), "TMPDIR": str(scratch), "PATH": "/usr/bin:/bin"},
    )


def holds(folder: Path, paths: Sequence[str]) -> bool:
    """Whether one of the paths is in a folder."""
    return any(Path(path).resolve().is_relative_to(folder.resolve()) for path in paths)


@functools.cache
def namespaces() -> tuple[str, ...]:
    """The command that gives a process a network and process ids of its own, where permitted."""
    try:
        tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return NAMESPACES if tried.returncode == 0 else ()


def altered(submission: Submission, clean: Path) -> list[str]:
    """Notes on files that have no effect here and were changed or added all the same."""
    names = []
    for name in sorted(submission.places):
        parts = name.split("/")
        ours = parts[0] in ("lab", "tests") and name.endswith(".py")
        if not ours and parts[-1] not in HOOKS and not name.endswith(".pth"):
            continue
        try:
            text = submission.read(name)
        except ValueError:
            text = None
        path = clean / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            names.append(name)
    return [f"altered or added, without effect: {', '.join(names[:10])}"] if names else []


def write_results(path: Path, found: Grade, marking: Marking) -> None:
    """Write results.json as Gradescope reads it."""
    tests = []
    for exercise in marking.exercises:
        verdict = found.verdicts.get(exercise.name, Verdict("wrong", "It was not run."))
        tests.append(
            {
                "name": exercise.heading,
                "number": str(exercise.number),
                "score": points_of(exercise, verdict),
                "max_score": exercise.points,
                "output": f"{verdict.status}. {verdict.message}".strip(),
                "visibility": "visible",
            }
        )
    if found.notes:
        tests.append(
            {"name": "Notes", "output": "\n".join(found.notes), "visibility": "hidden", "score": 0,
             "max_score": 0}
        )  # fmt: skip
    results: dict[str, Any] = {
        "score": found.score,
        "execution_time": round(found.seconds),
        "output": f"Graded on hidden inputs, seed {marking.seed}.",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }
    if found.leaderboard:
        results["leaderboard"] = [
            {"name": name, "value": round(value, 4)} for name, value in found.leaderboard.items()
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_class(path: Path, grades: Sequence[Grade], exercises: Sequence[Exercise]) -> None:
    """Write the table of the class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "score", "of", *(e.name for e in exercises), "notes"])
        total = sum(e.points for e in exercises)
        for each in grades:
            points = [points_of(e, each.verdicts.get(e.name)) for e in exercises]
            table.writerow([each.name, each.score, total, *points, "; ".join(each.notes)])
