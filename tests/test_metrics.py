"""Each metric against its formula in float64, on random and on degenerate answers."""

import numpy as np
import pytest

from data.tasks import TASKS
from multitask.metrics import METRICS, overall, summary

DRAW = np.random.default_rng(0)
BINARY = {
    "random": DRAW.integers(0, 2, (2, 200)),
    "few": DRAW.integers(0, 2, (2, 5)),
    "all yes": [[0, 1, 1, 0], [1, 1, 1, 1]],
    "all no": [[0, 1, 1, 0], [0, 0, 0, 0]],
    "one class, right": [[1, 1, 1], [1, 1, 1]],
    "one class, wrong": [[0, 0, 0], [1, 1, 1]],
    "one row": [[1], [1]],
    "no yes": [[0, 0, 0], [0, 0, 0]],
}
CLASSES = {
    "random": DRAW.integers(0, 5, (2, 300)),
    "constant": [DRAW.integers(0, 5, 50), np.full(50, 2)],
    "unseen class": [[0, 1, 1], [0, 4, 1]],
}
SEVERAL = {
    "random": DRAW.integers(0, 2, (2, 100, 4)),
    "none": [[[0, 0], [0, 0]], [[0, 0], [0, 0]]],
    "all yes": [[[0, 1], [1, 1]], [[1, 1], [1, 1]]],
    "a label that never holds": [[[0, 1], [0, 0]], [[0, 1], [0, 1]]],
    "one row": [[[1, 0, 1]], [[1, 1, 0]]],
}
NUMBERS = {
    "random": DRAW.normal(size=(2, 200)),
    "ties": DRAW.integers(0, 4, (2, 200)) / 2,
    "exact": [np.arange(9), 3 * np.arange(9) - 7],
    "inverse": [np.arange(9), -(np.arange(9) ** 3)],
    "constant answers": [np.arange(9), np.full(9, 2.5)],
    "constant labels": [np.full(9, 0.1), np.arange(9)],
    "two rows": [[1, 3], [2, 1]],
    "one row": [[1], [2]],
    "far from zero": [np.arange(9), 1e6 + DRAW.normal(size=9)],
}


def correlation(x, y):
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    deviation = np.sqrt(np.sum(x * x) * np.sum(y * y))
    return np.sum(x * y) / deviation if deviation else 0.0


def f1(labels, answers, label=1):
    right = np.sum((labels == label) & (answers == label))
    named = np.sum(labels == label) + np.sum(answers == label)
    return 2 * right / named if named else 0.0


def micro_f1(labels, answers):
    if labels.ndim == 1:
        return np.mean(labels == answers)
    return f1(labels.ravel(), answers.ravel())


def macro_f1(labels, answers):
    if labels.ndim == 2:
        return np.mean([f1(*columns) for columns in zip(labels.T, answers.T)])
    return np.mean([f1(labels, answers, label) for label in {*labels, *answers}])


def matthews(labels, answers):
    classes = sorted({*labels, *answers})
    return correlation(*(np.equal.outer(x, classes).astype(float) for x in (labels, answers)))


def mean_ranks(values):
    return np.array([np.sum(values < x) + np.sum(values == x) / 2 for x in values])


REFERENCES = {
    "accuracy": (lambda x, y: np.sum(x == y) / len(x), BINARY | CLASSES),
    "f1": (f1, BINARY),
    "macro_f1": (macro_f1, BINARY | CLASSES | {f"{n}, several": v for n, v in SEVERAL.items()}),
    "micro_f1": (micro_f1, BINARY | CLASSES | {f"{n}, several": v for n, v in SEVERAL.items()}),
    "subset_accuracy": (lambda x, y: np.mean((x == y).all(axis=1)), SEVERAL),
    "matthews": (matthews, BINARY | CLASSES),
    "pearson": (correlation, NUMBERS),
    "spearman": (lambda x, y: correlation(mean_ranks(x), mean_ranks(y)), NUMBERS),
}
EVERY_CASE = [(name, case) for name, (_, cases) in REFERENCES.items() for case in cases]


@pytest.mark.filterwarnings("error")  # what is undefined is 0 without a word
@pytest.mark.parametrize("name, case", EVERY_CASE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_metric_equals_its_formula_and_is_0_where_undefined(name, case, dtype):
    formula, cases = REFERENCES[name]
    labels, answers = (np.asarray(values, dtype=dtype) for values in cases[case])
    actual = METRICS[name](labels, answers)
    assert isinstance(actual, float)
    expected = formula(labels.astype(np.float64), answers.astype(np.float64))
    assert actual == pytest.approx(float(expected), abs=1e-9)


def test_the_tokens_of_a_vocabulary_are_classes_without_a_warning(recwarn):
    tokens = np.arange(100)
    assert METRICS["accuracy"](tokens, np.where(tokens < 25, tokens, -1)) == 0.25
    assert not recwarn.list


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
