"""Which version of the library a student's copy was made from: two lines of minbert/edition.py.

They are read as text: of a copy in which no package can be imported, and of a submission, whose
file may hold anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PLACE = "minbert/edition.py"
UNKNOWN = "$Format:%H$"
"""The library's own COMMIT, but where `git archive` has put the commit in its place."""


@dataclass(frozen=True)
class Stamp:
    """A version of the library."""

    version: str
    commit: str = ""
    """Of its files, with a + where some differed; empty where it is not known."""

    @classmethod
    def read(cls, text: str) -> Stamp | None:
        """The stamp in the text of a minbert/edition.py, or None if it has none."""
        lines = re.findall(r'^(VERSION|COMMIT) = "([\w.+-]{0,64})"$', text, re.MULTILINE)
        found = {name.lower(): value for name, value in lines}
        return cls(**found) if found.get("version") else None

    def differs(self, other: Stamp) -> bool:
        """Whether the two name different files, as far as they say."""
        both_known = bool(self.commit and other.commit)
        return self.version != other.version or (both_known and self.commit != other.commit)

    def __str__(self) -> str:
        return f"minbert {self.version}" + (f", commit {self.commit}" if self.commit else "")
