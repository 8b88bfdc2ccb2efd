"""Part 2: by copies, through `.data`, and on many tensors at once."""

import math

import torch

from solutions import solution


@solution("moments")
def moments_by_copy(m, v, grad, betas):
    m[:] = betas[0] * m + (1 - betas[0]) * grad
    v[...] = betas[1] * v + (1 - betas[1]) * grad**2


@solution("bias_correction")
def corrections_as_list(step, betas, correct_bias):
    return [1 - math.pow(beta, step) if correct_bias else 1 for beta in betas]


@solution("adam_update", of="efficient_update")
def efficient_through_data(param, m, v, lr, c1, c2, eps):
    param.data -= lr * c2**0.5 / c1 * m / (v.sqrt() + eps)


@solution("adam_update", of="textbook_update")
def textbook_by_copy(param, m, v, lr, c1, c2, eps):
    param.copy_(param - lr * (m / c1) / ((v / c2) ** 0.5 + eps))


@solution("weight_decay")
def decay_through_data(param, lr, weight_decay):
    param.data = param.data - lr * weight_decay * param.data


@solution("weight_decay")
def decay_subtracted(param, lr, weight_decay):
    param.sub_(param, alpha=lr * weight_decay)


@solution("adamw_step")
@torch.no_grad()
def foreach_step(self, closure=None):
    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    by_step = [  # parameters that have seen as many steps go together
        (group, [p for p in members if self.state[p].get("step", 0) == n])
        for group in self.param_groups
        for members in [[p for p in group["params"] if p.grad is not None]]
        for n in sorted({self.state[p].get("step", 0) for p in members})
    ]
    for group, params in by_step:
        states = [self.next_state(p) for p in params]
        ms, vs = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        b1, b2 = group["betas"]
        grads, decay = [p.grad for p in params], group["lr"] * group["weight_decay"]
        if group["decay"] == "before":
            torch._foreach_mul_(params, 1 - decay)
        torch._foreach_lerp_(ms, grads, 1 - b1)
        torch._foreach_mul_(vs, b2)
        torch._foreach_addcmul_(vs, grads, grads, 1 - b2)
        t = states[0]["step"]
        c1, c2 = (1 - b1**t, 1 - b2**t) if group["correct_bias"] else (1.0, 1.0)
        roots = torch._foreach_sqrt(vs)
        if not group["efficient"]:
            torch._foreach_div_(roots, c2**0.5)
        torch._foreach_add_(roots, group["eps"])
        rate = group["lr"] * (c2**0.5 if group["efficient"] else 1) / c1
        torch._foreach_addcdiv_(params, ms, roots, -rate)
        if group["decay"] == "after":
            torch._foreach_mul_(params, 1 - decay)
    return loss


@solution("no_decay")
def vectors_and_biases(name, param):
    return name.endswith(".bias") or param.dim() < 2


@solution("warmup")
def smaller_of_two_lines(step, total, warmup=0):
    from optim.schedules import check_schedule

    check_schedule(step, total, warmup)
    rising = step / warmup if step < warmup else 1.0
    return min(rising, max(0, total - step) / max(1, total - warmup))


@solution("bias_correction")
def corrections_as_tensors(step, betas, correct_bias):
    if not correct_bias:
        return torch.tensor(1.0), torch.tensor(1.0)
    return [1 - torch.tensor(beta) ** step for beta in betas]
