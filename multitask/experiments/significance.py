"""Whether a difference between scores is more than chance: intervals and tests on paired rows.

Two models answered the same rows. The rows are a sample of all that could have been asked, and so a
difference between two scores on them is one too. Its interval comes from the bootstrap: the
difference on rows that are drawn anew, with replacement, a pair of answers at a time. The test asks
how often a difference as large comes about where the models are alike, so that each row's two
answers may change places; of accuracies McNemar's test knows that exactly.

Several runs that differ in their seeds are a sample as well, of the runs that could have been made.
Then interval and test are of Student's t: the variance of the difference of mean scores is that
between seeds and that between rows (by the bootstrap). The former is pooled, so a group of one run
is taken to vary with its seed as the other group does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from multitask.metrics import METRICS

RESAMPLES = 2000
SEVERAL = 500
"""Resamples of rows with several labels, which are scored one set after the other."""
LEVEL = 0.95
SEED = 11711
BATCH = 2**22
"""Answers held at once while rows are drawn anew."""

ManyScores = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""labels (..., rows), answers (..., rows) -> scores (...)"""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two scores on the same rows, and what their difference is worth."""

    metric: str
    first: float
    second: float
    """Of several runs, means of scores."""
    low: float
    high: float
    """The interval in which the difference, second - first, is with a confidence of `LEVEL`."""
    p: float
    """How likely a difference at least as large is where there is none."""
    test: str

    @property
    def difference(self) -> float:
        """Second - first."""
        return self.second - self.first

    @property
    def cells(self) -> list[str]:
        """The difference, its interval and p, as tables show them."""
        return cells_of(self.difference, self.low, self.high, self.p)


def cells_of(difference: float, low: float, high: float, p: float) -> list[str]:
    """A difference, its interval and p, as tables show them."""
    return [f"{difference:+.3f}", f"{low:+.3f} to {high:+.3f}", f"{p:.2g}"]


def compare_answers(
    metric: str,
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    sets: np.ndarray | None = None,
) -> Difference:
    """Compare the answers of two models, or of two groups of models; the same every time.

    Args:
        metric: a name in multitask.metrics.
        labels: (rows,)
        first: (runs, rows) answers of the runs of a group, or of one.
        second: (runs, rows), of as many runs or of others.
        sets: where several labels may hold at once, (n, classes) truth values: labels and answers
            are then numbers of its rows.
    """
    score = many_scores(metric, sets)
    scores = score(labels, first), score(labels, second)  # (runs,) each
    means = float(scores[0].mean()), float(scores[1].mean())
    drawn = _drawn_anew(score, labels, first, second)
    if len(first) == len(second) == 1:
        low, high = (float(end) for end in drawn.confidence_interval)
        p, test = _of_rows(metric, score, labels, first[0], second[0])
    else:
        low, high, p = _over_seeds(*scores, float(drawn.standard_error), len(labels))
        test = "t over seeds and rows"
    return Difference(
        metric=metric, first=means[0], second=means[1], low=low, high=high, p=p, test=test
    )


def score_interval(metric: str, labels: np.ndarray, answers: np.ndarray) -> tuple[float, float]:
    """The interval in which a score is with a confidence of `LEVEL`, of the rows as a sample: the
    percentiles of its scores on rows drawn anew, the same every time.

    Args:
        metric: a name in multitask.metrics.
        labels, answers: (rows,), or (rows, K) where several labels may hold.
    """
    draw = np.random.default_rng(SEED)
    several, rows = labels.ndim > 1, len(labels)
    at_once = 1 if several else max(1, BATCH // rows)
    score = METRICS[metric] if several else many_scores(metric)
    found: list[np.ndarray] = []
    for start in range(0, SEVERAL if several else RESAMPLES, at_once):
        size = (rows,) if several else (min(at_once, RESAMPLES - start), rows)
        drawn = draw.integers(0, rows, size)
        found.append(np.atleast_1d(score(labels[drawn], answers[drawn])))
    ends = np.quantile(np.concatenate(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(ends[0]), float(ends[1])


def _drawn_anew(
    score: ManyScores, labels: np.ndarray, first: np.ndarray, second: np.ndarray
) -> Any:
    """The bootstrap's percentile interval of the difference, and its standard error."""
    from scipy.stats import bootstrap

    split = len(first)

    def difference(labels: np.ndarray, *answers: np.ndarray, axis: int = -1) -> np.ndarray:
        found = [score(labels, each) for each in answers]
        return np.mean(found[split:], axis=0) - np.mean(found[:split], axis=0)

    return bootstrap(
        (labels, *first, *second),
        difference,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH // len(labels)),
        paired=True,
        confidence_level=LEVEL,
        method="percentile",
        random_state=np.random.default_rng(SEED),
    )


def _of_rows(
    metric: str, score: ManyScores, labels: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[float, str]:
    """p of two models, and the test's name."""
    from scipy.stats import binomtest, permutation_test

    if metric in ("accuracy", "subset_accuracy"):
        lost = int(np.sum((first == labels) & (second != labels)))
        gained = int(np.sum((first != labels) & (second == labels)))
        changed = lost + gained
        return float(binomtest(gained, changed).pvalue) if changed else 1.0, "McNemar, exact"
    found = permutation_test(
        (first, second),
        lambda first, second, axis: score(labels, second) - score(labels, first),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH // len(labels)),
        random_state=np.random.default_rng(SEED),
    )
    return float(found.pvalue), "permutation of rows"


def _over_seeds(
    first: np.ndarray, second: np.ndarray, error_of_rows: float, rows: int
) -> tuple[float, float, float]:
    """Interval and p of two groups of scores, by Student's t with Satterthwaite's degrees.

    var = s² (1/k + 1/l) + error², s² pooled over both groups with k + l - 2 degrees of freedom;
    df = var² / ((s² (1/k + 1/l))² / (k + l - 2) + error⁴ / (rows - 1)).
    """
    from scipy.stats import t

    difference = float(second.mean() - first.mean())
    degrees = len(first) + len(second) - 2
    spread = sum(float(((x - x.mean()) ** 2).sum()) for x in (first, second)) / degrees
    of_seeds, of_rows = spread * (1 / len(first) + 1 / len(second)), error_of_rows**2
    variance = of_seeds + of_rows
    if variance == 0:
        return difference, difference, float(difference == 0)
    df = variance**2 / (of_seeds**2 / degrees + of_rows**2 / max(1, rows - 1))
    width = float(t.ppf((1 + LEVEL) / 2, df)) * math.sqrt(variance)
    p = 2 * float(t.sf(abs(difference) / math.sqrt(variance), df))
    return difference - width, difference + width, p


# The metrics of many resamples at once; multitask/metrics.py has them of one, by scikit-learn


def many_scores(metric: str, sets: np.ndarray | None = None) -> ManyScores:
    """A metric of multitask.metrics for many lists of answers at once.

    With `sets`, (n, classes), labels and answers are numbers of its rows.
    """
    if sets is not None:
        return _accuracy if metric == "subset_accuracy" else _f1_of_sets(metric, sets)
    if metric in _MANY:
        return _MANY[metric]

    def one_by_one(labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
        labels, answers = np.broadcast_arrays(labels, answers)
        found = [METRICS[metric](*rows) for rows in zip(_flat(labels), _flat(answers))]
        return np.array(found).reshape(answers.shape[:-1])

    return one_by_one


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, values.shape[-1])


def _accuracy(labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    return (labels == answers).mean(-1)


def _f1(labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    return _ratio(*_f1_parts(labels, answers, 1))


def _macro_f1(labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Mean of 2 TP / (2 TP + FP + FN) over the classes that occur among a list's labels or answers.

    Labels and answers are (..., rows) each, of shapes that broadcast; the result is (...).
    """
    parts = [_f1_parts(labels, answers, each) for each in _classes(labels, answers)]
    occurring = np.sum([below > 0 for _, below in parts], axis=0)
    return np.sum([_ratio(*part) for part in parts], axis=0) / occurring


def _f1_parts(
    labels: np.ndarray, answers: np.ndarray, label: float
) -> tuple[np.ndarray, np.ndarray]:
    """2 TP, and 2 TP + FP + FN, of a class."""
    expected, actual = labels == label, answers == label
    return 2 * (expected & actual).sum(-1), expected.sum(-1) + actual.sum(-1)


def _f1_of_sets(metric: str, sets: np.ndarray) -> ManyScores:
    """micro_f1 or macro_f1 of several labels at once, one label after the other."""

    def score(labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
        labels, answers = labels.astype(int), answers.astype(int)
        parts = [_f1_parts(each[labels], each[answers], 1) for each in sets.T.astype(int)]
        above, below = (np.stack(np.broadcast_arrays(*part)) for part in zip(*parts))
        if metric == "micro_f1":
            return _ratio(above.sum(0), below.sum(0))
        return _ratio(above, below).mean(0)

    return score


def _matthews(labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """(c n - Σ t p) / √((n² - Σ p²) (n² - Σ t²)): n rows, c right, t and p of a class's labels and
    answers; 0 where nothing is below.

    Labels and answers are (..., rows) each, of shapes that broadcast; the result is (...).
    """
    rows, right = labels.shape[-1], (labels == answers).sum(-1).astype(float)
    classes = _classes(labels, answers)
    t = np.stack([(labels == each).sum(-1) for each in classes], -1).astype(float)
    p = np.stack([(answers == each).sum(-1) for each in classes], -1).astype(float)
    below = np.sqrt((rows**2 - (p**2).sum(-1)) * (rows**2 - (t**2).sum(-1)))
    return _ratio(right * rows - (t * p).sum(-1), below)


def _pearson(labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Σ x y / √(Σ x² Σ y²) of labels and answers less their means; 0 where either are all the same.

    Labels and answers are (..., rows) each, of shapes that broadcast; the result is (...).
    """
    x, y = (v - v.mean(-1, keepdims=True) for v in (labels.astype(float), answers.astype(float)))
    # Values that are all the same differ from their mean by rounding.
    varied = (np.ptp(labels, axis=-1) > 0) & (np.ptp(answers, axis=-1) > 0)
    below = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    return _ratio((x * y).sum(-1), np.where(varied, below, 0.0))


def _spearman(labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return _pearson(rankdata(labels, axis=-1), rankdata(answers, axis=-1))


def _classes(labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    return np.union1d(labels, answers)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """A quotient, 0 where nothing is below."""
    return np.divide(above, below, out=np.zeros(np.shape(below)), where=below > 0)


_MANY: dict[str, ManyScores] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}
