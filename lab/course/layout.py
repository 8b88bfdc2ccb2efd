"""What a checkout of CS224N's or CMU's minBERT is, and what its files import."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path

FILES = ("bert.py", "optimizer.py", "classifier.py", "multitask_classifier.py")
"""The files with something to fill in; CMU's has no multitask_classifier.py."""
SIGNS = {"bert.py": r"class\s+BertSelfAttention\b", "optimizer.py": r"class\s+AdamW\b"}
"""What tells a file of theirs from another of its name."""
OTHERS = ("base_bert.py", "classifier.py", "multitask_classifier.py")
OURS = {"importlib_metadata": "importlib.metadata"}
"""Packages that Python has meanwhile, by another name."""


def is_checkout(folder: Path) -> bool:
    """Whether a folder is a checkout: one of the signs, and a file that a handout gives."""
    signs = any(re.search(sign, _text(folder / name)) for name, sign in SIGNS.items())
    return signs and any((folder / name).is_file() for name in OTHERS)


def checkout_around(folder: Path) -> Path | None:
    """The checkout that a folder is in, if it is in one."""
    return next((each for each in (folder, *folder.parents) if is_checkout(each)), None)


def course_of(root: Path) -> str:
    """Whose handout it is."""
    return "CS224N" if (root / "multitask_classifier.py").is_file() else "CMU"


def missing_packages(root: Path) -> list[str]:
    """Packages that the files import and that are not installed here.

    Only what a file cannot do without counts: imports at its top, in no `try`.
    """
    seen: set[str] = set()
    left, missing = [Path(name).stem for name in FILES], set[str]()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        if (root / f"{name}.py").is_file():
            left += _imports(_text(root / f"{name}.py"))
        elif not (root / name).is_dir() and name not in OURS and not _is_there(name):
            missing.add(name)
    return sorted(missing - {Path(name).stem for name in FILES})


def _imports(text: str) -> list[str]:
    """The modules, without what follows a dot, that a file imports at its top."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return []
    names = [alias.name for node in body if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in body if isinstance(node, ast.ImportFrom)]
    return [name.partition(".")[0] for name in names if name]


def _is_there(name: str) -> bool:
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
