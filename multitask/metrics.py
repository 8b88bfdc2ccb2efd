"""How predictions are scored: by scikit-learn and scipy, which are imported when a score is due.

A score that is not defined (a correlation of constants, say) is 0, so that a model that always
answers the same has no score rather than no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from data.tasks import Task

Metric = Callable[[np.ndarray, np.ndarray], float]
"""metric(labels (rows,), predictions (rows,)) -> score; of several labels at once, micro_f1,
macro_f1 and subset_accuracy take (rows, classes) of 0 and 1."""


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Fraction of rows answered right."""
    return float(np.mean(labels == predictions))  # scikit-learn's warns of many classes, as tokens


def f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """2 TP / (2 TP + FP + FN) of class 1."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, labels=[1], average="macro", zero_division=0))


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean of F1 over the classes that occur among labels or predictions, or over all labels."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="macro", zero_division=0))


def micro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """F1 over the decisions of all classes together; of one class a row it is the accuracy."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="micro", zero_division=0))


def subset_accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Fraction of rows (rows, classes) whose labels are all right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Matthews correlation: cov(X, Y) / √(cov(X, X) cov(Y, Y)) of one-hot classes X and Y.

    With two classes it is (TP TN - FP FN) / √((TP+FP)(TP+FN)(TN+FP)(TN+FN)); with more it is R_K of
    Gorodkin (2004).
    """
    from sklearn.metrics import matthews_corrcoef

    if _any_constant(labels, predictions):
        return 0.0
    return float(matthews_corrcoef(labels, predictions))


def pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Pearson correlation: cov(x, y) / (σ(x) σ(y))."""
    from scipy.stats import pearsonr

    if _any_constant(labels, predictions):
        return 0.0
    return float(pearsonr(labels.astype(np.float64), predictions.astype(np.float64)).statistic)


def spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Spearman correlation: Pearson's on ranks, equal values sharing their mean rank."""
    from scipy.stats import spearmanr

    if _any_constant(labels, predictions):
        return 0.0
    return float(spearmanr(labels, predictions).statistic)


METRICS: dict[str, Metric] = {
    metric.__name__: metric
    for metric in (
        accuracy,
        f1,
        macro_f1,
        micro_f1,
        subset_accuracy,
        matthews,
        pearson,
        spearman,
    )
}


def perplexity(loss: float) -> float:
    """exp of a mean cross-entropy in nats: as unsure as among so many equally likely tokens."""
    return math.exp(min(loss, 700.0))  # e^710 is more than a float can hold


OF_LOSS: dict[str, Callable[[float], float]] = {"loss": float, "perplexity": perplexity}
"""Metrics that are functions of the mean loss; the lower they are, the better."""


def summary(scores: Mapping[str, Mapping[str, float]], tasks: Mapping[str, Task]) -> dict:
    """The figures that sum a model up: the mean of its tasks' scores, and the course's overall.

    A task's score is the first of its metrics, negative where lower is better.
    """
    primary = {}
    for name, metrics in scores.items():
        first = tasks[name].metrics[0]
        primary[name] = -metrics[first] if first in OF_LOSS else metrics[first]
    return {"score": float(np.mean(list(primary.values()))), "overall": overall(primary)}


def overall(scores: Mapping[str, float]) -> dict[str, float]:
    """The course's overall score of SST, PARA and STS, in both of its conventions.

    Args:
        scores: accuracy of sst and para, Pearson correlation of sts; without all three: {}.

    Returns:
        mean: mean(SST, PARA, STS); mean_normalised: mean(SST, PARA, (1 + STS) / 2).
    """
    if not {"sst", "para", "sts"} <= scores.keys():
        return {}
    sst, para, sts = scores["sst"], scores["para"], scores["sts"]
    return {"mean": (sst + para + sts) / 3, "mean_normalised": (sst + para + (1 + sts) / 2) / 3}


def _any_constant(*columns: np.ndarray) -> bool:
    return any(np.all(column == column[0]) for column in columns)
