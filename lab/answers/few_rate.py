"""Part 6, the rate of few parameters: right answers, and mistakes."""

from __future__ import annotations

import math

import torch

from lab.answers import mistake, right


def promised(lr, gradients, of=lambda g: g.double().abs().sum(), together=sum):
    return lr * float(together(of(g) for g in gradients))


@right("few_rate", of="promised_decrease")
def promised_decrease(lr, gradients):
    return promised(lr, gradients)


@mistake(
    "few_rate",
    "gradients are squared, as in gradient descent; Adam's step does not grow with the gradient",
    of="promised_decrease",
)
def squared(lr, gradients):
    return promised(lr, gradients, of=lambda g: g.square().sum())


@mistake(
    "few_rate",
    "gradients are added up with their signs; each parameter goes downhill, so sizes add up",
    of="promised_decrease",
)
def signed(lr, gradients):
    return promised(lr, gradients, of=torch.sum)


@mistake(
    "few_rate",
    "the size is taken of each tensor's sum; take it of each number before adding up",
    of="promised_decrease",
)
def size_of_the_sum(lr, gradients):
    return promised(lr, gradients, of=lambda g: g.sum().abs())


@mistake(
    "few_rate",
    "the mean of each gradient is taken; every parameter moves, so their shares add up",
    of="promised_decrease",
)
def mean_of_each(lr, gradients):
    return promised(lr, gradients, of=lambda g: g.abs().mean())


@mistake(
    "few_rate",
    "the lengths of the gradients are added up, the roots of sums of squares; add up sizes |g|",
    of="promised_decrease",
)
def lengths_added(lr, gradients):
    return promised(lr, gradients, of=torch.linalg.vector_norm)


@mistake(
    "few_rate",
    "this is the length of all gradients together, a root of squares; add up sizes |g|",
    of="promised_decrease",
)
def length_of_all(lr, gradients):
    return promised(
        lr, gradients, of=lambda g: g.square().sum(), together=lambda s: math.sqrt(sum(s))
    )


@mistake(
    "few_rate", "the largest of the gradients alone is counted; all of them count",
    of="promised_decrease",
)  # fmt: skip
def largest_alone(lr, gradients):
    return promised(lr, gradients, of=lambda g: g.abs().max())


@mistake(
    "few_rate",
    "parameters are counted; how steep the loss is along each counts too",
    of="promised_decrease",
)
def parameters_counted(lr, gradients):
    return promised(lr, gradients, of=torch.numel)


@mistake("few_rate", "the rate is left out: a step twice as long promises twice as much",
         of="promised_decrease")  # fmt: skip
def rate_left_out(lr, gradients):
    return promised(1.0, gradients)


@mistake(
    "few_rate", "the loss falls: this is how much it changes, with a minus", of="promised_decrease"
)
def negative(lr, gradients):
    return -promised(lr, gradients)


@mistake("few_rate", "the rate is squared", of="promised_decrease")
def rate_twice(lr, gradients):
    return promised(lr * lr, gradients)


def larger(lr, gradients, trained, *, ratio=lambda all_of_them, few: all_of_them / few, size=None):
    """rate_of_few with its parts open to change."""
    from minbert import costs

    size = size or (lambda tensors: float(costs.promised_decrease(1.0, tensors)))
    few = [gradients[name] for name in trained]
    return lr * ratio(size([*gradients.values()]), size(few))


@right("few_rate", of="rate_of_few")
def rate_of_few(lr, gradients, trained):
    return larger(lr, gradients, trained)


@mistake(
    "few_rate",
    "the proportion is upside down: fewer parameters want a larger rate",
    of="rate_of_few",
)
def upside_down(lr, gradients, trained):
    return larger(lr, gradients, trained, ratio=lambda all_of_them, few: few / all_of_them)


@mistake(
    "few_rate",
    "the proportion is that of the numbers of parameters; that of their gradients' sizes counts",
    of="rate_of_few",
)
def proportion_of_counts(lr, gradients, trained):
    return larger(lr, gradients, trained, size=lambda tensors: sum(map(torch.numel, tensors)))


@mistake(
    "few_rate",
    "the proportion is that of the numbers of tensors; that of their gradients' sizes counts",
    of="rate_of_few",
)
def proportion_of_tensors(lr, gradients, trained):
    return larger(lr, gradients, trained, size=len)


@mistake(
    "few_rate",
    "what is trained is compared with what is frozen; compare it with all parameters",
    of="rate_of_few",
)
def against_frozen(lr, gradients, trained):
    return larger(lr, gradients, trained, ratio=lambda all_of_them, few: (all_of_them - few) / few)


@mistake("few_rate", "the rate of training all is left out: this is the proportion alone",
         of="rate_of_few")  # fmt: skip
def proportion_alone(lr, gradients, trained):
    return larger(1.0, gradients, trained)


@mistake(
    "few_rate",
    "the root of the proportion is taken; the decrease grows with the rate itself",
    of="rate_of_few",
)
def root_of_proportion(lr, gradients, trained):
    return larger(
        lr, gradients, trained, ratio=lambda all_of_them, few: math.sqrt(all_of_them / few)
    )


@mistake("few_rate", "the rate is the same for few parameters as for all", of="rate_of_few")
def same_rate(lr, gradients, trained):
    return lr


@mistake(
    "few_rate",
    "biases are what is taken, whatever `trained` names",
    of="rate_of_few",
)
def biases_always(lr, gradients, trained):
    return larger(lr, gradients, [name for name in gradients if name.endswith("bias")])


@mistake(
    "few_rate",
    "frozen and trained parameters are mixed up: `trained` names those that train",
    of="rate_of_few",
)
def frozen_for_trained(lr, gradients, trained):
    def ratio(all_of_them, few):
        return all_of_them / (all_of_them - few) if all_of_them > few else math.inf

    return larger(lr, gradients, trained, ratio=ratio)
