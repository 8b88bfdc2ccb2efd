"""Checks of part 2, the optimizer. Rates and eps are large, so that every mistake shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from lab.harness import Draw, check

Cases = Iterator[tuple[str, Any]]
BETAS = (0.8, 0.95)


@check("moments")
def moments(draw: Draw) -> Cases:
    from optim.adamw import update_moments

    m, v = torch.zeros(3, 2), torch.zeros(3, 2)
    for step in (1, 2):
        grad = draw.normal(3, 2)
        before = grad.clone()
        update_moments(m, v, grad, BETAS)
        yield f"m after {step} steps", m
        yield f"v after {step} steps", v
        yield f"the gradient is left as it was, step {step}", torch.equal(grad, before)


@check("bias_correction")
def bias_correction(draw: Draw) -> Cases:
    from optim.adamw import bias_corrections

    step = draw.random.randrange(3, 20)
    for t in (1, 2, step):
        yield f"c1 and c2 at step {t}", bias_corrections(t, BETAS, True)
    yield "without correction", bias_corrections(step, BETAS, False)


@check("adam_update")
def adam_update(draw: Draw) -> Cases:
    from optim.adamw import efficient_update, textbook_update

    for name, update in (("efficient", efficient_update), ("textbook", textbook_update)):
        param, m, v = draw.normal(3, 2), draw.normal(3, 2), draw.normal(3, 2).square()
        kept = m.clone(), v.clone()
        update(param, m, v, draw.number(0.1, 0.3), 0.4, 0.15, 0.05)
        yield f"the {name} form", param
        same = torch.equal(m, kept[0]) and torch.equal(v, kept[1])
        yield f"the moments are left as they were, {name} form", same


@check("weight_decay")
def weight_decay(draw: Draw) -> Cases:
    from optim.adamw import decay_weights

    param, lr = draw.normal(3, 2), draw.number(0.1, 0.3)
    decay_weights(param, lr, 0.5)
    yield "the parameter", param
    decay_weights(param, lr, 0.0)
    yield "the parameter, without decay", param


@check("adamw_step")
def adamw_step(draw: Draw) -> Cases:
    from optim.adamw import AdamW

    variants: tuple[tuple[str, dict[str, Any]], ...] = (
        ("decay after, efficient", {}),
        ("decay before, textbook", {"decay": "before", "efficient": False}),
        ("without bias correction", {"correct_bias": False}),
    )
    made = []
    for name, options in variants:
        params = [nn.Parameter(draw.normal(3, 2)), nn.Parameter(draw.normal(2))]
        groups = [
            {"params": params[:1], "lr": 0.2, "weight_decay": 0.4},
            {"params": params[1:], "lr": 0.05, "weight_decay": 0.0},
        ]
        optimizer = AdamW(groups, lr=0.1, betas=BETAS, eps=0.05, **options)
        made.append((params, optimizer))
        for step in (1, 2, 3):
            for param in params:
                param.grad = draw.normal(*param.shape)
            if step == 2:
                params[0].grad = None
            optimizer.step()
            yield f"{name}: parameters after step {step}", [p.detach() for p in params]
    target, (params, optimizer) = draw.normal(2), made[-1]

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (params[1] - target).square().sum()
        loss.backward()
        return loss

    yield "the closure's loss", optimizer.step(closure)
    yield "parameters after a step with a closure", [p.detach() for p in params]


@check("no_decay")
def no_decay(draw: Draw) -> Cases:
    from optim.groups import is_bias_or_norm

    for name, shape in (
        ("layers.0.attention.query.weight", (4, 4)),
        ("layers.0.attention.query.bias", (4,)),
        ("layers.0.attention_norm.norm.weight", (4,)),
        ("gate.scale", (4,)),
        ("gate.bias", (4, 1)),
        ("bias_table.weight", (4, 4)),
        ("norms.weight", (4, 4)),
    ):
        yield f"{name} {shape}", is_bias_or_norm(name, draw.normal(*shape))


@check("warmup")
def warmup(draw: Draw) -> Cases:
    from optim.schedules import linear

    total = draw.random.randrange(12, 20)
    yield "the factors of a run with warm-up", [linear(s, total, 4) for s in range(total + 2)]
    yield "the factors of a run without", [linear(s, total, 0) for s in range(total + 2)]
    yield "the factors where all is warm-up", [linear(s, 4, 4) for s in range(5)]
    try:
        linear(0, 4, 5)
    except ValueError:
        yield "more warm-up than steps", "refused"
    else:
        yield "more warm-up than steps", "taken"
