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

    def __init__(self, draw: Draw, task: Any, *, idle: int | None = None) -> None:
        """Draw the scene; the token `idle`, if there is one, has no influence on the outputs."""
        self.task = task
        self.passes: set[str] = set()
        """What later passes had: noise, weights."""
        self.influence = torch.arange(7).ne(-1 if idle is None else idle).float().unsqueeze(1)
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
        self.passes |= {"noise"} if noise is not None else set()
        self.passes |= {"weights"} if weights is not None else set()
        rows = (self.influence * (x @ own["inner"]).tanh()).split([2, 4, 1])
        return torch.stack([row.mean(dim=0) for row in rows]) @ own["outer"]  # (3, K)

    def again(self) -> Tensor:
        return 1.5 * self.same()  # of another draw of dropout

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
        far = 100 * torch.ones(1, task.num_outputs) * (torch.arange(task.num_outputs) - 1)
        yield f"{name}, outputs of 100: divergences", divergences(task, far, -far)

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
        idle = {name for name, size in (("noise", weight), ("weights", proximal)) if not size}
        yield "what counts 0 is not computed", not idle & scene.passes
    scene = Scene(draw, kinds[0], idle=2)
    found = Smart(ascent_steps=1, **sizes).worst_noise(scene)  # pyrefly: ignore
    yield "the worst noise, of which one token has no influence", found
