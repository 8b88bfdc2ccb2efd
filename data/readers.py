"""Rows of text files as `Example`s. Nothing is skipped unless asked, and never silently.

The files are tab-separated, in spite of some endings. A bad row (wrong number of columns, broken
quotes, an empty text, a missing or impossible label, an id seen before) stops the reading with
file, line, content and remedy; with on_bad_row="skip" it is left out and listed.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.lines import numbered_lines
from data.tasks import Split, Table, Task
from minbert.files import brief, checked

SAMPLES = Path(__file__).parent / "samples"
"""Small data written for this project; the default data directory."""

OnBadRow = Literal["stop", "skip"]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""How a label may be written. Python's float also takes 1_0, nan, inf and other digits than 0-9."""


@dataclass(frozen=True)
class Example:
    """One row: the text or the two texts of a pair, and the label where there is one."""

    id: str
    texts: tuple[str, ...]
    label: float | None


@dataclass(frozen=True)
class BadRow:
    """A row that was left out."""

    path: Path
    line: int
    reason: str
    content: str

    def __str__(self) -> str:
        more = "..." if len(self.content) > 70 else ""
        return f"{self.path}:{self.line}: {self.reason}\n    {brief(self.content[:70], 80)}{more}"


@dataclass(frozen=True)
class Rows:
    """The rows of a file, and those that were left out of it."""

    path: Path
    examples: list[Example]
    skipped: list[BadRow]


def has_split(task: Task, split: Split, data_dir: str | Path) -> bool:
    """Whether a task's file for this split is there."""
    return split in task.tables and bool(_paths(task.tables[split], data_dir))


def read_split(
    task: Task, split: Split, data_dir: str | Path = SAMPLES, *, on_bad_row: OnBadRow = "stop"
) -> Rows:
    """Read a task's rows of one split.

    Raises:
        ValueError: no such split, no file, two files, or a bad row and on_bad_row is "stop".
    """
    checked(on_bad_row, OnBadRow, name="on_bad_row")
    if split not in task.tables:
        raise ValueError(
            f"task {task.name!r} has no {split} split; it has {', '.join(task.tables)}"
        )
    table = task.tables[split]
    paths = _paths(table, data_dir)
    if len(paths) != 1:
        raise ValueError(
            f"task {task.name!r} wants {table.path} for its {split} split under {data_dir} or one "
            f"of its folders; found {[str(path) for path in paths] or 'none'}. "
            "Point --data-dir at the folder with the files, or fetch them: minbert data fetch"
        )
    rows = _read(paths[0], table, task, on_bad_row)
    if not rows.examples:
        bad = rows.skipped
        first = f"; the first of {len(bad)} bad ones: {bad[0]}" if bad else ""
        raise ValueError(f"{paths[0]} has no usable row for task {task.name!r}{first}")
    return rows


def texts_by_id(task: Task, split: Split, data_dir: str | Path) -> dict[str, tuple[str, ...]]:
    """The text or texts of each row of a split that can be read, by its id."""
    rows = read_split(task, split, data_dir, on_bad_row="skip")
    return {example.id: example.texts for example in rows.examples}


def spread(rows: Sequence[Example], count: int | None) -> list[Example]:
    """So many rows at equal distances, in their order; None, or more than there are, is all.

    The first rows of a file would not do: SST's are positive, then negative.
    """
    if count is None or count >= len(rows):
        return list(rows)
    return [rows[n * len(rows) // count] for n in range(count)]


def _paths(table: Table, data_dir: str | Path) -> list[Path]:
    data_dir = Path(data_dir).expanduser()
    if not data_dir.is_dir():
        raise ValueError(f"data directory {data_dir} does not exist; give one with --data-dir")
    if (data_dir / table.path).exists():
        return [data_dir / table.path]
    return sorted(data_dir.glob(f"*/{table.path}"))


def _read(path: Path, table: Table, task: Task, on_bad_row: OnBadRow) -> Rows:
    rows, seen, names = Rows(path, [], []), set(), table.header
    for line, text, broken in numbered_lines(path):
        content = text.rstrip("\r\n")
        if line == 1 and "\r" in content and not text.endswith("\n"):
            raise ValueError(
                f"{path} has one line, of {len(text):,} characters: its rows end in \\r alone, as "
                "on old Macs; convert it: tr '\\r' '\\n'"
            )
        if not content:
            continue
        try:
            if broken:
                raise ValueError(broken)
            fields = _fields(content, table.quoted)
            if names is None:
                names = _checked_header(fields, table)
                continue
            if len(fields) != len(names):
                raise ValueError(f"{len(fields)} columns where {len(names)} are due")
            number = len(rows.examples) + len(rows.skipped)
            example = _example(dict(zip(names, fields, strict=True)), table, task, number)
            if example.id in seen:
                raise ValueError(f"id {brief(example.id, 60)} stands in an earlier row too")
        except ValueError as error:
            if names is None:
                raise ValueError(f"{path}:{line}: {error}") from None
            bad = BadRow(path, line, str(error), content)
            if on_bad_row == "stop":
                raise ValueError(
                    f"{bad}\n    mend the row, or leave such rows out with --on-bad-row skip"
                ) from None
            rows.skipped.append(bad)
        else:
            seen.add(example.id)
            rows.examples.append(example)
    return rows


def _fields(line: str, quoted: bool) -> list[str]:
    if not quoted:
        return line.split("\t")
    limit = csv.field_size_limit(2**31 - 1)  # a text may be longer than the process's limit
    try:
        # The csv module takes a \r outside of quotes for the end of the row.
        return next(csv.reader([line.replace("\r", " ")], delimiter="\t", strict=True))
    except csv.Error as error:
        raise ValueError(f"broken quoting ({error})") from None
    finally:
        csv.field_size_limit(limit)


def _checked_header(fields: list[str], table: Table) -> tuple[str, ...]:
    shown = brief(fields, 60)
    needed = [name for name in (table.id, *table.texts, table.label) if name is not None]
    twice = [name for name in needed if fields.count(name) > 1]
    if twice:
        raise ValueError(
            f"the header {shown} names the columns {twice} more than once; rename "
            "those that are not to be read"
        )
    missing = [name for name in needed if name not in fields]
    if missing:
        raise ValueError(
            f"the header {shown} lacks the columns {missing}; they must be named "
            f"{needed} and be separated by tabs"
        )
    return tuple(fields)


def _example(fields: dict[str, str], table: Table, task: Task, number: int) -> Example:
    texts = tuple(fields[column].strip() for column in table.texts)
    for column, text in zip(table.texts, texts, strict=True):
        if not text:
            raise ValueError(f"column {column!r} is empty")
    row_id = fields[table.id].strip() if table.id else str(number)
    if not row_id:
        raise ValueError(f"column {table.id!r} is empty")
    label = None if table.label is None else _label(fields[table.label].strip(), table, task)
    return Example(row_id, texts, label)


def _label(text: str, table: Table, task: Task) -> float:
    column, names, shown = table.label, table.label_names, brief(text, 60)
    if names:
        if text not in names:
            raise ValueError(f"column {column!r} is {shown}, and not one of {', '.join(names)}")
        return float(names.index(text))
    if task.kind == "regression":
        low, high = task.label_range
        rule = f"a number from {low:g} to {high:g}"
    else:
        low, high = 0, len(task.classes) - 1
        rule = f"a whole number from {low} to {high}"
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    possible = low <= value <= high and (task.kind == "regression" or value == round(value))
    if not possible:
        raise ValueError(f"column {column!r} is {shown}; a label of {task.name} is {rule}")
    return value
