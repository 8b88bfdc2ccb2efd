"""How a file of rows is written: its format, encoding and delimiter, found by looking at it."""

from __future__ import annotations

import codecs
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.tables import DELIMITERS, parquet_rows, records_of, text_lines
from data.task_files import ENDINGS, FileFormat
from minbert.files import brief, parse_json, regular


@dataclass(frozen=True)
class Shape:
    """A file as it was found."""

    path: Path
    format: FileFormat
    encoding: str
    delimiter: str | None
    columns: dict[str, list[Any]]
    """Name -> its cells, those of a csv file as text."""

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()), []))


def shape_of(path: Path, delimiter: str | None = None) -> Shape:
    """Read a file without knowing what is in it.

    Raises:
        ValueError: it is no such file, has no header or no rows.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(
            f"{path}: its ending is none of {', '.join(ENDINGS)}; rename the file, or save "
            "a spreadsheet as CSV"
        )
    kind, encoding = ENDINGS[ending], "utf-8"
    if kind == "parquet":
        rows = list(parquet_rows(path))
    else:
        encoding = _encoding(path)
        if kind == "jsonl":
            rows = [
                parse_json(text, dict[str, Any], f"{path}:{line}")
                for line, text, _ in text_lines(path, encoding)
                if text.strip()
            ]
        else:
            delimiter = delimiter or ("\t" if kind == "tsv" else _delimiter(path, encoding))
            return Shape(path, kind, encoding, delimiter, _columns(path, delimiter, encoding))
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not rows or not names:
        raise ValueError(f"{path} has no rows")
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Shape(path, kind, encoding, None, columns)


def _encoding(path: Path) -> str:
    data = regular(path).read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _delimiter(path: Path, encoding: str) -> str:
    """The delimiter that gives the first rows the same number of columns, and the most."""
    found = []
    for delimiter in DELIMITERS:
        widths = []
        for _, fields, broken in records_of(path, delimiter, encoding):
            widths.append(0 if broken else len(fields))
            if len(widths) == 50:
                break
        same = sum(width == widths[0] for width in widths) if widths else 0
        found.append((widths[0] > 1 if widths else False, same, widths[0] if widths else 0))
    return DELIMITERS[max(range(len(found)), key=lambda n: found[n])]


def _columns(path: Path, delimiter: str, encoding: str) -> dict[str, list[Any]]:
    records = records_of(path, delimiter, encoding)
    line, header, broken = next(records, (1, [], None))
    names = [name.strip() for name in header]
    if broken or not names:
        raise ValueError(f"{path}:{line}: {broken or 'there is no header line'}")
    if any(len(name.split()) > 8 for name in names):
        raise ValueError(
            f"{path}:{line}: the first line must name the columns, and looks like a row: "
            f"{brief(header, 100)}; write a header line such as text{delimiter}label"
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{path}:{line}: two columns are called {twice[0]!r}; rename one")
    rows = []
    for line, fields, broken in records:
        if broken or len(fields) != len(names):
            broken = broken or f"{len(fields)} columns where {len(names)} are due"
            raise ValueError(
                f"{path}:{line}: {broken}\n    {brief(delimiter.join(fields)[:70], 80)}\n"
                f"    mend the row; if fields are not divided by {delimiter!r}, give --delimiter"
            )
        rows.append(fields)
    if not rows:
        raise ValueError(f"{path} has a header, and no rows")
    return {name: [row[n] for row in rows] for n, name in enumerate(names)}
