"""What is taken of a submission, and notes on what it changed besides, which has no effect."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from pathlib import Path

from lab.check import stamp_of
from lab.copies import Copy
from lab.diagnose import shown
from lab.helpers import HOOKS, MOST_HELPERS, new_files
from lab.marking import Marking
from lab.results import Grade
from lab.stamp import PLACE, Stamp
from lab.submission import Submission


def put_in(submission: Submission, copy: Copy, marking: Marking, found: Grade) -> None:
    """Put a submission's files into a copy: those with exercises, and new ones that they need."""
    new = new_files(submission.places, marking.ours)
    if len(new) > MOST_HELPERS:
        found.notes.append(f"{len(new)} new files: {MOST_HELPERS} are taken along")
        new = new[:MOST_HELPERS]
    wanted = sorted(marking.wanted)
    for file in (*wanted, *new):
        try:
            text = submission.read(file)
        except ValueError as error:
            found.notes.append(str(error))
            continue
        if text is None:
            found.notes.append(f"{file} was not handed in")
            continue
        try:
            copy.write(file, text)
        except OSError as error:  # such as a folder where the copy has a file
            found.notes.append(f"{file} cannot be taken along: {error.strerror}")
            continue
        if file in marking.wanted:
            found.texts[file] = text
    if new:
        told = ", ".join(shown(each, 100) for each in new[:10])
        more = f" and {len(new) - 10} more" if len(new) > 10 else ""
        found.notes.append(f"new files, taken along: {told}{more}")


def other_version(submission: Submission, clean: Path) -> list[str]:
    """A note if the submission says that it was made from another version of the library."""
    with contextlib.suppress(ValueError):
        theirs = Stamp.read(submission.read(PLACE) or "")
        ours = stamp_of(clean)
        if theirs and ours and theirs.differs(ours):
            return [f"made from {theirs}; graded with {ours}"]
    return []


def altered(submission: Submission, marking: Marking, *, packages: bool = True) -> list[str]:
    """Notes on files that have no effect here and were changed or added all the same.

    Args:
        submission: what was handed in.
        marking: has the files as they should be.
        packages: whether to look at those of the library too; another version's differ.
    """
    names = []
    for name in sorted(submission.places):
        parts = name.split("/")
        if not name.endswith((".py", ".pth")) or name == PLACE or name in marking.wanted:
            continue
        apart = parts[0] in ("lab", "tests") or parts[-1] in HOOKS or name.endswith(".pth")
        ours = marking.ours.get(name)
        if not apart and (ours is None or not packages):
            continue
        if ours is None or not is_same(submission, name, ours):
            names.append(shown(name, 100))
    if not names:
        return []
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return [f"altered or added, without effect: {', '.join(names[:10])}{more}"]


def is_same(submission: Submission, name: str, ours: bytes) -> bool:
    """Whether a file is as it was, but for its line ends; of a zip file its table may say so."""
    place = submission.places[name]
    if isinstance(place, zipfile.ZipInfo) and zlib.crc32(ours) == place.CRC:
        return True
    try:
        text = submission.read(name)
    except ValueError:
        return False
    return text is not None and text.replace("\r\n", "\n").encode() == ours
