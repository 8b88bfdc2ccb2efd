"""How predictions are scored, as formulas on NumPy arrays.

A score that is not defined (a correlation of constants, say) is 0, so that a model that always
answers the same has no score rather than no number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], float]
"""metric(labels (rows,), predictions (rows,)) -> score"""


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Share of rows answered right."""
    return float(np.mean(labels == predictions))


def f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """2 TP / (2 TP + FP + FN) of class 1."""
    return _f1_of(labels, predictions, 1)


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean of F1 over the classes that occur among labels or predictions."""
    classes = np.union1d(labels, predictions)
    return float(np.mean([_f1_of(labels, predictions, label) for label in classes]))


def matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Matthews correlation: cov(X, Y) / √(cov(X, X) cov(Y, Y)) of one-hot classes X and Y.

    With two classes it is (TP TN - FP FN) / √((TP+FP)(TP+FN)(TN+FP)(TN+FN)); with more it is R_K of
    Gorodkin (2004).
    """
    classes = np.union1d(labels, predictions)
    x, y = (np.equal.outer(values, classes) - 0.0 for values in (labels, predictions))  # (rows, K)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    spread = np.sqrt(np.sum(x * x) * np.sum(y * y))
    return float(np.sum(x * y) / spread) if spread else 0.0


def pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Pearson correlation: cov(x, y) / (σ(x) σ(y))."""
    x = np.asarray(labels, dtype=np.float64)
    y = np.asarray(predictions, dtype=np.float64)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


def spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Spearman correlation: Pearson's on ranks, equal values sharing their mean rank."""
    return pearson(_ranks(labels), _ranks(predictions))


METRICS: dict[str, Metric] = {
    metric.__name__: metric for metric in (accuracy, f1, macro_f1, matthews, pearson, spearman)
}


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


def _f1_of(labels: np.ndarray, predictions: np.ndarray, label: float) -> float:
    found = np.sum((predictions == label) & (labels == label))
    named = np.sum(predictions == label) + np.sum(labels == label)
    return float(2 * found / named) if named else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[inverse]
