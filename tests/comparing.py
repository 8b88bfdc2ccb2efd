"""What the tests share that compare an encoder with transformers' own."""

import zlib
from contextlib import contextmanager

import torch
from torch import nn

from minbert import Packed


@contextmanager
def in_mode(mode, *models, dropout=None):
    """Models in train or eval mode, with another dropout rate if one is given."""
    rates = {m: m.p for model in models for m in model.modules() if isinstance(m, nn.Dropout)}
    for model in models:
        model.train(mode == "train")
    for module, rate in rates.items():
        module.p = rate if dropout is None else dropout
    yield
    for module, rate in rates.items():
        module.p = rate
    for model in models:
        model.eval()


def padded(rows, types):
    """Rows of ids and of segments as (input_ids, attention_mask, token_type_ids)."""
    lengths = torch.tensor([len(row) for row in rows])
    ids, types = (
        nn.utils.rnn.pad_sequence([torch.as_tensor(x) for x in lists], batch_first=True)
        for lists in (rows, types)
    )
    return ids, (torch.arange(ids.size(1)) < lengths.unsqueeze(1)).long(), types


def random_batch(lengths, config, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows, types = (
        [torch.randint(high, (n,), generator=generator) for n in lengths]
        for high in (config.vocab_size, config.type_vocab_size)
    )
    return padded(rows, types)


def encode(encoder, batch, layout, **wanted):
    """Call the encoder; returns its output and what picks the real tokens of a result, (T, ...)."""
    ids, mask, types = batch
    real = mask.bool()
    if layout == "padded":
        return encoder(ids, mask, types, **wanted), lambda x: x[real]
    packed = Packed(mask.sum(dim=1).tolist())
    return encoder(ids[real], None, types[real], layout=packed, **wanted), lambda x: x


def assert_same(got, want, tolerance):
    """Equal up to a difference of `tolerance` in every value; says which differ, by how much."""
    assert got.keys() == want.keys() and got
    for name in got:
        assert got[name].shape == want[name].shape, name
    assert_near({name: distance(got[name], want[name]) for name in got}, tolerance)


def distance(got, want):
    return (got - want).abs().max().item()


def assert_near(far, tolerance):
    assert max(far.values()) <= tolerance, f"differ by more than {tolerance}: {far}"


def gradients(modules, outcome):
    """Gradients of a sum of all that was computed, with fixed random weights, by parameter."""
    generator = torch.Generator().manual_seed(1)
    loss = sum(
        (x * torch.randn(x.shape, generator=generator, dtype=x.dtype)).sum() / len(x) ** 0.5
        for x in outcome.values()
    )
    parameters = dict(modules.named_parameters())
    return dict(zip(parameters, torch.autograd.grad(loss, parameters.values(), allow_unused=True)))


def assert_same_gradients(got, want, tolerance):
    """Equal up to `tolerance` times the gradient's scale.

    A gradient that is zero but for rounding, as a key's bias has it since softmax ignores a
    constant, is measured against the others.
    """
    assert got.keys() == want.keys() and got
    sizes = {name: g.abs().max().item() for name, g in want.items()}
    least = 1e-3 * max(sizes.values())
    assert_near(
        {name: distance(got[name], want[name]) / max(size, least) for name, size in sizes.items()},
        tolerance,
    )


class KnownDropout(nn.Module):
    """Multiplies by a pattern of zeros and 1 / 0.7 that a name fixes.

    It is one pattern over features for tokens (..., H), and one over heads, queries and keys for
    attention (B, N, S, S): the same in either layout.
    """

    def __init__(self, name):
        super().__init__()
        self.name, self.calls = name, 0

    def forward(self, x):
        self.calls += 1
        shape = (8, 40, 40) if "probabilities" in self.name else (64,)
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()))
        pattern = (torch.rand(shape, generator=generator) < 0.7).to(x.dtype) / 0.7
        if len(shape) == 3:
            return x * pattern[: x.size(1), : x.size(2), : x.size(3)]
        return x * pattern[: x.size(-1)]
