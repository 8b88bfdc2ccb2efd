"""SMART: fine-tuning that changes neither much nor abruptly (Jiang et al., 2020, arXiv:1911.03437).

Two penalties are added to the loss of each row, with d the symmetric Kullback-Leibler divergence of
two outputs' probabilities (of a regression, their squared difference):

    weight · d(f(x + δ; θ), f(x; θ))    smoothness: the worst noise δ on x may change little, where
                                        x are the word embeddings and no |δ| is above the radius
    proximal · d(f(x; θ), f(x; θ̃))      Bregman proximal point: nor may a step, from a running
                                        mean of the weights, θ̃ <- β θ̃ + (1 - β) θ

δ is found by projected gradient ascent, from normal noise of standard deviation `noise`:

    g = the gradient of d(f(x + δ; θ), f(x; θ)) by δ
    δ <- δ + step_size · g / max |g|, cut off at ± radius       max |g| over a token's features

Only δ changes in the ascent, and no gradient of θ goes through it. All passes of a batch have the
same draw of dropout, so that noise or weights alone make the difference; what another draw makes
is what rdrop takes. θ̃ is kept with the run. A step takes about three times as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minbert.checks import check_counts
from multitask.extensions.base import Extension, Step, register
from multitask.heads import divergences
from multitask.runs.checkpoint import trainable

if TYPE_CHECKING:
    from multitask.forward_pass import ForwardPass
    from multitask.settings import Settings
    from multitask.trained_model import TrainedModel


@register("smart")
@dataclass(frozen=True, kw_only=True)
class Smart(Extension):
    """Outputs that noise on the embeddings changes little, and steps that change them little."""

    weight: float = 1.0
    """How much smoothness counts, the paper's lambda: 0 leaves it out."""
    radius: float = 0.01
    """Largest change of a number of a word embedding, the paper's epsilon."""
    ascent_steps: int = 1
    """Steps that look for the worst noise."""
    step_size: float = 0.01
    """Largest change that such a step makes to a token's noise, the paper's eta."""
    noise: float = 0.001
    """Standard deviation of the noise before the first of them, the paper's sigma."""
    proximal: float = 1.0
    """How much nearness to the mean of the weights counts, the paper's mu: 0 leaves it out."""
    momentum: tuple[float, float] = (0.99, 0.999)
    """Decay of the mean of the weights, the paper's beta: in the first tenth of all steps, and
    after."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "ascent_steps")
        for name in ("weight", "proximal"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and at least 0: {getattr(self, name)}")
        if not self.weight and not self.proximal:
            raise ValueError("weight and proximal are both 0, and smart has no effect: raise one")
        for name in ("radius", "step_size", "noise"):  # without noise, d has no slope
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive and finite, it is {getattr(self, name)}")
        for beta in self.momentum:
            if not 0 <= beta < 1:
                raise ValueError(f"momentum must be two numbers in [0, 1), it is {self.momentum}")

    def check(self, config: Settings) -> None:
        if config.caches_features:
            raise ValueError(
                "smart changes the word embeddings, and frozen computes the encoder once; leave "
                "one of the two out"
            )
        if config.shard:
            raise ValueError(
                "shard does not go with smart, which runs the model with other weights and takes "
                "gradients on the way; leave one of the two out"
            )

    def start(self, model: TrainedModel, labels: Mapping[str, Tensor | None]) -> None:
        if self.proximal:
            for name, parameter in trainable(model).items():
                model.kept[f"{self.name}/{name}"] = parameter.detach().clone()

    @torch.no_grad()
    def begin_step(self, model: TrainedModel, step: Step) -> None:
        if not self.proximal or step.number == 0:
            return
        early, late = self.momentum
        beta = early if step.number <= step.total / 10 else late
        for name, parameter in step.parameters.items():
            model.kept[f"{self.name}/{name}"].lerp_(parameter, 1 - beta)

    def _mean_weights(self, model: TrainedModel) -> dict[str, Tensor]:
        """Parameter name -> θ̃."""
        start = f"{self.name}/"
        return {n.removeprefix(start): w for n, w in model.kept.items() if n.startswith(start)}

    def penalty(self, seen: ForwardPass) -> Tensor:
        penalty = torch.zeros(len(seen.outputs), device=seen.outputs.device)  # (B,)
        if self.weight:
            outputs = seen.same(noise=self.worst_noise(seen))
            penalty = penalty + self.weight * divergences(seen.task, outputs, seen.outputs)
        if self.proximal:
            with torch.no_grad():
                outputs = seen.same(weights=self._mean_weights(seen.model))
            penalty = penalty + self.proximal * divergences(seen.task, seen.outputs, outputs)
        return penalty

    def worst_noise(self, seen: ForwardPass) -> Tensor:
        """δ, (T, E) for the batch's T real tokens."""
        clean = seen.outputs.detach()
        noise = self.noise * seen.embedding_noise()
        for _ in range(self.ascent_steps):
            noise.requires_grad_()
            difference = divergences(seen.task, seen.same(noise=noise), clean).sum()
            (gradient,) = torch.autograd.grad(difference, noise)
            largest = gradient.abs().amax(dim=-1, keepdim=True)  # (T, 1)
            direction = gradient / largest.clamp(min=1e-30)  # a token without influence stays
            noise = (noise.detach() + self.step_size * direction).clamp(-self.radius, self.radius)
        return noise
