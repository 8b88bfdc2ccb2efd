"""Part 6, numbers of parameters: right answers, and mistakes."""

from __future__ import annotations

from lab.answers import mistake, right

# BERT


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


# LoRA


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
