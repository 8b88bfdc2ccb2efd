"""Intervals and tests against scipy by hand, and on simulated answers whose truth is known."""

import math

import numpy as np
import pytest
from scipy import stats
from test_metrics import REFERENCES

from multitask.experiments import significance
from multitask.experiments.significance import compare_answers, many_scores
from multitask.metrics import METRICS

# Of one answer a row; several labels at once are numbers of sets, below.
EVERY_CASE = [
    (name, case)
    for name, (_, cases) in REFERENCES.items()
    for case, (labels, _) in cases.items()
    if np.ndim(labels) == 1
]


@pytest.mark.parametrize("name, case", EVERY_CASE)
def test_many_scores_at_once_are_those_of_each(name, case):
    """Each set of answers, in one call, and beside other sets that must not matter."""
    labels, answers = (np.asarray(x, dtype=np.float32) for x in REFERENCES[name][1][case])
    many = np.stack([answers, labels, answers[::-1], np.roll(answers, 1)])
    expected = [METRICS[name](labels, each) for each in many]
    np.testing.assert_allclose(many_scores(name)(labels, many), expected, atol=1e-6)
    together = many_scores(name)(np.stack([labels, labels[::-1]]), np.stack([answers, answers]))
    assert together.shape == (2,)
    assert together[1] == pytest.approx(METRICS[name](labels[::-1], answers), abs=1e-6)


@pytest.mark.parametrize("name", ["micro_f1", "macro_f1", "subset_accuracy"])
def test_scores_of_several_labels_at_once_are_those_of_their_sets(name):
    draw = np.random.default_rng(1)
    sets = np.unique(draw.integers(0, 2, (9, 4)) * [1, 1, 1, 0], axis=0)  # nothing has the last
    labels, answers = draw.integers(0, len(sets), (3, 50)), draw.integers(0, len(sets), (3, 50))
    expected = [METRICS[name](sets[x], sets[y]) for x, y in zip(labels, answers)]
    np.testing.assert_allclose(many_scores(name, sets)(labels, answers), expected)
    expected = [METRICS[name](sets[labels[0]], sets[y]) for y in answers]
    np.testing.assert_allclose(many_scores(name, sets)(labels[0], answers), expected)


def test_a_metric_that_is_not_known_is_computed_one_by_one(monkeypatch):
    monkeypatch.setitem(METRICS, "sum", lambda labels, answers: float(sum(labels + answers)))
    assert many_scores("sum")(np.ones(2), np.array([[1, 2], [3, 4]])).tolist() == [5, 9]


# Against scipy by hand


def rows(count=60, seed=0):
    """Labels of two classes, and two models' answers, the second one better."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count)
    first, second = (np.where(draw.random(count) < p, labels, 1 - labels) for p in (0.6, 0.8))
    return labels.astype(float), first.astype(float), second.astype(float)


def test_mcnemar_is_the_binomial_test_of_the_rows_that_changed():
    labels, first, second = rows()
    gained = sum((second == labels) & (first != labels))
    lost = sum((second != labels) & (first == labels))
    found = compare_answers("accuracy", labels, first[None], second[None])
    assert found.test == "McNemar, exact" and lost and gained > lost
    tail = sum(math.comb(lost + gained, n) for n in range(lost + 1)) / 2 ** (lost + gained)
    assert found.p == pytest.approx(2 * tail)
    assert found.difference == pytest.approx((gained - lost) / 60)
    assert (found.first, found.second) == (np.mean(first == labels), np.mean(second == labels))


@pytest.mark.parametrize("metric", ["accuracy", "matthews", "f1", "pearson"])
def test_the_interval_is_that_of_scipys_bootstrap_one_resample_at_a_time(metric, monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 150)
    labels, first, second = rows()

    def difference(*columns):
        labels, first, second = columns
        return METRICS[metric](labels, second) - METRICS[metric](labels, first)

    expected = stats.bootstrap(
        (labels, first, second), difference, vectorized=False, paired=True, method="percentile",
        n_resamples=significance.RESAMPLES,
        random_state=np.random.default_rng(significance.SEED),
    ).confidence_interval  # fmt: skip
    found = compare_answers(metric, labels, first[None], second[None])
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-9)
    again = compare_answers(metric, labels, first[None], second[None])
    assert again == found


def test_the_permutation_test_is_exact_where_there_are_few_rows():
    """All 2^8 ways to let the two answers of a row change places."""
    labels, first, second = rows(8, seed=3)
    found = compare_answers("matthews", labels, first[None], second[None])
    metric = METRICS["matthews"]
    actual = metric(labels, second) - metric(labels, first)
    differences = []
    for number in range(2**8):
        swapped = (number >> np.arange(8)) & 1 == 1
        a, b = np.where(swapped, second, first), np.where(swapped, first, second)
        differences.append(metric(labels, b) - metric(labels, a))
    tails = [np.mean(np.sign(actual) * np.array(differences) >= abs(actual) - 1e-12)]
    assert found.test == "permutation of rows"
    assert found.p == pytest.approx(min(1, 2 * tails[0]))


def test_over_seeds_without_differences_between_rows_it_is_students_t():
    """And without any between seeds, that of the rows alone."""
    first, second = np.array([0.70, 0.74, 0.71]), np.array([0.78, 0.75])
    low, high, p = significance._over_seeds(first, second, 0.0, 100)
    expected = stats.ttest_ind(second, first)
    assert p == pytest.approx(expected.pvalue)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    low, high, p = significance._over_seeds(np.full(3, 0.5), np.full(2, 0.6), 0.04, 10**6)
    assert (low, high) == pytest.approx((0.1 - 1.96 * 0.04, 0.1 + 1.96 * 0.04), abs=1e-5)
    assert p == pytest.approx(2 * stats.norm.sf(2.5), abs=1e-5)


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
@pytest.mark.parametrize("runs", [1, 2])
def test_answers_that_are_equal_do_not_differ(metric, runs):
    labels, first, _ = rows()
    same = np.repeat(first[None], runs, axis=0)
    found = compare_answers(metric, labels, same, same)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


# Where the truth is known

TRIALS = 200
"""So a rate of 0.05 is seen as 0.05 ± 0.015, and 0.95 as 0.95 ± 0.015."""


def logistic(x):
    return 1 / (1 + np.exp(-x))


def answered(draw, labels, hard, ability, spread, runs):
    """(runs, rows) answers of models whose abilities are drawn around one."""
    own = ability + spread * draw.normal(size=(runs, 1))
    right = draw.random((runs, len(labels))) < logistic(own - hard)
    return np.where(right, labels, 1 - labels)


def simulated(metric, abilities, *, runs=(1, 1), spread=0.0, count=120):
    """How often the interval has the true difference, and how often p is below 0.05."""
    draw = np.random.default_rng(5)

    def world(count):
        return draw.integers(0, 2, count).astype(float), 1.5 * draw.normal(size=count)

    labels, hard = world(2**20)
    truth = []
    for ability in abilities:  # every row has a run of its own
        right = draw.random(2**20) < logistic(ability + spread * draw.normal(size=2**20) - hard)
        truth.append(METRICS[metric](labels, np.where(right, labels, 1 - labels)))
    held = rejected = 0
    for _ in range(TRIALS):
        labels, hard = world(count)
        groups = [answered(draw, labels, hard, each, spread, k) for each, k in zip(abilities, runs)]
        found = compare_answers(metric, labels, *groups)
        held += found.low <= truth[1] - truth[0] <= found.high
        rejected += found.p < 0.05
    return held / TRIALS, rejected / TRIALS


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 300)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("metric", ["accuracy", pytest.param("matthews", marks=pytest.mark.slow)])
def test_of_two_models_the_interval_holds_and_the_test_errs_as_rarely_as_it_says(metric):
    held, rejected = simulated(metric, (0.8, 0.8))
    assert 0.91 <= held <= 0.985
    assert rejected <= (0.06 if metric == "accuracy" else 0.09)  # McNemar's is on the safe side
    held, rejected = simulated(metric, (0.2, 1.5))
    assert 0.91 <= held <= 0.985 and rejected > 0.7


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "runs", [(3, 3), *(pytest.param(runs, marks=pytest.mark.slow) for runs in ((5, 2), (1, 4)))]
)
def test_over_seeds_too(runs):
    """Where the groups vary alike, a group of one run included."""
    held, rejected = simulated("accuracy", (0.8, 0.8), runs=runs, spread=0.4)
    assert 0.91 <= held <= 0.995 and rejected <= 0.09
    _, rejected = simulated("accuracy", (0.0, 2.0), runs=runs, spread=0.4)
    assert rejected > 0.5


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_one_run_is_no_sample_of_seeds():
    """Why there is a test over seeds: of single runs that differ by their seeds alone, the test of
    rows finds many apart, for these two models are."""
    _, rejected = simulated("accuracy", (0.8, 0.8), spread=0.8)
    assert rejected > 0.15
    _, rejected = simulated("accuracy", (0.8, 0.8), runs=(4, 4), spread=0.8)
    assert rejected <= 0.09


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_of_correlations_too():
    draw = np.random.default_rng(6)
    held = rejected = 0
    truth = 1 / math.sqrt(2) - 1 / math.sqrt(1 + 1.5**2)
    for _ in range(TRIALS):
        labels, common = draw.normal(size=(2, 150))
        first, second = (
            labels + width * (0.6 * common + 0.8 * draw.normal(size=150)) for width in (1.5, 1)
        )
        found = compare_answers("pearson", labels, first[None], second[None])
        held += found.low <= truth <= found.high
        third = labels + 0.6 * common + 0.8 * draw.normal(size=150)
        rejected += compare_answers("pearson", labels, third[None], second[None]).p < 0.05
    assert 0.91 <= held / TRIALS <= 0.985 and rejected / TRIALS <= 0.09
