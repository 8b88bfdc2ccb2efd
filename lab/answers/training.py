"""Part 4, rates and gradients: right answers in float64, and mistakes."""

from __future__ import annotations

import math

import numpy as np

from lab.answers import mistake, right

# Rates of the layers


def rates(self, model, *, power=lambda self, distance, count: self.decay**distance, heads=None):
    """LayerLR.lr_scale with its parts open to change."""
    names = [name for name, _ in model.depths()]
    last = len(names) - 1
    scale = {name: power(self, last - n, len(names)) for n, name in enumerate(names)}
    scale["heads"] = self.heads if heads is None else heads(self, scale)
    return {name: scale[part] for name, part in model.part_of().items()}


@right("layer_rates")
def lr_scale(self, model):
    return rates(self, model)


@mistake("layer_rates", "the exponent is reversed: parts near the input learn slower, not faster")
def rates_reversed(self, model):
    return rates(self, model, power=lambda self, d, n: self.decay ** (n - 1 - d))


@mistake(
    "layer_rates", "the exponent is one too low: the pooler, next to the heads, has distance 1"
)
def rates_off_by_one(self, model):
    return rates(self, model, power=lambda self, d, n: self.decay ** max(0, d - 1))


@mistake(
    "layer_rates", "the exponent is one too high: the heads are at distance 0, the pooler at 1"
)
def rates_one_too_high(self, model):
    return rates(self, model, power=lambda self, d, n: self.decay ** (d + 1))


@mistake("layer_rates", "the heads are decayed; their factor is `self.heads`")
def heads_decayed(self, model):
    return rates(self, model, heads=lambda self, scale: self.decay)


@mistake("layer_rates", "`self.heads` is not used, or the heads' parameters are left out")
def heads_ignored(self, model):
    return rates(self, model, heads=lambda self, scale: 1.0)


@mistake("layer_rates", "the factor of the heads multiplies all other parts too")
def heads_everywhere(self, model):
    return rates(self, model, power=lambda self, d, n: self.heads * self.decay**d)


@mistake(
    "layer_rates", "the factors fall along a straight line; each part has decay times the next"
)
def rates_linear(self, model):
    return rates(self, model, power=lambda self, d, n: 1 - (1 - self.decay) * d)


@mistake(
    "layer_rates", "all parts below the heads have the same factor; it falls with the distance"
)
def rates_flat(self, model):
    return rates(self, model, power=lambda self, d, n: self.decay)


@mistake("layer_rates", "factors are returned by part; they belong to names of parameters")
def rates_by_part(self, model):
    scale = {name: self.decay**d for d, (name, _) in enumerate(reversed(model.depths()))}
    return {**scale, "heads": self.heads}


# Gradient surgery


def projected(
    products,
    generator,
    *,
    when=lambda along: along < 0,
    into=None,
    norm=None,
    sign=-1,
    sofar=True,
    of_others=False,
    shuffled=True,
):
    """pcgrad with its parts open to change: C of g_i' = sum_k C_ik g_k."""
    count = len(products)
    norm = norm or (lambda square: square)
    found = np.eye(count)
    for i in range(count):
        order = generator.permutation(count) if shuffled else np.arange(count)
        for j in order[order != i]:
            other = found[j].copy() if of_others else np.eye(count)[j]
            mine = found[i] if sofar else np.eye(count)[i]
            along = mine @ products @ other
            if when(along):
                part = sign * along / norm(other @ products @ other)
                found[i] = found[i] + part * (np.eye(count)[i] if into else other)
    return found


@right("surgery")
def pcgrad(products, generator):
    return projected(products, generator)


@mistake(
    "surgery",
    "gradients are projected where they agree too; only a dot product below 0 is a conflict",
)
def always_projected(products, generator):
    return projected(products, generator, when=lambda along: True)


@mistake("surgery", "gradients are projected where they agree, and not where they conflict")
def agreeing_projected(products, generator):
    return projected(products, generator, when=lambda along: along > 0)


@mistake("surgery", "the part is taken along the gradient itself; it is the part along the other's")
def onto_itself(products, generator):
    return projected(products, generator, into="itself")


@mistake("surgery", "the part is not divided by the other's squared norm")
def not_normalised(products, generator):
    return projected(products, generator, norm=lambda square: 1.0)


@mistake("surgery", "the part is divided by the other's norm; it should be the norm squared")
def norm_not_squared(products, generator):
    return projected(products, generator, norm=math.sqrt)


@mistake("surgery", "the sign is wrong: the part along the other gradient is taken away")
def part_added(products, generator):
    return projected(products, generator, sign=1)


@mistake(
    "surgery",
    "the others' gradients are those that were projected already; they stay as they were at first",
)
def others_projected(products, generator):
    return projected(products, generator, of_others=True)


@mistake(
    "surgery", "the dot product is that of the first gradients; g_i' changes from task to task"
)
def first_products(products, generator):
    return projected(products, generator, sofar=False)


@mistake("surgery", "the other tasks always come in the same order; it should be random")
def not_shuffled(products, generator):
    return projected(products, generator, shuffled=False)


@mistake("surgery", "the part is divided by the own squared norm; it is the other's, |g_j|²")
def own_norm(products, generator):
    count = len(products)
    found = np.eye(count)
    for i in range(count):
        for j in (j for j in generator.permutation(count) if j != i):
            along = found[i] @ products[:, j]
            if along < 0:
                found[i, j] -= along / products[i, i]
    return found


@mistake("surgery", "half of the part is taken away; all of it should be")
def half_taken(products, generator):
    return projected(products, generator, sign=-0.5)


def raised(
    products,
    averages,
    beta,
    generator,
    *,
    lower=lambda c, a: c < a,
    sofar=True,
    length=True,
    update="after",
    shuffled=True,
    weight=None,
    copy=True,
    symmetric=False,
    root=math.sqrt,
    skip=True,
):
    """gradvac with its parts open to change."""
    count = len(products)
    found, new = np.eye(count), averages.copy() if copy else averages
    for i in range(count):
        order = generator.permutation(count) if shuffled else np.arange(count)
        for j in order[order != i]:
            mine = found[i] if sofar else np.eye(count)[i]
            own, other = (mine @ products @ mine) ** 0.5, products[j, j] ** 0.5
            if skip and (own == 0 or other == 0):
                continue
            c = min(1.0, max(-1.0, mine @ products[:, j] / own / other))
            moved = (1 - beta) * new[i, j] + beta * c
            if weight == "swapped":
                moved = beta * new[i, j] + (1 - beta) * c
            if update == "before":
                new[i, j] = moved
            a = new[i, j]
            if lower(c, a):
                sines = root(1 - c**2), root(1 - a**2)
                rise = (a * sines[0] - c * sines[1]) / sines[1]
                found[i, j] += (own / other if length else 1.0) * rise
            if update == "after" or (update == "not raised" and not lower(c, a)):
                new[i, j] = moved
            if symmetric:
                new[j, i] = moved
    return found, new


@right("vaccine")
def gradvac(products, averages, beta, generator):
    return raised(products, averages, beta, generator)


@mistake("vaccine", "every cosine is moved to its average; only one below it is raised")
def always_raised(products, averages, beta, generator):
    return raised(products, averages, beta, generator, lower=lambda c, a: True)


@mistake("vaccine", "a cosine is raised only where it is below 0; its average is the bound")
def raised_below_zero(products, averages, beta, generator):
    return raised(products, averages, beta, generator, lower=lambda c, a: c < min(a, 0))


@mistake("vaccine", "the averages do not move")
def averages_fixed(products, averages, beta, generator):
    return raised(products, averages, beta, generator, update="never")


@mistake(
    "vaccine", "the averages move before they are used; they are the aim of this step as they were"
)
def averages_first(products, averages, beta, generator):
    return raised(products, averages, beta, generator, update="before")


@mistake("vaccine", "beta and 1 - beta have changed places: beta is the weight of the new cosine")
def beta_swapped(products, averages, beta, generator):
    return raised(products, averages, beta, generator, weight="swapped")


@mistake("vaccine", "the lengths of the two gradients are missing from w")
def lengths_missing(products, averages, beta, generator):
    return raised(products, averages, beta, generator, length=False)


@mistake("vaccine", "the cosine is that of the first gradients; g_i' changes from task to task")
def first_cosines(products, averages, beta, generator):
    return raised(products, averages, beta, generator, sofar=False)


@mistake("vaccine", "the averages that are passed in are changed; make new ones")
def averages_in_place(products, averages, beta, generator):
    return raised(products, averages, beta, generator, copy=False)


@mistake("vaccine", "the other tasks always come in the same order; it should be random")
def vaccine_not_shuffled(products, averages, beta, generator):
    return raised(products, averages, beta, generator, shuffled=False)


@mistake("vaccine", "an average moves for both tasks at once; a_ij and a_ji are two")
def averages_symmetric(products, averages, beta, generator):
    found, new = raised(products, averages, beta, generator, symmetric=True)
    return found, new


@mistake("vaccine", "the average stays where the cosine was raised; it moves in any case")
def moves_where_not_raised(products, averages, beta, generator):
    return raised(products, averages, beta, generator, update="not raised")


@mistake("vaccine", "the sines have lost their root: sin² = 1 - cos²")
def sines_squared(products, averages, beta, generator):
    return raised(products, averages, beta, generator, root=lambda square: square)


@mistake("vaccine", "a gradient of zero has no cosine: 0 / 0 is not a number; skip it")
def zero_not_skipped(products, averages, beta, generator):
    with np.errstate(all="ignore"):
        return raised(products, averages, beta, generator, skip=False)
