"""Lines of UTF-8 text of any size, with the position of what is no text."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path

from minbert.files import regular

Line = tuple[int, str, str | None]
"""Its number, the line with its end, and why it is no text, if so."""


def numbered_lines(path: Path) -> Iterator[Line]:
    """The lines of a file: see `decoded`.

    Raises:
        ValueError: the file as a whole is another thing: none, a pipe, UTF-16, a Git LFS pointer.
    """
    with regular(path).open("rb") as file:
        yield from decoded(file, path)


def decoded(lines: Iterable[bytes], source: object) -> Iterator[Line]:
    """The lines of a file that is open, or of a pipe, which `source` names.

    Only \\n ends a line. A byte order mark is passed over; bytes that are no text are written as
    \\xe9.
    """
    offset = 0
    for number, line in enumerate(lines, start=1):
        if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise ValueError(f"{source} is UTF-16 text; convert it: iconv -f UTF-16 -t UTF-8")
        if number == 1 and line.startswith(codecs.BOM_UTF8):
            offset = len(codecs.BOM_UTF8)
            line = line[offset:]
        try:
            text, bad = line.decode(), line.find(0)
        except UnicodeDecodeError as error:
            text, bad = line.decode(errors="backslashreplace"), error.start
        reason = None
        if bad >= 0:
            column = 1 + len(line[:bad].decode())
            what, remedy = (
                ("is not UTF-8 text", "convert the file, as with iconv")
                if line[bad]
                else ("is no text", "the file is damaged, or UTF-16")
            )
            reason = (
                f"byte {line[bad]:#04x} in column {column}, at offset {offset + bad:,}, "
                f"{what}; {remedy}"
            )
        yield number, text, reason
        offset += len(line)


def texts_in(lines: Iterable[Line], source: object) -> Iterator[tuple[int, str]]:
    """Number and text of each line.

    Raises:
        ValueError: a line is no text.
    """
    for number, line, bad in lines:
        if bad:
            raise ValueError(f"{source}:{number}: {bad}")
        yield number, line
