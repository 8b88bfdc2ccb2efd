"""Lines of UTF-8 files of any size, with the position of what is no text."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from minbert.files import regular


def numbered_lines(path: Path) -> Iterator[tuple[int, str, str | None]]:
    """Line number, the line with its end, and why it is no text, if so.

    Only \\n ends a line. A byte order mark is passed over; bytes that are no text are written as
    \\xe9.

    Raises:
        ValueError: the file as a whole is another thing: none, a pipe, UTF-16, a Git LFS pointer.
    """
    with regular(path).open("rb") as file:
        start = file.peek(64)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise ValueError(f"{path} is UTF-16 text; convert it: iconv -f UTF-16 -t UTF-8")
        offset = len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0
        file.seek(offset)
        for number, line in enumerate(file, start=1):
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
