"""GLUE's tasks, read from its own files: Wang et al. (2018), arXiv:1804.07461.

The files are tab-separated without quoting: a quote is part of the text, balanced or not. Columns
are found by their names in the header, of which MNLI has twelve and more. Where labels are words,
they are numbered in the order that transformers has. CoLA is `cola`, one of the course's tasks.
"""

from __future__ import annotations

from data.schema import PredictionFile, Split, Table, Task

_PAIR = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")
_INFERENCE = ("entailment", "neutral", "contradiction")


def _tables(
    folder: str,
    texts: tuple[str, ...],
    label: str = "label",
    *,
    id: str | None = "index",
    label_names: tuple[str, ...] = (),
) -> dict[Split, Table]:
    """Train and dev with labels, and test, whose ids GLUE's server wants."""

    def labelled(split: str) -> Table:
        path = f"{folder}/{split}.tsv"
        return Table(path=path, id=id, texts=texts, label=label, label_names=label_names)

    test = Table(path=f"{folder}/test.tsv", id=id or "index", texts=texts)
    return {"train": labelled("train"), "dev": labelled("dev"), "test": test}


def _mnli_tables() -> dict[Split, Table]:
    def table(part: str, label: str | None) -> Table:
        names = _INFERENCE if label else ()
        path = f"MNLI/{part}.tsv"
        return Table(path=path, id="index", texts=_PAIR, label=label, label_names=names)

    return {
        "train": table("train", "gold_label"),
        "dev": table("dev_matched", "gold_label"),
        "dev_mismatched": table("dev_mismatched", "gold_label"),
        "test": table("test_matched", None),
        "test_mismatched": table("test_mismatched", None),
    }


def _predictions(name: str, *, whole: bool = True) -> PredictionFile:
    return PredictionFile(stem=name, column="prediction", whole=whole)


GLUE = (
    Task(
        name="sst2",
        title="sentiment of a sentence, two degrees (SST-2)",
        kind="binary",
        classes=("negative", "positive"),
        tables=_tables("SST-2", ("sentence",), id=None),
        metrics=("accuracy",),
        predictions=_predictions("sst2"),
    ),
    Task(
        name="mrpc",
        title="whether two sentences of the news say the same (MRPC)",
        kind="binary",
        classes=("different", "paraphrase"),
        tables=_tables("MRPC", ("#1 String", "#2 String"), "Quality", id=None),
        symmetric=True,
        metrics=("f1", "accuracy"),
        predictions=_predictions("mrpc"),
    ),
    Task(
        name="stsb",
        title="similarity of two sentences, 0 to 5 (STS-B)",
        kind="regression",
        label_range=(0.0, 5.0),
        tables=_tables("STS-B", _PAIR, "score"),
        symmetric=True,
        metrics=("pearson", "spearman"),
        predictions=_predictions("stsb", whole=False),
    ),
    Task(
        name="qqp",
        title="whether two questions ask the same (QQP)",
        kind="binary",
        classes=("different", "duplicate"),
        tables=_tables("QQP", ("question1", "question2"), "is_duplicate", id="id"),
        symmetric=True,
        metrics=("f1", "accuracy"),
        predictions=_predictions("qqp"),
    ),
    Task(
        name="mnli",
        title="whether a text entails, leaves open or contradicts another (MNLI)",
        kind="classes",
        classes=_INFERENCE,
        tables=_mnli_tables(),
        metrics=("accuracy",),
        predictions=_predictions("mnli"),
    ),
    Task(
        name="qnli",
        title="whether a sentence answers a question (QNLI)",
        kind="binary",
        classes=_ENTAILMENT,
        tables=_tables("QNLI", ("question", "sentence"), label_names=_ENTAILMENT),
        metrics=("accuracy",),
        predictions=_predictions("qnli"),
    ),
    Task(
        name="rte",
        title="whether a text entails another (RTE)",
        kind="binary",
        classes=_ENTAILMENT,
        tables=_tables("RTE", _PAIR, label_names=_ENTAILMENT),
        metrics=("accuracy",),
        predictions=_predictions("rte"),
    ),
    Task(
        name="wnli",
        title="whether a pronoun means what the second text says (WNLI)",
        kind="binary",
        classes=("not_entailment", "entailment"),
        tables=_tables("WNLI", _PAIR),
        metrics=("accuracy",),
        predictions=_predictions("wnli"),
    ),
    Task(
        name="ax",
        title="GLUE's diagnostic set, for a model of mnli to answer",
        kind="classes",
        classes=_INFERENCE,
        tables={"test": Table(path="diagnostic/diagnostic.tsv", id="index", texts=_PAIR)},
        metrics=("matthews",),
        predictions=_predictions("ax"),
    ),
)
