import math

import torch
from torch.optim import Optimizer


class AdamW(Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0,
                 correct_bias=True):  # fmt: skip
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "correct_bias": correct_bias})

    def step(self, closure=None):
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad, state = p.grad.data, self.state[p]
                if not state:
                    state.update(t=0, m=torch.zeros_like(p.data), v=torch.zeros_like(p.data))
                (b1, b2), rate = group["betas"], group["lr"]
                state["t"] += 1
                state["m"] = b1 * state["m"] + (1 - b1) * grad
                state["v"] = b2 * state["v"] + (1 - b2) * grad**2
                if group["correct_bias"]:
                    t = state["t"]
                    rate = rate * math.sqrt(1 - b2**t) / (1 - b1**t)
                p.data -= rate * state["m"] / (state["v"].sqrt() + group["eps"])
                p.data -= group["lr"] * group["weight_decay"] * p.data
        return loss
