"""Tasks of one's own as files: TOML that a user writes (`read_task_file`), and JSON that a run
keeps (`task_to_dict`). docs/tasks.md has all keys.

    name = "reviews"
    kind = "classes"
    classes = ["negative", "positive"]
    text = "review"
    label = "sentiment"

    [hold_out]
    dev = 0.1

    [[files]]
    path = "reviews.csv"
    split = "train"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from data.readers import SPLIT_NAMES, read_table
from data.schema import Format, HeldOut, Split, Table, Task
from data.tables import cells_of
from data.tasks import NEIGHBOURS, TASKS, check_task, register_task
from minbert.files import brief, checked, read_text

FileFormat = Literal["csv", "tsv", "jsonl", "parquet"]
ENDINGS: dict[str, FileFormat] = {
    ".csv": "csv",
    ".txt": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
"""Ending of a file's name -> its format, where the task file names none."""

METRICS: dict[str, tuple[str, ...]] = {
    "classes": ("accuracy", "macro_f1"),
    "number": ("pearson", "spearman"),
    "labels": ("micro_f1", "macro_f1", "subset_accuracy"),
    "pairs": NEIGHBOURS.metrics,
}
"""Kind -> its scores, where the task file names none."""


class Columns(Struct, kw_only=True):
    """Where texts and labels are: what a task says of all of its files, and a file of itself."""

    text: str | list[str] | None = None
    label: str | list[str] | None = None
    id: str | None = None
    names: dict[str, str] = {}
    separator: str | None = None
    delimiter: str | None = None
    encoding: str | None = None


class OwnFile(Columns, kw_only=True):
    """An entry of [[files]]."""

    path: str
    split: Literal["train", "dev", "test"] | None = None
    split_column: str | None = None
    format: FileFormat | None = None
    from_range: tuple[float, float] | None = None


class HoldOut(Struct, kw_only=True):
    """[hold_out]"""

    dev: float = 0.0
    test: float = 0.0
    seed: int = 1


class TaskFile(Columns, kw_only=True):
    """A whole task file."""

    name: str
    kind: Literal["classes", "number", "labels", "pairs"]
    files: list[OwnFile]
    title: str | None = None
    classes: list[str] = []
    range: tuple[float, float] | None = None
    symmetric: bool = False
    metrics: list[str] = []
    hold_out: HoldOut | None = None


def register_task_file(path: Path) -> Task:
    """Read a task file, and make its task known; a file that has changed replaces what it said."""
    task = read_task_file(path)
    known = TASKS.get(task.name)
    again = known is not None and known.source is not None and known.source == task.source
    try:
        return register_task(task, replace=again)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_task_file(path: Path) -> Task:
    """The task that a file defines.

    Raises:
        ValueError: it is no TOML, a key is unknown or missing, or a value is not possible.
    """
    path = Path(path).expanduser()
    text = read_text(path)
    try:
        values = msgspec.toml.decode(text.encode())
    except msgspec.DecodeError as error:
        raise ValueError(
            f"{path} is not a TOML file: {brief(error)}. From a file of rows one is made by "
            "minbert task new"
        ) from None
    _refuse_unknown(values, TaskFile, path, text)
    for number, entry in enumerate(values.get("files", []) if isinstance(values, dict) else []):
        _refuse_unknown(entry, OwnFile, path, text, number)
    if isinstance(values, dict) and isinstance(values.get("hold_out"), dict):
        _refuse_unknown(values["hold_out"], HoldOut, path, text)
    file = checked(values, TaskFile, path)
    try:
        task = _task(file, Path(path).resolve())
        check_task(task)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return task


def _refuse_unknown(
    values: Any, kind: type[Struct], path: Path, text: str, number: int | None = None
) -> None:
    """Name keys that there are not, which would else be passed over."""
    if not isinstance(values, dict):
        return
    known = kind.__struct_fields__
    for key in values:
        if key not in known:
            line = _line_of(key, text, number)
            where = "" if number is None else f" of file {number + 1}"
            raise ValueError(
                f"{path}:{line}: unknown key {brief(key)}{where}; known are {', '.join(known)}"
            )


def _line_of(key: str, text: str, number: int | None) -> int:
    """The line in which a key stands, as well as that can be found without a parser of our own."""
    lines, entry = text.split("\n"), -1
    for line, content in enumerate(lines, start=1):
        entry += content.strip().replace(" ", "") == "[[files]]"
        if (number is None or entry == number) and re.match(
            rf"\s*(\[\s*)?[\"']?{re.escape(key)}[\"']?\s*[=.\]]", content
        ):
            return line
    return 1


def _task(file: TaskFile, path: Path) -> Task:
    classes = tuple(file.classes)
    if file.kind == "labels" and not classes and isinstance(file.label, list):
        classes = tuple(file.label)
    tables: dict[Split, list[Table]] = {}
    if not file.files:
        raise ValueError("there are no files; give at least one: [[files]] with path and split")
    for number, own in enumerate(file.files, start=1):
        if (own.split is None) == (own.split_column is None):
            raise ValueError(
                f"file {number}, {own.path}, must say of which split its rows are: split = "
                '"train", "dev" or "test"; or split_column = the column that says it'
            )
        splits: list[Split] = [own.split] if own.split else _splits_in(own, file, path)
        for split in splits:
            try:
                tables.setdefault(split, []).append(_table(own, file, split, classes))
            except ValueError as error:
                raise ValueError(f"file {number}, {own.path}: {error}") from None
    if "train" not in tables and file.hold_out is not None:
        raise ValueError("hold_out takes rows from training files, and there are none")
    for key, kind in (("range", "number"), ("classes", "classes or labels")):
        if getattr(file, key) and file.kind not in kind:
            raise ValueError(f"{key} is for kind {kind}, and this task is of kind {file.kind}")
    if file.kind == "number" and file.range is None:
        raise ValueError("a task of kind number needs its range = [lowest, highest]")
    held = None
    if file.hold_out is not None:
        held = HeldOut(**msgspec.structs.asdict(file.hold_out))
    return Task(
        name=file.name,
        title=file.title or file.name,
        kind="regression" if file.kind == "number" else file.kind,
        classes=classes,
        label_range=file.range or (0.0, 0.0),
        unit=(file.range[1] - file.range[0]) / 5 if file.range else None,  # as in STS
        tables={split: found[0] for split, found in tables.items()},
        more={split: tuple(found[1:]) for split, found in tables.items() if found[1:]},
        hold_out=held,
        symmetric=file.symmetric,
        metrics=_metrics(file),
        folder=path.parent,
        source=path,
    )


def _metrics(file: TaskFile) -> tuple[str, ...]:
    """The scores that a task has, if they are scores of its kind."""
    known = {
        "classes": ("accuracy", "macro_f1", "micro_f1", "matthews"),
        "number": ("pearson", "spearman"),
        "labels": ("micro_f1", "macro_f1", "subset_accuracy"),
        "pairs": NEIGHBOURS.metrics,
    }[file.kind]
    if file.kind == "classes" and len(file.classes) == 2:
        known = (*known, "f1")
    for name in file.metrics:
        if name not in known:
            raise ValueError(f"metrics has {name!r}; those of kind {file.kind} are {known}")
    return tuple(file.metrics) or METRICS[file.kind]


def _splits_in(own: OwnFile, file: TaskFile, path: Path) -> list[Split]:
    """The splits that a column names, in the file as it is now."""
    table = Table(
        path=own.path,
        texts=(),
        label=own.split_column,
        format=_format(own),
        delimiter=_delimiter(own, file),
        encoding=own.encoding or file.encoding or "utf-8",
    )
    assert own.split_column is not None
    place = path.parent / own.path
    found = {str(cells.fields.get(own.split_column, "")) for cells in cells_of(place, table)}
    named = {SPLIT_NAMES.get(name.strip().lower()) for name in found}
    return [split for split in ("train", "dev", "test") if split in named]


def _table(own: OwnFile, file: TaskFile, split: Split, classes: tuple[str, ...]) -> Table:
    text = own.text if own.text is not None else file.text
    label = own.label if own.label is not None else file.label
    if text is None:
        raise ValueError('text names no column; give text = "COLUMN", or two of a pair')
    texts = (text,) if isinstance(text, str) else tuple(text)
    if isinstance(label, list):
        columns, label = tuple(label), None
    else:
        columns, label = (), label or None  # "" where a test file has none
    if columns and file.kind != "labels":
        raise ValueError(f"label names {len(columns)} columns, which is for kind labels")
    if file.kind == "pairs" and (columns or label):
        raise ValueError(
            f"label names {columns[0] if columns else label!r}, and rows of kind pairs have none: "
            "all are positives; leave label out, or take kind number or classes"
        )
    if not columns and label is None and split != "test" and file.kind != "pairs":
        raise ValueError(f'label names no column, which {split} rows need: label = "COLUMN"')
    names = {**file.names, **own.names}
    unknown = sorted(set(names.values()) - set(classes))
    if unknown:
        raise ValueError(f"names leads to {unknown[0]!r}, which is none of the classes")
    numbers = {name: number for number, name in enumerate(classes)}
    return Table(
        path=own.path,
        texts=texts,
        id=own.id or file.id,
        label=label,
        label_columns=columns,
        label_map={**numbers, **{key: numbers[name] for key, name in names.items()}},
        format=_format(own),
        delimiter=_delimiter(own, file),
        encoding=own.encoding or file.encoding or "utf-8",
        separator=own.separator or file.separator or ";",
        from_range=own.from_range,
        split=(own.split_column, split) if own.split_column else None,
    )


def _own_format(own: OwnFile) -> FileFormat:
    ending = Path(own.path).suffix.lower()
    if own.format is None and ending not in ENDINGS:
        raise ValueError(
            f"the ending {ending!r} tells no format; give format = csv, tsv, jsonl or parquet"
        )
    return own.format or ENDINGS[ending]


def _format(own: OwnFile) -> Format:
    found = _own_format(own)
    return "csv" if found == "tsv" else found


def _delimiter(own: OwnFile, file: TaskFile) -> str | None:
    delimiter = own.delimiter or file.delimiter or ("\t" if _own_format(own) == "tsv" else None)
    if delimiter is not None and len(delimiter) != 1:
        raise ValueError(f"delimiter is {delimiter!r}; it is one character, such as , or ;")
    return delimiter


def rows_of_table(path: Path, task: Task) -> list[tuple[str, ...]] | None:
    """The texts in a file of rows, as a task of the user's own has them, or None where the file is
    none: its ending is another, or the task comes along.

    Raises:
        ValueError: a row cannot be read, or has no text.
    """
    table = next(iter(task.tables.values()))
    if table.format == "rows" or path.suffix.lower() not in ENDINGS or path.suffix == ".txt":
        return None
    form = ENDINGS[path.suffix.lower()]
    plain = Table(
        path=str(path),
        texts=table.texts,
        format="csv" if form == "tsv" else form,
        delimiter="\t" if form == "tsv" else None,
        encoding=table.encoding,
    )
    rows = read_table(path, plain, task, "skip")
    if rows.skipped:
        raise ValueError(f"{rows.skipped[0]}\n    mend the row; {len(rows.skipped)} are bad")
    return [example.texts for example in rows.examples]


# What a run keeps


def task_to_dict(task: Task) -> dict[str, Any]:
    """A task as JSON values."""
    values: dict[str, Any] = asdict(task)
    places = {name: str(values[name]) for name in ("folder", "source") if values[name] is not None}
    return {**values, **places}


def task_from_dict(values: Mapping[str, Any], source: object) -> Task:
    """The task that `task_to_dict` gave."""
    return checked(values, Task, source)
