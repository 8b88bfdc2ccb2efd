"""Part 6, costs: right answers, and mistakes."""

from __future__ import annotations

import math

import torch

from lab.answers import mistake, right

# Parameters


def sizes(config):
    return config.hidden_size, config.intermediate_size, config.num_layers


def parts(config, *, bias=1):
    """Part -> its parameters, counted module by module."""
    h, i, _ = sizes(config)

    def linear(before, after):
        return before * after + bias * after

    return {
        "word": config.vocab_size * h,
        "position": config.max_positions * h,
        "token type": config.type_vocab_size * h,
        "embedding norm": 2 * h,
        "query": linear(h, h),
        "key": linear(h, h),
        "value": linear(h, h),
        "output": linear(h, h),
        "norm after attention": 2 * h,
        "inner": linear(h, i),
        "outer": linear(i, h),
        "norm after feed-forward": 2 * h,
        "pooler": linear(h, h),
    }


LAYER = ("query", "key", "value", "output", "norm after attention", "inner", "outer",
         "norm after feed-forward")  # fmt: skip


def added_up(config, *, without=(), halved=(), layers=None, bias=1, often=LAYER):
    """bert_parameters with its parts open to change: left out, or counted by half."""
    layers = config.num_layers if layers is None else layers
    total = 0
    for part, count in parts(config, bias=bias).items():
        if part in without:
            continue
        count = count // 2 if part in halved else count
        total += count * (layers if part in often else 1)
    return total


NORMS = ("embedding norm", "norm after attention", "norm after feed-forward")


@right("parameters", of="bert_parameters")
def bert_parameters(config):
    return added_up(config)


@mistake("parameters", "the biases of the linear maps are forgotten", of="bert_parameters")
def biases_forgotten(config):
    return added_up(config, bias=0)


@mistake("parameters", "the LayerNorms are forgotten", of="bert_parameters")
def norms_forgotten(config):
    return added_up(config, without=NORMS)


@mistake(
    "parameters",
    "a LayerNorm has H parameters here; it has weights and biases",
    of="bert_parameters",
)
def norms_by_half(config):
    return added_up(config, halved=NORMS)


@mistake("parameters", "the LayerNorm of the embeddings is forgotten", of="bert_parameters")
def embedding_norm_forgotten(config):
    return added_up(config, without=("embedding norm",))


@mistake("parameters", "a layer has one LayerNorm here; it has two", of="bert_parameters")
def one_norm(config):
    return added_up(config, without=("norm after feed-forward",))


@mistake("parameters", "the pooler is forgotten", of="bert_parameters")
def pooler_forgotten(config):
    return added_up(config, without=("pooler",))


@mistake("parameters", "the table of segments is forgotten", of="bert_parameters")
def segments_forgotten(config):
    return added_up(config, without=("token type",))


@mistake(
    "parameters", "the table of positions is forgotten; BERT learns its positions",
    of="bert_parameters",
)  # fmt: skip
def positions_forgotten(config):
    return added_up(config, without=("position",))


@mistake("parameters", "the embeddings are forgotten", of="bert_parameters")
def embeddings_forgotten(config):
    return added_up(config, without=("word", "position", "token type", "embedding norm"))


@mistake(
    "parameters",
    "attention has three linear maps here; there is one more after the heads are merged",
    of="bert_parameters",
)
def output_forgotten(config):
    return added_up(config, without=("output",))


@mistake("parameters", "the feed-forward block has one map here; it has two", of="bert_parameters")
def outer_forgotten(config):
    return added_up(config, without=("outer",))


@mistake("parameters", "one layer is counted; there are num_layers", of="bert_parameters")
def one_layer(config):
    return added_up(config, layers=1)


@mistake(
    "parameters",
    "attention's maps are counted for each head; the heads share them, each has a slice",
    of="bert_parameters",
)
def times_heads(config):
    h, _, layers = sizes(config)
    return added_up(config) + layers * (config.num_heads - 1) * 3 * (h * h + h)


@mistake(
    "parameters",
    "the inner size is taken to be 4 H; the config has it, as intermediate_size",
    of="bert_parameters",
)
def inner_assumed(config):
    h, i, layers = sizes(config)
    return added_up(config) + layers * (4 * h - i) * (2 * h + 1)


@mistake(
    "parameters", "the pooler is counted in every layer; it is there once", of="bert_parameters"
)
def pooler_in_each_layer(config):
    return added_up(config, often=(*LAYER, "pooler"))


@mistake(
    "parameters",
    "the words are counted twice: the decoder of the masked-language-model head is no part of this",
    of="bert_parameters",
)
def words_twice(config):
    return added_up(config) + config.vocab_size * config.hidden_size


@mistake(
    "parameters", "the bias of the outer map is taken to have I numbers; it has H",
    of="bert_parameters",
)  # fmt: skip
def outer_bias_of_inner(config):
    h, i, layers = sizes(config)
    return added_up(config) + layers * (i - h)


def ends(config, role):
    """(in, out) of the map of a role."""
    h, i, _ = sizes(config)
    return {"feed_forward_inner": (h, i), "feed_forward_outer": (i, h)}.get(role, (h, h))


def adapted(
    config, rank, roles, *, one=lambda rank, before, after: rank * (before + after), often=None
):
    """lora_parameters with its parts open to change."""
    often = often or (lambda role: 1 if role == "pooler" else config.num_layers)
    return sum(often(role) * one(rank, *ends(config, role)) for role in roles)


@right("parameters", of="lora_parameters")
def lora_parameters(config, rank, roles):
    return adapted(config, rank, roles)


@mistake("parameters", "LoRA's A alone is counted; B trains too", of="lora_parameters")
def only_a(config, rank, roles):
    return adapted(config, rank, roles, one=lambda rank, before, after: rank * before)


@mistake("parameters", "LoRA's B alone is counted; A trains too", of="lora_parameters")
def only_b(config, rank, roles):
    return adapted(config, rank, roles, one=lambda rank, before, after: rank * after)


@mistake("parameters", "LoRA of one layer is counted; each layer has its own", of="lora_parameters")
def lora_of_one_layer(config, rank, roles):
    return adapted(config, rank, roles, often=lambda role: 1)


@mistake(
    "parameters", "the pooler's LoRA is counted in every layer; it is there once",
    of="lora_parameters",
)  # fmt: skip
def lora_pooler_each(config, rank, roles):
    return adapted(config, rank, roles, often=lambda role: config.num_layers)


@mistake(
    "parameters",
    "in and out are multiplied, so this counts the matrices themselves, r times; LoRA's are narrow",
    of="lora_parameters",
)
def in_times_out(config, rank, roles):
    return adapted(config, rank, roles, one=lambda rank, before, after: rank * before * after)


@mistake(
    "parameters",
    "the matrices that LoRA changes are counted; they are frozen",
    of="lora_parameters",
)
def whole_matrices(config, rank, roles):
    return adapted(config, rank, roles, one=lambda rank, before, after: before * after)


@mistake(
    "parameters",
    "every map is taken to go from H to H; those of the feed-forward block have a side of I",
    of="lora_parameters",
)
def all_square(config, rank, roles):
    h = config.hidden_size
    return adapted(config, rank, roles, one=lambda rank, before, after: 2 * rank * h)


@mistake("parameters", "biases are counted in A and B; LoRA has none", of="lora_parameters")
def lora_biases(config, rank, roles):
    return adapted(
        config, rank, roles, one=lambda rank, before, after: rank * (before + after) + rank + after
    )


@mistake("parameters", "one role is counted; add up all of them", of="lora_parameters")
def first_role(config, rank, roles):
    return adapted(config, rank, roles[:1])


@mistake("parameters", "the rank is left out", of="lora_parameters")
def rank_left_out(config, rank, roles):
    return adapted(config, 1, roles)


@mistake(
    "parameters", "the frozen matrices are counted with A and B; only these train",
    of="lora_parameters",
)  # fmt: skip
def with_frozen(config, rank, roles):
    return adapted(
        config,
        rank,
        roles,
        one=lambda rank, before, after: rank * (before + after) + before * after,
    )


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


# Why few parameters want a larger rate


def promised(lr, gradients, of=lambda g: g.double().abs().sum(), together=sum):
    return lr * float(together(of(g) for g in gradients))


@right("few_rate", of="promised_decrease")
def promised_decrease(lr, gradients):
    return promised(lr, gradients)


@mistake(
    "few_rate",
    "gradients are squared, as in gradient descent; Adam's step does not grow with the gradient",
    of="promised_decrease",
)
def squared(lr, gradients):
    return promised(lr, gradients, of=lambda g: g.square().sum())


@mistake(
    "few_rate",
    "gradients are added up with their signs; each parameter goes downhill, so sizes add up",
    of="promised_decrease",
)
def signed(lr, gradients):
    return promised(lr, gradients, of=torch.sum)


@mistake(
    "few_rate",
    "the size is taken of each tensor's sum; take it of each number before adding up",
    of="promised_decrease",
)
def size_of_the_sum(lr, gradients):
    return promised(lr, gradients, of=lambda g: g.sum().abs())


@mistake(
    "few_rate",
    "the mean of each gradient is taken; every parameter moves, so their shares add up",
    of="promised_decrease",
)
def mean_of_each(lr, gradients):
    return promised(lr, gradients, of=lambda g: g.abs().mean())


@mistake(
    "few_rate",
    "the lengths of the gradients are added up, the roots of sums of squares; add up sizes |g|",
    of="promised_decrease",
)
def lengths_added(lr, gradients):
    return promised(lr, gradients, of=torch.linalg.vector_norm)


@mistake(
    "few_rate",
    "this is the length of all gradients together, a root of squares; add up sizes |g|",
    of="promised_decrease",
)
def length_of_all(lr, gradients):
    return promised(
        lr, gradients, of=lambda g: g.square().sum(), together=lambda s: math.sqrt(sum(s))
    )


@mistake(
    "few_rate", "the largest of the gradients alone is counted; all of them count",
    of="promised_decrease",
)  # fmt: skip
def largest_alone(lr, gradients):
    return promised(lr, gradients, of=lambda g: g.abs().max())


@mistake(
    "few_rate",
    "parameters are counted; how steep the loss is along each counts too",
    of="promised_decrease",
)
def parameters_counted(lr, gradients):
    return promised(lr, gradients, of=torch.numel)


@mistake("few_rate", "the rate is left out: a step twice as long promises twice as much",
         of="promised_decrease")  # fmt: skip
def rate_left_out(lr, gradients):
    return promised(1.0, gradients)


@mistake(
    "few_rate", "the loss falls: this is how much it changes, with a minus", of="promised_decrease"
)
def negative(lr, gradients):
    return -promised(lr, gradients)


@mistake("few_rate", "the rate is squared", of="promised_decrease")
def rate_twice(lr, gradients):
    return promised(lr * lr, gradients)


def larger(lr, gradients, trained, *, ratio=lambda all_of_them, few: all_of_them / few, size=None):
    """rate_of_few with its parts open to change."""
    from minbert import costs

    size = size or (lambda tensors: float(costs.promised_decrease(1.0, tensors)))
    few = [gradients[name] for name in trained]
    return lr * ratio(size([*gradients.values()]), size(few))


@right("few_rate", of="rate_of_few")
def rate_of_few(lr, gradients, trained):
    return larger(lr, gradients, trained)


@mistake(
    "few_rate",
    "the proportion is upside down: fewer parameters want a larger rate",
    of="rate_of_few",
)
def upside_down(lr, gradients, trained):
    return larger(lr, gradients, trained, ratio=lambda all_of_them, few: few / all_of_them)


@mistake(
    "few_rate",
    "the proportion is that of the numbers of parameters; that of their gradients' sizes counts",
    of="rate_of_few",
)
def proportion_of_counts(lr, gradients, trained):
    return larger(lr, gradients, trained, size=lambda tensors: sum(map(torch.numel, tensors)))


@mistake(
    "few_rate",
    "the proportion is that of the numbers of tensors; that of their gradients' sizes counts",
    of="rate_of_few",
)
def proportion_of_tensors(lr, gradients, trained):
    return larger(lr, gradients, trained, size=len)


@mistake(
    "few_rate",
    "what is trained is compared with what is frozen; compare it with all parameters",
    of="rate_of_few",
)
def against_frozen(lr, gradients, trained):
    return larger(lr, gradients, trained, ratio=lambda all_of_them, few: (all_of_them - few) / few)


@mistake("few_rate", "the rate of training all is left out: this is the proportion alone",
         of="rate_of_few")  # fmt: skip
def proportion_alone(lr, gradients, trained):
    return larger(1.0, gradients, trained)


@mistake(
    "few_rate",
    "the root of the proportion is taken; the decrease grows with the rate itself",
    of="rate_of_few",
)
def root_of_proportion(lr, gradients, trained):
    return larger(
        lr, gradients, trained, ratio=lambda all_of_them, few: math.sqrt(all_of_them / few)
    )


@mistake("few_rate", "the rate is the same for few parameters as for all", of="rate_of_few")
def same_rate(lr, gradients, trained):
    return lr


@mistake(
    "few_rate",
    "biases are what is taken, whatever `trained` names",
    of="rate_of_few",
)
def biases_always(lr, gradients, trained):
    return larger(lr, gradients, [name for name in gradients if name.endswith("bias")])


@mistake(
    "few_rate",
    "frozen and trained parameters are mixed up: `trained` names those that train",
    of="rate_of_few",
)
def frozen_for_trained(lr, gradients, trained):
    def ratio(all_of_them, few):
        return all_of_them / (all_of_them - few) if all_of_them > few else math.inf

    return larger(lr, gradients, trained, ratio=ratio)
