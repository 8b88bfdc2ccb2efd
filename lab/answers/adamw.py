"""Part 2, AdamW: right answers in float64, and mistakes."""

from __future__ import annotations

import math

from lab.answers import mistake, right

# Moments


def mean_of(old, new, beta):
    """beta old + (1 - beta) new in place, in float64."""
    old.copy_(beta * old.double() + (1 - beta) * new.double())


@right("moments")
def update_moments(m, v, grad, betas):
    mean_of(m, grad, betas[0])
    mean_of(v, grad.double().square(), betas[1])


@mistake("moments", "the betas have changed places: b1 belongs to m and b2 to v")
def swapped_betas(m, v, grad, betas):
    update_moments(m, v, grad, (betas[1], betas[0]))


@mistake("moments", "v is a mean of the gradient, not of its square")
def v_not_squared(m, v, grad, betas):
    mean_of(m, grad, betas[0])
    mean_of(v, grad, betas[1])


@mistake("moments", "the gradient comes in with its whole weight; it should have 1 - b")
def whole_gradient(m, v, grad, betas):
    m.mul_(betas[0]).add_(grad)
    v.mul_(betas[1]).add_(grad * grad)


@mistake("moments", "b and 1 - b have changed places: the old mean keeps the share b")
def shares_swapped(m, v, grad, betas):
    update_moments(m, v, grad, (1 - betas[0], 1 - betas[1]))


@mistake("moments", "m and v are made anew and not changed in place, so the optimizer forgets them")
def moments_not_in_place(m, v, grad, betas):
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad * grad


@mistake("moments", "v is a mean of m squared; it should be of the gradient squared")
def v_from_m(m, v, grad, betas):
    mean_of(m, grad, betas[0])
    mean_of(v, m * m, betas[1])


@mistake("moments", "b1 is used for both; v has b2")
def one_beta(m, v, grad, betas):
    update_moments(m, v, grad, (betas[0], betas[0]))


@mistake("moments", "v is a mean of the gradient's absolute value; it should be of its square")
def v_absolute(m, v, grad, betas):
    mean_of(m, grad, betas[0])
    mean_of(v, grad.abs(), betas[1])


@mistake("moments", "the gradient that is passed in is changed; it belongs to the parameter")
def gradient_changed(m, v, grad, betas):
    m.mul_(betas[0]).add_(grad.mul_(1 - betas[0]))
    v.mul_(betas[1]).add_((grad / (1 - betas[0])).square(), alpha=1 - betas[1])


@mistake("moments", "v takes the square of what m has taken in already; it is of the gradient")
def v_of_scaled_gradient(m, v, grad, betas):
    scaled = (1 - betas[0]) * grad
    m.mul_(betas[0]).add_(scaled)
    v.mul_(betas[1]).add_(scaled.square(), alpha=1 - betas[1])


# Bias correction


@right("bias_correction")
def bias_corrections(step, betas, correct_bias):
    if not correct_bias:
        return 1.0, 1.0
    return tuple(-math.expm1(step * math.log(beta)) if beta else 1.0 for beta in betas)


@mistake("bias_correction", "there is no bias correction")
def never_corrected(step, betas, correct_bias):
    return 1.0, 1.0


@mistake("bias_correction", "`correct_bias` is not looked at: False means 1 and 1")
def always_corrected(step, betas, correct_bias):
    return bias_corrections(step, betas, True)


@mistake("bias_correction", "the step is one too low: `step` counts from 1 and is used as it is")
def step_too_low(step, betas, correct_bias):
    return tuple(1 - beta ** (step - 1) for beta in betas) if correct_bias else (1.0, 1.0)


@mistake("bias_correction", "the step is one too high: `step` counts from 1 and is used as it is")
def step_too_high(step, betas, correct_bias):
    return tuple(1 - beta ** (step + 1) for beta in betas) if correct_bias else (1.0, 1.0)


@mistake("bias_correction", "the power is missing: after t steps it is b to the t, not b times t")
def beta_times_step(step, betas, correct_bias):
    return tuple(1 - beta * step for beta in betas) if correct_bias else (1.0, 1.0)


@mistake("bias_correction", "the step is missing: the correction changes from step to step")
def step_ignored(step, betas, correct_bias):
    return tuple(1 - beta for beta in betas) if correct_bias else (1.0, 1.0)


@mistake("bias_correction", "b^t itself is returned; what is missing from the mean is 1 - b^t")
def power_only(step, betas, correct_bias):
    return tuple(beta**step for beta in betas) if correct_bias else (1.0, 1.0)


@mistake("bias_correction", "c2 has a root here; the update takes it")
def root_of_c2(step, betas, correct_bias):
    return (1 - betas[0] ** step, (1 - betas[1] ** step) ** 0.5) if correct_bias else (1.0, 1.0)


@mistake("bias_correction", "c1 and c2 have changed places: c1 belongs to b1, the first beta")
def corrections_exchanged(step, betas, correct_bias):
    return bias_corrections(step, betas[::-1], correct_bias)


@mistake("bias_correction", "this is 1 / (1 - b^t); the share itself is asked for, 1 - b^t")
def corrections_inverted(step, betas, correct_bias):
    c1, c2 = bias_corrections(step, betas, correct_bias)
    return 1 / c1, 1 / c2


@mistake("bias_correction", "without correction both are 1, not 0: the update divides by them")
def zero_without_correction(step, betas, correct_bias):
    return bias_corrections(step, betas, True) if correct_bias else (0.0, 0.0)


# The update


def update(param, m, v, lr, c1, c2, eps, *, root_of=lambda v, c2, eps: v.sqrt() + eps):
    """param - lr m / denominator in place, in float64."""
    rate = lr * math.sqrt(c2) / c1
    param.copy_(param.double() - rate * m.double() / root_of(v.double(), c2, eps))


@right("adam_update", of="efficient_update")
def efficient_update(param, m, v, lr, c1, c2, eps):
    update(param, m, v, lr, c1, c2, eps)


@right("adam_update", of="textbook_update")
def textbook_update(param, m, v, lr, c1, c2, eps):
    step = lr * (m.double() / c1) / ((v.double() / c2).sqrt() + eps)
    param.copy_(param.double() - step)


@mistake("adam_update", "eps is inside the root; it is added to the root", of="efficient_update")
def eps_inside_root(param, m, v, lr, c1, c2, eps):
    update(param, m, v, lr, c1, c2, eps, root_of=lambda v, c2, eps: (v + eps).sqrt())


@mistake("adam_update", "eps is inside the root; it is added to the root", of="textbook_update")
def eps_inside_root_textbook(param, m, v, lr, c1, c2, eps):
    param.sub_(lr * (m / c1) / (v / c2 + eps).sqrt())


@mistake("adam_update", "the root is missing: m is divided by the root of v", of="efficient_update")
def no_root(param, m, v, lr, c1, c2, eps):
    update(param, m, v, lr, c1, c2, eps, root_of=lambda v, c2, eps: v + eps)


@mistake(
    "adam_update",
    "this is the textbook form: in the efficient one eps is not corrected",
    of="efficient_update",
)
def textbook_for_efficient(param, m, v, lr, c1, c2, eps):
    textbook_update(param, m, v, lr, c1, c2, eps)


@mistake(
    "adam_update",
    "this is the efficient form: in the textbook's, v is corrected before eps is added",
    of="textbook_update",
)
def efficient_for_textbook(param, m, v, lr, c1, c2, eps):
    efficient_update(param, m, v, lr, c1, c2, eps)


@mistake(
    "adam_update", "the sign is wrong: the update goes against the gradient", of="efficient_update"
)
def uphill(param, m, v, lr, c1, c2, eps):
    efficient_update(param, -m, v, lr, c1, c2, eps)


@mistake("adam_update", "c1 and c2 have changed places in the rate", of="efficient_update")
def corrections_swapped(param, m, v, lr, c1, c2, eps):
    efficient_update(param, m, v, lr, c2, c1, eps)


@mistake("adam_update", "c2 has lost its root: the rate is lr sqrt(c2) / c1", of="efficient_update")
def c2_without_root(param, m, v, lr, c1, c2, eps):
    efficient_update(param, m, v, lr, c1, c2**2, eps)


@mistake("adam_update", "the corrections are not used", of="efficient_update")
def update_not_corrected(param, m, v, lr, c1, c2, eps):
    efficient_update(param, m, v, lr, 1.0, 1.0, eps)


@mistake("adam_update", "v is not divided by c2 under the root", of="textbook_update")
def v_not_corrected(param, m, v, lr, c1, c2, eps):
    textbook_update(param, m, v, lr, c1, 1.0, eps)


@mistake(
    "adam_update", "the parameter is made anew and not changed in place", of="efficient_update"
)
def update_not_in_place(param, m, v, lr, c1, c2, eps):
    param = param - lr * m


@mistake(
    "adam_update",
    "the parameter's size is in the denominator; it is the root of v, and eps",
    of="efficient_update",
)
def size_in_denominator(param, m, v, lr, c1, c2, eps):
    update(param, m, v, lr, c1, c2, eps * param.double().abs())


@mistake("adam_update", "eps is not added, or not the one that is passed in", of="efficient_update")
def no_eps(param, m, v, lr, c1, c2, eps):
    update(param, m, v, lr, c1, c2, 1e-30)


@mistake(
    "adam_update",
    "eps is not added in the textbook form, or not the one that is passed in",
    of="textbook_update",
)
def no_eps_textbook(param, m, v, lr, c1, c2, eps):
    textbook_update(param, m, v, lr, c1, c2, 1e-30)


@mistake(
    "adam_update", "the textbook update goes against the gradient: its sign", of="textbook_update"
)
def uphill_textbook(param, m, v, lr, c1, c2, eps):
    textbook_update(param, -m, v, lr, c1, c2, eps)


@mistake("adam_update", "m is not divided by c1 in the textbook form", of="textbook_update")
def m_not_corrected(param, m, v, lr, c1, c2, eps):
    textbook_update(param, m, v, lr, 1.0, c2, eps)


@mistake(
    "adam_update",
    "the moments are changed (sqrt_, div_); the next step needs them as they were",
    of="efficient_update",
)
def moments_changed(param, m, v, lr, c1, c2, eps):
    update(param, m, v, lr, c1, c2, eps)
    v.sqrt_()


# Decay


@right("weight_decay")
def decay_weights(param, lr, weight_decay):
    param.copy_(param.double() - lr * weight_decay * param.double())


@mistake("weight_decay", "the rate is missing: the share is lr times weight_decay")
def decay_without_rate(param, lr, weight_decay):
    decay_weights(param, 1.0, weight_decay)


@mistake("weight_decay", "the parameter grows: the decay is taken away, not added")
def decay_grows(param, lr, weight_decay):
    decay_weights(param, -lr, weight_decay)


@mistake("weight_decay", "the same amount is taken from every number; decay is a share of each")
def decay_constant(param, lr, weight_decay):
    param.sub_(lr * weight_decay)


@mistake("weight_decay", "the parameter is left with the share that it should lose")
def decay_share_left(param, lr, weight_decay):
    param.mul_(lr * weight_decay)


@mistake("weight_decay", "the parameter is made anew and not changed in place")
def decay_not_in_place(param, lr, weight_decay):
    param = param * (1 - lr * weight_decay)


@mistake("weight_decay", "the parameter is divided by 1 + lr wd; it is multiplied by 1 - lr wd")
def decay_divides(param, lr, weight_decay):
    param.div_(1 + lr * weight_decay)


@mistake("weight_decay", "the rate is there twice: the share is lr times weight_decay")
def decay_rate_twice(param, lr, weight_decay):
    decay_weights(param, lr * lr, weight_decay)
