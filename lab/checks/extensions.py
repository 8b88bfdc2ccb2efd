"""Checks of part 4: masking, rates, adapters, gradient surgery, attention in newer encoders.

What is drawn at random is counted, so that any order of the draws will do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.checks.bert import modes, tiny_config
from lab.harness import Draw, check, gradients, marked_dropout

Cases = Iterator[tuple[str, Any]]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def near(share: float, wanted: float) -> bool | str:
    """Whether a share of very many draws is the one that is wanted; if not, about what it is."""
    return bool(abs(share - wanted) < 0.03) or f"about {round(share, 1):.0%}"


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


@check("mlm_masking")
def mlm_masking(draw: Draw) -> Cases:
    from data.masking import Masker
    from minbert.tokenization import Tokenizer

    tokens = [*SPECIAL, *(f"w{n}" for n in range(50)), *(f"##p{n}" for n in range(10))]
    tokenizer = Tokenizer.from_tokens(tokens)
    ids = draw.integers(0, len(tokens), 20_000).numpy()
    special = ids < len(SPECIAL)
    seed = draw.random.randrange(1000)

    def apply(masker: Any, seed: int = seed) -> tuple[Any, Any]:
        row = ids.copy()
        seen, chosen = masker(row, np.random.default_rng(seed))
        assert (row == ids).all(), "the row that is passed in is changed; make a new one"
        return np.asarray(seen), np.asarray(chosen)

    settings = {"rate": 0.6, "mask_share": 0.5, "random_share": 0.3}
    for name, options in (("rates of BERT: ", {}), ("other rates: ", settings)):
        masker = Masker(tokenizer, **options)
        seen, chosen = apply(masker)
        yield name + "shapes and kinds", [f"{x.dtype} {x.shape}" for x in (seen, chosen)]
        chosen = chosen.astype(bool)
        yield name + "special tokens are never chosen", not chosen[special].any()
        yield (
            name + "the share of other tokens that is chosen",
            near(chosen[~special].mean(), masker.rate),
        )
        yield name + "what was not chosen stays", (seen == ids)[~chosen].all()
        if not chosen.any():
            return
        masked, stays = seen[chosen] == tokenizer.mask_id, (seen == ids)[chosen]
        yield (
            name + "the share of the chosen that is [MASK] now",
            near(masked.mean(), masker.mask_share),
        )
        kept = 1 - masker.mask_share - masker.random_share
        kept += masker.random_share / len(masker.ordinary)  # the random token may be the old one
        yield name + "the share of the chosen that stays", near(stays.mean(), kept)
        others = seen[chosen][~masked & ~stays]
        yield name + "a random token is no special one", (others >= len(SPECIAL)).all()
        drawn = set(others) & set(masker.ordinary)
        yield name + "any ordinary token may be drawn", len(drawn) > 0.9 * len(masker.ordinary)
    again, other = apply(masker), apply(masker, seed + 1)
    yield "the same generator masks the same", all(map(np.array_equal, (seen, chosen), again))
    yield "another generator masks other tokens", not np.array_equal(chosen, other[1])
    words = Masker(tokenizer, whole_words=True)
    chosen, word = apply(words)[1].astype(bool), words.words(ids)
    inside = (word[1:] == word[:-1]) & ~special[1:] & ~special[:-1]
    together = (chosen[1:] == chosen[:-1])[inside]
    yield "whole words: all tokens of a word are chosen together", together.all()
    yield "whole words: the share of tokens that is chosen", near(chosen[~special].mean(), 0.15)


class _Encoder(nn.Module):
    """Stands for an encoder: the state of a token depends on its word and segment alone."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.token_type = nn.Embedding(11, 4), nn.Embedding(2, 4)

    def forward(
        self, input_ids: Tensor, attention_mask: Any = None, token_type_ids: Any = None,
        *, layout: Any = None,
    ) -> Any:  # fmt: skip
        from minbert.base import EncoderOutput

        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        states = self.word(input_ids) + self.token_type(types)
        return EncoderOutput(last_hidden_state=states, pooler_output=None, layout=layout)


@check("masked_loss")
def masked_loss(draw: Draw) -> Cases:
    from data.batching import Batch
    from minbert.layouts import Packed, Padded
    from multitask.model import MaskedLanguageModel

    model = draw.fill(MaskedLanguageModel(_Encoder(), nn.Linear(4, 11)))
    layouts: dict[str, Any] = {
        "padded": Padded(torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])),
        "packed": Packed([5, 3]),
    }
    for name, layout in layouts.items():
        places = torch.tensor([1, 3, 6])  # among all tokens: two of the first row, one of the next
        labels = draw.integers(0, 11, 3)
        batch = Batch(
            ids=("0", "1"),
            labels=labels,
            input_ids=draw.integers(1, 11, *layout.shape),
            token_type_ids=draw.integers(0, 2, *layout.shape),
            layout=layout,
            masked=places,
        )
        yield f"scores of a {name} batch", model(batch)

        def loss(scores: Tensor, labels: Tensor = labels) -> Tensor:
            return F.cross_entropy(scores, labels, reduction="sum")

        found = model(batch, then=loss)
        yield f"loss of a {name} batch, made by `then`", found
        word = model.encoder.word.weight
        yield f"gradient of the words of a {name} batch", torch.autograd.grad(found, word)[0]


@check("layer_rates")
def layer_rates(draw: Draw) -> Cases:
    from data.tasks import get_task
    from minbert.encoders.bert import Bert
    from multitask.extensions.layer_lr import LayerLR
    from multitask.model import MultitaskModel

    model = MultitaskModel(Bert(tiny_config()), [get_task("sst")], head_size=3)
    for decay, heads in ((0.5, 1.0), (draw.number(0.6, 0.9), 3.0), (1.0, 1.0)):
        name = f"decay {decay:.2g}, heads {heads:g}: "
        scale = LayerLR(decay=decay, heads=heads).lr_scale(model)
        yield name + "factors of the rates", dict(scale)


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
    base = encoder.layers[0].attention.query
    adapted = encoder.layers[0].attention.query = Adapted(base)
    adapted.adapters["first"] = LoRALinear(base, 2, alpha=4)
    freeze(encoder)
    yield "freeze: which parameters train", trained(encoder)
    encoder = Bert(small)
    encoder.pooler.requires_grad_(False)
    yield "freeze: a part is frozen already", refused(lambda: freeze(encoder))
    yield "freeze: which train after a refusal", trained(encoder)
    for roles in (("all",), ("query", "feed_forward_inner")):
        encoder = Bert(small)
        train_biases(encoder, roles)
        yield f"train_biases: which train with roles {' '.join(roles)}", trained(encoder)
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
    yield "the standard deviation of A, in units of 1/√in", round(spread, 1)
    largest = lora.A.abs().max().item() * math.sqrt(features)
    yield "A lies between -1/√in and 1/√in", largest <= 1
    yield "A is even there, about 0", abs(lora.A.mean().item()) * math.sqrt(features) < 0.06
    yield "the same generator gives the same A", torch.equal(lora.A, started(seed).A)
    yield "another gives another", not torch.equal(lora.A, started(seed + 1).A)
    yield "A and B train", trained(lora)


@check("lora_forward")
def lora_forward(draw: Draw) -> Cases:
    from minbert.adapters.layers import LoRAEmbedding, LoRALinear

    kinds: dict[str, dict[str, Any]] = {
        "LoRA": {}, "rank-stabilised": {"rank_stabilised": True}, "DoRA": {"dora": True}
    }  # fmt: skip
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
        yield f"{name} of an embedding table", lora(table, draw.integers(0, 7, 2, 5))


@check("lora_merge")
def lora_merge(draw: Draw) -> Cases:
    from minbert.adapters.layers import IA3, Adapted, LoRALinear

    for sizes in ((4, 4), (5, 3)):
        base = draw.fill(nn.Linear(*sizes))
        lora = draw.fill(LoRALinear(base, 2, alpha=6))
        yield f"changed, of {sizes[0]} to {sizes[1]} features", lora.changed(base.weight)
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


def three_gradients(draw: Draw) -> np.ndarray:
    """(3, 3): three gradients of different lengths, each two of which conflict."""
    rows = []
    for n in range(3):
        angle = 2 * math.pi * n / 3 + draw.number(-0.1, 0.1)
        flat = [math.cos(angle), math.sin(angle), draw.number(-0.3, 0.3)]
        rows.append(np.array(flat) * draw.number(0.6, 1.8))
    return np.stack(rows)


def over_orders(count: int, run: Callable[[np.random.Generator], Any]) -> list[Tensor]:
    """For each task, the rows that come out over many generators, each once and sorted.

    So it does not matter how an order is drawn, only which orders are.
    """
    found: list[dict[Any, np.ndarray]] = [{} for _ in range(count)]
    for seed in range(40):
        result = run(np.random.default_rng(seed))
        rows = [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,))]
        for i, seen in enumerate(found):
            row = np.concatenate([part[i] for part in rows])
            seen.setdefault(tuple(row.round(4).tolist()), row)
    return [torch.tensor(np.stack([seen[key] for key in sorted(seen)])) for seen in found]


@check("surgery")
def surgery(draw: Draw) -> Cases:
    from multitask.extensions.gradient_surgery import pcgrad

    yield from _reconciled(draw, lambda products, generator, _: pcgrad(products, generator))


@check("vaccine")
def vaccine(draw: Draw) -> Cases:
    from multitask.extensions.gradient_surgery import gradvac

    def run(products: np.ndarray, generator: np.random.Generator, averages: np.ndarray) -> Any:
        kept = averages.copy()
        result = gradvac(products, averages, 0.2, generator)
        assert (averages == kept).all(), "the averages passed in are changed; copy them first"
        return result

    yield from _reconciled(draw, run)
    rows = np.stack([np.zeros(3), *three_gradients(draw)[:2]])
    averages = np.full((3, 3), 0.2)
    result = over_orders(3, lambda generator: run(rows @ rows.T, generator, averages))
    yield "one of three gradients is zero", result


def _reconciled(draw: Draw, run: Callable[..., Any]) -> Cases:
    """Cases of two and of three tasks."""
    rows = three_gradients(draw)
    low, high = (np.array([[draw.number(*ends) for _ in range(3)] for _ in range(3)])
                 for ends in ((-0.2, 0.1), (0.6, 0.9)))  # fmt: skip
    averages = np.where(np.add.outer(range(3), range(3)) % 2, high, low)
    cases = {
        "two tasks that conflict": rows[:2],
        "two tasks that agree": np.abs(rows[:2]) + 0.2,
        "three tasks that conflict, in any order": rows,
        "three tasks, two of which agree": rows * [[1], [1], [-1]],
    }
    for name, vectors in cases.items():
        products, n = vectors @ vectors.T, len(vectors)
        kept = products.copy()
        some = averages[:n, :n]
        yield name, over_orders(n, lambda g, p=products, a=some: run(p, g, a))
        yield f"{name}: the products are left as they were", (products == kept).all()


@check("rope")
def rope(draw: Draw) -> Cases:
    from minbert.attention import apply_rope, rope_angles

    restarted = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 2, 0, 1]])
    for theta in (10.0, 10_000.0):
        yield f"rope_angles, θ = {theta:g}", rope_angles(restarted, 6, theta)
    yield "rope_angles at place 9 of head size 2", rope_angles(torch.tensor(9), 2, 100.0)
    angles = draw.normal(2, 5, 3)
    x = draw.normal(2, 5, 4, 6, grad=True)
    turned = apply_rope(x, angles.cos(), angles.sin())
    yield "apply_rope, padded", turned
    yield "gradients of x", gradients(turned, x)
    packed = apply_rope(x[0], angles[0].cos(), angles[0].sin())
    yield "apply_rope, packed", packed
    half = apply_rope(x.bfloat16(), angles.cos(), angles.sin())
    yield "the dtype of x is kept", str(half.dtype)


@check("local_attention")
def local_attention(draw: Draw) -> Cases:
    from minbert import attention

    real = torch.tensor([[True] * 7, [True] * 3 + [False] * 4])[:, None, None, :]
    places = torch.arange(9)
    known = draw.integers(0, 2, 9).bool()
    for window in (1, 2):
        yield (
            f"within_window of {window}",
            attention.within_window(places[3:6], places, known, window),
        )
    for window in (1, 3):
        yield f"local_mask of window {window}", attention.local_mask(real, window)
    query, key, value = (draw.normal(2, 2, 7, 3) for _ in range(3))
    dropout = marked_dropout()
    for mode in modes(dropout):
        found = attention.local_attention(query, key, value, real, 2, dropout)
        yield mode + "context and probabilities", found


@check("convolution")
def convolution(draw: Draw) -> Cases:
    from minbert.attention import dynamic_convolution

    for batch, length, heads, size, width in ((2, 6, 2, 3, 3), (1, 3, 3, 2, 5)):
        value = draw.normal(batch, length, heads * size)
        kernel = draw.normal(batch, length, heads, width)
        name = f"{heads} heads, {length} tokens, K = {width}"
        yield name, dynamic_convolution(value, kernel)
