"""The tasks, one `Task` record each. To add a task, add a record to TASKS: all else follows.

The course's tasks are here, GLUE's in glue.py, and what a record says in schema.py.
"""

from __future__ import annotations

from data.glue import GLUE
from data.schema import SPLITS, PredictionFile, Split, Table, Task

__all__ = ["MLM", "SPLITS", "TASKS", "PredictionFile", "Split", "Table", "Task", "get_task"]


def _cs224n(stem: str, texts: tuple[str, ...], label: str) -> dict[Split, Table]:
    def table(part: str, label: str | None) -> Table:
        return Table(path=f"{stem}-{part}.csv", id="id", texts=texts, label=label, quoted=True)

    return {
        "train": table("train", label),
        "dev": table("dev", label),
        "test": table("test-student", None),
    }


_COLA_COLUMNS = ("source", "label", "mark", "sentence")

_COURSE_TASKS = (
    Task(
        name="sst",
        title="sentiment of a sentence, five degrees (Stanford Sentiment Treebank)",
        kind="classes",
        classes=("very negative", "negative", "neutral", "positive", "very positive"),
        tables=_cs224n("ids-sst", ("sentence",), "sentiment"),
        metrics=("accuracy", "macro_f1"),
        predictions=PredictionFile(stem="sst", column="Predicted_Sentiment", number=int),
    ),
    Task(
        name="para",
        title="whether two questions ask the same (Quora question pairs)",
        kind="binary",
        classes=("different", "paraphrase"),
        tables=_cs224n("quora", ("sentence1", "sentence2"), "is_duplicate"),
        symmetric=True,
        metrics=("accuracy", "f1"),
        predictions=PredictionFile(stem="para", column="Predicted_Is_Paraphrase", number=float),
    ),
    Task(
        name="sts",
        title="similarity of two sentences, 0 to 5 (SemEval STS)",
        kind="regression",
        label_range=(0.0, 5.0),
        tables=_cs224n("sts", ("sentence1", "sentence2"), "similarity"),
        symmetric=True,
        metrics=("pearson", "spearman"),
        predictions=PredictionFile(stem="sts", column="Predicted_Similiary", number=float),
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
    ),
    Task(
        name="cfimdb",
        title="sentiment of a film review, two degrees (CFIMDB)",
        kind="binary",
        classes=("negative", "positive"),
        tables=_cs224n("ids-cfimdb", ("sentence",), "sentiment"),
        metrics=("accuracy", "f1"),
        predictions=PredictionFile(stem="cfimdb", column="Predicted_Sentiment", number=float),
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in (*_COURSE_TASKS, *GLUE)}

MLM = Task(
    name="mlm",
    title="masked language model: which tokens were masked (pre-training)",
    kind="tokens",
    tables={},
    metrics=("loss", "perplexity", "accuracy"),
    predictions=PredictionFile(stem="mlm", column="Predicted_Token", number=int),
)
"""What pre-training trains. It reads any text and has no files of its own: not one of TASKS."""


def get_task(name: str) -> Task:
    """The task of this name."""
    if name == MLM.name:
        return MLM
    if name not in TASKS:
        raise ValueError(f"no task is called {name!r}; known are {', '.join(TASKS)}")
    return TASKS[name]
