"""`minbert lab start`: a student's copy of the library, with the exercises' bodies taken out.

The copy is made from the library itself, so it cannot drift from it. It is a project of its own:
installable, with checks, expected numbers and the assignment, and without a solution anywhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from lab import source
from lab.exercises import EXERCISES, Exercise

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("minbert", "optim", "data", "multitask")
FILES = ("setup.sh", "constraints.txt", "environment.yml", "LICENSE")
ASSIGNMENT = ROOT / "docs" / "assignment.md"
"""Becomes the README, but for what is for teachers."""
REPORT = ROOT / "docs" / "report-template.md"
"""Becomes Report.md."""
LAB = ("__init__.py", "__main__.py", "commands.py", "terminal.py", "exercises", "source.py",
       "values.py", "harness.py", "runner.py", "diagnose.py", "check.py", "checks")  # fmt: skip
"""What the copy has of this package; answers, and what makes and grades copies, stay here."""

LEFT_OUT = ("minbert/encoders/convbert.py", "minbert/encoders/convbert_hub.py",
            "minbert/encoders/modernbert.py", "minbert/encoders/modernbert_hub.py",
            "minbert/encoders/modernbert_config.py")  # fmt: skip
"""What the copy does not have: these encoders are written much as the exercises want BERT's."""

CHANGES = {
    "minbert/__init__.py": (
        ("    from minbert.encoders.convbert import ConvBert, ConvBertConfig\n"
         "    from minbert.encoders.modernbert import ModernBert\n"
         "    from minbert.encoders.modernbert_config import ModernBertConfig\n", ""),
        ('    "ConvBert": "encoders.convbert",\n    "ConvBertConfig": "encoders.convbert",\n', ""),
        ('    "ModernBert": "encoders.modernbert",\n'
         '    "ModernBertConfig": "encoders.modernbert_config",\n', ""),
        ('    "ConvBert",\n    "ConvBertConfig",\n', ""),
        ('    "ModernBert",\n    "ModernBertConfig",\n', ""),
    ),
    "minbert/encoders/__init__.py": (
        ("import bert, convbert, modernbert", "import bert"),
        ('["bert", "convbert", "encoder_class", "modernbert"]', '["bert", "encoder_class"]'),
    ),
    "pyproject.toml": (
        ('minbert = "multitask.__main__:main"', 'minbert = "lab.__main__:main"'),
        ("timeout = 120", "timeout = 20"),
        # `pytest tests/exercises` without the large libraries that other tests compare with.
        ('    "matplotlib>=3.8",\n',
         '    "matplotlib>=3.8",\n    "pytest>=8",\n    "pytest-timeout>=2.3",\n'),
        ('    "transformers>=5",\n    "sentence-transformers>=5",\n    "peft>=0.17",\n', ""),
    ),
    "setup.sh": (("try: bash setup.sh minbert demo", "try: bash setup.sh minbert lab check"),),
    # So that training goes through what the student has written.
    "multitask/settings.py": (
        ('route: Literal["auto", "plain", "blas", "onednn"] = "auto"',
         'route: Literal["auto", "plain", "blas", "onednn"] = "plain"'),
        ('layout: Literal["packed", "padded"] = "packed"',
         'layout: Literal["packed", "padded"] = "padded"'),
        ('optimizer: Literal["fused", "plain"] = "fused"',
         'optimizer: Literal["fused", "plain"] = "plain"'),
    ),
    "minbert/quick.py": (('_route: Route = "auto"', '_route: Route = "plain"'),),
}  # fmt: skip
"""File -> what is written differently in the copy."""


def start(
    folder: Path, *, exercises: Collection[Exercise] = EXERCISES, solved: Collection[Exercise] = ()
) -> Path:
    """Write a student's copy.

    Args:
        folder: a new or empty folder.
        exercises: those that the copy sets; the others' functions are complete in it.
        solved: exercises of these that are complete as well, to start later.

    Raises:
        ValueError: the folder has something in it, or this is no clone of the project.
    """
    from lab import golden

    copy(folder, exercises=[e for e in exercises if e not in solved])
    golden.write(folder / "lab" / "golden", sorted(exercises, key=EXERCISES.index))
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
    assignment = ASSIGNMENT.read_text(encoding="utf-8")
    text, _, _ = assignment.partition("\n## For teachers\n")
    (folder / "README.md").write_text(text, encoding="utf-8")
    shutil.copy(REPORT, folder / "Report.md")
    for name, changes in CHANGES.items():
        _change(folder / name, changes)
    for exercise in exercises:
        blank(folder, exercise)


def project_files() -> Iterator[Path]:
    """The files of the library that a copy is made from."""
    for name in (*PACKAGES, *(f"lab/{part}" for part in LAB), "tests/exercises"):
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
        body = source.body_of((ROOT / place.path).read_text(encoding="utf-8"), place.name)
        path = root / place.path
        text = path.read_text(encoding="utf-8")
        path.write_text(source.replace_body(text, place.name, body), encoding="utf-8")


def _change(path: Path, changes: tuple[tuple[str, str], ...]) -> None:
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, f"{path.name} should have {old!r} once; see lab/handout.py"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
