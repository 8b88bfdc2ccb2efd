"""The check of part 4, the contrastive loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from lab.harness import Draw, check, gradients

Cases = Iterator[tuple[str, Any]]


@check("contrastive")
def contrastive(draw: Draw) -> Cases:
    from multitask.contrastive import ranking_loss

    for name, anchors, candidates in (
        ("all texts different", [0, 1, 2], [0, 1, 2]),
        ("with hard negatives", [0, 1, 2], [0, 1, 2, 3, 4, 5]),
        ("with duplicates", [0, 1, 0, 2], [0, 1, 0, 2]),
        ("with a negative that is a duplicate", [0, 1, 2], [0, 1, 2, 3, 0, 4]),
        ("positives in groups of their own", [0, 1, 2], [3, 0, 4, 5]),
    ):
        u, v = draw.normal(len(anchors), 5, grad=True), draw.normal(len(candidates), 5, grad=True)
        groups = torch.tensor(anchors), torch.tensor(candidates)
        temperature = draw.number(0.3, 0.7)
        loss = ranking_loss(u, v, *groups, temperature)
        yield f"{name}: the loss", loss
        yield f"{name}: gradients of anchors and candidates", gradients(loss.reshape(1, -1), u, v)
    u, v, one = 3 * draw.normal(2, 4), draw.normal(2, 4), torch.arange(2)
    yield "the temperature that it has by default", ranking_loss(u, v, one, one)
    yield "a temperature of 0.005", ranking_loss(u, u + v, one, one, 0.005)
