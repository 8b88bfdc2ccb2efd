"""Attention in packed sequences by flash kernels: PyTorch's are for GPUs, so here a CPU has them.

The jagged form runs on a CPU as it is, through PyTorch's own step-by-step kernel. In the place of
`varlen_attn` stands what its documentation says of it, in a loop over sequences.
"""

import itertools

import pytest
import torch
from comparing import assert_same, assert_same_gradients, gradients, in_mode
from scipy import stats
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from minbert import Bert, BertConfig, ConvBert, ConvBertConfig, Packed, Padded, flash
from minbert.attention import scaled_dot_product_attention
from minbert.encoders.modernbert import ModernBert, ModernBertConfig
from minbert.quick import Dropout, route_of

LENGTHS = [7, 1, 12, 40, 3]
SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_layers": 4,
    "num_heads": 4,
    "intermediate_size": 24,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}

pytestmark = pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning")


@pytest.fixture(autouse=True)
def generator_as_it_was():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def tokens_on(device, dtype=torch.bfloat16, size=8):
    return torch.empty(sum(LENGTHS), 4, size, device=device, dtype=dtype)


class Varlen:
    """torch.nn.attention.varlen.varlen_attn as it is documented; remembers its windows."""

    def __init__(self):
        self.windows = []

    def __call__(self, query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, window_size):
        assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
        assert cu_seq_q.is_contiguous() and cu_seq_k.is_contiguous()
        assert query.shape == key.shape == value.shape
        assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
        bounds = cu_seq_q.tolist()
        assert bounds == cu_seq_k.tolist() and bounds[0] == 0 and bounds[-1] == len(query)
        lengths = [end - start for start, end in itertools.pairwise(bounds)]
        assert max_q == max_k == max(lengths)
        left, right = window_size
        self.windows.append(window_size)
        contexts = []
        for q, k, v in zip(*(x.split(lengths) for x in (query, key, value)), strict=True):
            scores = torch.einsum("ind,jnd->nij", q, k) / query.size(-1) ** 0.5
            for i in range(len(q)):
                for j in range(len(q)):
                    if (left >= 0 and j < i - left) or (right >= 0 and j > i + right):
                        scores[:, i, j] = float("-inf")
            contexts.append(torch.einsum("nij,jnd->ind", scores.softmax(-1), v))
        return torch.cat(contexts)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Take every tensor for one on a GPU, in 16 bits; gives varlen_attn's stand-in."""
    varlen = Varlen()
    monkeypatch.setattr(flash, "on_gpu", lambda x: True)
    monkeypatch.setattr(flash, "_varlen", lambda: varlen)
    return varlen


def inputs(*, heads=3, size=8):
    shape = (sum(LENGTHS), heads, size)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(3)]


def each_alone(query, key, value):
    """Attention step by step, one sequence at a time, (T, N, D)."""
    parts = zip(*(x.split(LENGTHS) for x in (query, key, value)), strict=True)
    contexts = []
    for part in parts:
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in part)  # (1, N, S, D)
        context, _ = scaled_dot_product_attention(q, k, v, None, nn.Identity())
        contexts.append(context[0].transpose(0, 1))
    return torch.cat(contexts)


def test_jagged_attention_and_its_gradients_equal_each_sequence_alone():
    tokens = inputs()
    ours = flash.jagged_attention(Packed(LENGTHS), *tokens, 0.0)
    want = each_alone(*tokens)
    weights = torch.randn_like(want)
    torch.testing.assert_close(ours, want, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(ours, tokens, weights),
        torch.autograd.grad(want, tokens, weights),
        rtol=0,
        atol=1e-12,
    )


def test_jagged_attention_takes_views():
    together = torch.randn(sum(LENGTHS), 3, 2, 8, dtype=torch.float64)
    tokens = together.unbind(1)
    ours = flash.jagged_attention(Packed(LENGTHS), *tokens, 0.0)
    torch.testing.assert_close(ours, each_alone(*tokens), rtol=0, atol=1e-12)


def test_jagged_dropout_zeroes_probabilities_and_scales_the_others():
    """With values that name their key, a context is its row of probabilities."""
    length, rate = 64, 0.3
    layout = Packed([length] * 20)
    query, key = (torch.randn(layout.shape[0], 2, length) for _ in range(2))
    value = torch.eye(length).repeat(20, 1).unsqueeze(1).expand(-1, 2, -1)
    exact = flash.jagged_attention(layout, query, key, value, 0.0)
    found = flash.jagged_attention(layout, query, key, value, rate)
    kept = found != 0
    torch.testing.assert_close(found[kept], exact[kept] / (1 - rate))
    assert stats.binomtest(int(kept.sum()), kept.numel(), 1 - rate).pvalue > 1e-4


def encoders():
    off = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
    yield "bert", Bert(BertConfig(**SIZES, **off))
    yield "convbert", ConvBert(ConvBertConfig(**SIZES, **off, embedding_size=32))
    yield "modernbert", ModernBert(ModernBertConfig(**SIZES, local_attention=8))


@pytest.mark.parametrize("name", ["bert", "convbert", "modernbert"])
@pytest.mark.parametrize("form", ["varlen", "jagged"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_an_encoder_and_its_gradients_are_the_same_by_flash(
    monkeypatch, on_a_gpu, name, form, mode
):
    if form == "jagged":
        monkeypatch.setattr(flash, "_varlen", lambda: None)
    encoder = dict(encoders())[name].double()
    ids = torch.randint(1, 50, (sum(LENGTHS),))
    found = {}
    with in_mode(mode, encoder):
        for route in ("auto", "plain"):
            with route_of(route):
                output = encoder(ids, layout=Packed(LENGTHS))
            outcome = {"states": output.last_hidden_state, "pooled": output.pooler_output}
            outcome = {part: x for part, x in outcome.items() if x is not None}
            found[route] = outcome, gradients(encoder, outcome)
    for compare, got, want in zip(
        (assert_same, assert_same_gradients), found["auto"], found["plain"], strict=True
    ):
        compare(*({k: v for k, v in x.items() if v is not None} for x in (got, want)), 1e-9)
    full, local = (-1, -1), (4, 4)
    expected = [full, local, local, full] if name == "modernbert" else [full] * 4
    assert on_a_gpu.windows == (expected if form == "varlen" else [])


MASK = torch.arange(5) < torch.tensor([[5], [2]])
REFUSED = {
    "padded batches": {"layout": Padded(MASK)},
    "another kind of dropout": {"dropout": nn.Identity()},
    "heads of 12 features": {"query": tokens_on("cpu", size=12)},
    "heads of 264 features": {"query": tokens_on("cpu", size=264)},
    "a window and dropout": {"dropout": Dropout(0.1), "window": 4},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_kernels_do_not_know_is_refused(on_a_gpu, case):
    known = {
        "layout": Packed(LENGTHS), "query": tokens_on("cpu"), "dropout": Dropout(0.0), "window": 4
    }  # fmt: skip
    assert flash.serves(**known)
    assert not flash.serves(**{**known, **REFUSED[case]})


def test_a_window_as_long_as_the_longest_sequence_is_none(monkeypatch, on_a_gpu):
    """So short sequences have dropout in ModernBERT's local layers too."""
    longest = {"query": tokens_on("cpu"), "dropout": Dropout(0.1), "window": max(LENGTHS) - 1}
    assert flash.serves(Packed(LENGTHS), **longest)
    assert flash.serves(Packed(LENGTHS), **{**longest, "dropout": Dropout(0.1).eval(), "window": 2})
    monkeypatch.setattr(flash, "_varlen", lambda: None)  # a PyTorch that has no windows
    assert flash.serves(Packed(LENGTHS), **longest)
    assert not flash.serves(Packed(LENGTHS), tokens_on("cpu"), Dropout(0.0), window=2)


def test_the_plain_route_and_attention_maps_go_step_by_step(on_a_gpu):
    encoder, ids = dict(encoders())["bert"].eval(), torch.randint(1, 50, (sum(LENGTHS),))
    assert encoder(ids, layout=Packed(LENGTHS), output_attentions=True).attentions
    with route_of("plain"):
        encoder(ids, layout=Packed(LENGTHS))
    assert on_a_gpu.windows == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_cpu_has_no_such_kernels(dtype):
    assert not flash.on_gpu(tokens_on("cpu", dtype))


def test_pytorch_has_windows():
    """What `_varlen` looks for is there in this PyTorch; the call itself needs a GPU."""
    flash._varlen.cache_clear()
    assert flash._varlen().__name__ == "varlen_attn"


@pytest.mark.parametrize("rate", [0.0, 0.1])
@pytest.mark.parametrize("encoder", [Bert, ConvBert, ModernBert])
def test_nothing_is_read_back_from_the_device(monkeypatch, encoder, rate):
    """On the meta device there are no numbers, so whoever reads one fails; and where PyTorch counts
    operations there, jagged tensors go to the flash kernel, as they do on a GPU."""
    monkeypatch.setattr(flash, "on_gpu", lambda x: True)
    with torch.device("meta"):
        model = encoder(encoder.Config(**SIZES, attention_dropout=rate))
    model.train().bfloat16()
    with FlopCounterMode(display=False) as counter:
        ids = torch.empty(sum(LENGTHS), dtype=torch.long, device="meta")
        output = model(ids, layout=Packed(LENGTHS).to("meta"))
        output.last_hidden_state.sum().backward()
    counted = {str(operation) for operation in counter.get_flop_counts()["Global"]}
    jagged = {"aten._flash_attention_forward", "aten._flash_attention_backward"}
    assert jagged <= counted if rate else jagged.isdisjoint(counted)
    assert model.embeddings.word.weight.grad.shape == model.embeddings.word.weight.shape


needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0),
    reason="flash kernels need a GPU, Ampere or newer",
)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("form", ["varlen", "jagged"])
def test_the_kernels_of_a_gpu(monkeypatch, form, dtype, window):
    """Outputs and gradients, against the plain route in float64 of the same rounded numbers."""
    if form == "jagged":
        if window is not None:
            pytest.skip("the jagged form has no windows")
        monkeypatch.setattr(flash, "_varlen", lambda: None)
    exact = [x.detach().to(dtype).double().requires_grad_() for x in inputs(heads=4, size=64)]
    low = [x.detach().to("cuda", dtype).requires_grad_() for x in exact]
    layout, dropout = Packed(LENGTHS).to("cuda"), Dropout(0.0)
    assert flash.serves(layout, low[0], dropout, window=window)
    ours = flash.attention(layout, *low, dropout, window=window)
    if window is None:
        want = each_alone(*exact).flatten(1)
    else:
        bounds = (layout.offsets.cpu(),) * 2, (max(LENGTHS),) * 2
        want = Varlen()(*exact, *bounds[0], *bounds[1], window_size=(window, window)).flatten(1)
    weights = torch.randn_like(want).to(dtype)
    found = torch.autograd.grad(ours, low, weights.cuda())
    expected = torch.autograd.grad(want, exact, weights.double())
    for got, true in zip((ours, *found), (want, *expected), strict=True):
        torch.testing.assert_close(got.cpu().double(), true, rtol=0.02, atol=0.02)
