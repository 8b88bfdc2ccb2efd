"""What a task is: where its rows are, what to read of them, which head and loss it trains, how it
is scored and how its predictions are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "dev", "test", "dev_mismatched", "test_mismatched"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
"""The splits of nearly every task; MNLI has the mismatched ones too, of other kinds of text."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A tab-separated file with one row a line."""

    path: str
    """Under the data directory, or under one of its folders."""
    texts: tuple[str, ...]
    """Columns of the text, or of the two texts of a pair."""
    id: str | None = None
    """Column of the row's id; without one, rows count from 0."""
    label: str | None = None
    """Column of the label; None where the labels are not published."""
    label_names: tuple[str, ...] = ()
    """How the file writes labels 0, 1, ...; by default as these numbers."""
    header: tuple[str, ...] | None = None
    """Names of the columns of a file that has no header line."""
    quoted: bool = False
    """Fields are quoted as in CSV; otherwise a quote is a character like any other."""


@dataclass(frozen=True, kw_only=True)
class PredictionFile:
    """How the course's graders want predictions, in `{stem}-{split}-output.csv`."""

    stem: str
    column: str
    number: type[int] | type[float]
    """Whether a prediction is written 3 or 1.0."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of the multitask model."""

    name: str
    title: str
    kind: Literal["classes", "binary", "regression", "tokens"]
    """classes: K outputs, cross-entropy; binary: 1 output, binary cross-entropy on its sigmoid;
    regression: 1 output, mean squared error; tokens: cross-entropy over the vocabulary at each
    masked token."""
    classes: tuple[str, ...] = ()
    """What labels 0, 1, ... mean; none for regression."""
    label_range: tuple[float, float] = (0.0, 0.0)
    """Smallest and largest label of a regression."""
    tables: Mapping[Split, Table]
    symmetric: bool = False
    """Whether the two texts of a pair may change places."""
    metrics: tuple[str, ...]
    """Names in multitask.metrics; the first one is the task's score."""
    predictions: PredictionFile

    @property
    def num_outputs(self) -> int:
        """K, outputs of the head."""
        return len(self.classes) if self.kind == "classes" else 1

    def named(self, value: float) -> str:
        """The name of a class, or the number of a regression."""
        return self.classes[int(value)] if self.classes else f"{value:.1f}"

    @property
    def is_pair(self) -> bool:
        """Whether a row has two texts."""
        return len(next(iter(self.tables.values())).texts) == 2
