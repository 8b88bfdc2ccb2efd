"""Part 6, memory and operations: right answers, and mistakes."""

from __future__ import annotations

from lab.answers import mistake, right
from lab.answers.parameters import sizes

# Memory


def held(parameters, trained, *, weights=None, gradients=None, moments=None, number=4):
    """training_bytes with its parts open to change: how many numbers there are of each."""
    weights = parameters if weights is None else weights
    gradients = trained if gradients is None else gradients
    return number * (weights + gradients + (2 * trained if moments is None else moments))


@right("memory_flops", of="training_bytes")
def training_bytes(parameters, trained):
    return held(parameters, trained)


@mistake(
    "memory_flops",
    "a trained parameter has three numbers beside itself, gradient, m and v; one is missing",
    of="training_bytes",
)
def one_of_three_missing(parameters, trained):
    return held(parameters, trained, moments=trained)


@mistake("memory_flops", "Adam's moments are forgotten", of="training_bytes")
def no_moments(parameters, trained):
    return held(parameters, trained, moments=0)


@mistake(
    "memory_flops", "the parameters themselves are forgotten, frozen ones too", of="training_bytes"
)
def no_weights(parameters, trained):
    return held(parameters, trained, weights=0)


@mistake("memory_flops", "frozen parameters are in memory too, though they need no more than that",
         of="training_bytes")  # fmt: skip
def frozen_left_out(parameters, trained):
    return held(parameters, trained, weights=trained)


@mistake(
    "memory_flops",
    "frozen parameters are given gradients and moments; only trained ones have them",
    of="training_bytes",
)
def all_have_moments(parameters, trained):
    return held(parameters, trained, gradients=parameters, moments=2 * parameters)


@mistake(
    "memory_flops", "frozen parameters are given moments; only trained ones have them",
    of="training_bytes",
)  # fmt: skip
def frozen_have_moments(parameters, trained):
    return held(parameters, trained, moments=2 * parameters)


@mistake("memory_flops", "frozen parameters are given gradients; only trained ones have them",
         of="training_bytes")  # fmt: skip
def frozen_have_gradients(parameters, trained):
    return held(parameters, trained, gradients=parameters)


@mistake(
    "memory_flops", "numbers are counted, not bytes: one in float32 has four", of="training_bytes"
)
def numbers_counted(parameters, trained):
    return held(parameters, trained, number=1)


@mistake("memory_flops", "a number in float32 has four bytes, not two", of="training_bytes")
def two_bytes(parameters, trained):
    return held(parameters, trained, number=2)


@mistake("memory_flops", "a number in float32 has four bytes, not eight", of="training_bytes")
def eight_bytes(parameters, trained):
    return held(parameters, trained, number=8)


@mistake("memory_flops", "this is bits; a byte has eight of them", of="training_bytes")
def bits(parameters, trained):
    return held(parameters, trained, number=32)


@mistake("memory_flops", "Adam's moments alone are counted", of="training_bytes")
def moments_alone(parameters, trained):
    return held(parameters, trained, weights=0, gradients=0)


# Operations


def worked(
    config, length, *, maps=4, blocks=2, products=2, each=2, square=None, wide=None, layers=1
):
    """layer_flops with its parts open to change.

    Args:
        config, length: as in layer_flops.
        maps: how many maps attention has, from H to H.
        blocks: how many maps the feed-forward block has.
        products: how many products of tokens with tokens there are.
        each: operations of a multiplication with its addition.
        square: pairs of tokens.
        wide: numbers of a token in those products, in place of H.
        layers: how many layers.
    """
    h, i, _ = sizes(config)
    square = length**2 if square is None else square
    of_maps = length * h * (maps * h + blocks * i)
    return layers * each * (of_maps + products * square * (h if wide is None else wide))


@right("memory_flops", of="layer_flops")
def layer_flops(config, length):
    return worked(config, length)


@mistake(
    "memory_flops",
    "products with their sums are counted as one operation; an addition is one too",
    of="layer_flops",
)
def multiplications_alone(config, length):
    return worked(config, length, each=1)


@mistake(
    "memory_flops", "the products of tokens with tokens, Q Kᵀ and P V, are forgotten: they have S²",
    of="layer_flops",
)  # fmt: skip
def no_square(config, length):
    return worked(config, length, products=0)


@mistake(
    "memory_flops",
    "one product of tokens with tokens is counted; Q Kᵀ and P V are two",
    of="layer_flops",
)
def one_product(config, length):
    return worked(config, length, products=1)


@mistake(
    "memory_flops", "Q Kᵀ and P V grow with S here; every token meets every token", of="layer_flops"
)
def products_of_one_token(config, length):
    return worked(config, length, square=length)


@mistake(
    "memory_flops",
    "Q Kᵀ and P V are counted of one head, with D features; all heads have H together",
    of="layer_flops",
)
def one_head(config, length):
    return worked(config, length, wide=config.hidden_size // config.num_heads)


@mistake(
    "memory_flops",
    "Q Kᵀ and P V are counted with H features in each head; a head has H / N",
    of="layer_flops",
)
def wide_heads(config, length):
    return worked(config, length, wide=config.hidden_size * config.num_heads)


@mistake(
    "memory_flops",
    "attention has three linear maps here; there is one more after the heads are merged",
    of="layer_flops",
)
def three_maps(config, length):
    return worked(config, length, maps=3)


@mistake("memory_flops", "the feed-forward block has one map here; it has two", of="layer_flops")
def half_feed_forward(config, length):
    return worked(config, length, blocks=1)


@mistake("memory_flops", "the feed-forward block is forgotten", of="layer_flops")
def no_feed_forward(config, length):
    return worked(config, length, blocks=0)


@mistake("memory_flops", "attention's linear maps are forgotten", of="layer_flops")
def no_maps(config, length):
    return worked(config, length, maps=0)


@mistake("memory_flops", "all layers are counted; one is asked for", of="layer_flops")
def all_layers(config, length):
    return worked(config, length, layers=config.num_layers)


@mistake(
    "memory_flops",
    "the backward pass is counted too, which takes twice as many; the forward pass is asked for",
    of="layer_flops",
)
def with_backward(config, length):
    return worked(config, length, layers=3)


@mistake(
    "memory_flops",
    "the inner size is taken to be 4 H; the config has it, as intermediate_size",
    of="layer_flops",
)
def inner_four_times(config, length):
    h, i, _ = sizes(config)
    return worked(config, length) + 4 * length * h * (4 * h - i)


@mistake("memory_flops", "one token is counted in the linear maps; each of the S goes through them",
         of="layer_flops")  # fmt: skip
def one_token(config, length):
    h, i, _ = sizes(config)
    return 2 * h * (4 * h + 2 * i) + 4 * length**2 * h


@mistake(
    "memory_flops",
    "the linear maps are counted for each pair of tokens; a token goes through them once",
    of="layer_flops",
)
def all_squared(config, length):
    h, i, _ = sizes(config)
    return 2 * length**2 * (4 * h * h + 2 * h * i + 2 * h)
