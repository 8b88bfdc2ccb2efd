"""Part 2, which parameters decay, and the schedule of the rate: right answers, and mistakes."""

from __future__ import annotations

import math

from lab.answers import mistake, right


@right("no_decay")
def is_bias_or_norm(name, param):
    return len(param.shape) <= 1 or name.rsplit(".", 1)[-1] == "bias"


@mistake("no_decay", "yes and no have changed places: matrices decay")
def decay_inverted(name, param):
    return not is_bias_or_norm(name, param)


@mistake("no_decay", "only biases are spared; LayerNorm's weights are vectors too")
def biases_only(name, param):
    return name.split(".")[-1] == "bias"


@mistake(
    "no_decay", "a matrix is spared because `bias` or `norm` is in its name; look at its shape"
)
def any_name(name, param):
    return "bias" in name or "norm" in name


@mistake("no_decay", "a bias that is kept as a column is missed; its last word gives it away")
def shape_only(name, param):
    return param.ndim < 2


@mistake("no_decay", "matrices are spared too; they decay, and vectors do not")
def matrices_spared(name, param):
    return param.ndim <= 2


@mistake("no_decay", "a name that ends in `bias` may be another word; its last part has to be bias")
def any_ending(name, param):
    return param.ndim < 2 or name.endswith("bias")


def factor(step, total, warmup, *, start=0, after=None, floor=0.0):
    """Two straight lines with their parts open to change."""
    from optim.schedules import check_schedule

    check_schedule(step, total, warmup)
    if step + start < warmup:
        return (step + start) / warmup
    left = (total - step) / max(1, total - warmup) if after is None else after(step, total, warmup)
    return max(floor, left)


@right("warmup")
def linear(step, total, warmup=0):
    return factor(step, total, warmup)


@mistake("warmup", "the warm-up is one step ahead: it starts from 0")
def warmup_ahead(step, total, warmup=0):
    return factor(step, total, warmup, start=1)


@mistake("warmup", "the fall is measured from step 0; it starts where the warm-up ends")
def falls_from_zero(step, total, warmup=0):
    return factor(step, total, warmup, after=lambda s, t, w: (t - s) / t)


@mistake("warmup", "there is no warm-up")
def no_warmup(step, total, warmup=0):
    return max(0.0, (total - step) / max(1, total - warmup))


@mistake("warmup", "the rate does not fall after the warm-up")
def never_falls(step, total, warmup=0):
    return factor(step, total, warmup, after=lambda s, t, w: 1.0 if s < t else 0.0)


@mistake("warmup", "the factor goes below 0 after the last step")
def below_zero(step, total, warmup=0):
    return factor(step, total, warmup, floor=-math.inf)


@mistake("warmup", "the factor counts the steps done, so it rises; the steps left should count")
def rises(step, total, warmup=0):
    return factor(step, total, warmup, after=lambda s, t, w: (s - w) / max(1, t - w))


@mistake("warmup", "the rate falls along a cosine; it should fall in a straight line")
def cosine(step, total, warmup=0):
    def after(s, t, w):
        return 0.5 * (1 + math.cos(math.pi * (s - w) / max(1, t - w)))

    return factor(step, total, warmup, after=after)


@mistake("warmup", "the fall is one step ahead: it starts from 1 at the step after the warm-up")
def fall_ahead(step, total, warmup=0):
    return factor(step, total, warmup, after=lambda s, t, w: (t - s - 1) / max(1, t - w))
