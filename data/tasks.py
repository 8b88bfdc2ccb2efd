"""The tasks, one `Task` record each: those that come along, and those that users register.

    register_task(Task(name="reviews", ...))

The course's tasks are here, GLUE's in glue.py, and what a record says in schema.py. A task file
(task_files.py) is a record too, written as TOML.
"""

from __future__ import annotations

import re
from dataclasses import replace

from data.glue import GLUE
from data.schema import SPLITS, HeldOut, Label, PredictionFile, Split, Table, Task
from minbert.files import brief

__all__ = [
    "MLM",
    "SPLITS",
    "TASKS",
    "HeldOut",
    "Label",
    "PredictionFile",
    "Split",
    "Table",
    "Task",
    "get_task",
    "register_task",
]


def _cs224n(stem: str, texts: tuple[str, ...], label: str) -> dict[Split, Table]:
    def table(part: str, label: str | None) -> Table:
        return Table(path=f"{stem}-{part}.csv", id="id", texts=texts, label=label, quoted=True)

    return {
        "train": table("train", label),
        "dev": table("dev", label),
        "test": table("test-student", None),
    }


_COLA_COLUMNS = ("source", "label", "mark", "sentence")

_PARA = Task(
    name="para",
    title="whether two questions ask the same (Quora question pairs)",
    kind="binary",
    classes=("different", "paraphrase"),
    tables=_cs224n("quora", ("sentence1", "sentence2"), "is_duplicate"),
    symmetric=True,
    metrics=("accuracy", "f1"),
    predictions=PredictionFile(stem="para", column="Predicted_Is_Paraphrase"),
)

_COURSE_TASKS = (
    Task(
        name="sst",
        title="sentiment of a sentence, five degrees (Stanford Sentiment Treebank)",
        kind="classes",
        classes=("very negative", "negative", "neutral", "positive", "very positive"),
        tables=_cs224n("ids-sst", ("sentence",), "sentiment"),
        metrics=("accuracy", "macro_f1"),
        predictions=PredictionFile(stem="sst", column="Predicted_Sentiment", whole=True),
    ),
    _PARA,
    Task(
        name="sts",
        title="similarity of two sentences, 0 to 5 (SemEval STS)",
        kind="regression",
        label_range=(0.0, 5.0),
        tables=_cs224n("sts", ("sentence1", "sentence2"), "similarity"),
        symmetric=True,
        metrics=("pearson", "spearman"),
        predictions=PredictionFile(stem="sts", column="Predicted_Similiary"),
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
        predictions=PredictionFile(stem="lin", column="Predicted_Linguistic"),
    ),
    Task(
        name="cfimdb",
        title="sentiment of a film review, two degrees (CFIMDB)",
        kind="binary",
        classes=("negative", "positive"),
        tables=_cs224n("ids-cfimdb", ("sentence",), "sentiment"),
        metrics=("accuracy", "f1"),
        predictions=PredictionFile(stem="cfimdb", column="Predicted_Sentiment"),
    ),
    replace(
        _PARA,
        name="para_large",
        title="as para, twice the rows: the course's later cut of the same pairs",
        tables=_cs224n("quora-large", ("sentence1", "sentence2"), "is_duplicate"),
        predictions=PredictionFile(stem="para_large", column="Predicted_Is_Paraphrase"),
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in (*_COURSE_TASKS, *GLUE)}

MLM = Task(
    name="mlm",
    title="masked language model: which tokens were masked (pre-training)",
    kind="tokens",
    tables={},
    metrics=("loss", "perplexity", "accuracy"),
    predictions=PredictionFile(stem="mlm", column="Predicted_Token", whole=True),
)
"""What pre-training trains. It reads any text and has no files of its own: not one of TASKS."""

SPACE = ("alignment", "uniformity")
"""Measures of a space of embeddings, both the better the lower."""

COSINES = Task(
    name="cosines",
    title="whether cosines of embeddings are in the order of the labels (contrastive stages)",
    kind="pairs",
    tables={},
    metrics=("spearman", "pearson", *SPACE),
)
NEIGHBOURS = Task(
    name="neighbours",
    title="whether each text's positive is the nearest of all (contrastive stages)",
    kind="pairs",
    tables={},
    metrics=("loss", "accuracy", *SPACE),
)
"""What a contrastive stage trains, by the development rows it has: pairs with labels, or without.
As for MLM, the rows are those of other tasks."""

STAGES = {MLM.name: MLM, COSINES.name: COSINES, NEIGHBOURS.name: NEIGHBOURS}
"""What makes backbones."""


COURSE = ("sst", "para", "sts", "cola")
"""The tasks that are trained where none is named."""

_BUILT_IN = frozenset(TASKS)
_OF_RUNS: set[str] = set()
"""Registered tasks that are known from a run alone."""

OF_SEVERAL = ("micro_f1", "macro_f1", "subset_accuracy")
"""Metrics of several labels at once."""

KINDS = ("classes", "binary", "regression", "labels", "pairs")


def get_task(name: str) -> Task:
    """The task of this name."""
    if name in STAGES:
        return STAGES[name]
    if name not in TASKS:
        raise ValueError(
            f"no task is called {name!r}; known are {', '.join(TASKS)}; one of your own comes from "
            "a task file: --task-file"
        )
    return TASKS[name]


def is_built_in(name: str) -> bool:
    """Whether a task comes along with the library."""
    return name in _BUILT_IN or name in STAGES


def register_task(task: Task, *, replace: bool = False) -> Task:
    """Make a task of one's own known by its name, for `TrainConfig(tasks=...)` and all else.

    Args:
        task: its name, kind, classes and files.
        replace: put it in the place of another of that name, as when a cell of a notebook is run
            again with changes; a task that comes along is never replaced.

    Raises:
        ValueError: the record is not whole, or another task has the name.
    """
    check_task(task)
    known = TASKS.get(task.name)
    if known not in (None, task) and not (replace or task.name in _OF_RUNS):
        differing = [name for name in vars(task) if getattr(task, name) != getattr(known, name)]
        raise ValueError(
            f"another task is called {task.name!r}, with other {', '.join(differing)}; give yours "
            "another name"
        )
    TASKS[task.name] = task
    _OF_RUNS.discard(task.name)
    return task


def register_task_of_run(task: Task) -> None:
    """Make a task known that a run has kept.

    One that the user has registered stays, with its own files, if its answers mean the same.

    Raises:
        ValueError: they do not.
    """
    check_task(task)
    known = TASKS.get(task.name)
    if known is None or task.name in _OF_RUNS:
        TASKS[task.name] = task
        _OF_RUNS.add(task.name)
    else:
        check_same_answers(task, known)


def check_same_answers(kept: Task, given: Task) -> None:
    """Raise ValueError unless two records of a name take the same rows to the same answers."""
    for name in ("kind", "classes", "label_range", "unit", "is_pair", "metrics"):
        one, other = getattr(kept, name), getattr(given, name)
        if one != other:
            raise ValueError(
                f"a run has a task {kept.name!r} whose {name} is {brief(one)}, and here it is "
                f"{brief(other)}; give this task another name"
            )


def check_task(task: Task) -> None:
    """Raise ValueError unless a record of a user's own is whole."""
    check_name(task.name)
    what = f"task {task.name!r}"
    if task.kind not in KINDS:
        raise ValueError(f"{what} has kind {task.kind!r}; choose one of {', '.join(KINDS)}")
    if task.kind == "regression":
        low, high = task.label_range
        if not -float("inf") < low < high < float("inf"):
            raise ValueError(f"{what} has label_range {task.label_range}; give (lowest, highest)")
    elif task.kind != "pairs" and len(task.classes) < (1 if task.kind == "labels" else 2):
        raise ValueError(f"{what} has classes {brief(task.classes)}; name at least two")
    if len(set(task.classes)) != len(task.classes):
        raise ValueError(f"{what} names a class twice: {brief(task.classes)}")
    if task.kind == "labels" and not set(task.metrics) <= set(OF_SEVERAL):
        raise ValueError(f"{what} has metrics {task.metrics}; of several labels: {OF_SEVERAL}")
    if not task.tables or not task.metrics:
        raise ValueError(f"{what} has no {'metrics' if task.tables else 'tables'}; give some")
    counts = {len(table.texts) for split in task.tables for table in task.tables_of(split)}
    allowed, said = ((2, 3), "2 or 3") if task.kind == "pairs" else ((1, 2), "1 or 2")
    if len(counts) > 1 or not counts <= set(allowed):
        raise ValueError(f"{what} has tables with {sorted(counts)} columns of text; give {said}")
    if "train" in task.tables and "dev" not in task.splits:
        raise ValueError(
            f"{what} has training rows and no development rows; give it a dev table, or "
            "hold_out=HeldOut(dev=0.1)"
        )


def check_name(name: str) -> None:
    """Raise ValueError unless a task may have this name, which names files and weights too."""
    if not re.fullmatch(r"[a-zA-Z][\w-]{0,49}", name, re.ASCII):
        raise ValueError(
            f"a task is called {brief(name)}; a name is of letters, digits, _ and -, at most 50, "
            "and begins with a letter"
        )
    from torch.nn import ModuleDict  # a head stands in one by the name of its task

    if is_built_in(name) or hasattr(ModuleDict, name) or name == "training":
        raise ValueError(f"the name {name!r} is taken by the library; give the task another")
