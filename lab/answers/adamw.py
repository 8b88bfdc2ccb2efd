"""Part 2, AdamW: right answers in float64, and mistakes."""

from __future__ import annotations

import math

import torch

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


# Bias correction


@right("bias_correction")
def bias_corrections(step, betas, correct_bias):
    if not correct_bias:
        return 1.0, 1.0
    return tuple(-math.expm1(step * math.log(beta)) for beta in betas)


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


# The step


def steps(
    self,
    closure=None,
    *,
    gradient=None,
    order=None,
    decay_rate=None,
    counted=0,
    skip=True,
    moments=None,
):
    """AdamW.step with its parts open to change."""
    from optim import adamw

    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    with torch.no_grad():
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    if not skip:
                        adamw.decay_weights(param, group["lr"], group["weight_decay"])
                    continue
                state = self.next_state(param)
                m, v = state["exp_avg"], state["exp_avg_sq"]
                when = order or group["decay"]
                lr, decay = group["lr"], group["weight_decay"]
                shares = state["step"] + counted, group["betas"], group["correct_bias"]
                c1, c2 = adamw.bias_corrections(*shares)
                shrink_by = lr if decay_rate is None else decay_rate(lr, c1, c2)
                if when == "before":
                    adamw.decay_weights(param, shrink_by, decay)
                grad = param.grad if gradient is None else gradient(param, decay)
                adamw.update_moments(m, v, grad, group["betas"])
                form = adamw.efficient_update if group["efficient"] else adamw.textbook_update
                form(param, m, v, lr, c1, c2, group["eps"])
                if when == "after":
                    adamw.decay_weights(param, shrink_by, decay)
    return loss


@right("adamw_step")
def step(self, closure=None):
    return steps(self, closure)


@mistake(
    "adamw_step", "weight decay is added to the gradient, as L2; it should never meet the moments"
)
def l2_in_gradient(self, closure=None):
    return steps(
        self, closure, order="never", gradient=lambda param, decay: param.grad + decay * param
    )


@mistake("adamw_step", 'the decay always comes before the update; group["decay"] says when')
def always_before(self, closure=None):
    return steps(self, closure, order="before")


@mistake("adamw_step", 'the decay always comes after the update; group["decay"] says when')
def always_after(self, closure=None):
    return steps(self, closure, order="after")


@mistake("adamw_step", "there is no weight decay")
def no_decay(self, closure=None):
    return steps(self, closure, order="never")


@mistake("adamw_step", "the decay is multiplied by the corrected rate; it takes lr as it is")
def decay_at_corrected_rate(self, closure=None):
    return steps(self, closure, decay_rate=lambda lr, c1, c2: lr * math.sqrt(c2) / c1)


@mistake("adamw_step", "parameters without a gradient are decayed too; leave them alone")
def decay_without_gradient(self, closure=None):
    return steps(self, closure, skip=False)


@mistake("adamw_step", "the step count is one too high: `next_state` has counted already")
def counted_twice(self, closure=None):
    return steps(self, closure, counted=1)


@mistake("adamw_step", "the closure's loss is not returned")
def loss_not_returned(self, closure=None):
    steps(self, closure)
