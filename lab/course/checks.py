"""Checks of BERT and AdamW in a checkout, by the handout's names and conventions: the lab's cases.

A check is a generator of (case, value) as in lab/harness.py; `load` gives it the modules, "bert" or
"optimizer", of the checkout or of the reference. What a part calls of other parts is supplied, so
that a mistake there does not reach it. B = 2 sequences, S = 5 tokens, N = 3 heads of D = 4: H = 12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lab.checks.bert import TRAIN, B, D, H, N, S, modes, padding
from lab.course import reference
from lab.course.given import Load, Skipped, member, prepared, supplied
from lab.course.heads import classifier, multitask
from lab.harness import Draw, gradients, without_chance
from lab.planting import planted
from lab.source import Target
from lab.values import encode

Cases = Iterator[tuple[str, Any]]
INNER = 7
BETAS = (0.8, 0.95)


def cases(name: str, seed: int, load: Load) -> Cases:
    """The cases of a part's check, encoded."""
    for case, value in raw_cases(name, seed, load):
        yield case, encode(value)


def raw_cases(name: str, seed: int, load: Load) -> Cases:
    """The cases of a part's check as they are, with a dropout that draws nothing."""
    functional = "torch.nn.functional"
    attend = planted(Target(functional, "scaled_dot_product_attention"), attend_without_chance)
    with planted(Target(functional, "dropout"), without_chance), attend:
        yield from CHECKS[name](Draw(seed, name), load)


def attend_without_chance(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """PyTorch's attention, whose dropout draws nothing."""
    scores = query @ key.transpose(-2, -1) * (scale or query.size(-1) ** -0.5)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None:
        added = attn_mask.dtype != torch.bool
        scores = scores + attn_mask if added else scores.masked_fill(~attn_mask, float("-inf"))
    return without_chance(scores.softmax(-1), dropout_p) @ value


def additive(mask: Tensor) -> Tensor:
    """(B, S) -> (B, 1, 1, S): 0 where a token is real, -10,000 where it is padding."""
    return (1.0 - mask[:, None, None, :].float()) * -10_000.0


def own_class(load: Load, name: str) -> tuple[Any, Any]:
    """The reference's class of this name, and the checkout's."""
    return getattr(reference, name), member(load("bert"), name)


def attention(draw: Draw, load: Load) -> Cases:
    member(load("bert"), "BertSelfAttention.attention")
    module = prepared(draw, *own_class(load, "BertSelfAttention"))
    key, query, value = (draw.normal(B, N, S, D, grad=True) for _ in range(3))
    for mode in modes(module):
        context = module.attention(key, query, value, additive(padding()))
        dropped = mode != TRAIN or hasattr(module, "dropout")  # CMU's first version has none
        yield mode + "the context, heads merged", context if dropped else Skipped()
        if mode == TRAIN:
            found = gradients(context, key, query, value)
            yield TRAIN + "gradients of key, query, value", found if dropped else Skipped()
    module.eval()
    yield "without padding", module.attention(key, query, value, torch.zeros(B, 1, 1, S))
    key, query, value = (scale * draw.normal(B, N, 3, D) for scale in (30, 30, 1))
    mask = additive(padding()[:, 1:4])
    yield "scores of some hundreds, S = 3", module.attention(key, query, value, mask)


def add_norm(draw: Draw, load: Load) -> Cases:
    member(load("bert"), "BertLayer.add_norm")
    module = prepared(draw, *own_class(load, "BertLayer"))
    input, output = draw.normal(B, S, H, grad=True), draw.normal(B, S, H, grad=True)
    inner = draw.normal(B, S, INNER)
    first = (module.attention_dense, module.attention_dropout, module.attention_layer_norm)
    for mode in modes(module):
        found = module.add_norm(input, output, *first)
        yield mode + "the sum after the attention, normalised", found
        if mode == TRAIN:
            yield TRAIN + "gradients of input and output", gradients(found, input, output)
    module.eval()
    second = (module.out_dense, module.out_dropout, module.out_layer_norm)
    yield "with the modules of the second block", module.add_norm(input, inner, *second)


def layer(draw: Draw, load: Load) -> Cases:
    module = prepared(draw, *own_class(load, "BertLayer"))
    module.interm_dense.weight.data *= 2  # far from where tanh and exact GELU meet
    x = draw.normal(B, S, H, grad=True)
    with supplied(load, reference, "BertSelfAttention.attention", "BertLayer.add_norm"):
        for mode in modes(module):
            found = module(x, additive(padding()))
            yield mode + "the output", found
            if mode == TRAIN:
                yield TRAIN + "gradients of the hidden states", gradients(found, x)


def embed(draw: Draw, load: Load) -> Cases:
    member(load("bert"), "BertModel.embed")
    module = prepared(draw, *own_class(load, "BertModel"))
    ids = draw.integers(1, 11, B, S)
    ids[0, 1], ids[1, 3:] = ids[0, 3], 0  # one word in two places; padding
    for mode in modes(module):
        yield mode + "embeddings of a padded batch", module.embed(ids)
    module.eval()
    found = module.embed(ids[:, 1:3])
    yield "embeddings of two tokens", found
    tables = module.word_embedding.weight, module.pos_embedding.weight
    yield "gradients of the tables of words and positions", gradients(found, *tables)


def model(draw: Draw, load: Load) -> Cases:
    module = prepared(draw, *own_class(load, "BertModel")).eval()
    ids, mask = draw.integers(1, 11, B, S), padding().long()
    parts = "BertSelfAttention.attention", "BertLayer.add_norm", "BertLayer.forward"
    with supplied(load, reference, "BertModel.embed", *parts):
        found = module(ids, mask)
        yield "last_hidden_state", found["last_hidden_state"]
        yield "pooler_output", found["pooler_output"]
        biases = [layer.out_dense.bias for layer in module.bert_layers]
        yield "gradients of each layer", gradients(found["last_hidden_state"], *biases)


def adamw(draw: Draw, load: Load) -> Cases:
    cls = member(load("optimizer"), "AdamW")
    variants: tuple[tuple[str, dict[str, Any]], ...] = (
        ("with bias correction", {}),
        ("without bias correction", {"correct_bias": False}),
    )
    params: list[nn.Parameter] = []
    made: list[Any] = []
    for name, options in variants:
        params = [nn.Parameter(draw.normal(*shape)) for shape in ((3, 2), (2,), (2, 2))]
        groups = [
            {"params": params[:2], "lr": 0.2, "weight_decay": 0.4},
            {"params": params[2:], "lr": 0.05, "weight_decay": 0.0},
        ]
        made.append(cls(groups, lr=0.1, betas=BETAS, eps=0.05, **options))
        for step in (1, 2, 3):
            for param in params:
                param.grad = draw.normal(*param.shape)
            if step == 2:
                params[0].grad = None
            made[-1].step()
            yield f"{name}: parameters after step {step}", [p.detach() for p in params]
    params[2].grad = torch.zeros(2, 2)
    made[-1].step()
    yield "parameters after a step with a gradient of zero", [p.detach() for p in params]
    kept = all(param.grad is not None and param.grad.any() for param in params[:2])
    yield "the step leaves the gradients as they are", kept
    own: tuple[dict[str, Any], ...] = (
        {"betas": (0.5, 0.7), "eps": 0.3},
        {"weight_decay": 0.9},
        {"correct_bias": False},
    )
    others = [nn.Parameter(draw.normal(2)) for _ in own]
    groups = [{"params": [param], **options} for param, options in zip(others, own, strict=True)]
    optimizer = cls(groups, lr=0.1, betas=BETAS, eps=0.05, weight_decay=0.3)
    for step in (1, 2):
        for param in others:
            param.grad = draw.normal(2)
        optimizer.step()
        found = [param.detach() for param in others]
        yield f"groups with options of their own: parameters after step {step}", found
    target, called = draw.normal(2), list[bool]()

    def closure() -> Tensor:
        called.append(True)
        made[-1].zero_grad()
        loss = (params[1] - target).square().sum()
        loss.backward()
        return loss

    yield "the closure's loss", made[-1].step(closure)
    yield "parameters after a step with a closure", [p.detach() for p in params]
    yield "how often the closure was called", len(called)


CHECKS: dict[str, Callable[[Draw, Load], Cases]] = {
    check.__name__: check
    for check in (attention, add_norm, layer, embed, model, adamw, classifier, multitask)
}
