"""What a student hands in: a folder or an archive, of which single files are read and no more.

Archives are hostile until they have been looked at: nothing is unpacked, what is read is bounded in
number and size, and links, devices and names that lead outside are refused by name.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from lab.diagnose import shown

LARGEST = 1_000_000
"""Bytes of a file that is read."""
MOST = 20_000
"""Files and folders of a submission that are looked at."""
LARGEST_DIRECTORY = 400 * MOST
"""Bytes of a zip file's table of contents, which is read before its entries can be counted."""
LARGEST_ARCHIVE = 2**26
"""Bytes of an archive inside of another."""
LARGEST_TAR = 2**28
"""Bytes of a tar file, unpacked: it has no table of contents and is read as a whole."""
KEPT = 2**25
"""Bytes kept of a file in a tar file: a prediction file's, as lab/predictions.py has it."""
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
PASSED = (".git", ".venv", "venv", "__pycache__", "__MACOSX", "node_modules", "site-packages")
"""Folders in which nobody has written anything."""

Archive = Path | bytes | zipfile.ZipFile
"""A zip file on disk, in memory, or open."""
Place = Path | zipfile.ZipInfo | bytes | str
"""Where a file is, or what it holds, or why it cannot be read."""


@dataclass(frozen=True)
class Submission:
    """The files of a submission, by their paths from the project's root."""

    path: Path
    places: dict[str, Place]
    archive: Path | bytes | None = None
    """The zip file that the places are in."""
    notes: list[str] = field(default_factory=list)
    """How it was read, where that is not plain."""

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
            content = read_place(place, self.archive, largest + 1)
        except Exception as error:  # a damaged zip file gives errors of a dozen kinds
            raise ValueError(f"{path} cannot be read: {_why(error)}") from None
        if len(content) > largest:
            raise ValueError(f"{path} is larger than {largest:,} bytes")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not UTF-8 text") from None


def read_place(place: Place, archive: Archive | None, size: int) -> bytes:
    """The first bytes of a file: of a zip file no more than these are unpacked.

    To read many files of one, open it once: see `open_zip`.
    """
    match place:
        case bytes():
            return place[:size]
        case Path():
            with place.open("rb") as file:
                return file.read(size)
        case zipfile.ZipInfo():
            assert archive is not None
            with open_zip(archive) as members, members.open(place) as file:
                return file.read(size)
    raise ValueError(place)


def _why(error: Exception) -> str:
    return shown(f"{type(error).__name__}: {error}", 200)


class _Zip(io.FileIO):
    """A zip file of which no large piece is read at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > LARGEST_DIRECTORY:
            raise ValueError(f"its table of contents is larger than {LARGEST_DIRECTORY:,} bytes")
        return super().read(size)


def _open(archive: Path | bytes) -> IO[bytes] | _Zip:
    """A zip file, on disk or, bounded already, in memory."""
    return io.BytesIO(archive) if isinstance(archive, bytes) else _Zip(archive)


@contextmanager
def open_zip(archive: Archive) -> Generator[zipfile.ZipFile]:
    """A zip file, with its table of contents read; one that is open already stays so."""
    if isinstance(archive, zipfile.ZipFile):
        yield archive
    else:
        with _open(archive) as whole, zipfile.ZipFile(whole) as members:
            yield members


class _Bounded(io.RawIOBase):
    """A file of which no more than LARGEST_TAR bytes are read: a small one may unpack to more."""

    def __init__(self, file: IO[bytes] | io.RawIOBase | gzip.GzipFile) -> None:
        self.file, self.left = file, LARGEST_TAR

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        block = self.file.read(len(buffer)) or b""
        self.left -= len(block)
        if self.left < 0:
            raise ValueError(f"it unpacks to more than {LARGEST_TAR:,} bytes")
        buffer[: len(block)] = block
        return len(block)


def is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVES)


def open_submission(path: Path, wanted: Iterable[str], name: str = "") -> Submission:
    """Look into a folder or archive.

    The project may stand in a folder inside of it, or in an archive inside of it, or its files may
    lie there without any folder, as pages for uploads take them.

    Args:
        path: the folder, zip, tar or tar.gz file.
        wanted: files of which at least one must be there, such as minbert/attention.py.
        name: what to call it, if not by the path's name.

    Raises:
        ValueError: it cannot be read, names files outside of itself, or has none of the files.
    """
    name, wanted = shown(name or path.name), set(wanted)
    archive: Path | bytes | None = None
    if path.is_dir():
        found: dict[str, Place] = dict(_files(path))
    elif path.is_file():
        found, archive = members_of(path, name), path
    else:
        raise ValueError(f"{name} is neither a folder nor a zip file")
    roots = _roots(found, wanted)
    notes: list[str] = []
    if not roots:
        inner = [each for each in found if is_archive(each) and not isinstance(found[each], str)]
        if len(inner) > 1:
            told = ", ".join(shown(each, 100) for each in sorted(inner)[:5])
            raise ValueError(f"{name} holds several archives: {told}; hand in one")
        if inner:
            held = read_place(found[inner[0]], archive, LARGEST_ARCHIVE + 1)
            told = shown(inner[0], 100)
            if len(held) > LARGEST_ARCHIVE:
                raise ValueError(f"{told} in {name} is larger than {LARGEST_ARCHIVE:,} bytes")
            found, archive = members_of(held, told), held
            roots = _roots(found, wanted)
            notes.append(f"{told} was looked into")
    if roots:
        root, *others = sorted(roots, key=lambda r: (-_count(r, found, wanted), r.count("/"), r))
        if others:
            told = ", ".join(shown(f"{each or '.'}/", 100) for each in others[:3])
            notes.append(
                f"holds several projects: {shown(root or '.', 100)}/ was taken, not {told}"
            )
        prefix = f"{root}/" if root else ""
        places = {k.removeprefix(prefix): at for k, at in found.items() if k.startswith(prefix)}
    else:
        places = _flat(found, wanted)
        if not places:
            raise ValueError(f"{name} holds none of the files of the exercises")
        notes.append("files without their folders: they were known by their names")
    return Submission(path, places, archive, notes)


def _roots(found: dict[str, Place], wanted: set[str]) -> set[str]:
    """The folders that a project stands in."""
    return {
        each.removesuffix(want).rstrip("/")
        for each, place in found.items()
        for want in wanted
        if (each == want or each.endswith(f"/{want}")) and place != LINK
    }


def _count(root: str, found: dict[str, Place], wanted: set[str]) -> int:
    return sum(f"{root}/{want}".lstrip("/") in found for want in wanted)


def _flat(found: dict[str, Place], wanted: set[str]) -> dict[str, Place]:
    """Files by the path of the one wanted file of their name; `bert-1.py` is a second upload."""
    names = Counter(each.rpartition("/")[2] for each in wanted)
    places: dict[str, Place] = {}
    for each in sorted(found):
        name = re.sub(r"( \(\d+\)|-\d+)\.py$", ".py", each.rpartition("/")[2])
        if names[name] == 1 and found[each] != LINK:
            (want,) = (each for each in wanted if each.rpartition("/")[2] == name)
            places[want] = "was handed in twice" if want in places else found[each]
    return places


LINK = "is a link, a pipe or a device; hand in the file itself"


def _files(folder: Path) -> Iterator[tuple[str, Place]]:
    """Files of a folder; no link is followed."""
    count = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if each not in PASSED)
        count += len(folders) + len(files)
        if count > MOST:
            raise ValueError(f"{shown(folder.name)} holds more than {MOST:,} files")
        for name in sorted(files):
            path = Path(parent, name)
            regular = stat.S_ISREG(path.lstat().st_mode)
            yield path.relative_to(folder).as_posix(), path if regular else LINK


def members_of(archive: Path | bytes, name: str) -> dict[str, Place]:
    """The files of a zip or tar file.

    Raises:
        ValueError: it cannot be read, or a name leads outside.
    """
    try:
        start = read_place(archive, None, 512)
        if start[:2] == b"\x1f\x8b" or start[257:262] == b"ustar":
            return _in_tar(archive, name)
        return _in_zip(archive, name)
    except Exception as error:
        if type(error) is ValueError:
            raise
        raise ValueError(f"{name} cannot be read as a zip file: {_why(error)}") from None


def _in_zip(archive: Path | bytes, name: str) -> dict[str, Place]:
    with open_zip(archive) as members:
        infos = members.infolist()
    if len(infos) > MOST:
        raise ValueError(f"{name} holds more than {MOST:,} files")
    found: dict[str, Place] = {}
    for info in infos:
        path = _inside(info.filename, name)
        if info.is_dir() or path is None:
            continue
        place: Place = info
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            place = LINK
        elif info.flag_bits & 1:
            place = "is encrypted"
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            place = "is packed in an unusual way; make an ordinary zip file"
        found[path] = "stands in the zip file twice" if path in found else place
    return found


def _in_tar(archive: Path | bytes, name: str) -> dict[str, Place]:
    """The files of a tar file that may be wanted, read to its end: Python files and small texts."""
    found: dict[str, Place] = {}
    count = 0
    with _open(archive) as whole:
        packed = whole.read(2) == b"\x1f\x8b"
        whole.seek(0)
        unpacked = gzip.GzipFile(fileobj=whole) if packed else whole
        with tarfile.open(fileobj=_Bounded(unpacked), mode="r|") as members:  # never goes back
            for info in members:
                count += 1
                if count > MOST:
                    raise ValueError(f"{name} holds more than {MOST:,} files")
                path = _inside(info.name, name)
                if info.isdir() or path is None:
                    continue
                if not info.isreg() or info.issparse():  # which may be of any size, of no bytes
                    found[path] = LINK
                    continue
                file = members.extractfile(info)
                assert file is not None  # of a regular file
                found[path] = file.read((LARGEST_ARCHIVE if is_archive(path) else KEPT) + 1)
    return found


def _inside(path: str, name: str) -> str | None:
    """A member's path; None for what systems add, such as __MACOSX."""
    parts = PurePosixPath(path.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:", str(parts)):
        raise ValueError(f"{name} names a file outside of itself: {shown(path, 100)}")
    passed = parts.name.startswith("._") or any(each in PASSED for each in parts.parts)
    return None if passed else str(parts)
