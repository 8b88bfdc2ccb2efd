"""What a student hands in: a folder or a zip file, of which single files are read and no more."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

LARGEST = 1_000_000
"""Bytes of a file that is read."""
MOST = 20_000
"""Files of a submission that are looked at."""


@dataclass(frozen=True)
class Submission:
    """The files of a submission, by their paths from the project's root."""

    name: str
    path: Path
    places: dict[str, str]
    """Path from the project's root -> path in the folder or zip file."""

    def read(self, path: str) -> str | None:
        """The text of a file, or None if it is not there.

        Raises:
            ValueError: it is too large, or not text.
        """
        if path not in self.places:
            return None
        if self.path.is_dir():
            with (self.path / self.places[path]).open("rb") as file:
                content = file.read(LARGEST + 1)
        else:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.places[path]) as file:
                content = file.read(LARGEST + 1)  # read, not extracted: a zip bomb stays small
        if len(content) > LARGEST:
            raise ValueError(f"{path} is larger than {LARGEST:,} bytes")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not UTF-8 text") from None


def open_submission(path: Path, wanted: Iterable[str]) -> Submission:
    """Look into a folder or zip file; the project may stand in a folder inside of it.

    Args:
        path: the folder or zip file.
        wanted: files of which at least one must be there, such as minbert/attention.py.

    Raises:
        ValueError: it cannot be read, names files outside of itself, or has none of the files.
    """
    if path.is_dir():
        names = list(_files(path))
    elif zipfile.is_zipfile(path):
        names = _members(path)
    else:
        raise ValueError(f"{path} is neither a folder nor a zip file")
    wanted = set(wanted)
    roots = {
        name.removesuffix(want).rstrip("/")
        for name in names
        for want in wanted
        if name == want or name.endswith(f"/{want}")
    }
    if not roots:
        raise ValueError(f"{path.name} holds none of the files of the exercises")
    root = min(roots, key=lambda r: (r.count("/"), len(r), r))
    prefix = f"{root}/" if root else ""
    places = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    return Submission(path.resolve().stem if path.is_file() else path.resolve().name, path, places)


def _files(folder: Path) -> Iterable[str]:
    """Files of a folder; links are not followed."""
    count = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in (".git", ".venv", "__pycache__"))
        for name in sorted(files):
            count += 1
            if count > MOST:
                raise ValueError(f"{folder} holds more than {MOST:,} files")
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(folder).as_posix()


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{path} cannot be read as a zip file: {error}") from None
    if len(infos) > MOST:
        raise ValueError(f"{path} holds more than {MOST:,} files")
    names = []
    for info in infos:
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or re.match(r"[A-Za-z]:", str(name)):
            raise ValueError(f"{path} names a file outside of itself: {info.filename!r}")
        is_link = info.external_attr >> 16 & 0o170000 == 0o120000
        if not info.is_dir() and not is_link:
            names.append(str(name))
    return names
