"""Metrics against scikit-learn and scipy, on random and on degenerate answers."""

import warnings

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from data.tasks import TASKS
from multitask.evaluate import summary
from multitask.metrics import METRICS, overall

DRAW = np.random.default_rng(0)
BINARY = {
    "random": DRAW.integers(0, 2, (2, 200)),
    "few": DRAW.integers(0, 2, (2, 5)),
    "all yes": [[0, 1, 1, 0], [1, 1, 1, 1]],
    "all no": [[0, 1, 1, 0], [0, 0, 0, 0]],
    "one class, right": [[1, 1, 1], [1, 1, 1]],
    "one class, wrong": [[0, 0, 0], [1, 1, 1]],
    "one row": [[1], [1]],
}
CLASSES = {
    "random": DRAW.integers(0, 5, (2, 300)),
    "constant": [DRAW.integers(0, 5, 50), np.full(50, 2)],
    "unseen class": [[0, 1, 1], [0, 4, 1]],
}
NUMBERS = {
    "random": DRAW.normal(size=(2, 200)),
    "ties": DRAW.integers(0, 4, (2, 200)) / 2,
    "exact": [np.arange(9), 3 * np.arange(9) - 7],
    "inverse": [np.arange(9), -(np.arange(9) ** 3)],
    "constant answers": [np.arange(9), np.full(9, 2.5)],
    "constant labels": [np.full(9, 0.1), np.arange(9)],
    "far from zero": [np.arange(9), 1e6 + DRAW.normal(size=9)],
}
REFERENCES = {
    "accuracy": (sklearn.metrics.accuracy_score, BINARY | CLASSES),
    "f1": (lambda x, y: sklearn.metrics.f1_score(x, y, zero_division=0), BINARY),
    "macro_f1": (lambda x, y: sklearn.metrics.f1_score(x, y, average="macro"), BINARY | CLASSES),
    "matthews": (sklearn.metrics.matthews_corrcoef, BINARY | CLASSES),
    "pearson": (lambda x, y: scipy.stats.pearsonr(x, y)[0], NUMBERS),
    "spearman": (lambda x, y: scipy.stats.spearmanr(x, y)[0], NUMBERS),
}
EVERY_CASE = [(name, case) for name, (_, cases) in REFERENCES.items() for case in cases]


@pytest.mark.parametrize("name, case", EVERY_CASE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_metric_equals_the_reference_and_is_0_where_undefined(name, case, dtype):
    reference, cases = REFERENCES[name]
    labels, answers = (np.asarray(values, dtype=dtype) for values in cases[case])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the references warn of what is undefined, and give nan
        expected = np.nan_to_num(reference(labels.astype(float), answers.astype(float)))
    found = METRICS[name](labels, answers)
    assert isinstance(found, float)
    assert found == pytest.approx(float(expected), abs=1e-9)


def test_every_metric_is_tested():
    assert REFERENCES.keys() == METRICS.keys()


def test_overall_in_both_conventions():
    scores = {"sst": 0.5, "para": 0.8, "sts": 0.2, "cola": -1.0}
    found = overall(scores)
    assert found == pytest.approx({"mean": 0.5, "mean_normalised": 1.9 / 3})
    assert overall({"sst": 0.5, "para": 0.8, "cola": 0.1}) == {}


def test_summary_is_the_mean_of_each_tasks_first_metric():
    scores = {
        "sst": {"macro_f1": 9.0, "accuracy": 0.5},
        "para": {"accuracy": 0.8, "f1": 9.0},
        "sts": {"pearson": 0.2, "spearman": 9.0},
        "cola": {"accuracy": 9.0, "matthews": 0.1},
    }
    found = summary(scores, TASKS)
    assert found["score"] == pytest.approx(0.4)
    assert found["overall"]["mean"] == pytest.approx(0.5)
