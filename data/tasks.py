"""The tasks, one `Task` record each. To add a task, add a record to TASKS: all else follows.

A task says where its rows are, what to read of them, which head and loss it trains, how it is
scored and how its predictions are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


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
    header: tuple[str, ...] | None = None
    """Names of the columns of a file that has no header line."""
    quoted: bool = False
    """Fields are quoted as in CSV; otherwise a quote is a character like any other."""


@dataclass(frozen=True, kw_only=True)
class PredictionFile:
    """How the course's graders want predictions: `{stem}-{split}-output.csv`."""

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
    metrics: tuple[str, ...]
    """Names in multitask.metrics; the first one is the task's score."""
    predictions: PredictionFile | None
    licence: str
    """Where the data comes from, and under which terms."""

    @property
    def num_outputs(self) -> int:
        """K, outputs of the head."""
        return len(self.classes) if self.kind == "classes" else 1

    @property
    def is_pair(self) -> bool:
        """Whether a row has two texts."""
        return len(self.tables["train"].texts) == 2


def _cs224n(stem: str, texts: tuple[str, ...], label: str) -> dict[Split, Table]:
    def table(part: str, label: str | None) -> Table:
        return Table(path=f"{stem}-{part}.csv", id="id", texts=texts, label=label, quoted=True)

    return {
        "train": table("train", label),
        "dev": table("dev", label),
        "test": table("test-student", None),
    }


_COURSE = "CS224N default final project"
_COLA_COLUMNS = ("source", "label", "mark", "sentence")

_ALL = (
    Task(
        name="sst",
        title="sentiment of a sentence, five degrees (Stanford Sentiment Treebank)",
        kind="classes",
        classes=("very negative", "negative", "neutral", "positive", "very positive"),
        tables=_cs224n("ids-sst", ("sentence",), "sentiment"),
        metrics=("accuracy", "macro_f1"),
        predictions=PredictionFile(stem="sst", column="Predicted_Sentiment", number=int),
        licence=f"Socher et al. (2013), research use; split of the {_COURSE}",
    ),
    Task(
        name="para",
        title="whether two questions ask the same (Quora question pairs)",
        kind="binary",
        classes=("different", "paraphrase"),
        tables=_cs224n("quora", ("sentence1", "sentence2"), "is_duplicate"),
        metrics=("accuracy", "f1"),
        predictions=PredictionFile(stem="para", column="Predicted_Is_Paraphrase", number=float),
        licence=f"Quora, terms of service, non-commercial; split of the {_COURSE}",
    ),
    Task(
        name="sts",
        title="similarity of two sentences, 0 to 5 (SemEval STS)",
        kind="regression",
        label_range=(0.0, 5.0),
        tables=_cs224n("sts", ("sentence1", "sentence2"), "similarity"),
        metrics=("pearson", "spearman"),
        predictions=PredictionFile(stem="sts", column="Predicted_Similiary", number=float),
        licence=f"Agirre et al. (2013), CC BY-SA 4.0 and others; split of the {_COURSE}",
    ),
    Task(
        name="cola",
        title="whether a sentence is acceptable English (CoLA)",
        kind="binary",
        classes=("unacceptable", "acceptable"),
        tables={
            "train": Table(
                path="CoLA/train.tsv", header=_COLA_COLUMNS, texts=("sentence",), label="label"
            ),
            "dev": Table(
                path="CoLA/dev.tsv", header=_COLA_COLUMNS, texts=("sentence",), label="label"
            ),
            "test": Table(path="CoLA/test.tsv", id="index", texts=("sentence",)),
        },
        metrics=("matthews", "accuracy"),
        predictions=PredictionFile(stem="lin", column="Predicted_Linguistic", number=float),
        licence="Warstadt et al. (2018), fair use of published examples; split of GLUE",
    ),
    Task(
        name="cfimdb",
        title="sentiment of a film review, two degrees (CFIMDB)",
        kind="binary",
        classes=("negative", "positive"),
        tables=_cs224n("ids-cfimdb", ("sentence",), "sentiment"),
        metrics=("accuracy", "f1"),
        predictions=PredictionFile(stem="cfimdb", column="Predicted_Sentiment", number=float),
        licence=f"Kaushik et al. (2020), after IMDB, research use; split of the {_COURSE}",
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}

MLM = Task(
    name="mlm",
    title="masked language model: which tokens were masked (pre-training)",
    kind="tokens",
    tables={},
    metrics=("loss", "perplexity", "accuracy"),
    predictions=None,
    licence="that of the text",
)
"""What pre-training trains. It reads any text and has no files of its own: not one of TASKS."""


def get_task(name: str) -> Task:
    """The task of this name."""
    if name == MLM.name:
        return MLM
    if name not in TASKS:
        raise ValueError(f"no task is called {name!r}; known are {', '.join(TASKS)}")
    return TASKS[name]
