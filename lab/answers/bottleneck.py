"""Part 4, bottleneck adapters: right answers in float64, and mistakes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from lab.answers import mistake, right
from lab.answers.formulas import linear, normed

EXERCISE = "bottleneck"


# First values


def start(
    self, generator, *, drawn=("down",), std=0.02, zeroed=("down.bias", "up.bias"), even=False
):
    """Bottleneck.initialise with its parts open to change."""
    with torch.no_grad():
        for name in ("down", "up"):
            weight = self.get_submodule(name).weight
            if name not in drawn:
                weight.zero_()
            elif even:
                weight.copy_((2 * torch.rand(weight.shape, generator=generator) - 1) * std * 3**0.5)
            else:
                weight.copy_(torch.randn(weight.shape, generator=generator) * std)
        for name in zeroed:
            self.get_parameter(name).zero_()


@right(EXERCISE, of="Bottleneck.initialise")
def initialise(self, generator=None):
    start(self, generator)


@mistake(
    EXERCISE,
    "W_up is not zero, so the encoder changes before it has learnt anything",
    of="Bottleneck.initialise",
)
def up_drawn_too(self, generator=None):
    start(self, generator, drawn=("down", "up"))


@mistake(
    EXERCISE,
    "both matrices are zero, so that neither ever has a gradient; draw W_down",
    of="Bottleneck.initialise",
)
def nothing_drawn(self, generator=None):
    start(self, generator, drawn=())


@mistake(
    EXERCISE,
    "the matrices have changed places: W_down is drawn, W_up is zero",
    of="Bottleneck.initialise",
)
def up_drawn(self, generator=None):
    start(self, generator, drawn=("up",))


@mistake(
    EXERCISE,
    "the biases are as nn.Linear draws them; they begin at zero",
    of="Bottleneck.initialise",
)
def biases_left(self, generator=None):
    start(self, generator, zeroed=())


@mistake(
    EXERCISE,
    "W_down has standard deviation 1; STD says how small it is to be",
    of="Bottleneck.initialise",
)
def large(self, generator=None):
    start(self, generator, std=1.0)


@mistake(
    EXERCISE,
    "W_down is even between two bounds; it should be normal",
    of="Bottleneck.initialise",
)
def drawn_evenly(self, generator=None):
    start(self, generator, even=True)


@mistake(
    EXERCISE,
    "`generator` is not used, so the first values are others each time",
    of="Bottleneck.initialise",
)
def without_generator(self, generator=None):
    start(self, torch.Generator().manual_seed(torch.seed()))


# The bottleneck


@right(EXERCISE, of="Bottleneck.forward")
def forward(self, z):
    return linear(self.up, self.activation(linear(self.down, z)))


@mistake(
    EXERCISE,
    "there is no nonlinearity, and two linear maps in a row are one",
    of="Bottleneck.forward",
)
def without_activation(self, z):
    return linear(self.up, linear(self.down, z))


@mistake(
    EXERCISE,
    "the nonlinearity is after W_up; it belongs in the bottleneck",
    of="Bottleneck.forward",
)
def activation_last(self, z):
    return self.activation(linear(self.up, linear(self.down, z)))


@mistake(
    EXERCISE,
    "the nonlinearity is before W_down; it belongs in the bottleneck",
    of="Bottleneck.forward",
)
def activation_first(self, z):
    return linear(self.up, linear(self.down, self.activation(z)))


@mistake(
    EXERCISE,
    "the nonlinearity is always GELU; `self.activation` is the one that was chosen",
    of="Bottleneck.forward",
)
def always_gelu(self, z):
    return linear(self.up, F.gelu(linear(self.down, z)))


@mistake(
    EXERCISE,
    "the nonlinearity is always ReLU; `self.activation` is the one that was chosen",
    of="Bottleneck.forward",
)
def always_relu(self, z):
    return linear(self.up, F.relu(linear(self.down, z)))


@mistake(
    EXERCISE,
    "z itself is in A(z); what an adapter reads is added in the sums, where that is wanted",
    of="Bottleneck.forward",
)
def residual_inside(self, z):
    return z + forward(self, z)


@mistake(EXERCISE, "W_up's bias is missing", of="Bottleneck.forward")
def without_last_bias(self, z):
    return forward(self, z) - self.up.bias


# Where it stands


def norm(self, x):
    return normed(self.norm, x) if isinstance(self.norm, nn.LayerNorm) else self.norm(x)


@right(EXERCISE, of="HoulsbySum.forward")
def houlsby(self, residual, output):
    h = self.dropout(output)
    return norm(self, residual + h + self.adapters(h))


@mistake(
    EXERCISE,
    "h is left out beside A(h): the adapter has a residual, and it is h",
    of="HoulsbySum.forward",
)
def houlsby_without_h(self, residual, output):
    return norm(self, residual + self.adapters(self.dropout(output)))


@mistake(
    EXERCISE,
    "the layer's own residual x is left out: the sum is of three",
    of="HoulsbySum.forward",
)
def houlsby_without_x(self, residual, output):
    h = self.dropout(output)
    return norm(self, h + self.adapters(h))


@mistake(
    EXERCISE,
    "the residual beside A(h) is x once more; it is h",
    of="HoulsbySum.forward",
)
def houlsby_x_twice(self, residual, output):
    return norm(self, residual + residual + self.adapters(self.dropout(output)))


@mistake(
    EXERCISE,
    "the adapter reads x, which went into the block; it reads h, which came out",
    of="HoulsbySum.forward",
)
def houlsby_reads_x(self, residual, output):
    return norm(self, residual + self.dropout(output) + self.adapters(residual))


@mistake(
    EXERCISE,
    "the adapter reads the sum x + h; Houlsby's reads h alone",
    of="HoulsbySum.forward",
)
def houlsby_reads_the_sum(self, residual, output):
    total = residual + self.dropout(output)
    return norm(self, total + self.adapters(total))


@mistake(
    EXERCISE,
    "the adapter stands after the LayerNorm; it belongs before the sum",
    of="HoulsbySum.forward",
)
def houlsby_after_norm(self, residual, output):
    z = norm(self, residual + self.dropout(output))
    return z + self.adapters(z)


@mistake(
    EXERCISE,
    "dropout acts on what the adapter adds too; it is on the block's output alone",
    of="HoulsbySum.forward",
)
def houlsby_before_dropout(self, residual, output):
    return norm(self, residual + self.dropout(output + self.adapters(output)))


@mistake(
    EXERCISE,
    "there is no dropout on the block's output; in eval mode nobody sees that",
    of="HoulsbySum.forward",
)
def houlsby_without_dropout(self, residual, output):
    return norm(self, residual + output + self.adapters(output))


@mistake(EXERCISE, "the sum is not normalised", of="HoulsbySum.forward")
def houlsby_without_norm(self, residual, output):
    h = self.dropout(output)
    return residual + h + self.adapters(h)


@right(EXERCISE, of="PfeifferSum.forward")
def pfeiffer(self, residual, output):
    total = residual + self.dropout(output)
    return norm(self, total + self.adapters(norm(self, total)))


@mistake(
    EXERCISE,
    "Pfeiffer's adapter reads the sum before its norm; it reads the norm of it",
    of="PfeifferSum.forward",
)
def pfeiffer_reads_the_sum(self, residual, output):
    total = residual + self.dropout(output)
    return norm(self, total + self.adapters(total))


@mistake(
    EXERCISE,
    "Pfeiffer's adapter reads h alone, which is Houlsby's",
    of="PfeifferSum.forward",
)
def pfeiffer_as_houlsby(self, residual, output):
    h = self.dropout(output)
    return norm(self, residual + h + self.adapters(h))


@mistake(
    EXERCISE,
    "the second norm is missing: what the adapter adds to is normalised again",
    of="PfeifferSum.forward",
)
def pfeiffer_one_norm(self, residual, output):
    z = norm(self, residual + self.dropout(output))
    return z + self.adapters(z)


@mistake(
    EXERCISE,
    "the residual beside A is the normalised sum; it is the sum itself",
    of="PfeifferSum.forward",
)
def pfeiffer_normed_residual(self, residual, output):
    z = norm(self, residual + self.dropout(output))
    return norm(self, z + self.adapters(z))


@mistake(
    EXERCISE,
    "the sum x + h is left out beside A, so that the layer's answer is the adapter's alone",
    of="PfeifferSum.forward",
)
def pfeiffer_alone(self, residual, output):
    return norm(self, self.adapters(norm(self, residual + self.dropout(output))))


@mistake(
    EXERCISE,
    "x is left out beside h and A; what is normalised at the end has all three",
    of="PfeifferSum.forward",
)
def pfeiffer_without_x(self, residual, output):
    h = self.dropout(output)
    return norm(self, h + self.adapters(norm(self, residual + h)))


@mistake(
    EXERCISE,
    "there is no dropout in Pfeiffer's sum; in eval mode nobody sees that",
    of="PfeifferSum.forward",
)
def pfeiffer_without_dropout(self, residual, output):
    total = residual + output
    return norm(self, total + self.adapters(norm(self, total)))
