"""Whose code a command runs: the library's, or that of a student's copy.

Both are installed as `minbert`, and the environment that is active decides between them, not the
folder. `minbert lab check` and its like read the copy that the folder is in and say so; every other
command would run its own code there, unnoticed, so a mix of the two is an error.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The project whose code is running."""
HARMLESS = ("-h", "--help", "--version")
"""Options of commands that run nothing of either."""


def is_copy(root: Path) -> bool:
    """Whether a folder is a student's copy."""
    return (root / "lab" / "golden" / "expected").is_dir()


def copy_around(folder: Path) -> Path | None:
    """The student's copy that a folder is in, if it is in one."""
    return next((each for each in (folder, *folder.parents) if is_copy(each)), None)


def say(words: Sequence[str], folder: Path) -> None:
    """Say on standard error that a copy's code runs, for commands other than the lab's.

    Raises:
        ValueError: the folder is in a copy, and the code that runs is not that copy's.
    """
    if not words or any(word in HARMLESS for word in words):
        return
    copy = copy_around(folder.resolve())
    if copy is not None and copy != ROOT:
        raise ValueError(
            f"this folder is in the student's copy {quoted(copy)}, and `minbert` is "
            f"{described(ROOT)}, whose code would run in its place; set the copy up and take its "
            f"own: cd {quoted(copy)} && bash setup.sh --cpu && source .venv/bin/activate"
        )
    if is_copy(ROOT) and os.environ.get("RANK", "0") == "0":  # once, under torchrun
        print(f"this runs the code of your copy, {quoted(ROOT)}", file=sys.stderr)


def described(root: Path) -> str:
    """What a project is, and where."""
    return f"{'that of the copy' if is_copy(root) else 'that of the library,'} {quoted(root)}"


def quoted(path: Path) -> str:
    """A path as a shell reads it."""
    return shlex.quote(str(path))
