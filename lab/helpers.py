"""Which files of a student's project count for a grade: those with exercises, and new ones.

A student may write functions into files of their own. Python files that the copy did not have are
taken along, where nothing else is called as they are; what was changed besides has no effect.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

MOST_HELPERS = 100
HOOKS = ("conftest.py", "sitecustomize.py", "usercustomize.py")
APART = ("lab", "tests", "docs", "scripts", "examples", "build", "dist", "env", "runs")
"""Folders at the top that hold nothing the exercises import."""
SUMS = Path("lab", "golden", "files.txt")
"""The copy's files as it was made, as sha256sum writes them."""


def new_files(names: Iterable[str], known: Collection[str]) -> list[str]:
    """The Python files that are taken along.

    Args:
        names: paths of a student's project.
        known: paths that the copy had.
    """
    return sorted(name for name in names if name not in known and _counts(name, known))


def _counts(name: str, known: Collection[str]) -> bool:
    path = PurePosixPath(name)
    parts = [*path.parts[:-1], path.stem]
    if path.suffix != ".py" or path.name in HOOKS or parts[0] in APART:
        return False
    if not all(part.isidentifier() for part in parts):
        return False
    # A package would hide the module of its name.
    if any(f"{'/'.join(parts[:end])}.py" in known for end in range(1, len(parts))):
        return False
    top = parts[0]
    ours = any(each.startswith(f"{top}/") for each in known)
    return ours or not (top in sys.stdlib_module_names or _is_installed(top))


def _is_installed(module: str) -> bool:
    folders = [Path(each) for each in sys.path if each.endswith("-packages")]
    return any((each / module).exists() or (each / f"{module}.py").exists() for each in folders)


def digest(content: bytes) -> str:
    """The checksum of a text, whatever its line ends."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


def write_sums(root: Path, names: Iterable[str]) -> None:
    """Write down a new copy's files, whose changes have no effect on a grade."""
    lines = [f"{digest((root / name).read_bytes())}  {name}\n" for name in sorted(names)]
    (root / SUMS).write_text("".join(lines), encoding="utf-8")


def read_sums(root: Path) -> Mapping[str, str]:
    """Path -> checksum of the files of a copy as it was made; nothing where it does not say."""
    try:
        text = (root / SUMS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return {name: digest for digest, name in (line.split("  ", 1) for line in text.splitlines())}
