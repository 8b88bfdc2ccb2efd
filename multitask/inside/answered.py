"""A run's answers to its development rows: what the page's table, map and figures show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from data.batching import EncodedRows
from data.readers import SAMPLES, OnBadRow, read_split, spread
from data.schema import Example
from data.tasks import Task
from minbert.checks import warn
from minbert.embedding import batches_by_length
from multitask.analysis import worst
from multitask.dataset import TaskData
from multitask.evaluate import Evaluation, evaluate
from multitask.predictor import Predictor

SPLIT = "dev"


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The rows of a task, and what a run makes of them."""

    task: Task
    examples: Sequence[Example]
    all_rows: int
    """How many the split has."""
    source: EncodedRows
    evaluation: Evaluation
    map: np.ndarray
    """(rows, 2) the pooled vectors on the two directions in which they differ most."""
    explained: tuple[float, float]
    """Shares of their variance that lie in these directions."""


def answer_rows(
    predictor: Predictor,
    task: Task,
    *,
    limit: int | None,
    data_dir: Path | None = None,
    on_bad_row: OnBadRow | None = None,
) -> Answered:
    """Answer a task's development rows.

    Args:
        predictor: the run.
        task: one of its tasks.
        limit: so many rows at equal distances; None is all.
        data_dir: where the rows are, by default where the run read them.
        on_bad_row: stop at a row that cannot be read, or skip it; by default as in training.

    Raises:
        ValueError: the rows are not there, or one of them cannot be read.
    """
    folder = Path(data_dir or predictor.config.data_dir or SAMPLES)
    rows = read_split(task, SPLIT, folder, on_bad_row=on_bad_row or predictor.config.on_bad_row)
    examples = spread(rows.examples, limit)
    source = predictor.encoded(examples, task.name)
    cut = [source.ids[row] for row in source.cut]
    for note in TaskData(task, {}, rows.skipped, {SPLIT: cut}).notes(predictor.max_length):
        warn(note)
    features: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        features.append(inputs[0].float().cpu())

    handle = predictor.model.heads.register_forward_pre_hook(keep)
    try:
        evaluation = evaluate(predictor.model, task, source, precision=predictor.precision)
    finally:
        handle.remove()
    order = np.argsort(np.concatenate(list(batches_by_length(source.lengths))))
    vectors = np.concatenate([x.numpy() for x in features])[order]
    places, explained = principal(vectors)
    return Answered(
        task=task,
        examples=examples,
        all_rows=len(rows.examples),
        source=source,
        evaluation=evaluation,
        map=places,
        explained=explained,
    )


def principal(vectors: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """The two principal components (rows, 2) of vectors (rows, F), and their shares of the
    variance; zeros where there are no two directions."""
    from sklearn.decomposition import PCA

    places, shares = np.zeros((len(vectors), 2)), [0.0, 0.0]
    count = min(2, *vectors.shape)
    if np.ptp(vectors, axis=0).max() > 0:
        pca = PCA(count, svd_solver="randomized", random_state=0)
        places[:, :count] = pca.fit_transform(vectors.astype(np.float64))
        shares[:count] = pca.explained_variance_ratio_.tolist()
    return places, (shares[0], shares[1])


def worth_explaining(found: Answered, count: int) -> list[int]:
    """Rows to look into, most worth it first: in turn one that was answered wrong with most
    confidence, one of those that were answered with least, and one of all at equal distances."""
    rows = range(len(found.examples))
    spread_out = [rows[n * len(rows) // count] for n in range(min(count, len(rows)))]
    chances = found.evaluation.probabilities
    unsure: list[int] = []
    if chances is not None:
        several = found.task.kind == "labels"
        sure = np.abs(chances - 0.5).min(axis=1) if several else np.sort(chances, axis=1)[:, -1]
        unsure = np.argsort(sure, kind="stable")[:count].tolist()
    wrong: list[int] = []
    if found.evaluation.labels is not None:
        numbers = {row_id: n for n, row_id in enumerate(found.evaluation.ids)}
        wrong = [numbers[row["id"]] for row in worst(found.evaluation, count)]
    most_wrong = iter(wrong)
    in_turn = (most_wrong, most_wrong, iter(unsure), iter(spread_out))
    chosen: dict[int, None] = {}
    for _ in range(count):
        for some in in_turn:
            row = next((row for row in some if row not in chosen), None)
            if row is not None:
                chosen[row] = None
    return list(chosen)[:count]


def columns(found: Answered) -> dict[str, Any]:
    """The rows as JSON, column by column: probabilities in 1/10,000, places from 0 to 1000."""
    evaluation = found.evaluation
    low, size = found.map.min(axis=0), np.ptp(found.map, axis=0)
    places = np.rint(1000 * (found.map - low) / np.where(size > 0, size, 1)).astype(int)
    columns: dict[str, Any] = {
        "ids": list(evaluation.ids),
        "texts": [list(texts) for texts in zip(*(e.texts for e in found.examples))],
        "answers": _values(evaluation.answers),
        "labels": None if evaluation.labels is None else _values(evaluation.labels),
        "tokens": found.source.lengths.tolist(),
        "map": places.T.tolist(),
        "explained": [round(share, 4) for share in found.explained],
        "all": found.all_rows,
    }
    if evaluation.probabilities is not None:
        columns["chances"] = np.rint(10_000 * evaluation.probabilities).astype(int).T.tolist()
    return columns


def _values(values: np.ndarray) -> list[Any]:
    """Classes as whole numbers, numbers to three decimals, several labels as lists of those that
    hold."""
    if values.ndim > 1:
        return [np.flatnonzero(row).tolist() for row in values]
    return [int(v) if float(v).is_integer() else round(float(v), 3) for v in values]
