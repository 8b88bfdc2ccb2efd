"""What a model gets wrong, in numbers small enough for a record, without any data set's text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from data.tasks import Task

if TYPE_CHECKING:
    from multitask.evaluate import Evaluation

BINS = 10
"""Bins of confidence, of equal width."""
STEP = 0.25
"""Width of a bin of deviations of a regression, in units of its label."""
WORST = 10
"""Rows listed."""


def analyse(task: Task, evaluation: Evaluation) -> dict[str, Any]:
    """Mistakes on a labelled split, as JSON values.

    Classes: `confusion[label][answer]` in rows; `calibration`, for each bin of the probability of
    the answer [rows, mean probability, share answered right], and its expected error (Guo et al.,
    2017, arXiv:1706.04599); `worst`, the rows that were answered wrong with most confidence.
    Regressions: `deviations`, [lower edge, rows] of answer - label; `worst`, the largest of them.
    """
    labels, answers = evaluation.labels, evaluation.answers
    assert labels is not None
    if evaluation.probabilities is None:
        deviation = answers.astype(np.float64) - labels
        bins, counts = np.unique(np.floor(deviation / STEP + 0.5), return_counts=True)
        edges = (bins - 0.5) * STEP
        return {
            "deviations": [[round(float(e), 3), int(n)] for e, n in zip(edges, counts)],
            "mean_absolute_deviation": round(float(np.abs(deviation).mean()), 4),
            "worst": worst(evaluation),
        }

    from sklearn.metrics import confusion_matrix

    confusion = confusion_matrix(labels, answers, labels=range(len(task.classes)))
    confidence = evaluation.probabilities[np.arange(len(answers)), answers.astype(int)]
    right = answers == labels
    calibration, error = _calibration(confidence.astype(np.float64), right)
    return {
        "confusion": confusion.tolist(),
        "calibration": calibration,
        "expected_calibration_error": error,
        "worst": worst(evaluation),
    }


def worst(evaluation: Evaluation, count: int = WORST) -> list[dict[str, Any]]:
    """The rows that were answered wrong with most confidence, or of a regression those whose
    answers are furthest off: id, label, answer and, of a class, its probability."""
    labels, answers = evaluation.labels, evaluation.answers
    assert labels is not None
    if evaluation.probabilities is None:
        order = np.argsort(-np.abs(answers.astype(np.float64) - labels), kind="stable")
        return [_row(evaluation, i) for i in order[:count]]
    confidence = evaluation.probabilities[np.arange(len(answers)), answers.astype(int)]
    wrong = np.flatnonzero(answers != labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")]
    return [
        {**_row(evaluation, i), "probability": round(float(confidence[i]), 4)}
        for i in order[:count]
    ]


def _calibration(confidence: np.ndarray, right: np.ndarray) -> tuple[list[list[float]], float]:
    """[rows, mean confidence, accuracy] of each bin, and Σ rows / all |accuracy - confidence|."""
    from scipy.stats import binned_statistic

    confidence = np.minimum(confidence, 1)  # a softmax may round to more
    rows = np.histogram(confidence, BINS, (0, 1))[0]
    means = binned_statistic(confidence, [confidence, right], "mean", BINS, (0, 1)).statistic
    sure, good = np.nan_to_num(means)  # no rows, no mean
    table = [[int(n), round(float(s), 4), round(float(g), 4)] for n, s, g in zip(rows, sure, good)]
    return table, round(float(rows @ abs(good - sure)) / len(right), 4)


def _row(evaluation: Evaluation, number: int) -> dict[str, Any]:
    assert evaluation.labels is not None
    return {
        "id": evaluation.ids[number],
        "label": round(float(evaluation.labels[number]), 3),
        "answer": round(float(evaluation.answers[number]), 3),
    }
