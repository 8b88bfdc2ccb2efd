"""Part 4, SMART: right answers from the definitions, and mistakes."""

from __future__ import annotations

import torch

from lab.answers import mistake, right


def apart_of(task, a, b, *, both=True, over="sum", probability="own", square=True, share=1.0):
    """`divergences` with its parts open to change, in float64."""
    a, b = a.double(), b.double()
    if task.kind == "regression":
        difference = (a - b)[:, 0]
        return (difference**2 if square else difference.abs()).float()
    if task.kind == "classes" or probability == "softmax":
        p, q = a.softmax(1), b.softmax(1)
        parts = p * (p / q).log() + (q * (q / p).log() if both else 0)
        return (share * (parts.sum(1) if over == "sum" else parts.mean(1))).float()
    total = torch.zeros_like(a)
    for x, y in ((a, b), (b, a)) if both else [(a, b)]:
        for s in (1, -1):  # yes, and no; log σ(x) = -log(1 + exp(-x))
            here, there = (-s * x).exp(), (-s * y).exp()
            total = total + (there.log1p() - here.log1p()) / (1 + here)
    return (share * (total.sum(1) if over == "all" else total.mean(1))).float()


@right("smart", of="divergences")
def divergences(task, a, b):
    return apart_of(task, a, b)


@mistake(
    "smart",
    "the divergence goes one way only; add that of the second from the first",
    "divergences",
)
def one_way(task, a, b):
    return apart_of(task, a, b, both=False)


@mistake("smart", "the two divergences are halved; SMART adds them", "divergences")
def halved(task, a, b):
    return apart_of(task, a, b, share=0.5 if task.kind != "regression" else 1)


@mistake("smart", "a divergence is a sum over classes, and no mean", "divergences")
def mean_over_classes(task, a, b):
    return apart_of(task, a, b, over="mean")


@mistake(
    "smart", "softmax of a binary task's one output is always 1; take a sigmoid", "divergences"
)
def softmax_of_one(task, a, b):
    return apart_of(task, a, b, probability="softmax" if task.kind == "binary" else "own")


@mistake("smart", "where several labels may hold, a row has their mean and no sum", "divergences")
def sum_of_labels(task, a, b):
    return apart_of(task, a, b, over="all" if task.kind == "labels" else "sum")


@mistake("smart", "a regression has the absolute difference; it should be squared", "divergences")
def absolute_difference(task, a, b):
    return apart_of(task, a, b, square=False)


def climbed(
    self,
    seen,
    *,
    scale=None,
    direction=None,
    sign=1,
    project=True,
    detach=True,
    through=None,
    steps=None,
):
    """`worst_noise` with its parts open to change."""
    from multitask import heads  # as it is planted

    clean = seen.outputs.detach()
    noise = (self.noise if scale is None else scale) * seen.embedding_noise()
    for _ in range(self.ascent_steps if steps is None else steps):
        noise = noise.detach().requires_grad_()
        total = heads.divergences(seen.task, seen.same(noise=noise), clean).sum()
        if through == "backward":
            total.backward()
            g = noise.grad
        else:
            g = torch.autograd.grad(total, noise)[0]
        largest = g.abs().max(1, keepdim=True).values
        step = direction(g) if direction else g / torch.where(largest > 0, largest, 1.0)
        noise = noise + sign * self.step_size * step
        if project:
            noise = torch.minimum(torch.maximum(noise, -_bound(self, noise)), _bound(self, noise))
    return noise.detach() if detach else noise


def _bound(self, noise):
    return torch.full_like(noise, self.radius)


@right("smart", of="worst_noise")
def worst_noise(self, seen):
    return climbed(self, seen)


@mistake("smart", "the sign is wrong: the noise goes downhill, where little changes", "worst_noise")
def downhill(self, seen):
    return climbed(self, seen, sign=-1)


@mistake(
    "smart",
    "the gradient is not normalised; divide it by its largest number, token by token",
    "worst_noise",
)
def gradient_as_it_is(self, seen):
    return climbed(self, seen, direction=lambda g: g)


@mistake(
    "smart", "the gradient is divided by the largest of the batch; each token has its own",
    "worst_noise",
)  # fmt: skip
def normalised_by_batch(self, seen):
    return climbed(self, seen, direction=lambda g: g / g.abs().max())


@mistake(
    "smart", "the gradient is divided by its length; the norm here is its largest number",
    "worst_noise",
)  # fmt: skip
def normalised_by_length(self, seen):
    return climbed(self, seen, direction=lambda g: g / g.norm(dim=1, keepdim=True))


@mistake("smart", "the step is along the gradient's sign; it is along the gradient", "worst_noise")
def along_the_sign(self, seen):
    return climbed(self, seen, direction=torch.sign)


@mistake("smart", "the noise is not cut off at the radius", "worst_noise")
def no_projection(self, seen):
    return climbed(self, seen, project=False)


@mistake(
    "smart", "the first noise is not scaled: its standard deviation is `self.noise`", "worst_noise"
)
def start_too_large(self, seen):
    return climbed(self, seen, scale=1.0)


@mistake(
    "smart", "the ascent starts from no noise, where the divergence has no slope", "worst_noise"
)
def start_at_zero(self, seen):
    return climbed(self, seen, scale=0.0, direction=torch.zeros_like)


@mistake("smart", "there is one step whatever `ascent_steps` says", "worst_noise")
def one_step(self, seen):
    return climbed(self, seen, steps=1)


@mistake("smart", "the noise still hangs on the graph of the ascent; detach it", "worst_noise")
def noise_on_the_graph(self, seen):
    return climbed(self, seen, detach=False)


@mistake(
    "smart",
    "backward() in the ascent adds to the gradients of the weights; take torch.autograd.grad of "
    "the noise alone",
    "worst_noise",
)
def backward_in_the_ascent(self, seen):
    return climbed(self, seen, through="backward")


def added(
    self,
    seen,
    *,
    clean=lambda outputs: outputs,
    factors=None,
    over=lambda x: x,
    noise=None,
    near=True,
):
    """`penalty` with its parts open to change."""
    from multitask import heads

    smooth, proximal = factors or (self.weight, self.proximal)
    total = torch.zeros(len(seen.outputs))
    if smooth:
        delta = noise(self, seen) if noise else self.worst_noise(seen)
        noisy = seen.same(noise=delta)
        total = total + smooth * heads.divergences(seen.task, noisy, clean(seen.outputs))
    if proximal and near:
        mean = {name.removeprefix("smart/"): w for name, w in seen.model.kept.items()}
        with torch.no_grad():
            former = seen.same(weights=mean)
        own = proximal * heads.divergences(seen.task, seen.outputs, former)
        total = total + own
    return over(total)


@right("smart", of="penalty")
def penalty(self, seen):
    return added(self, seen)


@mistake(
    "smart", "the clean outputs are detached in the penalty; there both sides learn", "penalty"
)
def clean_detached(self, seen):
    return added(self, seen, clean=lambda outputs: outputs.detach())


@mistake("smart", "the noise is the one before the ascent; it should be the worst", "penalty")
def random_noise(self, seen):
    return added(self, seen, noise=lambda self, seen: self.noise * seen.embedding_noise())


@mistake("smart", "`weight` and `proximal` have changed places", "penalty")
def factors_swapped(self, seen):
    return added(self, seen, factors=(self.proximal, self.weight))


@mistake("smart", "`weight` and `proximal` do not count", "penalty")
def factors_ignored(self, seen):
    return added(self, seen, factors=(float(self.weight > 0), float(self.proximal > 0)))


@mistake("smart", "the nearness to the mean of the weights is missing", "penalty")
def no_proximal_point(self, seen):
    return added(self, seen, near=False)


@mistake("smart", "the penalty is a mean over rows; each row should have its own", "penalty")
def mean_over_rows(self, seen):
    return added(self, seen, over=lambda x: x.mean())
