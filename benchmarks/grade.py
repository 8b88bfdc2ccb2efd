"""What grading a class takes: made-up submissions of every form, through `minbert lab grade`.

Of ten, four are complete and right, three complete but for three wrong answers of the catalogue,
two half done and one as it was handed out. A quarter each comes in a zip file of Moodle's, as flat
files in one of Canvas's, as tar.gz files, and as zip files with another one inside.
"""

from __future__ import annotations

import ctypes
import inspect
import io
import os
import random
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from csv import DictReader
from pathlib import Path
from typing import Any

from lab import handout
from lab.answers import MISTAKES, Mistake, load_answers
from lab.exercises import EXERCISES, Exercise
from lab.planting import resolve
from lab.source import body_of, replace_body

KINDS = ("right",) * 4 + ("some wrong",) * 3 + ("half done",) * 2 + ("blank",)
WRONG = 3
"""Wrong answers of a submission that has some."""
FORMS = 4

Files = dict[str, str]
"""The text of each file with exercises, by its path."""


def measure(count: int, *, jobs: int) -> dict[str, Any]:
    """Make a class and grade it.

    Returns:
        submissions, jobs, seconds (the start included), the same for a submission, and the mean
        points by kind. What was computed is not known: nobody is told that of a process that is
        ended in its namespace.

    Raises:
        ValueError: grading failed, or the right ones did not get all points.
    """
    with tempfile.TemporaryDirectory(prefix="class-") as place:
        folder = Path(place)
        paths = write_class(make_class(count), folder)
        grade = [sys.executable, "-m", "lab", "grade", *map(str, paths)]
        grade += ["--out", str(folder / "results"), "-j", str(jobs), "--seed", "7"]
        seconds, _ = run(grade)
        with (folder / "results" / "class.csv").open(encoding="utf-8", newline="") as table:
            rows = list(DictReader(table))
    points: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for row in rows:
        number = int(row["name"].split("_")[0].removeprefix("student"))
        points[KINDS[number % len(KINDS)]].append(int(row["score"]))
    total = sum(exercise.points for exercise in EXERCISES)
    if len(rows) != count or set(points["right"]) - {total}:
        raise ValueError(f"{len(rows)} of {count} were graded, the right ones {points['right']}")
    return {
        "submissions": count,
        "exercises": len(EXERCISES),
        "jobs": jobs,
        "seconds": round(seconds, 1),
        "seconds_each": round(seconds / count, 3),
        "mean_points": {k: round(sum(v) / len(v), 1) for k, v in points.items() if v},
        "points": total,
    }


def run(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    code: int = 0,
) -> tuple[float, float]:
    """Seconds of a command, and CPU seconds of it and of all that it starts.

    Args:
        command: its words.
        folder: where it runs.
        environment: its variables, by default this process's.
        code: how it should end.

    Raises:
        ValueError: it ended otherwise.
    """
    child_subreaper = 36
    ctypes.CDLL(None).prctl(child_subreaper, 1, 0, 0, 0)  # what outlives its parent is ours
    before, began = spent(), time.monotonic()
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=False,
    )
    seconds = time.monotonic() - began
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    if ended.returncode != code:
        said = ended.stdout[-500:]
        raise ValueError(f"{' '.join(command[:5])} ended with {ended.returncode}: {said}")
    return seconds, spent() - before


def spent() -> float:
    """CPU seconds of the processes that have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make_class(count: int, seed: int = 0) -> dict[str, Files]:
    """Submissions by their students' names, the number at the end of which gives the kind."""
    load_answers()
    wrong = [mistake for mistake in MISTAKES if stands_alone(mistake)]
    library = {
        place.path.as_posix(): (handout.ROOT / place.path).read_text(encoding="utf-8")
        for exercise in EXERCISES
        for place in exercise.places
    }
    blank = blanked(library, EXERCISES)
    half = blanked(library, EXERCISES[len(EXERCISES) // 2 :])
    found: dict[str, Files] = {}
    for number in range(count):
        kind, draw = KINDS[number % len(KINDS)], random.Random(f"{seed} {number}")
        files = {"blank": blank, "half done": half}.get(kind, library)
        if kind == "some wrong":
            files = {**files}
            for mistake in draw.sample(wrong, WRONG):
                path = mistake.target.path.as_posix()
                body = body_of(source_of(mistake), mistake.name)
                files[path] = replace_body(files[path], mistake.target.name, body)
        # Nobody's files are another's to the letter.
        found[f"student{number}"] = {p: f"{text}\n# {number}\n" for p, text in files.items()}
    return found


def blanked(files: Files, exercises: Iterable[Exercise]) -> Files:
    """Files in which exercises are not started."""
    files = {**files}
    for exercise in exercises:
        for place in exercise.places:
            lines = [f'raise NotImplementedError("{exercise}")']
            path = place.path.as_posix()
            files[path] = replace_body(files[path], place.name, lines)
    return files


def stands_alone(mistake: Mistake) -> bool:
    """Whether a mistake's body means in the library's file what it means in its own."""
    if not Path(inspect.getfile(mistake.function)).is_file():
        return False  # made from another's text: see lab/answers/plain_*.py
    function = resolve(mistake.target)[2]
    if inspect.signature(function).parameters.keys() - {"self", "cls"} != (
        inspect.signature(mistake.function).parameters.keys() - {"self", "cls"}
    ):
        return False
    used = inspect.getclosurevars(mistake.function)
    theirs = vars(sys.modules[mistake.target.module])
    here = all(theirs.get(name) is value for name, value in used.globals.items())
    return here and not used.nonlocals


def source_of(mistake: Mistake) -> str:
    return Path(inspect.getfile(mistake.function)).read_text(encoding="utf-8")


# The forms in which a class comes


def write_class(class_: Mapping[str, Files], folder: Path) -> list[Path]:
    """Write a class as archives; gives their paths."""
    moodle, canvas = folder / "moodle.zip", folder / "canvas.zip"
    paths = [moodle, canvas]
    with zipfile.ZipFile(moodle, "w") as first, zipfile.ZipFile(canvas, "w") as second:
        for number, (name, files) in enumerate(class_.items()):
            form = number // len(KINDS) % FORMS  # every kind in every form
            if form == 0:
                place = f"{name}_{1000 + number}_assignsubmission_file_/my-work.zip"
                first.writestr(place, zipped(files, "my-work/"))
            elif form == 1:
                for path, text in files.items():
                    second.writestr(f"{name}_{1000 + number}_55_{path.rpartition('/')[2]}", text)
            elif form == 2:
                paths.append(folder / f"{name}.tar.gz")
                paths[-1].write_bytes(tarred(files, "work/"))
            else:
                paths.append(folder / f"{name}.zip")
                paths[-1].write_bytes(zipped({"upload/hand-in.zip": zipped(files, "")}, ""))
    return [path for path in paths if path.stat().st_size > 100]  # an empty archive has fewer


def zipped(files: Mapping[str, str | bytes], inside: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(inside + path, content)
    return packed.getvalue()


def tarred(files: Files, inside: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, text in files.items():
            info, content = tarfile.TarInfo(inside + path), text.encode()
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


HEADER = ["submissions", "at once", "s", "s each"]


def rows(found: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """The lines of a table of what `measure` found of each class."""
    keys = ("submissions", "jobs", "seconds", "seconds_each")
    return [[f"{each[key]:g}" for key in keys] for each in found]
