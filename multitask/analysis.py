"""What a score is worth, and what a model gets wrong, in numbers small enough for a record and
without any data set's text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data.tasks import Task
from multitask.metrics import METRICS

if TYPE_CHECKING:
    from multitask.evaluate import Evaluation

BINS = 10
"""Bins of confidence, of equal width."""
STEP = 0.25
"""Width of a bin of deviations of a regression, in units of its label."""
WORST = 10
"""Rows listed."""
LEARNT = 0.02
"""Share of the constant answer's loss by which the loss of a model that learns is less, at least;
and share of the labels' range that its answers to a regression are apart."""


def constant_scores(task: Task, labels: np.ndarray) -> dict[str, float]:
    """What one answer to all rows scores: the most frequent of their labels, or their mean.

    Args:
        task: whose metrics to take.
        labels: (rows,) or (rows, K) those of the rows that a model is scored on.

    Returns:
        The task's metrics; and as loss the least mean loss of one answer: the entropy of the
        labels in nats, or their variance in the task's units.
    """
    from scipy.stats import entropy

    labels = labels.astype(np.float64)
    if task.kind == "regression":
        answer, loss = labels.mean(), labels.var() / (task.unit or 1.0) ** 2
    else:
        values, counts = np.unique(labels, axis=0, return_counts=True)
        answer, loss = values[counts.argmax()], entropy(counts)
        if task.kind == "labels":
            held = labels.mean(axis=0)  # (K,)
            loss = entropy([held, 1 - held]).mean()
    answers = np.broadcast_to(answer, labels.shape)
    return {n: METRICS[n](labels, answers) for n in task.metrics} | {"loss": float(loss)}


def learnt_nothing(
    task: Task, evaluation: Evaluation, lines: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Why a model seems to have learnt nothing of a task, in words; empty where it has.

    Args:
        task: with labels of rows.
        evaluation: on rows with labels.
        lines: those of metrics.jsonl, where the model's run is known: then no epoch may be better
            than the constant answer, and the loss of its last steps counts.
    """
    assert evaluation.labels is not None
    labels, answers, found = evaluation.labels.astype(np.float64), evaluation.answers, []
    constant, metric = constant_scores(task, labels), task.metrics[0]
    varied = bool((labels != labels[0]).any())
    if varied and np.ptp(answers, axis=0).max() <= (0 if task.classes else LEARNT * np.ptp(labels)):
        first = np.flatnonzero(answers[0]).tolist() if answers.ndim > 1 else float(answers[0])
        found.append(f"it answers {task.named(first)} to every row")
    scores = [
        line["scores"][task.name][metric]
        for line in lines
        if line["kind"] == "epoch" and line["epoch"] and task.name in line["scores"]
    ]
    best = max([*scores, evaluation.metrics[metric]])
    if best <= constant[metric] and varied:
        found.append(
            f"its {metric} is {best:.3f} at best, and that of one answer to all rows "
            f"{constant[metric]:.3f}"
        )
    losses = [x["loss"] for x in lines if x["kind"] == "step" and x["task"] == task.name]
    last = float(np.mean(losses[-max(1, len(losses) // 4) :])) if losses else 0.0
    if last > (1 - LEARNT) * constant["loss"] > 0:
        found.append(
            f"the loss of its last steps is {last:.3f}, and that of one answer to all rows "
            f"{constant['loss']:.3f}"
        )
    return "; ".join(found)


def analyse(task: Task, evaluation: Evaluation) -> dict[str, Any]:
    """Mistakes on a labelled split, as JSON values.

    Classes: `confusion[label][answer]` in rows; `calibration`, for each bin of the probability of
    the answer [rows, mean probability, share answered right], and its expected error (Guo et al.,
    2017, arXiv:1706.04599); `worst`, the rows that were answered wrong with most confidence.
    Regressions: `deviations`, [lower edge, rows] of answer - label; `worst`, the largest of them.
    """
    labels, answers = evaluation.labels, evaluation.answers
    assert labels is not None
    if task.kind == "labels":
        return analyse_several(evaluation)
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
    if answers.ndim == 2:
        return worst_several(evaluation, count)
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


def analyse_several(evaluation: Evaluation) -> dict[str, Any]:
    """As `analyse`, where several labels may hold at once.

    `decisions`, for each label [[rightly no, wrongly yes], [wrongly no, rightly yes]] in rows; the
    calibration of all decisions together; `worst`, the rows with the surest wrong decisions.
    """
    from sklearn.metrics import multilabel_confusion_matrix

    labels, answers, chances = evaluation.labels, evaluation.answers, evaluation.probabilities
    assert labels is not None and chances is not None
    confidence = np.maximum(chances, 1 - chances).astype(np.float64)
    calibration, error = _calibration(confidence.ravel(), (answers == labels).ravel())
    return {
        "decisions": multilabel_confusion_matrix(labels, answers).tolist(),
        "calibration": calibration,
        "expected_calibration_error": error,
        "worst": worst_several(evaluation, WORST),
    }


def worst_several(evaluation: Evaluation, count: int) -> list[dict[str, Any]]:
    """The rows with the surest wrong decisions: id, the numbers of the labels that hold and of
    those that were answered, and the probability of the wrong decision."""
    labels, answers, chances = evaluation.labels, evaluation.answers, evaluation.probabilities
    assert labels is not None and chances is not None
    confidence = np.where(answers == labels, 0, np.maximum(chances, 1 - chances)).max(axis=1)
    wrong = np.flatnonzero(confidence)
    return [
        {
            "id": evaluation.ids[row],
            "label": np.flatnonzero(labels[row]).tolist(),
            "answer": np.flatnonzero(answers[row]).tolist(),
            "probability": round(float(confidence[row]), 4),
        }
        for row in wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
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
