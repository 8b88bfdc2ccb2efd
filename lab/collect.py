"""From what a teacher has to one path a student: folders, archives, and a class in one archive.

Moodle and Canvas give a class as one zip file, and put names and numbers before each file's own:

    Ada Lovelace_1234_assignsubmission_file_/my-work.zip     Moodle, with or without folders
    lovelaceada_LATE_1234_5678_my-work.zip                   Canvas, flat; also single .py files

Such names are known in zip files, in folders and among paths. Files of one student go together.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import unicodedata
import zipfile
from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lab.diagnose import shown
from lab.submission import (
    ARCHIVES,
    LARGEST_ARCHIVE,
    Archive,
    Place,
    is_archive,
    members_of,
    open_zip,
    read_place,
)

NAMINGS = (
    re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<rest>.*)"),
    re.compile(r"(?P<name>[^_]+)(?:_LATE)?_(?P<id>\d+)_\d+_(?P<rest>.+)"),
)
"""How Moodle and Canvas name what was handed in."""
LARGEST_CLASS = 2**32
"""Bytes that a class in one archive may unpack to."""


@dataclass(frozen=True)
class Handed:
    """What one student handed in."""

    path: Path
    name: str
    """The student's, where the file's name says it, else the file's."""
    problem: str = ""
    """Why it cannot be looked at."""


def collect(paths: Sequence[Path], folder: Path) -> list[Handed]:
    """The submissions that are in these paths.

    Args:
        paths: of single submissions, of archives and folders of a class.
        folder: for the files of a class that have to be put together.
    """
    found: list[Handed] = []
    together: dict[str, list[Path]] = {}
    for path in expanded(paths):
        student = student_of(os.path.basename(os.path.abspath(path)))
        if student is not None and path.exists():
            together.setdefault(student[0], []).append(path)
        elif path.is_file() and is_archive(path.name) and (members := _class_in(path)):
            found += _unpacked(path, members, folder / f"class-{len(found)}")
        else:
            found.append(Handed(path, path.name))
    for number, (name, parts) in enumerate(together.items()):
        folders = [part for part in parts if part.is_dir()]
        if folders or len(parts) == 1:  # Moodle has a folder each for files and for a text field
            found.append(Handed(max(folders or parts, key=_says_file), name))
        else:
            found.append(_joined(parts, folder / f"student-{number}", name))
    return found


def _says_file(path: Path) -> bool:
    return "assignsubmission_file" in path.name


def _joined(parts: Sequence[Path], place: Path, name: str) -> Handed:
    """Single files of one student, put into a folder."""
    place.mkdir()
    for part in parts:
        named = student_of(part.name)
        info = part.lstat()
        if not stat.S_ISREG(info.st_mode) or info.st_size > LARGEST_ARCHIVE:
            return Handed(place, name, f"{shown(part.name, 200)} is no ordinary file, or too large")
        if named is not None:
            shutil.copyfile(part, place / (safe_name(named[1]) or "file"))
    return Handed(place, name)


def expanded(paths: Iterable[Path]) -> list[Path]:
    """The paths, with a folder of submissions replaced by what is in it."""
    found: list[Path] = []
    for path in paths:
        entries = []
        if path.is_dir() and student_of(os.path.basename(os.path.abspath(path))) is None:
            entries = sorted(each for each in path.iterdir() if not each.name.startswith("."))
        archives = [each for each in entries if is_archive(each.name)]
        named = [each for each in entries if student_of(each.name)]
        projects = [each for each in entries if (each / "minbert").is_dir()]
        whole = (path / "minbert").is_dir()
        is_class = named or (not whole and len(archives) + len(projects) > 1)
        found += entries if is_class else [path]
    return found


def student_of(path: str) -> tuple[str, str] | None:
    """A student's name and number, and the file's own path, of a path within a class."""
    first, _, inside = path.partition("/")
    for naming in NAMINGS:
        if match := naming.fullmatch(first):
            rest = "/".join(filter(None, (match["rest"], inside)))
            return f"{match['name']}_{match['id']}", rest
    return None


def _class_in(path: Path) -> dict[str, list[str]]:
    """The files of each student of a class in one archive; nothing if it is no class."""
    try:
        names = members_of(path, shown(path.name))
    except ValueError:
        return {}
    found: dict[str, list[str]] = {}
    for name in names:
        if student := student_of(name):
            found.setdefault(student[0], []).append(name)
    return found


def _unpacked(path: Path, students: dict[str, list[str]], folder: Path) -> list[Handed]:
    """Each student's files out of a class's archive, in a folder or, of one archive, as it is."""
    places = members_of(path, shown(path.name))
    zipped = any(isinstance(place, zipfile.ZipInfo) for place in places.values())
    with open_zip(path) if zipped else nullcontext(path) as archive:
        return _written_out(places, archive, students, folder)


def _written_out(
    places: dict[str, Place], archive: Archive, students: dict[str, list[str]], folder: Path
) -> list[Handed]:
    found, left = [], LARGEST_CLASS
    for number, (name, files) in enumerate(students.items()):
        place, problem = folder / str(number), ""
        written: list[Path] = []
        for file in files:
            where = places[file]
            if isinstance(where, str):
                problem = f"{shown(file, 200)} {where}"
                continue
            try:
                content = read_place(where, archive, LARGEST_ARCHIVE + 1)
            except Exception as error:  # a damaged zip file gives errors of a dozen kinds
                problem = f"{shown(file, 200)} cannot be read: {shown(str(error), 200)}"
                continue
            left -= len(content)
            if len(content) > LARGEST_ARCHIVE or left < 0:
                problem = f"{shown(file, 200)} is larger than {LARGEST_ARCHIVE:,} bytes"
                continue
            named = student_of(file)
            assert named is not None
            parts = [safe_name(part) for part in PurePosixPath(named[1]).parts]
            written.append(place.joinpath(*parts) if parts else place / "file")
            written[-1].parent.mkdir(parents=True, exist_ok=True)
            written[-1].write_bytes(content)
        alone = len(written) == 1 and is_archive(written[0].name)
        found.append(Handed(written[0] if alone else place, name, problem))
    return found


def safe_name(name: str) -> str:
    """A file's name without what a file system may refuse."""
    return re.sub(r"[^\w .()+@=,-]+", "_", name)[-100:].lstrip("/")


DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that are no file's on Windows."""


def folder_name(path: Path, taken: Collection[str]) -> str:
    """A name for the results of a submission: a folder's on every system, and none of those taken.

    Letters, digits, spaces and ._- are kept; names that differ in case alone count as the same.
    """
    given = os.path.basename(os.path.abspath(path))
    if not path.is_dir():
        given = without_suffix(given)
    encoding = sys.getfilesystemencoding()
    name = unicodedata.normalize("NFKC", given).encode(encoding, "replace").decode(encoding)
    name = re.sub(r"[^\w .-]+", "_", name)[:60].strip(". -")
    if not name or DEVICES.fullmatch(name):
        name = f"_{name}"
    keys = {_key("class.csv"), _key("similar.csv"), *map(_key, taken)}
    stem, number = name, 2
    while _key(name) in keys:
        name, number = f"{stem}-{number}", number + 1
    return name


def without_suffix(name: str) -> str:
    """A name without that of its kind of archive."""
    for suffix in ARCHIVES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _key(name: str) -> str:
    return unicodedata.normalize("NFKC", name.casefold())
