"""`minbert lab grade`: many submissions, each in a sandbox, against hidden numbers.

Of a submission only the files that hold exercises are taken, into a clean copy of the library in
which all exercises are blank: its tests, lab, conftest and site hooks are not even looked at but to
name what was altered. The code runs on a fresh seed in a sandbox (lab/sandbox.py), and the numbers
that it gives are compared here, out of its reach. Whatever a submission is or does, it gets a
grade, and the class goes on.

    OUT/NAME/results.json    as Gradescope reads it
    OUT/class.csv            a line for each submission; written anew after each
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import handout, sandbox
from lab.check import KEPT, SECONDS, Launch, Output, outcomes, stamp_of
from lab.diagnose import Verdict, judge, shown
from lab.exercises import EXERCISES, WHOLE, Exercise
from lab.stamp import PLACE, Stamp
from lab.submission import Submission, open_submission
from lab.suspects import withdraw

if TYPE_CHECKING:
    from lab.predictions import Labels

HOOKS = ("conftest.py", "sitecustomize.py", "usercustomize.py")


@dataclass
class Grade:
    """What a submission reached."""

    name: str
    """Of its folder in the results."""
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
    kind: sandbox.Kind
    seconds: float = SECONDS
    """Time for an exercise."""

    @classmethod
    def prepare(
        cls, folder: Path, exercises: Sequence[Exercise], seed: int, kind: sandbox.Kind
    ) -> Marking:
        """Make a clean copy and the expected numbers of a seed."""
        from lab import golden

        clean, supplied = folder / "clean", folder / "supplied"
        handout.copy(clean, exercises=exercises)
        shutil.copy(handout.ROOT / "lab" / "guard.py", clean / "lab")
        supplied.mkdir()
        expected = {}
        for exercise in (*exercises, WHOLE):
            expected[exercise.name], calls = golden.expected(exercise, seed)
            (supplied / f"{exercise.name}.json").write_text(json.dumps(calls), encoding="utf-8")
        for parent, _, files in [*os.walk(clean), *os.walk(supplied)]:
            Path(parent).chmod(0o755)  # another user reads them
            for name in files:
                Path(parent, name).chmod(0o644)
        return cls(exercises, seed, clean, supplied, expected, kind)


def grade(
    paths: Sequence[Path],
    out: Path,
    *,
    exercises: Sequence[Exercise] = EXERCISES,
    seed: int | None = None,
    data_dir: Path | None = None,
    unsafe: bool = False,
) -> list[Grade]:
    """Grade submissions and write the results.

    Args:
        paths: folders or zip files.
        out: folder for the results.
        exercises: those that were set.
        seed: of the hidden inputs, by default a fresh one, which the results name.
        data_dir: folder with the tasks' data, to score predictions for the leaderboard.
        unsafe: whether to grade where no sandbox can be made.

    Raises:
        ValueError: no sandbox can be made, or the data cannot be read. Nothing that was handed in
            raises.
    """
    from lab.predictions import read_labels

    kind = sandbox.choose(unsafe=unsafe, hidden=[out, *paths])
    seed = secrets.randbelow(2**31) if seed is None else seed
    labels = {} if data_dir is None else read_labels(data_dir)
    total = sum(exercise.points for exercise in exercises)
    grades: list[Grade] = []
    with tempfile.TemporaryDirectory(prefix="grade-") as folder:
        Path(folder).chmod(0o755)  # another user comes by
        marking = Marking.prepare(Path(folder), exercises, seed, kind)
        for path in paths:
            name = folder_name(path, {each.name for each in grades})
            try:
                found = grade_one(path, marking, Path(folder), name=name, labels=labels)
                found.notes = [shown(note, 2000) for note in found.notes]
                write_results(out / name / "results.json", found, marking)
            except Exception as error:
                why = f"it could not be graded: {type(error).__name__}: {error}"
                found = Grade(name, {e.name: Verdict("wrong", shown(why)) for e in exercises})
                found.notes.append(shown(why))
                with contextlib.suppress(OSError):  # the table says so in any case
                    write_results(out / name / "results.json", found, marking)
            grades.append(found)
            write_class(out / "class.csv", grades, exercises)
            print(f"{name}: {found.score} of {total} points")
            for note in found.notes:
                print(f"  {note}")
    write_class(out / "class.csv", grades, exercises)
    print(f"seed {seed}; results are in {out}")
    return grades


DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that are no file's on Windows."""


def folder_name(path: Path, taken: Collection[str]) -> str:
    """A name for the results of a submission: a folder's on every system, and none of those taken.

    Letters, digits, spaces and ._- are kept; names that differ in case alone count as the same.
    """
    given = os.path.basename(os.path.abspath(path))
    given = given[:-4] if given.lower().endswith(".zip") and not path.is_dir() else given
    encoding = sys.getfilesystemencoding()
    name = unicodedata.normalize("NFKC", given).encode(encoding, "replace").decode(encoding)
    name = re.sub(r"[^\w .-]+", "_", name)[:60].strip(". -")
    if not name or DEVICES.fullmatch(name):
        name = f"_{name}"
    keys = {_key("class.csv"), *map(_key, taken)}
    stem, number = name, 2
    while _key(name) in keys:
        name, number = f"{stem}-{number}", number + 1
    return name


def _key(name: str) -> str:
    return unicodedata.normalize("NFKC", name.casefold())


def grade_one(
    path: Path, marking: Marking, folder: Path, *, name: str, labels: Labels | None = None
) -> Grade:
    """Grade one submission.

    Args:
        path: the folder or zip file.
        marking: what it is held against.
        folder: for the copy that its files are put into.
        name: the grade's.
        labels: of predictions, to score them.
    """
    began = time.monotonic()
    wanted = {str(place.path) for e in marking.exercises for place in e.places}
    notes = []
    if os.path.basename(os.path.abspath(path)) not in (name, f"{name}.zip"):
        notes.append(f"handed in as {shown(path.name, 200)}")
    try:
        submission = open_submission(path, wanted)
    except ValueError as error:
        verdict = Verdict("wrong", shown(str(error)))
        return Grade(name, {e.name: verdict for e in marking.exercises}, [*notes, verdict.message])
    notes += [*other_version(submission, marking.clean), *altered(submission, marking.clean)]
    found = Grade(name, {}, notes)
    with tempfile.TemporaryDirectory(prefix="submission-", dir=folder) as own:
        Path(own).chmod(0o755)
        work = Path(own, "work")
        shutil.copytree(marking.clean, work)
        handed_in = 0
        for file in sorted(wanted):
            try:
                text = submission.read(file)
            except ValueError as error:
                found.notes.append(str(error))
                continue
            if text is None:
                found.notes.append(f"{file} was not handed in")
            else:
                (work / file).write_text(text, encoding="utf-8", newline="")
                handed_in += 1
        if not handed_in:
            verdict = Verdict("wrong", "None of the files of the exercises could be read.")
            found.verdicts = {e.name: verdict for e in marking.exercises}
            return found
        output = Output()
        launch = Launch(
            root=work,
            supplied=marking.supplied,
            seed=marking.seed,
            seconds=marking.seconds,
            command=sandbox.command(marking.kind, work, Path(own), own=[marking.supplied]),
            environment=sandbox.ENVIRONMENT,
        )
        for exercise, outcome in outcomes(launch, (*marking.exercises, WHOLE), output):
            try:
                if exercise is WHOLE:
                    found.notes += withdraw(found.verdicts, outcome, marking.expected["whole"])
                    continue
                verdict = judge(outcome, marking.expected[exercise.name])
            except Exception:  # values that no check gives: the submission wrote them itself
                verdict = Verdict("wrong", "What came out of it cannot be read.")
            found.verdicts[exercise.name] = verdict
        if output.length > KEPT:
            found.notes.append(f"printed {output.length:,} bytes")
    if labels or any(each.startswith("predictions/") for each in submission.places):
        from lab.predictions import inspect

        problems, found.leaderboard = inspect(submission, labels or {})
        found.notes += problems
    found.seconds = time.monotonic() - began
    return found


def other_version(submission: Submission, clean: Path) -> list[str]:
    """A note if the submission says that it was made from another version of the library."""
    with contextlib.suppress(ValueError):
        theirs = Stamp.read(submission.read(PLACE) or "")
        ours = stamp_of(clean)
        if theirs and ours and theirs.differs(ours):
            return [f"made from {theirs}; graded with {ours}"]
    return []


def altered(submission: Submission, clean: Path) -> list[str]:
    """Notes on files that have no effect here and were changed or added all the same."""
    names = []
    for name in sorted(submission.places):
        parts = name.split("/")
        ours = parts[0] in ("lab", "tests") and name.endswith(".py")
        if not ours and parts[-1] not in HOOKS and not name.endswith(".pth"):
            continue
        text = None
        if (clean / name).is_file():  # so few files are read
            with contextlib.suppress(ValueError):
                text = submission.read(name)
        if text is None or (clean / name).read_text(encoding="utf-8") != text:
            names.append(shown(name, 100))
    if not names:
        return []
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return [f"altered or added, without effect: {', '.join(names[:10])}{more}"]


def write_results(path: Path, found: Grade, marking: Marking) -> None:
    """Write results.json as Gradescope reads it."""
    from minbert.files import write_json

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
            {
                "name": "Notes",
                "output": "\n".join(found.notes),
                "visibility": "hidden",
                "score": 0,
                "max_score": 0,
            }
        )
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
    write_json(path, results)


def write_class(path: Path, grades: Sequence[Grade], exercises: Sequence[Exercise]) -> None:
    """Write the table of the class."""
    from minbert.files import write_text

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["name", "score", "of", *(e.name for e in exercises), "notes"])
    total = sum(e.points for e in exercises)
    for each in grades:
        points = [points_of(e, each.verdicts.get(e.name)) for e in exercises]
        notes = cell("; ".join(each.notes))
        table.writerow([cell(each.name), each.score, total, *points, notes])
    write_text(path, text.getvalue())


def cell(text: str) -> str:
    """Text that a spreadsheet takes for text: what would begin a formula gets an apostrophe."""
    return re.sub(r"(^|[;,\t])(\s*)([=+@-])", r"\1\2'\3", text)
