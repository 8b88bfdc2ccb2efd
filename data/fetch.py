"""Downloads the real data sets from their public homes: `minbert data fetch`.

The sets and their homes are in sources.py. A download goes to `<file>.part`, resumes where it was
cut off (download.py), and becomes the file only when its checksum is right. Where no checksum is
known, the first download's is written to checksums.json in the target folder, and the file is held
to it from then on. Nothing is written outside the target folder, and an archive with a member that
would be is refused whole.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from data.download import TIME_LIMIT_S, FetchError, discard, download, say
from data.sources import ALL, COURSE, SOURCES, File, Source
from minbert.claim import Busy, claimed
from minbert.files import brief, read_json, sha256_of, write_json

__all__ = ["ALL", "COURSE", "SOURCES", "FetchError", "File", "Source", "fetch"]

RECORD = "checksums.json"
REMOVED = (
    "it was removed. Rerun to download it again; if that does not help, the public file has changed"
)


def fetch(
    target: Path,
    names: Sequence[str] = ALL,
    *,
    sources: Mapping[str, Source] = SOURCES,
    progress: bool = True,
    time_limit: float = TIME_LIMIT_S,
) -> list[Path]:
    """Download data sets into a folder; what is there and right is left alone.

    One process at a time writes to a folder: see minbert/claim.py.

    Args:
        target: folder that the files go to, as in `target/cs224n/ids-sst-train.csv`.
        names: data sets to fetch; all sources by default.
        sources: what there is to fetch, by name.
        progress: show a bar for each download.
        time_limit: seconds that one download may take, all tries together.

    Returns:
        The paths of all files of these sets.

    Raises:
        FetchError: an unknown name, no network, a wrong checksum, an unsafe path or archive, no
            space, or another process fetches to the same folder.
    """
    names = (names,) if isinstance(names, str) else tuple(sources if names is ALL else names)
    unknown = [name for name in names if name not in sources]
    if unknown:
        raise FetchError(f"no data set is called {unknown[0]!r}; known are {', '.join(sources)}")
    if not time_limit > 0:
        raise FetchError(f"time_limit must be above 0, in seconds; it is {time_limit}")
    try:
        with claimed(target):
            return _fetch(target, {name: sources[name] for name in names}, progress, time_limit)
    except Busy:
        raise FetchError(
            f"another process is fetching to {target}; wait until it ends, or name another folder"
        ) from None
    except OSError as error:
        raise FetchError(
            f"{target} cannot be a data folder ({error}); make room, or name another"
        ) from None


def _fetch(
    target: Path, sources: Mapping[str, Source], progress: bool, time_limit: float
) -> list[Path]:
    record = _Record(target)
    paths = []
    for name, source in sources.items():
        kept = list((source.derived or source.files).values())
        missing = [file for file in kept if not record.has(file)]
        if missing:
            say(f"{name}: {source.licence}; see {source.homepage}")
            get = _from_archive if source.url.endswith(".zip") else _one_by_one
            get(source, target, record, progress=progress, time_limit=time_limit)
            if source.derive is not None:
                source.derive(target)
                for file in missing:
                    path = inside(target, file.path)
                    _settle(path.with_name(f"{path.name}.part"), path, file, record, source.url)
        paths += [inside(target, file.path) for file in kept]
    return paths


def inside(target: Path, path: str) -> Path:
    """The file `path` under `target`; refuses what would lie elsewhere, by `..` or by a link."""
    full = target / path
    if _unsafe(path) or not full.resolve().is_relative_to(target.resolve()):
        raise FetchError(
            f"{path!r} would be written outside {target}; the paths of a source are relative, "
            "without '..', and no folder on the way is a link to elsewhere"
        )
    return full


def _unsafe(name: str) -> bool:
    """Whether a path is absolute, has a drive letter or climbs up, on any system."""
    posix = name.replace("\\", "/")
    return (
        not posix
        or posix.startswith("/")
        or re.match(r"[A-Za-z]:", posix) is not None
        or ".." in PurePosixPath(posix).parts
        or "\0" in posix
    )


class _Record:
    """What files must be: the known checksums, and those remembered in checksums.json."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target / RECORD
        self.sums: dict[str, str] = {}
        if self.path.exists():
            try:
                self.sums = read_json(self.path, dict[str, str])
            except ValueError as error:
                raise FetchError(
                    f"{self.path} is damaged ({error}); delete it, then rerun"
                ) from None

    def has(self, file: File) -> bool:
        """Whether the file is there; one that is there and wrong is for its owner to move."""
        path = inside(self.target, file.path)
        if not path.exists():
            return False
        if wrong := self._wrong(path, file):
            raise FetchError(
                f"{path} {wrong}; it was changed, or is another version. Move it away or delete "
                "it, then rerun"
            )
        return True

    def accept(self, path: Path, file: File, origin: str) -> None:
        """Check what was just made for `file` at `path`; a wrong one is removed."""
        if wrong := self._wrong(path, file):
            discard(path)
            raise FetchError(
                f"{file.path} from {origin} {wrong}; {REMOVED}"
                + ("" if file.is_known else f": delete its line in {self.path} to accept that")
            )

    def _wrong(self, path: Path, file: File) -> str | None:
        """How a file's checksum differs from what is known; if nothing is, it is remembered."""
        if file.is_known:
            return file.wrong(path)
        expected, actual = self.sums.get(file.path), sha256_of(path)
        if expected is None:
            say(f"{file.path}: no checksum is known; remembering {actual[:12]}... in {self.path}")
            self.sums[file.path] = actual
            write_json(self.path, dict(sorted(self.sums.items())))
        elif expected != actual:
            return f"has sha256 {actual}, not {expected}"
        return None


def _one_by_one(source: Source, target: Path, record: _Record, **options: Any) -> None:
    for name, file in source.files.items():
        path = inside(target, file.path)
        if not record.has(file):
            url = source.url + name
            hint = f"place it at {path}"
            part = download(url, path, max_bytes=source.max_bytes, hint=hint, **options)
            _settle(part, path, file, record, url)


def _settle(part: Path, path: Path, file: File, record: _Record, origin: str) -> None:
    """Let a finished file take its place, if it is what it should be."""
    record.accept(part, file, origin)
    os.replace(part, path)
    discard(part)


def _from_archive(source: Source, target: Path, record: _Record, **options: Any) -> None:
    archive = inside(target, PurePosixPath(urlsplit(source.url).path).name)
    name, file = next(iter(source.files.items()))
    hint = f"unpack it so that its {name} becomes {target / file.path}, and so on"
    part = download(source.url, archive, max_bytes=source.max_bytes, hint=hint, **options)
    try:
        if source.sha256 is not None and (actual := sha256_of(part)) != source.sha256:
            raise FetchError(f"{source.url} has sha256 {actual}, not {source.sha256}; {REMOVED}")
        _unpack(part, source, target, record)
    except OSError as error:  # of this machine: the archive need not come again
        raise FetchError(
            f"{source.url} cannot be unpacked to {target}: {error.strerror or error}. Make room, "
            "or name another folder, and rerun, which does not download it again"
        ) from None
    except FetchError:
        discard(part)
        raise
    discard(part)


def _unpack(archive: Path, source: Source, target: Path, record: _Record) -> None:
    """Write the listed members, if all are there and no member at all is suspicious."""
    with _sound(source.url):
        opened = zipfile.ZipFile(archive)
    with opened:
        members = {info.filename: info for info in opened.infolist()}
        for info in opened.infolist():
            _check_member(info, source.url)
        missing = [name for name in source.files if name not in members]
        if missing:
            raise FetchError(
                f"{source.url} has no member {missing[0]!r}, only {brief(', '.join(members))}; "
                "the public file has changed"
            )
        size = sum(members[name].file_size for name in source.files)
        if size > source.max_bytes:
            raise FetchError(
                f"{source.url} unpacks to {size} bytes, more than max_bytes {source.max_bytes} of "
                "its source; it is not what it should be"
            )
        for name, file in source.files.items():
            path = inside(target, file.path)
            if record.has(file):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.part")
            try:
                with part.open("wb") as out:
                    out.writelines(_blocks(opened, members[name], source.url))
                _settle(part, path, file, record, source.url)
            finally:
                part.unlink(missing_ok=True)


def _blocks(opened: zipfile.ZipFile, member: zipfile.ZipInfo, url: str) -> Iterator[bytes]:
    """A member's content; zipfile stops at its declared size, whatever is packed there."""
    with _sound(url), opened.open(member) as packed:
        while block := packed.read(1 << 20):
            yield block


@contextmanager
def _sound(url: str) -> Generator[None]:
    """Reading an archive: zipfile and the codecs under it have errors of many kinds."""
    try:
        yield
    except Exception as error:
        raise FetchError(
            f"{url} is not a sound zip archive ({brief(error)}); it was removed, rerun to "
            "download it again"
        ) from None


def _check_member(info: zipfile.ZipInfo, url: str) -> None:
    names = (info.filename, info.orig_filename)  # zipfile itself mends some of the names
    if unsafe := [name for name in names if _unsafe(name)]:
        what = f"{brief(unsafe[0])} that would be written outside the target folder"
    elif stat.S_ISLNK(info.external_attr >> 16):
        what = f"{brief(info.filename)} that is a symbolic link"
    else:
        return
    raise FetchError(f"{url} has a member {what}; nothing was unpacked. Do not use this archive")
