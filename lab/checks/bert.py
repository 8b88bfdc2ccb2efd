"""Checks of part 1, BERT. B = 2 sequences, S = 5 tokens, N = 3 heads of D = 4: H = 12."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lab.harness import Draw, M, check, gradients, mark_dropouts, marked_dropout

B, S, N, D, H = 2, 5, 3, 4, 12
Cases = Iterator[tuple[str, Any]]
TRAIN, EVAL = "in train mode: ", "in eval mode: "


def tiny_config() -> Any:
    from minbert.encoders.bert import BertConfig

    return BertConfig(
        vocab_size=11,
        hidden_size=H,
        num_layers=3,
        num_heads=N,
        intermediate_size=7,
        max_positions=9,
        type_vocab_size=2,
        layer_norm_eps=0.1,
    )


def prepared(draw: Draw, module: M) -> M:
    """A module with seeded values and marked dropouts."""
    return mark_dropouts(draw.fill(module))


def padding() -> Tensor:
    """(B, S), False at the second sequence's last two tokens."""
    return torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


def modes(module: nn.Module) -> Iterator[str]:
    """Put a module in eval, then in train mode, and say so."""
    for mode, training in ((EVAL, False), (TRAIN, True)):
        module.train(training)
        yield mode


@check("embeddings")
def embeddings(draw: Draw) -> Cases:
    from minbert.encoders.bert import Embeddings

    module = prepared(draw, Embeddings(tiny_config()))
    ids, types = draw.integers(1, 11, B, S), draw.integers(0, 2, B, S)
    ids[0, 1], types[0] = ids[0, 3], torch.tensor([0, 0, 1, 1, 1])  # one word in two places
    positions = torch.arange(S).expand(B, S)
    for mode in modes(module):
        yield mode + "embeddings of a padded batch", module(ids, types, positions)
    module.eval()
    restarted = torch.tensor([0, 1, 2, 0, 1])
    packed = module(ids[0], types[0], restarted)
    yield "embeddings of a packed batch", packed
    tables = [each.weight for each in (module.word, module.position, module.token_type)]
    yield "gradients of the three tables", gradients(packed, *tables)


@check("attention_mask")
def attention_mask(draw: Draw) -> Cases:
    from minbert.attention import key_mask

    mask = draw.integers(0, 2, B, S).bool()
    mask[:, 0] = True
    mask[1, 1] = not mask[0, 1]
    yield "the mask", key_mask(mask)
    yield "scores that stay", key_mask(mask).expand(B, N, S, S)


@check("attention")
def attention(draw: Draw) -> Cases:
    from minbert.attention import scaled_dot_product_attention

    query, key, value = (draw.normal(B, N, S, D, grad=True) for _ in range(3))
    mask = padding()[:, None, None, :]
    dropout = marked_dropout()
    for mode in modes(dropout):
        context, probabilities = scaled_dot_product_attention(query, key, value, mask, dropout)
        yield mode + "the context", context
        yield mode + "the probabilities", probabilities
        if mode == TRAIN:
            yield "gradients of query, key and value", gradients(context, query, key, value)
    dropout.eval()
    yield "without a mask", scaled_dot_product_attention(query, key, value, None, dropout)
    triangle = torch.ones(S, S, dtype=torch.bool).tril()
    yield "with a mask (S, S)", scaled_dot_product_attention(query, key, value, triangle, dropout)
    large = 30 * draw.normal(B, N, 3, D), 30 * draw.normal(B, N, 3, D), draw.normal(B, N, 3, D)
    yield (
        "scores of some hundreds, S = 3",
        scaled_dot_product_attention(*large, padding()[:, None, None, 1:4], dropout),
    )
    query, key = torch.full((1, 1, 3, D), 10.0), torch.full((1, 1, 3, D), 10.0)
    key[0, 0, :2] *= draw.normal(2, 1) / 100
    real = torch.tensor([True, True, False])[None, None, None]
    yield (
        "a masked key whose score is 200, beside some about 0",
        scaled_dot_product_attention(query, key, draw.normal(1, 1, 3, D), real, dropout),
    )


@check("heads")
def heads(draw: Draw) -> Cases:
    from minbert.attention import merge_heads, split_heads

    x = draw.normal(B, S, H)
    yield "split_heads", split_heads(x, N)
    yield "split_heads of a transposed tensor's copy", split_heads(x.transpose(0, 1).clone(), N)
    y = draw.normal(B, N, S, D)
    yield "merge_heads", merge_heads(y)
    y = draw.normal(B, S, N, D).transpose(1, 2)  # what split_heads gives: not contiguous
    yield "merge_heads of what split_heads gives", merge_heads(y)


@check("self_attention")
def self_attention(draw: Draw) -> Cases:
    from minbert.encoders.bert import SelfAttention
    from minbert.layouts import Packed, Padded
    from minbert.quick import route_of

    module = prepared(draw, SelfAttention(tiny_config()))
    x, layout = draw.normal(B, S, H), Padded(padding())
    with route_of("plain"), torch.no_grad():
        for mode in modes(module):
            yield mode + "the output", module(x, layout)
        module.eval()
        maps: list[Tensor] = []
        yield "the output with maps", module(x, layout, maps)
        yield "the maps", maps
        packed = Packed([5, 3])
        yield "the output of a packed batch", module(draw.normal(8, H), packed)


@check("add_norm")
def add_norm(draw: Draw) -> Cases:
    from minbert.encoders.bert import AddNorm

    module = prepared(draw, AddNorm(tiny_config()))
    residual, output = draw.normal(B, S, H, grad=True), draw.normal(B, S, H, grad=True)
    for mode in modes(module):
        found = module(residual, output)
        yield mode + "the sum, normalised", found
        if mode == TRAIN:
            yield TRAIN + "gradients of residual and output", gradients(found, residual, output)


@check("feed_forward")
def feed_forward(draw: Draw) -> Cases:
    from minbert.encoders.bert import FeedForward

    module = prepared(draw, FeedForward(tiny_config()))
    for name in ("inner", "outer"):
        getattr(module, name).weight.data *= 2  # far from where tanh and exact GELU meet
    x = draw.normal(B, S, H, grad=True)
    yield "the output", module(x)
    yield "gradients of the input", gradients(module(x), x)


@check("layer")
def layer(draw: Draw) -> Cases:
    from minbert.encoders.bert import BertLayer
    from minbert.layouts import Padded
    from minbert.quick import route_of

    module = prepared(draw, BertLayer(tiny_config()))
    x, layout = draw.normal(B, S, H), Padded(padding())
    with route_of("plain"), torch.no_grad():
        for mode in modes(module):
            yield mode + "the output", module(x, layout)
        module.eval()
        stand_in: Any = _Attention()
        module.attention = stand_in
        maps: list[Tensor] = []
        module(x, layout, maps)
        yield "attention maps that arrived in the list", len(maps)


class _Attention(nn.Module):
    """Stands for the attention where only the list that it is given matters."""

    def forward(self, x: Tensor, layout: Any, attentions: list[Tensor] | None = None) -> Tensor:
        if attentions is not None:
            attentions.append(x)
        return x


@check("encoder")
def encoder(draw: Draw) -> Cases:
    from minbert.encoders.bert import Bert
    from minbert.layouts import Packed, Padded
    from minbert.quick import route_of

    module = prepared(draw, Bert(tiny_config())).eval()
    ids, types, layout = draw.integers(1, 11, B, S), draw.integers(0, 2, B, S), Padded(padding())
    with route_of("plain"), torch.no_grad():
        states = module.encode(ids, types, layout, None)
        yield "how many states", len(states)
        # Nobody looks at padding, so there it may be anything.
        yield "the states of real tokens, one by one", [layout.to_padded(x) for x in states]
    table, layers = nn.Parameter(draw.normal(11)), [_Layer(draw.normal(2)) for _ in range(14)]
    stand_ins: Any = _Embeddings(table), nn.ModuleList(layers)
    module.embeddings, module.layers = stand_ins
    maps: list[Tensor] = []
    found = module.encode(ids, types, layout, maps)
    yield "the states of 14 layers that stand in", [layout.to_padded(x) for x in found]
    yield "layers that were given the list `attentions`", len(maps)
    weights = [table, *(layer.weight for layer in layers)]
    yield (
        "gradients of the embeddings and of each layer",
        gradients(layout.to_padded(found[-1]), *weights),
    )
    counted: list[nn.Module] = []
    runner: Any = module

    def run(layer: nn.Module, *inputs: Any) -> Tensor:
        counted.append(layer)
        return layer(*inputs)

    runner.run = run
    module.encode(ids, types, layout, None)
    yield "layers that `self.run` was asked to call", len(counted)
    packed, ids, types = Packed([5, 3]), draw.integers(1, 11, 8), draw.integers(0, 2, 8)
    yield "the states of a packed batch", list(module.encode(ids, types, packed, None))


class _Embeddings(nn.Module):
    """Stand for the embeddings: every number that they are given shows."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, positions: Tensor) -> Tensor:
        return (self.table[input_ids] + 0.3 * token_type_ids + 0.1 * positions).unsqueeze(-1)


class _Layer(nn.Module):
    """Stands for a layer."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor, layout: Any, attentions: list[Tensor] | None = None) -> Tensor:
        if attentions is not None:
            attentions.append(x)
        return torch.tanh(self.weight[0] * x + self.weight[1])


class _Pooler(nn.Module):
    """Stands for the pooler."""

    def forward(self, first: Tensor) -> Tensor:
        return 2 * first + 1


@check("pooler")
def pooler(draw: Draw) -> Cases:
    from minbert.encoders.bert import Bert
    from minbert.layouts import Packed, Padded

    module = prepared(draw, Bert(tiny_config())).eval()
    yield "Pooler.forward", module.pooler(draw.normal(B, H))
    yield "Pooler.forward of large numbers", module.pooler(1000 * draw.normal(B, H))
    stand_in: Any = _Pooler()
    module.pooler = stand_in
    yield (
        "Bert.pool, with a pooler that gives 2 x + 1",
        module.pool(draw.normal(B, S, H), Padded(padding())),
    )
    yield "the same of a packed batch", module.pool(draw.normal(8, H), Packed([5, 3]))
    states = draw.normal(B, S, H, grad=True)
    pooled = module.pool(states, Padded(padding()))
    yield "gradients of the tokens through Bert.pool", gradients(pooled, states)


@check("loading")
def loading(draw: Draw) -> Cases:
    from minbert.encoders.bert import Bert
    from minbert.loading import _modern_name, hub_names

    encoder = Bert(replace(tiny_config(), num_layers=12))
    names = hub_names(nn.ModuleDict({"encoder": encoder}))
    some = {k: v for k, v in names.items() if k.split(".")[2] in ("1", "11") or ".layers." not in k}
    yield "names of the encoder: layers 1 and 11 of 12, and what is in no layer", some
    yield "how many names there are", len(names)
    encoder = Bert(replace(tiny_config(), num_layers=1))
    model = nn.ModuleDict({"encoder": encoder, "mlm_head": encoder.make_mlm_head()})
    yield "names with the masked-language-model head", hub_names(model)
    for name in (
        "pooler.dense.weight",
        "bert.pooler.dense.bias",
        "embeddings.LayerNorm.gamma",
        "bert.embeddings.LayerNorm.beta",
        "embeddings.bert.weight",
        "embeddings.beta_layer.gamma_weight",
        "encoder.layer.10.norm.gamma",
        "bertha.weight",
    ):
        yield f"_modern_name of {name}", _modern_name(name, "bert.")
    name = "bert.convbert.dense.weight"
    yield f"_modern_name of {name}, prefix bert.convbert.", _modern_name(name, "bert.convbert.")
    yield f"_modern_name of {name}, prefix convbert.", _modern_name(name, "convbert.")
