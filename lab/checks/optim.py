"""Checks of part 2, the optimizer. Rates and eps are large, so that every mistake shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from lab.harness import Draw, check, plain

Cases = Iterator[tuple[str, Any]]
BETAS = (0.8, 0.95)


@check("moments")
def moments(draw: Draw) -> Cases:
    from optim.adamw import update_moments

    m, v = draw.normal(3, 2), draw.normal(3, 2).square()
    for step in (1, 2, 3):
        grad = (0 if step == 3 else 10) * draw.normal(3, 2)
        before = grad.clone()
        update_moments(m, v, grad, BETAS)
        yield f"m after {step} steps", m
        yield f"v after {step} steps", v
        yield f"the gradient is left as it was, step {step}", torch.equal(grad, before)


@check("bias_correction")
def bias_correction(draw: Draw) -> Cases:
    from optim.adamw import bias_corrections

    step = draw.random.randrange(3, 20)
    for t in (1, 2, step, 5000):
        yield f"c1 and c2 at step {t}", [plain(c) for c in bias_corrections(t, BETAS, True)]
    yield "where both betas are 0", [plain(c) for c in bias_corrections(step, (0.0, 0.0), True)]
    yield "without correction", [plain(c) for c in bias_corrections(step, BETAS, False)]


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
        update(param, torch.zeros(3, 2), torch.zeros(3, 2), 0.2, 0.4, 0.15, 0.05)
        yield f"the {name} form, moments of zero", param


@check("weight_decay")
def weight_decay(draw: Draw) -> Cases:
    from optim.adamw import decay_weights

    param, lr = draw.normal(3, 2), draw.number(0.1, 0.3)
    decay_weights(param, lr, 0.5)
    yield "the parameter", param
    decay_weights(param, lr, 0.0)
    yield "the parameter, without decay", param
    param = draw.normal(3)
    decay_weights(param, lr, 0.5)
    yield "a vector", param


@check("adamw_step")
def adamw_step(draw: Draw) -> Cases:
    from optim.adamw import AdamW

    variants: tuple[tuple[str, dict[str, Any]], ...] = (
        ("decay after, efficient", {}),
        ("decay before, textbook", {"decay": "before", "efficient": False}),
        ("without bias correction", {"correct_bias": False}),
    )
    params: list[nn.Parameter] = []
    optimizer = AdamW([nn.Parameter(torch.zeros(1))])
    made = []
    for name, options in variants:
        params = [nn.Parameter(draw.normal(*shape)) for shape in ((3, 2), (2,), (2, 2))]
        groups = [
            {"params": params[:2], "lr": 0.2, "weight_decay": 0.4},
            {"params": params[2:], "lr": 0.05, "weight_decay": 0.0},
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
    params[2].grad = torch.zeros(2, 2)
    optimizer.step()
    yield "parameters after a step with a gradient of zero", [p.detach() for p in params]
    kept = all(param.grad is not None and param.grad.any() for param in params[:2])
    yield "the step leaves the gradients as they are", kept
    own: tuple[dict[str, Any], ...] = (
        {"betas": (0.5, 0.7), "eps": 0.3},
        {"efficient": False, "eps": 0.2},
        {"decay": "before", "weight_decay": 0.9},
        {"correct_bias": False},
    )
    params = [nn.Parameter(draw.normal(2)) for _ in own]
    groups = [{"params": [param], **options} for param, options in zip(params, own, strict=True)]
    optimizer = AdamW(groups, lr=0.1, betas=BETAS, eps=0.05, weight_decay=0.3)
    for step in (1, 2):
        for param in params:
            param.grad = draw.normal(2)
        optimizer.step()
        found = [param.detach() for param in params]
        yield f"groups with options of their own: parameters after step {step}", found
    target, (params, optimizer) = draw.normal(2), made[-1]
    called: list[bool] = []

    def closure() -> torch.Tensor:
        called.append(True)
        optimizer.zero_grad()
        loss = (params[1] - target).square().sum()
        loss.backward()
        return loss

    yield "the closure's loss", optimizer.step(closure)
    yield "parameters after a step with a closure", [p.detach() for p in params]
    yield "how often the closure was called", len(called)


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
        ("gate.antibias", (4, 1)),
        ("outputs.cola.weight", (1, 4)),
        ("outputs.sts.scale", ()),
    ):
        yield f"{name} {shape}", is_bias_or_norm(name, draw.normal(*shape))


@check("warmup")
def warmup(draw: Draw) -> Cases:
    from optim.schedules import linear

    total = draw.random.randrange(12, 20)

    def factors(count: int, *schedule: int) -> list[Any]:
        return [plain(linear(step, *schedule)) for step in range(count)]

    yield "the factors of a run with warm-up", factors(total + 2, total, 4)
    yield "the factors of a run without", factors(total + 2, total, 0)
    yield "the factors of the steps where all is warm-up", factors(4, 4, 4)
    try:
        linear(0, 4, 5)
    except ValueError:
        yield "more warm-up than steps", "refused"
    else:
        yield "more warm-up than steps", "taken"
