"""Which library this is: its version, and the commit of its files."""

from __future__ import annotations

import subprocess
from pathlib import Path

from minbert.edition import COMMIT, PLAIN, VERSION


def describe_version() -> str:
    """One line with the version and, where it is known, the commit: of this library, or of the one
    that this student's copy was made from."""
    known = commit() if COMMIT.startswith("$") else COMMIT
    found = f"minbert {VERSION}" + (f", commit {known}" if known else "")
    return f"a student's copy of {found}" if PLAIN else found


def commit() -> str | None:
    """The commit of the source tree, with a + where files differ from it; None outside of git."""

    def git(*words: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", *words], cwd=here, capture_output=True, encoding="utf-8", check=True, timeout=10
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
