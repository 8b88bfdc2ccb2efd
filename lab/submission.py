"""What a student hands in: a folder or a zip file, of which single files are read and no more."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from lab.diagnose import shown

LARGEST = 1_000_000
"""Bytes of a file that is read."""
MOST = 20_000
"""Files and folders of a submission that are looked at."""
LARGEST_DIRECTORY = 400 * MOST
"""Bytes of a zip file's table of contents, which is read before its entries can be counted."""

Place = Path | zipfile.ZipInfo | str
"""Where a file is, or why it cannot be read."""


@dataclass(frozen=True)
class Submission:
    """The files of a submission, by their paths from the project's root."""

    path: Path
    places: dict[str, Place]

    def read(self, path: str, largest: int = LARGEST) -> str | None:
        """The text of a file, or None if it is not there.

        Raises:
            ValueError: it cannot be read, is too large, or is not text.
        """
        place = self.places.get(path)
        if place is None:
            return None
        if isinstance(place, str):
            raise ValueError(f"{path} {place}")
        try:
            if isinstance(place, Path):
                content = _head(place.open("rb"), largest + 1)
            else:
                with _Zip(self.path) as archive, zipfile.ZipFile(archive) as members:
                    content = _head(members.open(place), largest + 1)  # not extracted whole
        except Exception as error:  # a damaged zip file gives errors of a dozen kinds
            raise ValueError(f"{path} cannot be read: {_why(error)}") from None
        if len(content) > largest:
            raise ValueError(f"{path} is larger than {largest:,} bytes")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not UTF-8 text") from None


def _head(file: IO[bytes], size: int) -> bytes:
    with file:
        return file.read(size)


def _why(error: Exception) -> str:
    return shown(f"{type(error).__name__}: {error}", 200)


class _Zip(io.FileIO):
    """A zip file of which no large piece is read at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > LARGEST_DIRECTORY:
            raise ValueError(f"its table of contents is larger than {LARGEST_DIRECTORY:,} bytes")
        return super().read(size)


def open_submission(path: Path, wanted: Iterable[str]) -> Submission:
    """Look into a folder or zip file; the project may stand in a folder inside of it.

    Args:
        path: the folder or zip file.
        wanted: files of which at least one must be there, such as minbert/attention.py.

    Raises:
        ValueError: it cannot be read, names files outside of itself, or has none of the files.
    """
    name = shown(path.name)
    if path.is_dir():
        found: dict[str, Place] = dict(_files(path))
    elif path.is_file():
        try:
            found = _members(path)
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"{name} cannot be read as a zip file: {_why(error)}") from None
    else:
        raise ValueError(f"{name} is neither a folder nor a zip file")
    wanted = set(wanted)
    roots = {
        each.removesuffix(want).rstrip("/")
        for each in found
        for want in wanted
        if each == want or each.endswith(f"/{want}")
    }
    if not roots:
        raise ValueError(f"{name} holds none of the files of the exercises")
    root = min(roots, key=lambda r: (r.count("/"), len(r), r))
    prefix = f"{root}/" if root else ""
    places = {k.removeprefix(prefix): place for k, place in found.items() if k.startswith(prefix)}
    return Submission(path, places)


def _files(folder: Path) -> Iterable[tuple[str, Place]]:
    """Files of a folder; links, pipes and devices are not among them."""
    count = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in (".git", ".venv", "__pycache__"))
        count += len(folders) + len(files)
        if count > MOST:
            raise ValueError(f"{shown(folder.name)} holds more than {MOST:,} files")
        for name in sorted(files):
            path = Path(parent, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path.relative_to(folder).as_posix(), path


def _members(path: Path) -> dict[str, Place]:
    with _Zip(path) as archive, zipfile.ZipFile(archive) as members:
        infos = members.infolist()
    if len(infos) > MOST:
        raise ValueError(f"{shown(path.name)} holds more than {MOST:,} files")
    found: dict[str, Place] = {}
    for info in infos:
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or re.match(r"[A-Za-z]:", str(name)):
            told = shown(info.filename, 100)
            raise ValueError(f"{shown(path.name)} names a file outside of itself: {told}")
        if info.is_dir() or stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            continue  # links, pipes and devices
        place: Place = info
        if info.flag_bits & 1:
            place = "is encrypted"
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            place = "is packed in an unusual way; make an ordinary zip file"
        found[str(name)] = "stands in the zip file twice" if str(name) in found else place
    return found
