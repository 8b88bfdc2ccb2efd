"""Rows of text files as `Example`s. Nothing is skipped unless asked, and never silently.

A bad row (wrong number of columns, broken quotes, an empty text, a missing or impossible label, an
id seen before) stops the reading with file, line, content and remedy; with on_bad_row="skip" it is
left out and listed. tables.py has the formats of files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from data.held_out import parts_of
from data.schema import SPLITS, Example, Label, Split, Table, Task
from data.tables import cells_of
from minbert.files import brief, checked

SAMPLES = Path(__file__).parent / "samples"
"""Small data written for this project; the default data directory."""

OnBadRow = Literal["stop", "skip"]

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""How a label may be written. Python's float also takes 1_0, nan, inf and other digits than 0-9."""

TRUTHS = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True, "": False}
"""What a column of one of several labels may say."""

SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "valid", "validation", "val", "eval"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What a column of splits may say -> the split."""


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
    notes: list[str] = field(default_factory=list)
    """What a user should know of how the rows came about."""


def has_split(task: Task, split: Split, data_dir: str | Path) -> bool:
    """Whether a task's file for this split is there, or that which it is held out of."""
    source: Split = "train" if task.held_out(split) else split
    return any(find_files(table, task, data_dir) for table in task.tables_of(source))


def read_split(
    task: Task, split: Split, data_dir: str | Path = SAMPLES, *, on_bad_row: OnBadRow = "stop"
) -> Rows:
    """Read a task's rows of one split, from all of its files.

    Raises:
        ValueError: no such split, no file, two files, or a bad row and on_bad_row is "stop".
    """
    checked(on_bad_row, OnBadRow, name="on_bad_row")
    source: Split = "train" if task.held_out(split) else split
    tables = task.tables_of(source)
    if not tables:
        raise ValueError(
            f"task {task.name!r} has no {split} split; it has {', '.join(task.splits)}"
        )
    found = [
        read_table(_file(table, task, split, data_dir), table, task, on_bad_row) for table in tables
    ]
    rows = found[0] if len(found) == 1 else _joined(found)
    if not rows.examples:
        bad = rows.skipped
        first = f"; the first of {len(bad)} bad ones: {bad[0]}" if bad else ""
        raise ValueError(f"{rows.path} has no usable row for task {task.name!r}{first}")
    return _part(rows, task, split) if source == "train" else rows


def _file(table: Table, task: Task, split: Split, data_dir: str | Path) -> Path:
    paths = find_files(table, task, data_dir)
    if len(paths) == 1:
        return paths[0]
    if task.folder is not None:
        raise ValueError(
            f"task {task.name!r} wants {table.path} for its {split} split, and it is neither in "
            f"{task.folder} nor where --data-dir says; put it there, or point --data-dir at the "
            "folder that has it"
        )
    raise ValueError(
        f"task {task.name!r} wants {table.path} for its {split} split under {data_dir} or one "
        f"of its folders; found {[str(path) for path in paths] or 'none'}. "
        "Point --data-dir at the folder with the files, or fetch them: minbert data fetch"
    )


def _joined(found: list[Rows]) -> Rows:
    """The rows of several files, whose ids say which of them each is from."""
    examples = [
        replace(example, id=f"{number}:{example.id}")
        for number, rows in enumerate(found, start=1)
        for example in rows.examples
    ]
    return Rows(found[0].path, examples, [bad for rows in found for bad in rows.skipped])


def _part(rows: Rows, task: Task, split: Split) -> Rows:
    """Of a training file's rows those of a split that is held out of it, or those that are not."""
    held: list[Split] = [name for name in SPLITS if task.held_out(name)]
    if task.hold_out is None or not held:
        return rows
    try:
        parts = parts_of(rows.examples, task)
    except ValueError as error:
        raise ValueError(f"{rows.path}: {error}") from None
    kept = [example for example, part in zip(rows.examples, parts, strict=True) if part == split]
    counts = ", ".join(f"{parts.count(name)} for {name}" for name in ("train", *held))
    note = (
        f"{task.name}: of {len(rows.examples)} rows {counts}, by a rule with seed "
        f"{task.hold_out.seed} that gives each label its share and keeps equal texts together"
    )
    skipped = rows.skipped if split == "train" else []  # said once
    return Rows(rows.path, kept, skipped, [note] if split == "train" else [])


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


def find_files(table: Table, task: Task, data_dir: str | Path) -> list[Path]:
    """The files that a table may mean: one, if all is well.

    A task that has a folder has its files there, and before that in a data directory that is named.
    """
    data_dir = Path(data_dir).expanduser()
    if not data_dir.is_dir():
        raise ValueError(f"data directory {data_dir} does not exist; give one with --data-dir")
    if task.folder is not None:
        path = Path(table.path)
        named = [] if path.is_absolute() else [data_dir / path]
        named = [] if data_dir == SAMPLES else [*named, data_dir / path.name]
        return [place for place in (*named, task.folder / path) if place.is_file()][:1]
    if (data_dir / table.path).exists():
        return [data_dir / table.path]
    return sorted(data_dir.glob(f"*/{table.path}"))


def read_table(path: Path, table: Table, task: Task, on_bad_row: OnBadRow = "stop") -> Rows:
    """The rows of one file; as `read_split` otherwise."""
    rows, seen = Rows(path, [], []), set()
    for cells in cells_of(path, table):
        try:
            if cells.broken:
                raise ValueError(cells.broken)
            if table.split and split_named(cells.fields[table.split[0]], table) != table.split[1]:
                continue
            count = len(rows.examples) + len(rows.skipped)
            number = count if table.format == "rows" else cells.line
            example = _example(cells.fields, table, task, number)
            if example.id in seen:
                raise ValueError(f"id {brief(example.id, 60)} stands in an earlier row too")
        except ValueError as error:
            bad = BadRow(path, cells.line, str(error), cells.content)
            if on_bad_row == "stop":
                raise ValueError(
                    f"{bad}\n    mend the row, or leave such rows out with --on-bad-row skip"
                ) from None
            rows.skipped.append(bad)
        else:
            seen.add(example.id)
            rows.examples.append(example)
    return rows


def split_named(cell: Any, table: Table) -> Split:
    """The split that a column of splits names."""
    name = SPLIT_NAMES.get(plain(cell).lower())
    if name is None:
        column = table.split and table.split[0]
        raise ValueError(f"column {column!r} is {brief(cell, 60)}, and not train, dev or test")
    return name


def plain(cell: Any) -> str:
    """A cell as a csv file would have it: JSON's and parquet's have numbers and truth values."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _example(fields: dict[str, Any], table: Table, task: Task, number: int) -> Example:
    texts = []
    for column in table.texts:
        text = fields[column]
        if not isinstance(text, str | None):
            raise ValueError(f"column {column!r} is {brief(text, 60)}, and no text")
        if not text or not text.strip():
            raise ValueError(f"column {column!r} is empty")
        texts.append(text.strip())
    row_id = plain(fields[table.id]) if table.id else str(number)
    if not row_id:
        raise ValueError(f"column {table.id!r} is empty")
    return Example(row_id, tuple(texts), _label(fields, table, task))


def _label(fields: dict[str, Any], table: Table, task: Task) -> Label | None:
    if not table.label_needs:
        return None
    if task.kind == "labels":
        return _several(fields, table, task)
    column, names = table.label, table.label_names
    text = plain(fields[str(column)])
    shown = brief(text, 60)
    if table.label_map or names:
        numbers = table.label_map or {name: number for number, name in enumerate(names)}
        if text not in numbers:
            raise ValueError(f"column {column!r} is {shown}, and not one of {', '.join(numbers)}")
        return float(numbers[text])
    if task.kind == "regression":
        low, high = table.from_range or task.label_range
        rule = f"a number from {low:g} to {high:g}"
    else:
        low, high = 0, len(task.classes) - 1
        rule = f"a whole number from {low} to {high}"
    value = float(text) if NUMBER.fullmatch(text) else math.nan
    possible = low <= value <= high and (task.kind == "regression" or value == round(value))
    if not possible:
        raise ValueError(f"column {column!r} is {shown}; a label of {task.name} is {rule}")
    if table.from_range and task.kind == "regression":
        first, last = task.label_range
        return first + (value - low) / (high - low) * (last - first)
    return value


def _several(fields: dict[str, Any], table: Table, task: Task) -> tuple[float, ...]:
    """Which of a task's labels hold: (classes,) of 0 and 1."""
    if table.label_columns:
        found = [plain(fields[column]).lower() for column in table.label_columns]
        for column, text in zip(table.label_columns, found, strict=True):
            if text not in TRUTHS:
                raise ValueError(f"column {column!r} is {brief(text, 60)}, and not 0 or 1")
        holds = dict(zip(table.label_columns, found, strict=True))
        named = [column for column, text in holds.items() if TRUTHS[text]]
    else:
        cell = fields[str(table.label)]
        parts = cell if isinstance(cell, list) else plain(cell).split(table.separator)
        named = [name for part in parts if (name := plain(part))]
    numbers = table.label_map or {name: number for number, name in enumerate(task.classes)}
    for name in named:
        if name not in numbers:
            column = table.label or "label"
            raise ValueError(
                f"column {column!r} has {brief(name, 60)}, and not one of {', '.join(numbers)}"
            )
    held = {numbers[name] for name in named}
    return tuple(float(number in held) for number in range(len(task.classes)))
