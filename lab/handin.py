"""`minbert lab hand-in`: the zip file that is handed in, and whether what is in it works."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab.check import assigned, verdicts
from lab.exercises import Exercise
from lab.helpers import MOST_HELPERS, digest, new_files, read_sums
from lab.outcomes import Output
from lab.submission import LARGEST, MOST, open_submission
from lab.whose import quoted

NAME = "hand-in.zip"
SKIPPED = ("__pycache__", "venv", "env", "node_modules", "build", "dist", "site")
SKIPPED_AT_TOP = ("real-data", "runs")
"""What training reads and leaves; also every name that begins with a dot."""
LARGEST_OTHER = 20_000_000
"""Bytes of a figure or of predictions."""


def hand_in(root: Path, path: Path) -> int:
    """Write a copy into a zip file, check what is in it, and say what a grader will see.

    Returns:
        The exit status: 1 where something should be mended first.

    Raises:
        ValueError: the file is none of ours, or there is nothing to hand in.
    """
    if path.exists() and path.name != NAME:
        raise ValueError(f"{quoted(path)} is there already; choose another name")
    left_out = write_zip(root, path)
    exercises = assigned(root)
    wanted = {place.path.as_posix() for exercise in exercises for place in exercise.places}
    submission = open_submission(path, wanted)
    print(f"{quoted(path)}: {len(submission.places)} files, {path.stat().st_size / 1e6:.1f} MB")
    problems = [f"left out: {each}" for each in left_out]
    for name in sorted(wanted):
        try:
            if submission.read(name) is None:
                problems.append(f"{name} is missing")
        except ValueError as error:
            problems.append(str(error))
    own = new_files(submission.places, known := read_sums(root).keys() | wanted)
    if known != wanted and own:
        print(f"  new files, which are taken along: {', '.join(own)}")
        if len(own) > MOST_HELPERS:
            problems.append(f"only {MOST_HELPERS} new files are taken along")
    changed = altered(root)
    if changed:
        print(f"  changed, without effect on the grade: {', '.join(changed)}")
    problems += predictions_in(path, wanted)
    say_what_is_done(path, exercises)
    for problem in problems:
        print(f"  problem: {problem}")
    return 1 if problems else 0


def say_what_is_done(path: Path, exercises: tuple[Exercise, ...]) -> None:
    """Check the exercises in the zip file itself, unpacked: what it lacks is missed here."""
    with tempfile.TemporaryDirectory(prefix="hand-in-") as folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)  # names that this process has written itself
        found = list(verdicts(Path(folder), exercises, Output()))
    done = [exercise for exercise, verdict in found if verdict.status == "done"]
    points, total = sum(e.points for e in done), sum(e.points for e in exercises)
    print(f"  {len(done)} of {len(exercises)} exercises are done in it, {points} of {total} points")
    for status in ("wrong", "not started"):
        numbers = [exercise.number for exercise, verdict in found if verdict.status == status]
        if numbers:
            print(f"  {status}: {ranges(numbers)}")


def ranges(numbers: Sequence[int]) -> str:
    """Numbers in rising order as 1-4, 7."""
    pieces: list[str] = []
    first = numbers[0]
    for number, following in zip(numbers, (*numbers[1:], None)):
        if following != number + 1:
            pieces.append(str(number) if first == number else f"{first}-{number}")
            first = following if following is not None else number
    return ", ".join(pieces)


def altered(root: Path) -> list[str]:
    """Files of the library, none with exercises, that are no longer as the copy had them."""
    names = []
    for name, checksum in read_sums(root).items():
        path = root / name
        if not path.is_file() or digest(path.read_bytes()) != checksum:
            names.append(name)
    return names


def predictions_in(path: Path, wanted: set[str]) -> list[str]:
    """What is wrong with the predictions, if there are any."""
    submission = open_submission(path, wanted)
    if not any(name.startswith("predictions/") for name in submission.places):
        return []
    try:
        from lab.predictions import inspect
    except Exception as error:  # it needs data/, which may be broken
        return [f"the predictions could not be looked at: {error}"]
    return inspect(submission, {})[0]


def write_zip(root: Path, path: Path) -> list[str]:
    """Write the zip file, whole or not at all; gives what was left out of it and why."""
    left_out: list[str] = []
    new = path.with_name(f"{path.name}.new")
    count = 0
    with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for file in files_of(root):
            name = file.relative_to(root).as_posix()
            info = file.lstat()
            limit = LARGEST if file.suffix == ".py" else LARGEST_OTHER
            if file.resolve() in (path.resolve(), new.resolve()) or file.suffix == ".zip":
                continue
            if not stat.S_ISREG(info.st_mode):
                left_out.append(f"{name!a} is a link, a pipe or a device")
            elif info.st_size > limit:
                left_out.append(f"{name!a} is larger than {limit:,} bytes")
            elif not name.isprintable():
                left_out.append(f"{name!a} has a name that no zip file takes")
            elif count == MOST:
                raise ValueError(f"{quoted(root)} holds more than {MOST:,} files; tidy it up")
            else:
                archive.write(file, name)
                count += 1
    os.replace(new, path)
    return left_out


def files_of(root: Path) -> Iterator[Path]:
    """A student's files: not those of environments, caches, data and runs."""
    for parent, folders, files in os.walk(root):
        skipped = (*SKIPPED, *SKIPPED_AT_TOP) if Path(parent) == root else SKIPPED
        folders[:] = sorted(
            each for each in folders
            if each not in skipped and not each.startswith(".") and not each.endswith(".egg-info")
        )  # fmt: skip
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def predictions_lint(folder: Path, data_dir: Path | None) -> int:
    """`minbert lab predictions`: what is wrong with prediction files, and their scores."""
    from lab.predictions import inspect, names_of, read_labels
    from lab.submission import Submission

    if not folder.is_dir():
        raise ValueError(f"{quoted(folder)} is no folder; minbert evaluate RUN --out predictions")
    places = {f"predictions/{file.name}": file for file in folder.iterdir() if file.is_file()}
    labels = {} if data_dir is None else read_labels(data_dir)
    known = sorted(names_of().keys() & {file.name for file in places.values()})
    begun = {names_of()[name][0].name for name in known}  # whose other split is missing, if it is
    problems, scores = inspect(Submission(folder, {**places}), labels, begun)
    print(f"{len(known)} prediction files: {', '.join(known) or 'none'}", file=sys.stdout)
    for name, value in scores.items():
        print(f"  {name}: {value:.4f}")
    for problem in problems:
        print(f"  problem: {problem}")
    if not problems and known:
        print("  all are in the course's format")
    return 0 if known and not problems else 1
