"""Attention and layouts against torch, formulas in float64 and one sequence at a time."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from minbert import Packed, Padded, quick
from minbert.attend import quick_attention
from minbert.attention import (
    apply_rope,
    local_attention,
    local_attention_in_blocks,
    merge_heads,
    rope_angles,
    scaled_dot_product_attention,
    split_heads,
)
from minbert.layouts import groups_of_equal_length

LENGTHS = [3, 70, 1, 33, 5, 45]  # three groups of about equal length
B, S, T, H = len(LENGTHS), max(LENGTHS), sum(LENGTHS), 4


def seeded(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mask_of(lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)


def layouts():
    return {"padded": Padded(mask_of(LENGTHS)), "packed": Packed(LENGTHS)}


def in_layout(name, sequences):
    """Sequences (length, H) as the tokens of a layout; padding holds values that stand out."""
    if name == "packed":
        return torch.cat(sequences)
    return nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=1e3)


def real_tokens(name, x):
    """Tokens of a layout as (T, H)."""
    return x if name == "packed" else x[mask_of(LENGTHS)]


BOTH = pytest.mark.parametrize("name", ["padded", "packed"])


def attend(x, mask):
    """Attention of a sequence to itself, in one head."""
    q, k, v = split_heads(x, 1), split_heads(x * 0.7, 1), split_heads(x.sin(), 1)
    return merge_heads(scaled_dot_product_attention(q, k, v, mask[:, None, None], nn.Identity())[0])


def attend_alone(x):
    """The same from the formula, for one sequence (length, H)."""
    scores = x @ (x * 0.7).T / math.sqrt(x.size(-1))
    return (scores.exp() / scores.exp().sum(-1, keepdim=True)) @ x.sin()


# One function: softmax(Q Kᵀ / √D) V


def masks():
    rows = mask_of([4, 7, 2])[:, None, None, :]
    each_query = torch.rand(3, 2, 7, 7, generator=torch.Generator().manual_seed(1)) < 0.5
    return {"none": None, "keys": rows, "each query": each_query | torch.eye(7, dtype=torch.bool)}


@pytest.mark.parametrize("kind", masks())
def test_attention_equals_the_formula_in_numpy(kind):
    query, key, value = (seeded(3, 2, 7, 5, seed=n) for n in range(3))
    context, probabilities = scaled_dot_product_attention(
        query, key, value, masks()[kind], nn.Identity()
    )
    scores = np.einsum("bnqd,bnkd->bnqk", query.numpy(), key.numpy()) / 5**0.5
    weights = np.exp(scores)
    if kind != "none":
        weights = weights * masks()[kind].numpy()
    weights /= weights.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(probabilities, weights, rtol=0, atol=1e-12)
    np.testing.assert_allclose(context, weights @ value.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", masks())
def test_attention_and_its_gradients_equal_torch(kind):
    inputs = [seeded(3, 2, 7, 5, seed=n).requires_grad_() for n in range(3)]
    weights = seeded(3, 2, 7, 5, seed=3)
    ours, _ = scaled_dot_product_attention(*inputs, masks()[kind], nn.Identity())
    torchs = F.scaled_dot_product_attention(*inputs, attn_mask=masks()[kind])
    torch.testing.assert_close(ours, torchs, rtol=0, atol=1e-12)
    for name, got, want in zip(
        ("query", "key", "value"),
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((torchs * weights).sum(), inputs),
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def test_dropout_falls_on_the_probabilities_after_softmax():
    class Halves(nn.Module):
        def forward(self, x):
            return x * torch.tensor([2.0, 0.0, 2.0, 0.0], dtype=x.dtype)

    query, key, value = (seeded(2, 3, 4, 5, seed=n) for n in range(3))
    context, probabilities = scaled_dot_product_attention(query, key, value, None, Halves())
    kept = (query @ key.mT / 5**0.5).softmax(-1)
    torch.testing.assert_close(probabilities, kept, rtol=0, atol=1e-12)
    want = 2 * kept[..., ::2] @ value[..., ::2, :]
    torch.testing.assert_close(context, want, rtol=0, atol=1e-12)


def test_a_head_is_a_slice_of_the_features():
    x = seeded(2, 7, 30)
    heads = split_heads(x, 5)
    assert heads.shape == (2, 5, 7, 6)
    for head in range(5):
        assert torch.equal(heads[:, head], x[:, :, 6 * head : 6 * head + 6])
    assert torch.equal(merge_heads(heads), x)


# Rotary positions


@pytest.mark.parametrize("theta", [10_000.0, 50.0])
def test_rope_turns_pairs_of_features_like_complex_numbers(theta):
    """Feature i and i + D/2 are the parts of a complex number times exp(i p θ^(-2i/D))."""
    x, positions = seeded(3, 7, 2, 10), torch.arange(21).view(3, 7)
    cos, sin = rope_angles(positions, 10, theta)
    assert cos.shape == sin.shape == (3, 7, 5) and cos.dtype == torch.float32
    pairs = x.numpy()[..., :5] + 1j * x.numpy()[..., 5:]
    angles = positions.numpy()[..., None, None] * theta ** (-2 * np.arange(5) / 10)
    turned = pairs * np.exp(1j * angles)
    want = np.concatenate([turned.real, turned.imag], axis=-1)
    np.testing.assert_allclose(apply_rope(x, cos, sin), want, rtol=0, atol=1e-5)


def test_rope_makes_scores_depend_on_distances_alone():
    query, key = seeded(1, 8, seed=1), seeded(1, 8, seed=2)
    places = torch.arange(40)
    cos, sin = rope_angles(places, 8, 100.0)
    scores = (
        apply_rope(query.expand(40, 1, 8), cos, sin).squeeze(1)
        @ apply_rope(key.expand(40, 1, 8), cos, sin).squeeze(1).T
    )
    for distance in (-30, -1, 0, 1, 25):
        line = scores.diagonal(distance)
        torch.testing.assert_close(line, line[:1].expand_as(line), rtol=0, atol=1e-5)
    assert not torch.allclose(scores[0, 1], scores[0, 2])
    assert torch.equal(apply_rope(query[:, None], cos[:1], sin[:1])[:, 0], query), (
        "place 0 turns by nothing"
    )


def test_rope_keeps_a_dtype_and_computes_in_float32():
    """Near 8,192 neighbouring places have one bfloat16 number, and still different angles."""
    cos, sin = rope_angles(torch.tensor([8000, 8001]), 4, 10_000.0)
    x = torch.ones(2, 1, 4, dtype=torch.bfloat16)
    turned = apply_rope(x, cos, sin)
    assert turned.dtype == torch.bfloat16
    torch.testing.assert_close(turned, apply_rope(x.float(), cos, sin).bfloat16(), rtol=0, atol=0)
    assert not torch.equal(turned[0], turned[1])


# Local attention


def local_inputs(lengths, size=5, dtype=torch.float64):
    tokens = [
        seeded(len(lengths), 2, max(lengths), size, seed=n, dtype=dtype).requires_grad_()
        for n in range(3)
    ]
    return tokens, mask_of(lengths)[:, None, None, :]


@pytest.mark.parametrize("window", [1, 4, 50])
def test_local_attention_equals_the_formula_in_numpy(window):
    lengths = [9, 20, 1]
    tokens, mask = local_inputs(lengths)
    context, maps = local_attention(*tokens, mask, window, nn.Identity())
    query, key, value = (x.detach().numpy() for x in tokens)
    for row, length in enumerate(lengths):
        for place in range(length):
            near = slice(max(0, place - window), min(length, place + window + 1))
            scores = np.einsum("nd,nkd->nk", query[row, :, place], key[row, :, near]) / 5**0.5
            chances = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
            want = np.einsum("nk,nkd->nd", chances, value[row, :, near])
            np.testing.assert_allclose(context[row, :, place].detach(), want, rtol=0, atol=1e-12)
            np.testing.assert_allclose(maps[row, :, place, near].detach(), chances, atol=1e-12)
            assert maps[row, :, place].sum().item() == pytest.approx(2), "nothing further away"


def step_by_step(*inputs):
    return scaled_dot_product_attention(*inputs, nn.Identity())[0]


@pytest.mark.parametrize("lengths", [[1], [8], [9, 3], [40, 17, 1], [64], [65, 2]], ids=str)
@pytest.mark.parametrize("window", [1, 4, 8, 100])
def test_local_attention_in_blocks_equals_the_plain_one(lengths, window):
    """Padding too, as far as numbers: it may not spread what is not one."""
    tokens, mask = local_inputs(lengths)
    real = mask_of(lengths)[:, None, :, None]
    plain = local_attention(*tokens, mask, window, nn.Identity())[0]
    blocks = local_attention_in_blocks(*tokens, mask, window, step_by_step)
    assert plain.isfinite().all() and blocks.isfinite().all()
    torch.testing.assert_close(blocks * real, plain * real, rtol=0, atol=1e-12)
    weights = seeded(*plain.shape, seed=3) * real
    for got, want in zip(
        torch.autograd.grad((blocks * weights).sum(), tokens),
        torch.autograd.grad((plain * weights).sum(), tokens),
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [12, 300, 1100])
@pytest.mark.parametrize("dropout", [nn.Dropout(0.0), nn.Identity()], ids=["kernel", "steps"])
def test_the_quick_local_attention_equals_the_plain_one(length, dropout):
    """In blocks by PyTorch's kernel, and step by step where that does not know the dropout."""
    tokens, mask = local_inputs([length, length // 2], size=8, dtype=torch.float32)
    real = mask_of([length, length // 2])[:, None, :, None]
    weights = seeded(*tokens[0].shape, seed=3, dtype=torch.float32) * real
    found = []
    for route in ("plain", "blas"):
        with quick.route_of(route):
            context = quick_attention(*tokens, mask, dropout, window=5) * real
        found.append([context, *torch.autograd.grad((context * weights).sum(), tokens)])
    for got, want in zip(*found):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_dropout_of_local_attention_falls_on_its_probabilities():
    tokens, mask = local_inputs([2000], size=8)
    value = torch.ones_like(tokens[2])
    with torch.random.fork_rng(), quick.route_of("blas"):
        torch.manual_seed(0)
        context = quick_attention(*tokens[:2], value, mask, nn.Dropout(0.4), window=5)
    assert context.std() > 0.1, "nothing was dropped"
    assert context.mean().item() == pytest.approx(1, abs=0.02)


class Largest(TorchDispatchMode):
    """The most numbers that any tensor made meanwhile holds."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in torch.utils._pytree.tree_leaves(result):
            if isinstance(x, torch.Tensor):
                self.numbers = max(self.numbers, x.untyped_storage().nbytes() // x.element_size())
        return result


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_memory_of_local_attention_grows_with_the_length(rate):
    largest = []
    for length in (1024, 2048):
        tokens, mask = local_inputs([length], dtype=torch.float32)
        with Largest() as seen, torch.random.fork_rng(), quick.route_of("blas"):
            quick_attention(*tokens, mask, nn.Dropout(rate), window=8).sum().backward()
        largest.append(seen.numbers)
    assert 1.9 < largest[1] / largest[0] < 2.1
    assert largest[1] < 2048 * 2 * 64


# Layouts


@BOTH
def test_positions_count_from_zero_in_each_sequence(name):
    positions = real_tokens(name, layouts()[name].positions)
    assert positions.tolist() == [place for length in LENGTHS for place in range(length)]


REDUCTIONS = {
    "first": lambda sequences: torch.stack([x[0] for x in sequences]),
    "mean": lambda sequences: torch.stack([x.sum(0) / len(x) for x in sequences]),
    "max": lambda sequences: torch.stack([x.max(0).values for x in sequences]),
    "to_padded": lambda sequences: torch.stack(
        [F.pad(x, (0, 0, 0, S - len(x))) for x in sequences]
    ),
}


@BOTH
@pytest.mark.parametrize("method", REDUCTIONS)
def test_reductions_and_gradients_equal_a_loop_over_sequences(name, method):
    sequences = [seeded(n, H, seed=n).requires_grad_() for n in LENGTHS]
    ours = getattr(layouts()[name], method)(in_layout(name, sequences))
    want = REDUCTIONS[method](sequences)
    torch.testing.assert_close(ours, want, rtol=0, atol=1e-12)
    weights = seeded(*want.shape)
    gradients = torch.autograd.grad((ours * weights).sum(), sequences)
    expected = torch.autograd.grad((want * weights).sum(), sequences)
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-12)


@BOTH
@pytest.mark.parametrize("whole", [False, True], ids=["as it is", "whole"])
def test_attention_and_gradients_equal_each_sequence_alone(name, whole):
    sequences = [seeded(n, H, seed=n).requires_grad_() for n in LENGTHS]
    layout = layouts()[name].whole() if whole else layouts()[name]
    ours = real_tokens(name, layout.per_sequence(attend, in_layout(name, sequences)))
    want = torch.cat([attend_alone(x) for x in sequences])
    torch.testing.assert_close(ours, want, rtol=0, atol=1e-12)
    weights = seeded(T, H)
    gradients = torch.autograd.grad((ours * weights).sum(), sequences)
    expected = torch.autograd.grad((want * weights).sum(), sequences)
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("groups", [None, [[2, 0], [1]]], ids=["one group", "two groups"])
def test_packed_attention_passes_gradcheck(groups):
    layout = Packed([2, 4, 3], groups=groups)
    x = seeded(9, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layout.per_sequence(attend, x), (x,))


def shapes_seen(layout, x):
    seen = []

    def look(x, mask):
        seen.append(((*x.shape[:2],), mask.sum(dim=1).tolist()))
        return x

    assert torch.equal(layout.per_sequence(look, x), x)
    return seen


def test_packed_attends_in_groups_of_about_equal_length():
    assert shapes_seen(Packed(LENGTHS), seeded(T, H)) == [
        ((3, 5), [1, 3, 5]),
        ((2, 45), [33, 45]),
        ((1, 70), [70]),
    ]


@BOTH
def test_whole_attends_once_in_the_batchs_own_order(name):
    x = seeded(T, H) if name == "packed" else seeded(B, S, H)
    assert shapes_seen(layouts()[name].whole(), x) == [((B, S), LENGTHS)]


def test_a_mean_of_many_tokens_in_16_bits_is_as_close_as_16_bits_are():
    tokens = torch.ones(2000, 3)
    for dtype in (torch.bfloat16, torch.float16):
        mean = Packed([1500, 500]).mean(tokens.to(dtype))
        assert mean.dtype == dtype and torch.equal(mean, torch.ones(2, 3, dtype=dtype))


@pytest.mark.parametrize("lengths", [[1], [32, 1], [500, 1, 33, 48, 49, 50, 500, 75, 76], LENGTHS])
def test_groups_hold_every_sequence_once_and_lengths_within_the_stretch(lengths):
    groups = groups_of_equal_length(lengths, stretch=1.5)
    assert sorted(itertools.chain(*groups)) == list(range(len(lengths)))
    for group in groups:
        shortest, longest = (f(lengths[row] for row in group) for f in (min, max))
        assert longest <= max(32, 1.5 * shortest), group


@BOTH
def test_to_moves_every_tensor_and_leaves_the_original(name):
    layout = layouts()[name]
    tensors = {k for k, v in vars(layout).items() if isinstance(v, torch.Tensor)}
    assert {"positions"} < tensors
    moved = layout.to("meta")
    assert all(getattr(moved, k).device.type == "meta" for k in tensors)
    assert all(getattr(layout, k).device.type == "cpu" for k in tensors)
    x = in_layout(name, [seeded(n, H) for n in LENGTHS])
    assert moved.per_sequence(attend, x.to("meta")).shape == x.shape
    assert moved.whole().mean(x.to("meta")).shape == (B, H)
    assert torch.equal(layout.to("cpu").mean(x), layout.mean(x))


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.uint8], ids=str)
def test_a_mask_may_be_bool_or_integers(dtype):
    layout = Padded(mask_of([2, 3]).to(dtype))
    assert (layout.batch_size, layout.max_length, layout.shape) == (2, 3, (2, 3))
    assert layout.mask.tolist() == [[True, True, False], [True, True, True]]


REFUSED = {
    "dimensions": (torch.ones(2, 1, 1, 3), r"shape \(batch, length\), not \(2, 1, 1, 3\)"),
    "float": (torch.zeros(2, 3), r"integers 0 and 1, not torch.float32.*pass \(mask == 0\)"),
    "values": (torch.tensor([[1, 2], [1, -1]]), "0 and 1 only, it has values from -1 to 2"),
    "padding": (torch.tensor([[1, 1], [0, 0]]), r"no real token in rows \[1\]; leave empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_mask_is_refused(case):
    mask, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        Padded(mask)


@pytest.mark.parametrize("lengths", [[], [3, 0]])
def test_packed_refuses_empty_sequences(lengths):
    with pytest.raises(ValueError, match=r"at least one token.*leave empty ones out"):
        Packed(lengths)
