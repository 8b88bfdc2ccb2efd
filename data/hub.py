"""GLUE as the Hugging Face hub has it, parquet files, written as GLUE's own tables.

    nyu-mll/glue/mrpc/validation-00000-of-00001.parquet -> MRPC/dev.tsv

The rest of the project reads tables alone. Reading parquet needs pyarrow: pip install
'minbert[parquet]'. Tabs and line ends inside of a text become spaces; a row's index is its number.
"""

from __future__ import annotations

import re
from pathlib import Path

from data.schema import Split, Table, Task
from data.tables import parquet_rows
from data.tasks import TASKS
from minbert.files import brief, write_text

FOLDERS = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "ax")
"""Folders of the hub's repository, each of the task of the same name."""
SPLITS: dict[str, Split] = {
    "train": "train",
    "validation": "dev",
    "test": "test",
    "validation_matched": "dev",
    "validation_mismatched": "dev_mismatched",
    "test_matched": "test",
    "test_mismatched": "test_mismatched",
}
"""The hub's names of splits -> ours."""
TEXTS = (
    ("sentence",),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("premise", "hypothesis"),
)
"""Columns that hold texts."""


def convert(source: Path, target: Path) -> list[Path]:
    """Write the tables of all of GLUE's parquet files in a folder.

    Args:
        source: holds mrpc/train-00000-of-00001.parquet and the like, of one task or several.
        target: folder of the tables, such as MRPC/train.tsv.

    Returns:
        The files that were written.

    Raises:
        ValueError: there is no such file, one is not what the hub has, or pyarrow is missing.
    """
    written = []
    for folder in FOLDERS:
        shards: dict[str, list[Path]] = {}
        for path in sorted((source / folder).glob("*.parquet")):
            shards.setdefault(path.name.split("-")[0], []).append(path)
        for name, paths in shards.items():
            task = TASKS[folder]
            split = SPLITS.get(name)
            is_matched = name.endswith("matched")  # what the hub calls MNLI's dev and test
            if split not in task.tables or is_matched != (folder == "mnli" and split != "train"):
                raise ValueError(f"{paths[0]} is no split of {folder}; take it out")
            _check_all_there(paths)
            table = task.tables[split]
            rows = [row for shard in paths for row in _read(shard, len(table.texts))]
            path = target / table.path
            write_text(path, _tsv(rows, task, table))
            written.append(path)
    if not written:
        raise ValueError(
            f"{source} holds no parquet file of GLUE, such as mrpc/train-00000-of-00001.parquet; "
            "give the folder that the hub's nyu-mll/glue was downloaded to"
        )
    return written


def _check_all_there(shards: list[Path]) -> None:
    """Refuse a split of which shards are missing: they are numbered, train-00000-of-00003."""
    count = re.search(r"-of-(\d+)\.parquet$", shards[0].name, re.ASCII)
    if count and len(shards) != int(count[1]):
        raise ValueError(
            f"{shards[0].parent} has {len(shards)} of {int(count[1])} shards of "
            f"{shards[0].name.split('-')[0]}, such as {shards[0].name}; get them all, and of one "
            "version only"
        )


def _read(path: Path, width: int) -> list[tuple[tuple[str, ...], float]]:
    """The texts, so many, and the label of each row."""
    rows = list(parquet_rows(path))
    columns = next(
        (c for c in TEXTS if len(c) == width and rows and rows[0].keys() >= {*c, "label"}), None
    )
    if columns is None:
        names = list(rows[0]) if rows else "no rows"
        raise ValueError(f"{path} has {names}; {width} columns of text and a label are due")
    wanted = {**dict.fromkeys(columns, ((str,), "text")), "label": ((int, float), "number")}
    for number, row in enumerate(rows):
        for name, (kinds, what) in wanted.items():
            if type(row[name]) not in kinds:
                raise ValueError(
                    f"{path}: row {number}: column {name!r} is {brief(row[name])}, and no {what}"
                )
    return [(tuple(row[column] for column in columns), row["label"]) for row in rows]


def _tsv(rows: list[tuple[tuple[str, ...], float]], task: Task, table: Table) -> str:
    """The rows as a table that the task's reader takes."""
    header = table.header or tuple(
        name for name in (table.id, *table.texts, table.label) if name is not None
    )
    lines = [] if table.header else ["\t".join(header)]
    for number, (texts, label) in enumerate(rows):
        cells = dict(zip(table.texts, (" ".join(text.split()) for text in texts), strict=True))
        if table.label is not None:
            cells[table.label] = _written(label, task, table)
        if table.id is not None:
            cells[table.id] = str(number)
        lines.append("\t".join(cells.get(name, "") for name in header))
    return "".join(f"{line}\n" for line in lines)


def _written(label: float, task: Task, table: Table) -> str:
    """A label as GLUE's table has it; one that the task does not know stays, to be refused."""
    if task.kind == "regression":
        return f"{label:.3f}"
    known = range(len(table.label_names))
    return table.label_names[int(label)] if label in known else str(label)
