"""Steps and rates as students write it, and mistakes that change a line."""

from __future__ import annotations

import torch

from lab.answers import plain


@plain("adamw_step")
@torch.no_grad()
def step(self, closure=None, *, found_inf=None):
    from optim.adamw import (
        bias_corrections,
        decay_weights,
        efficient_update,
        textbook_update,
        update_moments,
    )

    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    for group in self.param_groups:
        lr, betas, eps, wd = group["lr"], group["betas"], group["eps"], group["weight_decay"]
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.next_state(p)
            m, v = state["exp_avg"], state["exp_avg_sq"]
            if group["decay"] == "before":
                decay_weights(p, lr, wd)
            update_moments(m, v, p.grad, betas)
            c1, c2 = bias_corrections(state["step"], betas, group["correct_bias"])
            update = efficient_update if group["efficient"] else textbook_update
            update(p, m, v, lr, c1, c2, eps)
            if group["decay"] == "after":
                decay_weights(p, lr, wd)
    return loss


step.but(
    'the decay comes before and after; group["decay"] says which of the two',
    '            if group["decay"] == "before":\n                decay_weights(p, lr, wd)\n',
    "            decay_weights(p, lr, wd)\n",
    '            if group["decay"] == "after":\n                decay_weights(p, lr, wd)',
    "            decay_weights(p, lr, wd)",
)
step.but(
    "the betas are those of the first group; each has its own",
    'group["betas"]',
    'self.param_groups[0]["betas"]',
)
step.but(
    "efficient and textbook form have changed places",
    'if group["efficient"]',
    'if not group["efficient"]',
)
step.but(
    (
        "the closure runs without gradients; the step is under no_grad, so turn them on: "
        "torch.enable_grad"
    ),
    "        with torch.enable_grad():\n            loss = closure()",
    "        loss = closure()",
)
step.but(
    "a missing gradient is taken for zeros; such a parameter is left as it is",
    "                continue\n",
    "                p.grad = torch.zeros_like(p)\n",
)
step.but(
    "the corrections are those of the step before; `next_state` has counted this one",
    'state["step"], betas',
    'state["step"] - 1 or 1, betas',
)
step.but(
    "the update comes before the moments have taken the gradient in",
    "            update_moments(m, v, p.grad, betas)\n",
    "",
    "            update(p, m, v, lr, c1, c2, eps)\n",
    (
        "            update(p, m, v, lr, c1, c2, eps)\n"
        "            update_moments(m, v, p.grad, betas)\n"
    ),
)
step.but(
    "one parameter's step count is taken for all; each has its own",
    "    for group in self.param_groups:\n",
    "    count = None\n    for group in self.param_groups:\n",
    'state["step"], betas',
    "count, betas",
    '            m, v = state["exp_avg"], state["exp_avg_sq"]\n',
    (
        '            m, v = state["exp_avg"], state["exp_avg_sq"]\n'
        '            count = count or state["step"]\n'
    ),
)
step.but(
    "the gradient is clipped here; that is the training loop's work",
    "            state = self.next_state(p)",
    "            p.grad.div_(p.grad.norm().clamp(min=1))\n            state = self.next_state(p)",
)
step.but(
    "vectors are not decayed; a group's weight_decay alone says whether",
    'if group["decay"] == "after":',
    'if group["decay"] == "after" and p.dim() > 1:',
)
step.but(
    "the sign is wrong: the step goes against the gradient",
    "update_moments(m, v, p.grad, betas)",
    "update_moments(m, v, -p.grad, betas)",
)
step.but(
    (
        "the moments start from the first gradient; they start from 0, and the corrections "
        "make up for it"
    ),
    "            update_moments(m, v, p.grad, betas)",
    (
        '            if state["step"] == 1:\n'
        "                m.copy_(p.grad)\n"
        "                v.copy_(p.grad ** 2)\n"
        "            update_moments(m, v, p.grad, betas)"
    ),
)


@plain("no_decay")
def is_bias_or_norm(name, param):
    return param.dim() <= 1 or name.split(".")[-1] == "bias"


is_bias_or_norm.but(
    "only a vector that is called bias is spared; either is enough", " or ", " and "
)
is_bias_or_norm.but(
    "the weights of LayerNorm decay: vectors are spared, whatever they are called",
    'param.dim() <= 1 or name.split(".")[-1] == "bias"',
    'name.endswith("bias")',
)
is_bias_or_norm.but(
    "names are looked for as transformers has them (LayerNorm.weight); here the shape tells",
    'param.dim() <= 1 or name.split(".")[-1] == "bias"',
    'any(word in name for word in ("bias", "LayerNorm.weight"))',
)
is_bias_or_norm.but(
    "`bias` is found anywhere in the name; it has to be the last word",
    'name.split(".")[-1] == "bias"',
    '"bias" in name',
)
is_bias_or_norm.but("matrices are spared; they alone decay", "param.dim() <= 1", "param.dim() == 2")
is_bias_or_norm.but(
    "vectors are known by `norm` in their names; the shape tells, whatever the name",
    "param.dim() <= 1",
    '"norm" in name',
)
is_bias_or_norm.but(
    "a number by itself decays; only matrices do", "param.dim() <= 1", "param.dim() == 1"
)
is_bias_or_norm.but(
    "a matrix of one row or one column is taken for a vector; count its dimensions as they are",
    "param.dim() <= 1",
    "param.squeeze().dim() <= 1",
)


@plain("warmup")
def linear(step, total, warmup=0):
    from optim.schedules import check_schedule

    check_schedule(step, total, warmup)
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / max(1, total - warmup))


linear.but(
    "the rise is counted from 1: at step 0 the factor is 0",
    "return step / warmup",
    "return (step + 1) / warmup",
)
linear.but(
    "the rise is measured against the whole run; it ends where the warm-up does",
    "return step / warmup",
    "return step / total",
)
linear.but(
    "the factor stays at 1 after the warm-up; it falls to 0 at `total`",
    "max(0.0, (total - step) / max(1, total - warmup))",
    "1.0",
)
linear.but("// cuts the fraction off; / is meant", "return step / warmup", "return step // warmup")
linear.but(
    "the warm-up may be 0, and is divided by all the same",
    (
        "    if step < warmup:\n"
        "        return step / warmup\n"
        "    return max(0.0, (total - step) / max(1, total - warmup))"
    ),
    (
        "    up = step / warmup\n"
        "    return max(0.0, min(up, (total - step) / max(1, total - warmup)))"
    ),
)
linear.but(
    "the fall is counted from step 0; step - warmup have passed of total - warmup",
    "(total - step) / max(1, total - warmup)",
    "1 - step / max(1, total - warmup)",
)
linear.but(
    "the rise takes a step too many: it is step / warmup",
    "return step / warmup",
    "return step / (warmup + 1)",
)
linear.but(
    "the fall takes a step too many: at `total` the factor is 0",
    "(total - step) / max(1, total - warmup)",
    "(total - step + 1) / max(1, total - warmup + 1)",
)
linear.but(
    "the factor falls during the warm-up; it rises from 0",
    "return step / warmup",
    "return 1 - step / warmup",
)
linear.but(
    "the factor is 0 a step early; it is 0 at `total`",
    "(total - step) / max(1, total - warmup)",
    "(total - 1 - step) / max(1, total - 1 - warmup)",
)
linear.but("the factor does not go down to 0", "max(0.0,", "max(1e-3,")
