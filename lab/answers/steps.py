"""Part 5, clipping and accumulation: right answers from the formulas, and mistakes."""

from __future__ import annotations

import math

import torch

from lab.answers import mistake, right

# Clipping


def clipped(
    parameters, limit, *, norm=lambda flat: math.sqrt(sum(x * x for x in flat)),
    factor=lambda norm, limit: min(1.0, limit / (norm + 1e-6)), gave=lambda norm, factor: norm,
    change=lambda p, factor: p.grad.mul_(factor),
):  # fmt: skip
    """clip_gradients with its parts open to change."""
    with torch.no_grad():
        own = [p for p in parameters if p.grad is not None]
        found = norm([x for p in own for x in p.grad.double().flatten().tolist()])
        by = factor(found, limit)
        for p in own:
            change(p, by)
    return torch.tensor(float(gave(found, by)))


@right("clipping")
def clip(parameters, limit):
    return clipped(parameters, limit)


@mistake("clipping", "each parameter's gradient is clipped on its own; there is one norm, of all")
def each_alone(parameters, limit):
    parameters = list(parameters)
    whole = clipped(parameters, math.inf)
    for p in parameters:
        clipped([p], limit)
    return whole


@mistake("clipping", "each number is cut off at ± limit, which turns the gradient; scale it as one")
def by_value(parameters, limit):
    def change(p, factor):
        p.grad.clamp_(-limit, limit)

    return clipped(parameters, limit, change=change)


@mistake("clipping", "a gradient below the limit is made longer; the factor is at most 1")
def always_to_limit(parameters, limit):
    return clipped(parameters, limit, factor=lambda norm, limit: limit / (norm + 1e-6))


@mistake("clipping", "a gradient of zero is divided by its norm, 0 / 0; there is 1e-6 below")
def zero_by_zero(parameters, limit):
    def factor(norm, limit):
        return min(1.0, limit / norm) if norm else math.nan

    return clipped(parameters, limit, factor=factor)


@mistake("clipping", "the root is missing: the norm is √(Σ g²)")
def no_root(parameters, limit):
    return clipped(parameters, limit, norm=lambda flat: sum(x * x for x in flat))


@mistake("clipping", "the norm is a sum of absolute numbers; it is √(Σ g²)")
def absolute_norm(parameters, limit):
    return clipped(parameters, limit, norm=lambda flat: sum(map(abs, flat)))


@mistake("clipping", "the norm is the largest number; it is √(Σ g²) of all of them")
def largest_norm(parameters, limit):
    return clipped(parameters, limit, norm=lambda flat: max(map(abs, flat), default=0.0))


@mistake("clipping", "the norm is of a mean of squares; it is of their sum")
def mean_norm(parameters, limit):
    def norm(flat):
        return math.sqrt(sum(x * x for x in flat) / max(1, len(flat)))

    return clipped(parameters, limit, norm=norm)


@mistake("clipping", "norms of the parameters' gradients are added; their squares should be")
def norms_added(parameters, limit):
    norms = [float(p.grad.double().norm()) for p in parameters if p.grad is not None]
    return clipped(parameters, limit, norm=lambda flat: sum(norms))


@mistake("clipping", "the norm that is returned is the one after clipping; it is that from before")
def norm_after(parameters, limit):
    return clipped(parameters, limit, gave=lambda norm, factor: norm * factor)


@mistake("clipping", "the parameters are made shorter; it should be their gradients")
def parameters_clipped(parameters, limit):
    return clipped(parameters, limit, change=lambda p, factor: p.data.mul_(factor))


@mistake("clipping", "the factor is the wrong way round; it is limit / norm")
def factor_inverted(parameters, limit):
    return clipped(parameters, limit, factor=lambda norm, limit: min(1.0, norm / limit))


@mistake("clipping", "gradients above the limit become 0; they are made shorter")
def above_is_zero(parameters, limit):
    return clipped(parameters, limit, factor=lambda norm, limit: float(norm <= limit))


@mistake("clipping", "gradients stay as they are; multiply them in place, or put new ones in .grad")
def nothing_changed(parameters, limit):
    return clipped(parameters, limit, change=lambda p, factor: None)


# Accumulation


def weighed(shares, *, counts=True, over=True, least=1):
    from multitask import distributed

    total = sum(s.batch.weight * (s.factor if counts else 1) for s in shares)
    total = torch.tensor(float(total))
    if over:
        total = distributed.sum_over_processes(total)
    return total.clamp(min=least)


@right("accumulation", of="Engine._weight")
def weight(self, shares):
    return weighed(shares)


@mistake("accumulation", "rows that do not count are counted; factor is 0 there", of="_weight")
def all_counted(self, shares):
    return weighed(shares, counts=False)


@mistake("accumulation", "other processes' rows are missing from the weight", of="_weight")
def own_rows_alone(self, shares):
    return weighed(shares, over=False)


@mistake("accumulation", "the weight is 0 where no batch has any; it is at least 1", of="_weight")
def weight_of_zero(self, shares):
    return weighed(shares, least=0)


@mistake("accumulation", "the weight counts batches; it should count their rows", of="_weight")
def batches_counted(self, shares):
    return weighed(shares) * 0 + len(shares)


@mistake("accumulation", "the weight is that of the last batch; it is of all", of="_weight")
def last_weight(self, shares):
    return weighed(shares[-1:])


def accumulated(
    self, task, shares, reduce, *, weight=None, factor=None, last=None, several=True, scaled=True,
    minimised=False, clear=False, low=True, final=lambda total, last: total, outside=False,
):  # fmt: skip
    """Engine._backward_each with its parts open to change."""
    from minbert.inference import autocast
    from multitask import distributed

    of_all = self._weight(shares)
    total = plain = torch.zeros(())
    for number, share in enumerate(shares):
        ends = reduce and number == len(shares) - 1
        if clear:
            self.weights.grad = None
        with self._pass(ends if last is None else last(reduce, number)):
            divisor = of_all if weight is None else weight(share, shares)
            with autocast(self.device, self._precision if low else "fp32"):
                loss, plain = self.parallel(
                    share.batch, task, divisor, share.factor if factor is None else factor
                )
            value = loss * (distributed.count() if several else 1)
            value = self.scaler.scale(value) if scaled else value
            if not outside:
                value.backward()
        if outside:
            value.backward()
        total = total + (loss.detach() if minimised else plain)
    return final(total, plain)


@right("accumulation", of="Engine._backward_each")
def backward_each(self, task, shares, *, reduce):
    return accumulated(self, task, shares, reduce)


@mistake(
    "accumulation",
    "the mean of the batches' means is taken; rows of a small batch then count for more",
    of="_backward_each",
)
def mean_of_means(self, task, shares, *, reduce):
    def each(share, shares):
        return torch.tensor(float(max(1, share.batch.weight) * len(shares)))

    return accumulated(self, task, shares, reduce, weight=each)


@mistake(
    "accumulation", "each batch is divided by its own rows, so means add up", of="_backward_each"
)
def means_added(self, task, shares, *, reduce):
    def each(share, shares):
        return torch.tensor(float(max(1, share.batch.weight)))

    return accumulated(self, task, shares, reduce, weight=each)


@mistake("accumulation", "losses are not divided by anything", of="_backward_each")
def not_divided(self, task, shares, *, reduce):
    return accumulated(self, task, shares, reduce, weight=lambda *_: torch.ones(()))


@mistake(
    "accumulation",
    "gradients are cleared before each batch, so that the last alone counts",
    of="_backward_each",
)
def cleared(self, task, shares, *, reduce):
    return accumulated(self, task, shares, reduce, clear=True)


@mistake("accumulation", "a batch that does not count is counted", of="_backward_each")
def factor_ignored(self, task, shares, *, reduce):
    return accumulated(self, task, shares, reduce, factor=1.0)


@mistake(
    "accumulation", "the loss is not scaled by `self.scaler` before backward", of="_backward_each"
)
def not_scaled(self, task, shares, *, reduce):
    return accumulated(self, task, shares, reduce, scaled=False)


@mistake(
    "accumulation",
    "several processes' gradients are averaged, and their sum is wanted: multiply by their number",
    of="_backward_each",
)
def averaged(self, task, shares, *, reduce):
    return accumulated(self, task, shares, reduce, several=False)


@mistake(
    "accumulation", "every pass brings the processes together; the last should", of="_backward_each"
)
def each_brings(self, task, shares, *, reduce):
    return accumulated(self, task, shares, reduce, last=lambda reduce, number: reduce)


@mistake(
    "accumulation",
    "the first pass brings the processes together, not the last",
    of="_backward_each",
)
def first_brings(self, task, shares, *, reduce):
    return accumulated(self, task, shares, reduce, last=lambda reduce, n: reduce and n == 0)


@mistake("accumulation", "`reduce` is not looked at when the last pass comes", of="_backward_each")
def always_reduced(self, task, shares, *, reduce):
    return accumulated(self, task, shares, True)


@mistake(
    "accumulation",
    "the loss that is returned is the one to minimise; it should be the plain one",
    of="_backward_each",
)
def minimised_returned(self, task, shares, *, reduce):
    return accumulated(self, task, shares, reduce, minimised=True)


@mistake("accumulation", "the loss of the last batch is returned, not of all", of="_backward_each")
def last_loss(self, task, shares, *, reduce):
    return accumulated(self, task, shares, reduce, final=lambda total, last: last)


@mistake(
    "accumulation", "the loss is divided by the number of batches once more", of="_backward_each"
)
def divided_twice(self, task, shares, *, reduce):
    count = len(shares)
    return accumulated(self, task, shares, reduce, final=lambda total, last: total / count)


@mistake("accumulation", "the forward pass is not under autocast", of="_backward_each")
def no_autocast(self, task, shares, *, reduce):
    return accumulated(self, task, shares, reduce, low=False)


@mistake("accumulation", "backward runs outside of `self._pass(...)`", of="_backward_each")
def backward_outside(self, task, shares, *, reduce):
    return accumulated(self, task, shares, reduce, outside=True)
