"""Attention and layouts against torch, formulas in float64 and one sequence at a time."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from minbert import Packed, Padded
from minbert.attention import (
    groups_of_equal_length,
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)

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
