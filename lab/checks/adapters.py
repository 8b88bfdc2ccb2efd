"""Checks of part 4, BitFit and LoRA."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lab.checks.bert import modes, tiny_config
from lab.harness import Draw, check, gradients, mark_dropouts, marked_dropout

Cases = Iterator[tuple[str, Any]]


def refused(call: Callable[[], Any]) -> str:
    """Whether a call raises ValueError."""
    try:
        call()
    except ValueError:
        return "refused"
    return "taken"


def trained(module: nn.Module) -> dict[str, bool]:
    """Which parameters train."""
    return {name: p.requires_grad for name, p in module.named_parameters()}


@check("bitfit")
def bitfit(draw: Draw) -> Cases:
    from data.tasks import get_task
    from minbert.adapters.apply import freeze, train_biases
    from minbert.adapters.layers import Adapted, LoRALinear
    from minbert.encoders.bert import Bert
    from multitask.extensions.bitfit import BitFit
    from multitask.model import MultitaskModel

    small = replace(tiny_config(), num_layers=1)
    encoder = Bert(small)
    place = "layers.0.attention.query"
    base = encoder.get_submodule(place)
    assert isinstance(base, nn.Linear)
    adapted = Adapted(base)
    encoder.set_submodule(place, adapted)
    adapted.adapters["first"] = LoRALinear(base, 2, alpha=4)
    freeze(encoder)
    yield "freeze: which parameters train", trained(encoder)
    encoder = Bert(small)
    encoder.pooler.requires_grad_(False)
    yield "freeze: a part is frozen already", refused(lambda: freeze(encoder))
    yield "freeze: which train after a refusal", trained(encoder)
    for weight in encoder.parameters():
        weight.requires_grad_(False)
    yield "freeze: all is frozen already, as it should be", refused(lambda: freeze(encoder))
    for roles in (("all",), ("query", "feed_forward_inner")):
        encoder = Bert(small)
        train_biases(encoder, roles)
        yield f"train_biases: which train with roles {' '.join(roles)}", trained(encoder)
    encoder = Bert(small)
    train_biases(encoder, (role for role in ("query", "value")))
    yield "train_biases: which train with roles from a generator", trained(encoder)
    encoder = Bert(small)
    yield (
        "train_biases: roles without a bias",
        refused(lambda: train_biases(encoder, ["query", "word_embeddings"])),
    )
    for roles in (("all",), ("key",)):
        model = MultitaskModel(Bert(small), [get_task("sst")], head_size=3)
        BitFit(roles=roles).prepare(model)
        yield f"BitFit: which train of model and heads, roles {roles[0]}", trained(model)


@check("lora_start")
def lora_start(draw: Draw) -> Cases:
    from minbert.adapters.layers import LoRALinear

    features, seed = 400, draw.random.randrange(1000)

    def started(seed: int) -> Any:
        lora = LoRALinear(nn.Linear(features, 40), 8, alpha=16)
        lora.initialise(torch.Generator().manual_seed(seed))
        return lora

    lora = started(seed)
    yield "shapes of A and B", [list(lora.A.shape), list(lora.B.shape)]
    yield "the change is zero at first", not (lora.B @ lora.A).any()
    yield "B is zero", not lora.B.any()
    spread = lora.A.std().item() * math.sqrt(features)
    yield "A is not zero", bool(lora.A.any())
    yield "the standard deviation of A, in units of 1/√in", round(spread, 1)
    largest = lora.A.abs().max().item() * math.sqrt(features)
    yield "A lies between -1/√in and 1/√in", largest < 1.001
    yield "A is even there, about 0", abs(lora.A.mean().item()) * math.sqrt(features) < 0.06
    yield "the same generator gives the same A", torch.equal(lora.A, started(seed).A)
    yield "another gives another", not torch.equal(lora.A, started(seed + 1).A)
    yield "A and B train", trained(lora)


@check("lora_forward")
def lora_forward(draw: Draw) -> Cases:
    from minbert.adapters.layers import LoRAEmbedding, LoRALinear

    kinds: dict[str, dict[str, Any]] = {
        "LoRA": {},
        "rank-stabilised": {"rank_stabilised": True},
        "DoRA": {"dora": True},
    }
    for name, options in kinds.items():
        for sizes in ((4, 4), (5, 3)):
            base = draw.fill(nn.Linear(*sizes))
            lora = draw.fill(LoRALinear(base, 3, alpha=6, **options))
            lora.dropout, gain = marked_dropout(), draw.normal(sizes[1])
            lora.gain = lambda matrix, gain=gain: gain
            x = draw.normal(2, 5, sizes[0], grad=True)
            for mode in modes(lora):
                yield f"{mode}{name} of {sizes[0]} to {sizes[1]} features", lora(base, x)
            if name == "LoRA":
                yield "gradients of x, A and B", gradients(lora(base, x), x, lora.A, lora.B)
    for name, options in kinds.items():
        table = draw.fill(nn.Embedding(7, 4))
        lora = draw.fill(LoRAEmbedding(table, 3, alpha=6, **options))
        gain = draw.normal(4)
        lora.gain = lambda matrix, gain=gain: gain
        lora.dropout = marked_dropout()  # which has no place on token ids
        yield f"{name} of an embedding table", lora(table, draw.integers(0, 7, 2, 5))


@check("lora_merge")
def lora_merge(draw: Draw) -> Cases:
    from minbert.adapters.layers import IA3, Adapted, LoRALinear

    for sizes in ((4, 4), (5, 3)):
        base = draw.fill(nn.Linear(*sizes))
        lora = draw.fill(LoRALinear(base, 2, alpha=6))
        yield f"changed, of {sizes[0]} to {sizes[1]} features", lora.changed(base.weight)
    stabilised = draw.fill(LoRALinear(base, 2, alpha=6, rank_stabilised=True))
    yield "changed, rank-stabilised", stabilised.changed(base.weight)
    for name, adapter in (("LoRA", lora), ("IA3", draw.fill(IA3(base)))):
        module = Adapted(base).eval()
        module.adapters["first"] = adapter
        before = {key: p.clone() for key, p in base.named_parameters()}
        x, weight = draw.normal(2, base.in_features), base.weight
        module.merge()
        yield f"{name}: no adapter is in use, so merge does nothing", list(base.parameters())
        module.active = "first"
        module.merge()
        yield f"{name}: the base after merge", [p.detach().clone() for p in base.parameters()]
        yield f"{name}: is_merged after merge", module.is_merged
        yield f"{name}: the values that are kept", dict(module._originals)
        yield f"{name}: the output when merged", module(x)
        yield f"{name}: the base's parameters are changed in place", base.weight is weight
        module.merge()
        yield f"{name}: the base after a second merge", [p.detach() for p in base.parameters()]
        module.unmerge()
        same = [torch.equal(p, before[key]) for key, p in base.named_parameters()]
        yield f"{name}: unmerge gives weight and bias back, bit for bit", same
        yield f"{name}: is_merged after unmerge", module.is_merged
        with torch.no_grad():
            base.weight.add_(1)
        module.unmerge()
        yield f"{name}: a second unmerge does nothing", list(base.parameters())
        with torch.no_grad():
            base.weight.sub_(1)


@check("bottleneck")
def bottleneck(draw: Draw) -> Cases:
    from minbert.adapters.bottleneck import Bottleneck, HoulsbySum, PfeifferSum
    from minbert.encoders.bert import AddNorm

    seed = draw.random.randrange(1000)

    def started(seed: int) -> Bottleneck:
        made = Bottleneck(60, 40)
        made.initialise(torch.Generator().manual_seed(seed))
        return made

    first = started(seed)
    named = dict(first.named_parameters())
    yield "first values: shapes and kinds", {n: [*p.shape, str(p.dtype)] for n, p in named.items()}
    yield "first values: what is zero", {n: not p.any() for n, p in named.items()}
    weight = first.down.weight
    spread = weight.std().item()
    yield "the standard deviation of W_down, in hundredths", round(100 * spread)
    far = weight.abs().max().item() > 2.5 * spread
    yield "W_down has values beyond two and a half standard deviations", far
    same = torch.equal(weight, started(seed).down.weight)
    yield "the same generator gives the same W_down", same
    yield "another gives another", not torch.equal(weight, started(seed + 1).down.weight)
    yield "all of it trains", trained(first)
    for activation in ("gelu", "relu", "swish"):
        module = draw.fill(Bottleneck(4, 3, activation))
        z = draw.normal(2, 5, 4, grad=True)
        yield f"A(z) with {activation}", module(z)
        yield f"its gradients with {activation}", gradients(module(z), z, *module.parameters())
    for kind in (HoulsbySum, PfeifferSum):
        base = mark_dropouts(draw.fill(AddNorm(tiny_config())))
        size = base.norm.normalized_shape[0]
        adapters: Any = draw.fill(nn.Linear(size, size))  # in the place of a bottleneck
        module = kind(base, adapters)
        x, output = (draw.normal(2, 5, size, grad=True) for _ in range(2))
        for mode in modes(module):
            yield f"{mode}{kind.__name__}", module(x, output)
        yield f"{kind.__name__}: gradients of both", gradients(module(x, output), x, output)
