"""Checks of part 4, rates and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lab.checks.bert import tiny_config
from lab.harness import Draw, check, plain

Cases = Iterator[tuple[str, Any]]


@check("layer_rates")
def layer_rates(draw: Draw) -> Cases:
    from data.tasks import get_task
    from minbert.encoders.bert import Bert
    from multitask.extensions.layer_lr import LayerLR
    from multitask.model import MultitaskModel

    encoder = Bert(replace(tiny_config(), num_layers=10))
    model = MultitaskModel(encoder, [get_task("sst")], head_size=3)
    names = [name for name, _ in model.named_parameters()]
    some = [n for n in names if ".layers." not in n or n.endswith("query.weight")]
    for decay, heads in ((0.5, 1.0), (draw.number(0.6, 0.9), 3.0), (1.0, 1.0)):
        name = f"decay {decay:.2g}, heads {heads:g}: "
        scale = LayerLR(decay=decay, heads=heads).lr_scale(model)
        found = {n: plain(scale.get(n, 1.0)) for n in some}  # names left out keep theirs
        yield name + "factors of the rates", found


def three_gradients(draw: Draw) -> np.ndarray:
    """(3, 3): three gradients of different lengths, each two of which conflict."""
    rows = []
    for n in range(3):
        angle = 2 * math.pi * n / 3 + draw.number(-0.1, 0.1)
        flat = [math.cos(angle), math.sin(angle), draw.number(-0.3, 0.3)]
        rows.append(np.array(flat) * draw.number(0.6, 1.8))
    return np.stack(rows)


def over_orders(count: int, run: Callable[[np.random.Generator], Any]) -> list[Tensor]:
    """For each task, the rows that come out over many generators, each once and in an order.

    So it does not matter how an order is drawn, only which orders are.
    """
    found: list[dict[Any, np.ndarray]] = [{} for _ in range(count)]
    for seed in range(40):
        result = run(np.random.default_rng(seed))
        rows = [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,))]
        for i, seen in enumerate(found):
            row = np.concatenate([part[i] for part in rows])
            seen.setdefault(str(row.round(4).tolist()), row)
    return [torch.tensor(np.stack([seen[key] for key in sorted(seen)])) for seen in found]


@check("surgery")
def surgery(draw: Draw) -> Cases:
    from multitask.extensions.gradient_surgery import pcgrad

    yield from _reconciled(draw, lambda products, generator, _: pcgrad(products, generator))


@check("vaccine")
def vaccine(draw: Draw) -> Cases:
    from multitask.extensions.gradient_surgery import gradvac

    def run(products: np.ndarray, generator: np.random.Generator, averages: np.ndarray) -> Any:
        kept = averages.copy()
        result = gradvac(products, averages, 0.2, generator)
        assert (averages == kept).all(), "the averages passed in are changed; copy them first"
        return result

    yield from _reconciled(draw, run)
    rows = np.stack([np.zeros(3), *three_gradients(draw)[:2]])
    averages = np.full((3, 3), 0.2)
    result = over_orders(3, lambda generator: run(rows @ rows.T, generator, averages))
    yield "one of three gradients is zero: by task, a row for each result of an order", result
    found = []
    for _ in range(30):  # of some of which rounding makes the cosine less than -1
        flat = np.array([draw.number(-1, 1) for _ in range(3)])
        rows = np.stack([flat, -draw.number(0.5, 2) * flat])
        result = run(rows @ rows.T, np.random.default_rng(0), np.full((2, 2), 0.3))
        found.append(np.concatenate(result).ravel())
    yield "gradients that are opposite, many times", torch.tensor(np.stack(found))


def _reconciled(draw: Draw, run: Callable[..., Any]) -> Cases:
    """Cases of two and of three tasks."""
    rows = three_gradients(draw)
    low, high = (
        np.array([[draw.number(*ends) for _ in range(3)] for _ in range(3)])
        for ends in ((-0.2, 0.1), (0.6, 0.9))
    )
    averages = np.where(np.add.outer(range(3), range(3)) % 2, high, low)
    cases = {
        "two tasks that conflict": rows[:2],
        "two tasks that agree": np.abs(rows[:2]) + 0.2,
        "three tasks that conflict, in any order": rows,
        "three tasks, two of which agree": rows * [[1], [1], [-1]],
    }
    for name, vectors in cases.items():
        products, n = vectors @ vectors.T, len(vectors)
        kept = products.copy()
        some = averages[:n, :n]
        yield (
            f"{name}: by task, a row for each result of an order",
            over_orders(n, lambda g, p=products, a=some: run(p, g, a)),
        )
        yield f"{name}: the products are left as they were", (products == kept).all()
    products = rows @ rows.T
    again = [[run(products, np.random.default_rng(n), averages) for n in range(4)] for _ in "ab"]
    yield "the same generator gives the same", str(again[0]) == str(again[1])
