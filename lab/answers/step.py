"""Part 2, AdamW's step: the right answer, and mistakes."""

from __future__ import annotations

import math
from itertools import takewhile

import torch

from lab.answers import mistake, right


def steps(
    self,
    closure=None,
    *,
    gradient=None,
    order=None,
    decay_rate=None,
    counted=0,
    skip=True,
    options=lambda self, group: group,
    groups=lambda groups: groups,
    count=lambda self, state: state["step"],
    times=1,
    left=lambda params: params,
):
    """AdamW.step with its parts open to change."""
    from optim import adamw

    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    with torch.no_grad():
        for group in groups(self.param_groups):
            params, group = group["params"], options(self, group)
            for param in left(params):
                if param.grad is None:
                    if not skip:
                        adamw.decay_weights(param, group["lr"], group["weight_decay"])
                    continue
                state = self.next_state(param)
                m, v = state["exp_avg"], state["exp_avg_sq"]
                when = order or group["decay"]
                lr, decay = group["lr"], group["weight_decay"]
                shares = count(self, state) + counted, group["betas"], group["correct_bias"]
                c1, c2 = adamw.bias_corrections(*shares)
                shrink_by = lr if decay_rate is None else decay_rate(lr, c1, c2)
                if when == "before":
                    adamw.decay_weights(param, shrink_by, decay)
                grad = param.grad if gradient is None else gradient(param, decay)
                for _ in range(times):
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


@mistake(
    "adamw_step",
    "the decay is there twice, decoupled and in the gradient; the moments should not meet it",
)
def l2_and_decoupled(self, closure=None):
    return steps(self, closure, gradient=lambda param, decay: param.grad + decay * param)


@mistake("adamw_step", "the moments are updated twice in a step")
def moments_twice(self, closure=None):
    return steps(self, closure, times=2)


@mistake("adamw_step", "one step count is shared by all parameters; each has its own")
def shared_count(self, closure=None):
    def count(self, state):
        self._count = getattr(self, "_count", 0) + 1
        return self._count

    return steps(self, closure, count=count)


@mistake("adamw_step", "one step count for all parameters goes up once a step; each has its own")
def count_of_steps(self, closure=None):
    self._count = getattr(self, "_count", 0) + 1
    return steps(self, closure, count=lambda self, state: self._count)


def default_for(*names):
    """Options of a group with the optimizer's defaults in the place of its own."""
    return lambda self, group: {**group, **{name: self.defaults[name] for name in names}}


@mistake("adamw_step", 'the biases are corrected always; group["correct_bias"] says whether')
def correct_bias_ignored(self, closure=None):
    return steps(self, closure, options=lambda self, group: {**group, "correct_bias": True})


@mistake("adamw_step", "betas are the optimizer's defaults; a group has its own")
def default_betas(self, closure=None):
    return steps(self, closure, options=default_for("betas"))


@mistake("adamw_step", "eps is the optimizer's default; a group has its own")
def default_eps(self, closure=None):
    return steps(self, closure, options=default_for("eps"))


@mistake("adamw_step", "the rate is the optimizer's default; a group has its own")
def default_rate(self, closure=None):
    return steps(self, closure, options=default_for("lr"))


@mistake("adamw_step", "the decay is the optimizer's default; a group has its own")
def default_decay(self, closure=None):
    return steps(self, closure, options=default_for("weight_decay"))


@mistake("adamw_step", "the conventions are the optimizer's defaults; a group has its own")
def default_conventions(self, closure=None):
    return steps(self, closure, options=default_for("decay", "efficient", "correct_bias"))


@mistake("adamw_step", 'the update is always the efficient one; group["efficient"] says which')
def always_efficient(self, closure=None):
    return steps(self, closure, options=lambda self, group: {**group, "efficient": True})


@mistake("adamw_step", "only the first group is updated")
def first_group_only(self, closure=None):
    return steps(self, closure, groups=lambda groups: groups[:1])


@mistake(
    "adamw_step",
    "the loop ends (break) at a parameter without a gradient; the next ones may have one",
)
def break_for_continue(self, closure=None):
    return steps(self, closure, left=lambda params: takewhile(lambda p: p.grad is not None, params))


@mistake("adamw_step", "a gradient of zero is taken for none; the moments move all the same")
def zero_is_none(self, closure=None):
    return steps(
        self, closure, left=lambda ps: [p for p in ps if p.grad is not None and p.grad.any()]
    )


@mistake("adamw_step", "the gradients are set to zero; that is the training loop's work")
def gradients_zeroed(self, closure=None):
    loss = steps(self, closure)
    self.zero_grad()
    return loss


@mistake("adamw_step", "the closure is called twice")
def closure_twice(self, closure=None):
    if closure is not None:
        with torch.enable_grad():
            closure()
    return steps(self, closure)
