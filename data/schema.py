"""What a task is: where its rows are, what to read of them, which head and loss it trains, how it
is scored and how its predictions are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Split = Literal["train", "dev", "test", "dev_mismatched", "test_mismatched"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
"""The splits of nearly every task; MNLI has the mismatched ones too, of other kinds of text."""

Label = float | tuple[float, ...]
"""Number of a class, or of a regression; of several labels 1 for each that holds, 0 for others."""

Format = Literal["rows", "csv", "jsonl", "parquet"]
"""rows: tab-separated, a row is a line whatever stands in it, as the course and GLUE have them;
csv: fields with any delimiter, which may be quoted and have line ends inside."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A file of rows."""

    path: str
    """Under the data directory, or under one of its folders."""
    texts: tuple[str, ...]
    """Columns of the text, or of the two texts of a pair."""
    id: str | None = None
    """Column of the row's id; without one, rows count from 0, and those of other formats than
    `rows` have the number of their line."""
    label: str | None = None
    """Column of the label; None where the labels are not published."""
    label_names: tuple[str, ...] = ()
    """How the file writes labels 0, 1, ...; by default as these numbers."""
    header: tuple[str, ...] | None = None
    """Names of the columns of a file that has no header line."""
    quoted: bool = False
    """Fields are quoted as in CSV; otherwise a quote is a character like any other."""
    format: Format = "rows"
    delimiter: str | None = None
    """Between the fields of csv; by default the one with which the header has the columns."""
    encoding: str = "utf-8"
    """Of csv and jsonl."""
    label_map: Mapping[str, int] = field(default_factory=dict)
    """What the file writes -> the number of the class, in place of label_names."""
    label_columns: tuple[str, ...] = ()
    """Of several labels at once: a column of 0 and 1 for each, in place of one column."""
    separator: str = ";"
    """Between several labels in one column."""
    from_range: tuple[float, float] | None = None
    """Smallest and largest number that this file may have, where they are to become the task's
    label_range."""
    split: tuple[str, str] | None = None
    """A column that says of which split a row is, and which rows to read: train, dev or test."""

    @property
    def label_needs(self) -> tuple[str, ...]:
        """The columns that labels are read from."""
        return self.label_columns or ((self.label,) if self.label is not None else ())


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Shares of the training rows that are held out, by a seeded rule: data/held_out.py."""

    dev: float = 0.0
    test: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        if not (self.dev >= 0 and self.test >= 0 and self.dev + self.test < 1):
            raise ValueError(
                f"hold_out has dev {self.dev:g} and test {self.test:g}: they are shares of the "
                "training rows, from 0 to 1, and must leave some to train on"
            )


@dataclass(frozen=True, kw_only=True)
class PredictionFile:
    """How the course's graders want predictions, in `{stem}-{split}-output.csv`."""

    stem: str
    column: str
    whole: bool = False
    """Whether a prediction is written 3, and not 3.0."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of the multitask model."""

    name: str
    title: str
    kind: Literal["classes", "binary", "regression", "labels", "tokens", "pairs"]
    """classes: K outputs, cross-entropy; binary: 1 output, binary cross-entropy on its sigmoid;
    regression: 1 output, mean squared error; labels: K outputs, any number of which may hold at
    once, binary cross-entropy on the sigmoid of each; tokens: cross-entropy over the vocabulary at
    each masked token; pairs: no outputs, embeddings are compared with one another: a row is a text,
    one that means the same, and perhaps one that does not."""
    classes: tuple[str, ...] = ()
    """What labels 0, 1, ... mean; none for regression."""
    label_range: tuple[float, float] = (0.0, 0.0)
    """Smallest and largest label of a regression."""
    unit: float | None = None
    """What a regression's output 1 is worth, counted from the middle of the range, and in which its
    loss is measured: prices and percentages are then learnt at the usual rates. None: 1, from 0."""
    tables: Mapping[Split, Table]
    more: Mapping[Split, tuple[Table, ...]] = field(default_factory=dict)
    """Further files of a split, read after its table."""
    hold_out: HeldOut | None = None
    """What of the training rows is development and test rows, where these have no table."""
    symmetric: bool = False
    """Whether the two texts of a pair may change places."""
    metrics: tuple[str, ...]
    """Names in multitask.metrics; the first one is the task's score."""
    predictions: PredictionFile | None = None
    """None: a CSV file with the names of classes and the probability of each."""
    folder: Path | None = None
    """Where the tables are looked for beside the data directory: a task file's folder."""
    source: Path | None = None
    """The task file."""

    @property
    def num_outputs(self) -> int:
        """K, outputs of the head."""
        return len(self.classes) if self.kind in ("classes", "labels") else 1

    def named(self, value: float | list[int]) -> str:
        """The name of a class, those of several, or the number of a regression."""
        if isinstance(value, list):
            return ", ".join(self.classes[number] for number in value) or "none"
        return self.classes[int(value)] if self.classes else f"{value:.1f}"

    def tables_of(self, split: Split) -> tuple[Table, ...]:
        """The files of a split, none where there are none of its own."""
        own = (self.tables[split],) if split in self.tables else ()
        return own + tuple(self.more.get(split, ()))

    def held_out(self, split: Split) -> float:
        """The share of the training rows that a split is; 0 where it has a table, or no rows."""
        if self.hold_out is None or split not in ("dev", "test") or split in self.tables:
            return 0.0
        return getattr(self.hold_out, split)

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that the task has rows for, if its files are there."""
        held = [split for split in SPLITS if self.held_out(split)]
        return (*self.tables, *held)

    @property
    def is_pair(self) -> bool:
        """Whether a row has two texts."""
        return len(next(iter(self.tables.values())).texts) == 2


@dataclass(frozen=True)
class Example:
    """One row: the text or the two texts of a pair, and the label where there is one."""

    id: str
    texts: tuple[str, ...]
    label: Label | None
