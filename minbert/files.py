"""Files are written whole or not at all: to a temporary name first, then renamed into place.

What is read is checked first: a regular file of a plausible size, its text UTF-8, its JSON of the
shape that the reader names. An error names the file, the place in it, the value and the rule.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import reprlib
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import msgspec

try:
    import fcntl
except ImportError:  # Windows, where abandoned temporary files stay
    fcntl = None

MOST_TEXT = 64 << 20
"""Most bytes of a file of settings, a record or a vocabulary. Large tokenizer.json have 35 MB."""
WANTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "array": "a list",
    "object": 'names with values, as in {"name": value}',
    "null": "null",
    "Path": "a path",
}
"""Type in msgspec's messages -> how an error calls it."""
TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")
"""What temporary files are called: .NAME.XXXXXXXX.tmp."""


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Give a temporary path to write to; on success it takes the name `path`, atomically.

    A process killed meanwhile leaves the old file as it was, and a temporary one, which the next
    writer in the folder removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    handle, temporary = _locked_temporary(path)
    opened = ExitStack()
    opened.callback(os.close, handle)
    try:
        yield temporary
        os.fsync(handle)
        if fcntl is None:  # Windows renames and removes no file that is open
            opened.close()
        os.replace(temporary, path)
    except OSError as error:  # of a full disk, say, which does not name the file
        if error.errno is not None:
            error.filename = error.filename or str(path)
        raise
    finally:
        if fcntl is None:
            opened.close()
        temporary.unlink(missing_ok=True)
        opened.close()


def _locked_temporary(path: Path) -> tuple[int, Path]:
    """A new temporary file, locked as long as it is open, by which others see that its writer
    lives; where the file system has no locks, nothing is removed."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, temporary
        os.close(handle)  # removed before it was locked


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of writers that were killed."""
    if fcntl is None:
        return
    for path in [path for path in folder.iterdir() if TEMPORARY.fullmatch(path.name)]:
        with suppress(OSError):  # gone meanwhile, or locked by its writer
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def copy_file(source: Path, path: Path) -> None:
    """Copy a file's contents atomically."""
    with replacing(path) as temporary:
        shutil.copyfile(source, temporary)


def write_json(path: Path, value: Any) -> None:
    """Write an indented JSON file atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def regular(path: Path, most: int | None = None) -> Path:
    """The path, if a regular file of at most `most` bytes is there; links are followed.

    Whatever is opened by another library is looked at here first: a pipe would be waited for, and
    a device such as /dev/zero read for ever.

    Raises:
        ValueError: there is no file, or it is something else, or too large.
    """
    _check_regular(path, most)
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:  # of reading, it does not name the file
        reason = error.strerror or str(error)
        raise ValueError(f"{path} cannot be read: {reason}; put another copy there") from None
    if what := stand_in(start):
        raise ValueError(f"{path} is {what}")
    return path


def _check_regular(path: Path, most: int | None = None) -> None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path} does not exist") from None
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise ValueError(f"{path} is {what}; put a regular file in its place")
    if most is not None and found.st_size > most:
        raise ValueError(
            f"{path} has {found.st_size:,} bytes, and a file of its kind has at most {most:,}; "
            "another file has its name"
        )


def read_text(path: Path, most: int | None = MOST_TEXT) -> str:
    """Read a UTF-8 text file, with or without a byte order mark; every line end becomes \\n.

    Raises:
        ValueError: see `regular`; or the file is not UTF-8, or has a NUL, as UTF-16 and damaged
            files do.
    """
    return text_of(regular(path, most).read_bytes(), path)


def text_of(data: bytes, source: object) -> str:
    """As `read_text`, of bytes that are part of a file, such as its whole lines."""
    try:
        text = data.decode("utf-8-sig")
        bad = data.find(0)
    except UnicodeDecodeError as error:
        text, bad = "", error.start
    if bad >= 0:
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        what = "the file is UTF-16" if wide else f"byte {data[bad]:#04x} is no UTF-8 text"
        line = data.count(b"\n", 0, bad) + 1
        raise ValueError(f"{source}, line {line}: {what}; save the file as UTF-8, or restore it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path, kind: Any = Any) -> Any:
    """Read a JSON file whose value is of this kind: see `checked`.

    Raises:
        ValueError: see `read_text`; or the file is no JSON, or of another kind.
    """
    return parse_json(read_text(path), kind, path)


def parse_json(text: str, kind: Any = Any, source: object = "the text") -> Any:
    """As `read_json`, of a text that is part of a file.

    Stricter than Python: no NaN and no Infinity, no number that a float cannot hold, no half of a
    surrogate pair, no key twice.

    Args:
        text: the JSON.
        kind: see `checked`.
        source: where the text is from, for messages: a path, with a line or without.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_constant)
        try:
            msgspec.json.decode(text)  # refuses what else Python takes
        except msgspec.DecodeError:
            what = "a number that no float can hold, or half of a surrogate pair such as \\ud800"
            raise ValueError(f"it has {what}") from None
    except RecursionError:
        raise ValueError(f"{source} is not a JSON file: it is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{source} is not a JSON file: {brief(error)}") from None
    return checked(value, kind, source)


def checked(value: Any, kind: Any, source: object = None, *, name: str = "") -> Any:
    """A JSON value, if it is of this kind and of no other that Python happens to accept for it: an
    int is neither true nor 2.0, a Path is written as a string.

    Args:
        value: what `json.loads` gives.
        kind: a type, such as list[str] or int | None; or a dataclass, which is made of the value
            and has a field for each key; or a msgspec.Struct, which passes over other keys.
        source: where the value is from, for messages; None where the caller says so.
        name: what messages call the value itself.

    Raises:
        ValueError: it is of another kind, or the class refuses it.
    """
    try:
        if is_dataclass(kind) and isinstance(value, dict):
            unknown = sorted(value.keys() - {f.name for f in fields(kind)})
            if unknown:
                raise ValueError(f"unknown settings: {brief(unknown)}; leave them out")
        return msgspec.convert(value, kind, dec_hook=_convert)
    except msgspec.ValidationError as error:
        message = _explained(str(error), value, kind, name)
    except ValueError as error:
        message = str(error)
    raise ValueError(f"{source}: {message}" if source else message)


def brief(value: object, most: int = 160) -> str:
    """A value, or the text of an error, on one line of at most `most` printable characters."""
    if isinstance(value, BaseException):
        text = " ".join(str(value)[: 10 * most].split()) or type(value).__name__
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    else:
        text = _REPR.repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother, _REPR.maxlong = 2, 100, 100, 60


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"it has the key {brief(twice)} twice, and only one can count")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has {name}, and JSON has no such number")


def _convert(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise ValueError(f"Expected `{kind.__name__}`")


def _explained(message: str, value: Any, kind: Any, name: str) -> str:
    """msgspec's message, whose last words are the path of a field, as value and remedy."""
    rule, _, path = message.partition(" - at `")
    path = path.removesuffix("`").removeprefix("$")
    for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path.partition("[...]")[0]):
        try:
            value = value[int(index) if index else key]
        except (LookupError, TypeError):  # a name with a dot in it
            break
    field = (name + path).removeprefix(".")
    outer = field.partition("[")[0]
    hint = get_type_hints(kind).get(outer) if isinstance(kind, type) else kind
    if get_origin(hint) is dict and field != outer:
        hint = get_args(hint)[1]
    if get_origin(hint) is Literal:
        rule = f"choose one of {', '.join(get_args(hint))}"
    elif rule.startswith("Expected"):
        rule = re.sub(r"Expected `(\w+)[^`]*`", lambda m: f"give {WANTED[m[1]]}", rule)
        rule = rule.partition(", got ")[0]
    elif rule.startswith("Object missing"):
        return f"{rule.replace('Object missing', 'it lacks the')}; put the file back as it was"
    elif not field:
        return rule
    return f"{field or 'the value'} is {brief(value)}; {rule}"


def sha256_of(*paths: Path) -> str:
    """The checksum of files' contents, one after the other, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        _check_regular(path)
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def stand_in(start: bytes) -> str | None:
    """What a file is that stands in another's place, by its first 64 bytes; None for the others.

    Downloads and clones that went half well leave them: `f"{path} is {stand_in(start)}"`.
    """
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer in place of the file; fetch the file itself: git lfs pull"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "a web page, of an error or a login, in place of the file; download the file again"
    return None
