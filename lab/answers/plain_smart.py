"""SMART as students write it, and mistakes that change a line."""

from __future__ import annotations

import torch

from lab.answers import plain


@plain("smart", of="divergences")
def divergences(task, a, b):
    a, b = a.float(), b.float()
    if task.kind in ("classes", "tokens"):
        return ((a.softmax(-1) - b.softmax(-1)) * (a - b)).sum(-1)
    if task.kind in ("binary", "labels"):
        return ((a.sigmoid() - b.sigmoid()) * (a - b)).mean(-1)
    return ((a - b) ** 2).squeeze(-1)


divergences.but(
    (
        "the log of a softmax is infinite at large outputs; log_softmax is not, and the "
        "docstring has a form without"
    ),
    "((a.softmax(-1) - b.softmax(-1)) * (a - b)).sum(-1)",
    "((a.softmax(-1) - b.softmax(-1)) * (a.softmax(-1).log() - b.softmax(-1).log())).sum(-1)",
)
divergences.but(
    "the divergences are averaged over the rows; each row has its own",
    "((a.softmax(-1) - b.softmax(-1)) * (a - b)).sum(-1)",
    "((a.softmax(-1) - b.softmax(-1)) * (a - b)).sum(-1).mean()",
)


@plain("smart", of="Smart.penalty")
def penalty(self, seen):
    from multitask.heads import divergences

    total = torch.zeros(len(seen.outputs), device=seen.outputs.device)
    if self.weight > 0:
        noise = self.worst_noise(seen)
        noisy = seen.same(noise=noise)
        total = total + self.weight * divergences(seen.task, noisy, seen.outputs)
    if self.proximal > 0:
        with torch.no_grad():
            before = seen.same(weights=self._mean_weights(seen.model))
        total = total + self.proximal * divergences(seen.task, seen.outputs, before)
    return total


penalty.but(
    "the noisy outputs are cut off in the penalty, so the weights do not learn from them",
    "divergences(seen.task, noisy, seen.outputs)",
    "divergences(seen.task, noisy.detach(), seen.outputs)",
)
penalty.but(
    "what counts 0 is computed all the same; leave it out", "if self.weight > 0:", "if True:"
)
penalty.but(
    "the nearness to the mean of the weights is of the noisy outputs; it is of f(x)",
    "divergences(seen.task, seen.outputs, before)",
    "divergences(seen.task, noisy if self.weight else seen.outputs, before)",
)
penalty.but(
    "f̃ has the model's own weights, which makes no difference; it has their mean",
    "seen.same(weights=self._mean_weights(seen.model))",
    "seen.same()",
)


@plain("smart", of="Smart.worst_noise")
def worst_noise(self, seen):
    from multitask.heads import divergences

    clean = seen.outputs.detach()
    delta = self.noise * seen.embedding_noise()
    for _ in range(self.ascent_steps):
        delta = delta.detach().requires_grad_(True)
        d = divergences(seen.task, seen.same(noise=delta), clean).sum()
        g = torch.autograd.grad(d, delta)[0]
        biggest = g.abs().max(dim=-1, keepdim=True).values
        g = g / biggest.clamp(min=1e-30)
        delta = delta.detach() + self.step_size * g
        delta = delta.clamp(-self.radius, self.radius)
    return delta.detach()


worst_noise.but(
    "the ascent compares with another draw of dropout; f(x) is `seen.outputs`",
    "clean = seen.outputs.detach()",
    "clean = seen.again().detach()",
)
worst_noise.but(
    "the noise is cut off at the step size; it is at ± `radius`",
    "delta.clamp(-self.radius, self.radius)",
    "delta.clamp(-self.step_size, self.step_size)",
)
worst_noise.but(
    "a token without influence is divided by 0; it stays where it is", ".clamp(min=1e-30)", ""
)
