"""Files of rows, each format as the same thing: `cells_of(path, table)` gives row after row.

A row that cannot be read comes with the reason, and the reading goes on; a file that cannot be read
as a whole (no header, no such columns, another format) is an error.
"""

from __future__ import annotations

import csv
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.lines import Line, numbered_lines
from data.schema import Table
from minbert.files import brief, parse_json, regular

DELIMITERS = (",", "\t", ";", "|")
"""Tried in this order where a csv file's is not named."""


@dataclass(frozen=True)
class Cells:
    """A row: its fields by column, or why it cannot be read."""

    line: int
    """Where it begins, from 1; in parquet files the number of the row."""
    content: str
    """For messages."""
    fields: dict[str, Any]
    broken: str | None = None


def cells_of(path: Path, table: Table) -> Iterator[Cells]:
    """The rows of a file.

    Raises:
        ValueError: it is not of the table's format, or lacks a column.
    """
    readers = {"rows": _of_lines, "csv": _of_csv, "jsonl": _of_json, "parquet": _of_parquet}
    yield from readers[table.format](path, table)


def needed(table: Table) -> list[str]:
    """The columns that must be there."""
    split = (table.split[0],) if table.split else ()
    names = (table.id, *table.texts, *table.label_needs, *split)
    return [name for name in names if name is not None]


def check_header(fields: Sequence[str], table: Table) -> tuple[str, ...]:
    """The names of the columns, if those that are needed are among them, once each."""
    shown = brief(list(fields), 60)
    twice = [name for name in needed(table) if list(fields).count(name) > 1]
    if twice:
        raise ValueError(
            f"the header {shown} names the columns {twice} more than once; rename "
            "those that are not to be read"
        )
    missing = [name for name in needed(table) if name not in fields]
    if missing:
        between = "tabs" if table.format == "rows" else brief(table.delimiter)
        raise ValueError(
            f"the header {shown} lacks the columns {missing}; they must be named "
            f"{needed(table)} and be separated by {between}"
        )
    return tuple(fields)


# Tab-separated lines


def _of_lines(path: Path, table: Table) -> Iterator[Cells]:
    names = table.header
    for line, text, broken in numbered_lines(path):
        content = text.rstrip("\r\n")
        _refuse_old_mac(path, line, text, content)
        if not content:
            continue
        try:
            if broken:
                raise ValueError(broken)
            fields = _fields(content, table.quoted)
            if names is None:
                names = check_header(fields, table)
                continue
            if len(fields) != len(names):
                raise ValueError(f"{len(fields)} columns where {len(names)} are due")
        except ValueError as error:
            if names is None:
                raise ValueError(f"{path}:{line}: {error}") from None
            yield Cells(line, content, {}, str(error))
        else:
            yield Cells(line, content, dict(zip(names, fields, strict=True)))


def _refuse_old_mac(path: Path, line: int, text: str, content: str) -> None:
    if line == 1 and "\r" in content and not text.endswith("\n"):
        raise ValueError(
            f"{path} has one line, of {len(text):,} characters: its rows end in \\r alone, as "
            "on old Macs; convert it: tr '\\r' '\\n'"
        )


def _fields(line: str, quoted: bool) -> list[str]:
    if not quoted:
        return line.split("\t")
    try:
        # The csv module takes a \r outside of quotes for the end of the row.
        with _any_length():
            return next(csv.reader([line.replace("\r", " ")], delimiter="\t", strict=True))
    except csv.Error as error:
        raise ValueError(f"broken quoting ({error})") from None


@contextmanager
def _any_length() -> Generator[None]:
    """A text may be longer than the process's limit, which stays as it was."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


# CSV


def records_of(
    path: Path, delimiter: str, encoding: str = "utf-8"
) -> Iterator[tuple[int, list[str], str | None]]:
    """Line, fields and what is wrong of each record of a csv file, blank ones left out.

    A quoted field may have line ends. A quote that nothing closes makes one record of all that
    follows, which is then the last.
    """
    bad: list[str] = []

    def lines() -> Iterator[str]:
        for number, text, broken in text_lines(path, encoding):
            _refuse_old_mac(path, number, text, text.rstrip("\r\n"))
            if broken:
                bad.append(broken)
                text = text.replace("\0", "\\0")  # which older csv modules stop at
            yield text

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            with _any_length():
                fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            end = "unexpected end of data" in str(error)
            what = "a quote is opened that nothing closes" if end else f"broken quoting ({error})"
            yield start, [], f"{what}; inside of a quoted field a quote is written twice"
            bad.clear()
            continue
        if fields or bad:
            yield start, fields, bad[0] if bad else None
        bad.clear()


def text_lines(path: Path, encoding: str) -> Iterator[Line]:
    """The lines of a text file with their ends: number, text, and what is wrong with it."""
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig"):
        yield from numbered_lines(path)
        return
    number = 0
    try:
        with regular(path).open(encoding=encoding, newline="") as file:
            for number, text in enumerate(file, start=1):
                yield number, text, None
    except LookupError:
        raise ValueError(f"{path}: no encoding is called {encoding!r}; utf-8 is usual") from None
    except UnicodeError as error:
        raise ValueError(
            f"{path}:{number + 1}: {brief(error)}; the file is not in the encoding {encoding}"
        ) from None


def _of_csv(path: Path, table: Table) -> Iterator[Cells]:
    delimiter = table.delimiter or _delimiter(path, table)
    names = table.header
    for line, fields, broken in records_of(path, delimiter, table.encoding):
        if names is None:
            try:
                if broken:
                    raise ValueError(broken)
                named = [name.strip() for name in fields]
                names = check_header(named, replace(table, delimiter=delimiter))
            except ValueError as error:
                raise ValueError(f"{path}:{line}: {error}") from None
            continue
        if not broken and len(fields) != len(names):
            broken = f"{len(fields)} columns where {len(names)} are due"
        content = delimiter.join(fields).replace("\n", " ")
        yield Cells(line, content, {} if broken else dict(zip(names, fields)), broken)


def _delimiter(path: Path, table: Table) -> str:
    """The delimiter with which the first record has the columns that are needed."""
    for delimiter in DELIMITERS:
        _, fields, _ = next(records_of(path, delimiter, table.encoding), (1, [], None))
        names = table.header or [name.strip() for name in fields]
        if set(needed(table)) <= set(names) and len(fields) == len(names):
            return delimiter
    return DELIMITERS[0]


# JSON lines, parquet


def _of_json(path: Path, table: Table) -> Iterator[Cells]:
    for line, text, broken in text_lines(path, table.encoding):
        content = text.strip()
        if not content:
            continue
        fields: dict[str, Any] = {}
        try:
            if broken:
                raise ValueError(broken)
            fields = parse_json(content, dict[str, Any], "the line")
            _check_keys(fields, table)
        except ValueError as error:
            broken = str(error)
        yield Cells(line, content, {} if broken else fields, broken)


def _check_keys(fields: dict[str, Any], table: Table) -> None:
    missing = [name for name in needed(table) if name not in fields]
    if missing:
        raise ValueError(f"it lacks {missing}, and has {brief(list(fields), 80)}")


def _of_parquet(path: Path, table: Table) -> Iterator[Cells]:
    names = None
    for row, fields in enumerate(parquet_rows(path), start=1):
        if names is None:
            try:
                names = check_header(list(fields), table)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
        yield Cells(row, brief(fields, 80), fields)


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a parquet file.

    Raises:
        ValueError: it is none, or pyarrow is missing.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError(
            "reading parquet needs pyarrow; install it: pip install 'minbert[parquet]'"
        ) from None
    whole = regular(path)
    try:
        with parquet.ParquetFile(whole) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        # Damaged pages are OSErrors, damaged texts ValueErrors.
        raise ValueError(f"{path} is no parquet file, or damaged: {brief(error)}") from None
