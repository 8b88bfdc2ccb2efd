"""Checks of part 4, penalties beside the loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from lab.checks.heads import several, tasks
from lab.harness import Draw, check, gradients

Cases = Iterator[tuple[str, Any]]


class Scene:
    """In the place of a ForwardPass: seven tokens of three rows, and a small model of its own."""

    def __init__(self, draw: Draw, task: Any) -> None:
        self.task = task
        self.tokens = draw.normal(7, 4)  # (T, E)
        self.weights = {"inner": draw.normal(4, 5), "outer": draw.normal(5, task.num_outputs)}
        kept = {name: w + 0.3 * draw.normal(*w.shape) for name, w in self.weights.items()}
        self.model = SimpleNamespace(kept={f"smart/{name}": w for name, w in kept.items()})
        for weight in self.weights.values():
            weight.requires_grad_()
        self.start = draw.normal(7, 4)
        self.outputs = self.same()

    def embedding_noise(self) -> Tensor:
        return self.start.clone()

    def same(
        self, *, noise: Tensor | None = None, weights: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        own = self.weights if weights is None else weights
        x = self.tokens if noise is None else self.tokens + noise
        rows = (x @ own["inner"]).tanh().split([2, 4, 1])
        return torch.stack([row.mean(dim=0) for row in rows]) @ own["outer"]  # (3, K)

    def touched(self) -> bool:
        """Whether something was added to the gradients of the weights."""
        return any(weight.grad is not None for weight in self.weights.values())


@check("smart")
def smart(draw: Draw) -> Cases:
    from multitask.extensions.smart import Smart
    from multitask.heads import divergences

    kinds = (*tasks("sst", "para", "sts"), several())
    for name, task in zip(("classes", "binary", "regression", "labels"), kinds):
        a, b = (draw.normal(4, task.num_outputs, grad=True) for _ in range(2))
        apart = divergences(task, a, b)
        yield f"{name}: divergences", apart
        yield f"{name}: their gradients", gradients(apart, a, b)

    sizes: dict[str, Any] = {"radius": 0.45, "step_size": 0.3, "noise": 0.25}
    for number in (1, 3):
        scene = Scene(draw, kinds[0])
        found = Smart(ascent_steps=number, **sizes).worst_noise(scene)  # pyrefly: ignore
        yield f"the worst noise after {number} of {number} steps", found
        yield "the noise is cut off from the ascent", not found.requires_grad
        yield "the ascent leaves gradients in the weights", scene.touched()

    for weight, proximal in ((2.0, 0.0), (0.0, 3.0), (2.0, 3.0)):
        scene = Scene(draw, kinds[0])
        own = Smart(weight=weight, proximal=proximal, **sizes)
        added = own.penalty(scene)  # pyrefly: ignore[bad-argument-type]
        yield f"weight {weight:g}, proximal {proximal:g}: the penalty of each row", added
        yield "its gradients", gradients(added, *scene.weights.values())
