"""Part 5, scores: right answers list by list, and mistakes."""

from __future__ import annotations

import math

import numpy as np

from lab.answers import mistake, right


def one_by_one(score, labels, answers):
    """score(labels, answers) of each list."""
    labels, answers = np.broadcast_arrays(labels, answers)
    lists = zip(labels.reshape(-1, labels.shape[-1]), answers.reshape(-1, labels.shape[-1]))
    found = [float(score(x.tolist(), y.tolist())) for x, y in lists]
    return np.array(found).reshape(labels.shape[:-1])


# Macro-F1


def mean_of_f1(
    labels, answers, *, of=lambda x, y: {*x, *y}, last=None,
    ratio=lambda tp, fp, fn: 2 * tp / (2 * tp + fp + fn) if tp else 0.0,
):  # fmt: skip
    found, sizes = [], []
    for each in sorted(of(labels, answers)):
        tp = sum(x == y == each for x, y in zip(labels, answers))
        found.append(ratio(tp, answers.count(each) - tp, labels.count(each) - tp))
        sizes.append(labels.count(each))
    return last(found, sizes) if last else sum(found) / len(found)


def f1_of(labels, answers, **changes):
    return one_by_one(lambda x, y: mean_of_f1(x, y, **changes), labels, answers)


@right("metrics", of="_macro_f1")
def macro_f1(labels, answers):
    return f1_of(labels, answers)


@mistake(
    "metrics",
    "only classes among the labels count in macro-F1; answered ones do too",
    of="_macro_f1",
)
def f1_of_labels(labels, answers):
    return f1_of(labels, answers, of=lambda x, y: {*x})


@mistake(
    "metrics",
    "macro-F1 is divided by the classes of all lists; a list has those that occur in it",
    of="_macro_f1",
)
def f1_of_all_lists(labels, answers):
    every = {*np.ravel(labels).tolist(), *np.ravel(answers).tolist()}
    return f1_of(labels, answers, of=lambda x, y: every)


@mistake(
    "metrics",
    "classes are weighted by their rows; in macro-F1 each counts the same",
    of="_macro_f1",
)
def f1_weighted(labels, answers):
    def last(found, sizes):
        return sum(f * n for f, n in zip(found, sizes)) / sum(sizes)

    return f1_of(labels, answers, last=last)


@mistake("metrics", "macro-F1 is a mean over classes; this is F1 of class 1 alone", of="_macro_f1")
def f1_of_one(labels, answers):
    return f1_of(labels, answers, of=lambda x, y: {1.0})


@mistake(
    "metrics", "this is the accuracy, or micro-F1; macro-F1 is a mean over classes", of="_macro_f1"
)
def accuracy_for_f1(labels, answers):
    return (np.asarray(labels) == answers).mean(-1)


@mistake(
    "metrics", "macro-F1 has the recall of each class; false positives count too", of="_macro_f1"
)
def recall_for_f1(labels, answers):
    return f1_of(labels, answers, ratio=lambda tp, fp, fn: tp / (tp + fn) if tp else 0.0)


@mistake(
    "metrics", "macro-F1 has the precision of each class; false negatives count too", of="_macro_f1"
)
def precision_for_f1(labels, answers):
    return f1_of(labels, answers, ratio=lambda tp, fp, fn: tp / (tp + fp) if tp else 0.0)


@mistake("metrics", "2 TP has lost its 2 below: F1 is 2 TP / (2 TP + FP + FN)", of="_macro_f1")
def jaccard(labels, answers):
    return f1_of(labels, answers, ratio=lambda tp, fp, fn: tp / (tp + fp + fn))


# Matthews


def correlation(labels, answers, *, above=None, below=None, nothing=0.0, root=math.sqrt):
    classes, n = sorted({*labels, *answers}), len(labels)
    t, p = ([column.count(each) for each in classes] for column in (labels, answers))
    right = sum(x == y for x, y in zip(labels, answers))
    over = right * n - sum(a * b for a, b in zip(t, p))
    over = above(over) if above else over
    squares = [n * n - sum(a * a for a in column) for column in (p, t)]
    under = below(squares, n) if below else root(squares[0] * squares[1])
    return over / under if under else nothing


def matthews_of(labels, answers, **changes):
    return one_by_one(lambda x, y: correlation(x, y, **changes), labels, answers)


@right("metrics", of="_matthews")
def matthews(labels, answers):
    return matthews_of(labels, answers)


@mistake("metrics", "Matthews of constants is not a number; 0 / 0 is 0 here", of="_matthews")
def matthews_nan(labels, answers):
    return matthews_of(labels, answers, nothing=math.nan)


@mistake("metrics", "Matthews of constants is 1; where nothing is below, it is 0", of="_matthews")
def matthews_one(labels, answers):
    return matthews_of(labels, answers, nothing=1.0)


@mistake("metrics", "the root below Matthews is missing", of="_matthews")
def matthews_no_root(labels, answers):
    return matthews_of(labels, answers, root=lambda square: square)


@mistake("metrics", "Matthews has no sign: all wrong is -1, not 1", of="_matthews")
def matthews_absolute(labels, answers):
    return matthews_of(labels, answers, above=abs)


@mistake("metrics", "this is Cohen's kappa; below Matthews is a geometric mean", of="_matthews")
def kappa(labels, answers):
    classes = sorted({*np.ravel(labels).tolist(), *np.ravel(answers).tolist()})

    def score(x, y):
        by_chance = sum(x.count(each) * y.count(each) for each in classes)
        n, right = len(x), sum(a == b for a, b in zip(x, y))
        under = n * n - by_chance
        return (right * n - by_chance) / under if under else 0.0

    return one_by_one(score, labels, answers)


@mistake(
    "metrics", "this is the binary formula; with more classes each has its counts", of="_matthews"
)
def matthews_binary(labels, answers):
    def score(x, y):
        return correlation([float(a == 1) for a in x], [float(b == 1) for b in y])

    return one_by_one(score, labels, answers)


@mistake("metrics", "this correlates numbers of classes, which have no order", of="_matthews")
def pearson_for_matthews(labels, answers):
    return pearson_of(labels, answers)


@mistake("metrics", "this is the accuracy; Matthews is 0 for answers by chance", of="_matthews")
def accuracy_for_matthews(labels, answers):
    return (np.asarray(labels) == answers).mean(-1)


# Pearson


def moments(x, y, *, centre=lambda x: sum(x) / len(x), nothing=0.0, root=math.sqrt, own=None):
    if min(x) == max(x) or min(y) == max(y):
        return nothing
    a, b = ([v - centre(column) for v in column] for column in (x, y))
    over, under = sum(map(float.__mul__, a, b)), [sum(v * v for v in c) for c in (a, b)]
    return over / (own(under) if own else root(under[0] * under[1]))


def pearson_of(labels, answers, **changes):
    return one_by_one(lambda x, y: moments(x, y, **changes), labels, answers)


@right("metrics", of="_pearson")
def pearson(labels, answers):
    return pearson_of(labels, answers)


@mistake("metrics", "the means are not taken away: this is the cosine", of="_pearson")
def cosine(labels, answers):
    return pearson_of(labels, answers, centre=lambda x: 0.0)


@mistake("metrics", "Pearson of constants is not a number; it is 0 here", of="_pearson")
def pearson_nan(labels, answers):
    return pearson_of(labels, answers, nothing=math.nan)


@mistake(
    "metrics",
    "a constant's mean is off by rounding, and 0 / 0 comes out as ±1; compare the numbers",
    of="_pearson",
)
def constants_by_rounding(labels, answers):
    x, y = (v - v.mean(-1, keepdims=True) for v in (np.asarray(labels), np.asarray(answers)))
    below = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    return np.where(below > 0, (x * y).sum(-1) / np.where(below > 0, below, 1.0), 0.0)


@mistake("metrics", "the root below Pearson is missing", of="_pearson")
def pearson_no_root(labels, answers):
    return pearson_of(labels, answers, root=lambda square: square)


@mistake("metrics", "Pearson is divided by one of the two variances; both are below", of="_pearson")
def slope(labels, answers):
    return pearson_of(labels, answers, own=lambda under: under[0])


@mistake("metrics", "this is R², without a sign; Pearson is not squared", of="_pearson")
def squared(labels, answers):
    return pearson_of(labels, answers) ** 2


@mistake("metrics", "this is Spearman's, of ranks; Pearson's is of the numbers", of="_pearson")
def of_ranks(labels, answers):
    from scipy.stats import rankdata

    return pearson_of(rankdata(labels, axis=-1), rankdata(answers, axis=-1))


@mistake(
    "metrics",
    "E[xy] - E[x] E[y] loses its digits far from 0; take the means away first",
    of="_pearson",
)
def cancelled(labels, answers):
    def score(x, y):
        if min(x) == max(x) or min(y) == max(y):
            return 0.0
        x, y = np.float32(x), np.float32(y)
        over = (x * y).mean() - x.mean() * y.mean()
        spread = ((x * x).mean() - x.mean() ** 2) * ((y * y).mean() - y.mean() ** 2)
        return over / math.sqrt(abs(spread)) if spread else 0.0

    return one_by_one(score, labels, answers)


@mistake("metrics", "means are over all lists; each list has its own", of="_pearson")
def mean_of_all_lists(labels, answers):
    x, y = np.asarray(labels, float), np.asarray(answers, float)
    x, y = x - x.mean(), y - y.mean()
    below = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    constant = (np.ptp(x, axis=-1) == 0) | (np.ptp(y, axis=-1) == 0)
    return np.where(constant, 0.0, (x * y).sum(-1) / np.where(constant, 1.0, below))
