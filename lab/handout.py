"""`minbert lab start`: a student's copy of the library, with the exercises' bodies taken out.

The copy is made from the library itself, so it cannot drift from it. It is a project of its own:
installable, with checks, expected numbers and the assignment, and without a solution anywhere.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from lab import source
from lab.exercises import EXERCISES, Exercise
from lab.helpers import write_sums
from lab.progress import write_references
from lab.stamp import PLACE, UNKNOWN, Stamp

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("minbert", "optim", "data", "multitask")
OTHERS = ("tests/exercises", "scripts", "docs/extensions")
FILES = ("setup.sh", "constraints.txt", "environment.yml", "LICENSE", ".gitignore")
ASSIGNMENT = ROOT / "docs" / "assignment.md"
"""Becomes the README."""
REPORT = ROOT / "docs" / "report-template.md"
"""Becomes Report.md."""
LAB = ("__init__.py", "__main__.py", "commands.py", "terminal.py", "exercises", "source.py",
       "values.py", "planting.py", "harness.py", "upstream.py", "calls.py", "runner.py",
       "outcomes.py", "differences.py", "diagnose.py", "check.py", "checks", "show.py", "stamp.py",
       "suspects.py", "replay.py", "whose.py", "progress.py", "watch.py", "warm.py", "handin.py",
       "helpers.py", "submission.py", "predictions.py")  # fmt: skip
"""What the copy has of this package; answers, and what makes and grades copies, stay here."""

LEFT_OUT = ("minbert/encoders/convbert.py", "minbert/encoders/convbert_hub.py",
            "minbert/encoders/modernbert.py", "minbert/encoders/modernbert_hub.py",
            "minbert/encoders/modernbert_config.py")  # fmt: skip
"""What the copy does not have: these encoders are written much as the exercises want BERT's."""

NEEDS = ("pytest", "pytest-timeout")
"""What `pytest tests/exercises` needs, of the extra "test": in a copy it is always there."""
REFERENCES = ("transformers", "sentence-transformers", "peft", "nbclient", "nbformat", "ipykernel",
              "captum", "playwright")  # fmt: skip
"""Libraries that the extra "test" has for the library's own tests, which a copy has not."""

EDITION = '''"""What this copy has otherwise than the library."""

VERSION = "{stamp.version}"
"""Of the library that this copy was made from."""
COMMIT = "{stamp.commit}"
"""Of its files, with a + where some differed; empty where it is not known."""
PLAIN = True
"""Whether training goes through what you have written, unless it is told otherwise."""
'''
"""The copy's minbert/edition.py."""

OTHER_ENCODERS = '''"""The public names of the encoders beside BERT: this copy has none."""

from __future__ import annotations

HOMES: dict[str, str] = {}
"""Public name -> its module of minbert."""

__all__: list[str] = []
'''
"""The copy's minbert/other_encoders.py."""


IGNORED = """
# What a student's work leaves, and what is no part of it
/real-data/
/hand-in.zip
"""
"""Is added to the project's own .gitignore in a copy."""


def start(
    folder: Path,
    *,
    exercises: Collection[Exercise] = EXERCISES,
    solved: Collection[Exercise] = (),
    references: bool = False,
) -> Path:
    """Write a student's copy.

    Args:
        folder: a new or empty folder.
        exercises: those that the copy sets; the others' functions are complete in it.
        solved: exercises of these that are complete as well, to start later.
        references: whether the copy has the library's bodies, for `minbert lab diff`.

    Raises:
        ValueError: the folder has something in it, or this is no clone of the project.
    """
    from lab import golden

    copy(folder, exercises=[e for e in exercises if e not in solved])
    golden.write(folder / "lab" / "golden", sorted(exercises, key=EXERCISES.index))
    places = [place for exercise in exercises for place in exercise.places]
    if references:
        write_references(folder, {str(place): body(place) for place in places})
    held = {place.path.as_posix() for place in places}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}
    write_sums(folder, files - held)
    return folder


def copy(folder: Path, *, exercises: Collection[Exercise] = EXERCISES) -> None:
    """Write the files of a copy in which these exercises are blank, without expected numbers."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already; choose a new folder for the copy")
    if not (ROOT / "setup.sh").exists():
        raise ValueError(f"{ROOT} is not a clone of the project, which a copy is made from")
    for path in project_files():
        if path.relative_to(ROOT).as_posix() in LEFT_OUT:
            continue
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copy(ASSIGNMENT, folder / "README.md")
    shutil.copy(REPORT, folder / "Report.md")
    with (folder / ".gitignore").open("a", encoding="utf-8") as ignored:
        ignored.write(IGNORED)
    (folder / PLACE).write_text(EDITION.format(stamp=stamp()), encoding="utf-8")
    (folder / "minbert" / "other_encoders.py").write_text(OTHER_ENCODERS, encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text(students_project(project), encoding="utf-8")
    for exercise in exercises:
        blank(folder, exercise)


def stamp() -> Stamp:
    """The version and commit of this library."""
    from minbert.edition import COMMIT, VERSION
    from minbert.version import commit

    return Stamp(VERSION, (commit() or "") if COMMIT == UNKNOWN else COMMIT)


def students_project(text: str) -> str:
    """The copy's pyproject.toml, of the library's: with `pytest tests/exercises` always there, and
    without what is installed for the library's own tests and pages."""
    import tomlkit

    project: Any = tomlkit.parse(text)
    extras = project["project"]["optional-dependencies"]
    for wanted in [*extras["test"]]:
        name = re.split("[<>=~! ;[]", wanted)[0]
        if name in REFERENCES:
            extras["test"].remove(wanted)
        elif name in NEEDS:
            project["project"]["dependencies"].append(wanted)
    extras.pop("docs", None)
    project["tool"]["pytest"]["ini_options"]["timeout"] = 20
    return tomlkit.dumps(project)


def project_files() -> Iterator[Path]:
    """The files of the library that a copy is made from."""
    for name in (*PACKAGES, *(f"lab/{part}" for part in LAB), *OTHERS):
        path = ROOT / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
                yield file
    yield from (ROOT / name for name in (*FILES, "pyproject.toml"))


def blank(root: Path, exercise: Exercise) -> None:
    """Take an exercise's bodies out of a copy; signatures and docstrings stay."""
    lines = [
        f"# {exercise.heading} ({exercise.points} points), README.md#{exercise.name}",
        f'raise NotImplementedError("{exercise}")',
    ]
    for place in exercise.places:
        path = root / place.path
        text = path.read_text(encoding="utf-8")
        path.write_text(source.replace_body(text, place.name, lines), encoding="utf-8")


def solve(root: Path, exercise: Exercise) -> None:
    """Put the library's own bodies into a copy."""
    for place in exercise.places:
        path = root / place.path
        text = path.read_text(encoding="utf-8")
        path.write_text(source.replace_body(text, place.name, body(place)), encoding="utf-8")


def body(place: source.Target) -> list[str]:
    """The library's own body of a function."""
    return source.body_of((ROOT / place.path).read_text(encoding="utf-8"), place.name)
