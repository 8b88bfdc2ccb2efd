"""The quick routes give the numbers of the plain ones; dropout gives its distribution."""

import math
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from minbert import Bert, BertConfig, Packed, quick
from minbert.attention import scaled_dot_product_attention
from minbert.base import ENCODERS
from minbert.encoders import bert, convbert, modernbert

SIZES = {"vocab_size": 50, "hidden_size": 48, "num_layers": 3, "num_heads": 4, "pad_token_id": 0}
TINY_SIZES = {
    "bert": {**SIZES, "intermediate_size": 100},
    "convbert": {**SIZES, "intermediate_size": 100, "embedding_size": 32},
    "modernbert": {
        **SIZES, "intermediate_size": 100, "attention_dropout": 0.1, "mlp_dropout": 0.1,
    },
}  # fmt: skip

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch was built without oneDNN"
)


@pytest.fixture(autouse=True)
def generator_as_it_was():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


# Linear maps


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 20), (1, 20), (3, 5, 20), (300, 384), (2, 33, 384)])
def test_onednn_linear_equals_torch(shape, bias):
    ours = quick.Linear(shape[-1], 50, bias=bias)
    theirs = nn.Linear(shape[-1], 50, bias=bias).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(shape, requires_grad=True)
    x64 = x.detach().double().requires_grad_()
    g = torch.randn(*shape[:-1], 50)
    with quick.route_of("onednn"):
        y = ours(x)
        assert type(y.grad_fn).__name__ == "OneDnnLinearBackward"
        y.backward(g)
    theirs(x64).backward(g.double())
    close = {"rtol": 1e-5, "atol": 1e-5 * math.sqrt(shape[-1])}
    torch.testing.assert_close(y.double(), theirs(x64), **close)
    torch.testing.assert_close(x.grad.double(), x64.grad, **close)
    for (name, p), p64 in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        rows = math.sqrt(math.prod(shape[:-1]))
        assert torch.allclose(p.grad.double(), p64.grad, rtol=1e-5, atol=1e-5 * rows), name


@pytest.mark.parametrize("wanted", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)])
def test_onednn_linear_backward_is_the_derivative(wanted):
    """In float64, where finite differences are exact enough to be compared with."""
    inputs = (torch.randn(2, 3, 4), torch.randn(5, 4), torch.randn(5))
    inputs = [x.double().requires_grad_(bool(need)) for x, need in zip(inputs, wanted, strict=True)]
    assert torch.autograd.gradcheck(quick.OneDnnLinear.apply, inputs)
    without_bias = [*inputs[:2], None]
    if any(wanted[:2]):
        assert torch.autograd.gradcheck(quick.OneDnnLinear.apply, without_bias)


@needs_onednn
@pytest.mark.parametrize("packed", [True, False])
def test_an_encoder_is_the_same_on_every_route(packed):
    config = BertConfig(
        vocab_size=50, hidden_size=48, num_layers=3, num_heads=4, intermediate_size=100,
        hidden_dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    encoder = Bert(config).train()
    lengths = [9, 1, 5]
    if packed:
        ids, batch = torch.randint(1, 50, (15,)), {"layout": Packed(lengths)}
    else:
        mask = torch.arange(9) < torch.tensor(lengths)[:, None]
        ids, batch = torch.randint(1, 50, (3, 9)), {"attention_mask": mask}
    found = {}
    for route in ("plain", "blas", "onednn"):
        with quick.route_of(route):
            output = encoder(ids, **batch)
            pooled = output.layout.mean(output.last_hidden_state) + output.pooler_output
            encoder.zero_grad()
            (pooled * torch.linspace(-1, 1, 48)).sum().backward()
        found[route] = {"pooled": pooled.detach()}
        found[route] |= {name: p.grad.clone() for name, p in encoder.named_parameters()}
    for route in ("blas", "onednn"):
        for name, expected in found["plain"].items():
            message = f"{name} by route {route}"
            torch.testing.assert_close(
                found[route][name], expected, rtol=1e-5, atol=1e-5, msg=message
            )


@needs_onednn
def test_other_dtypes_take_the_plain_way():
    linear = quick.Linear(4, 3)
    x = torch.randn(2, 4)
    with quick.route_of("onednn"):
        double = linear.double()(x.double())
        linear.float()
        with torch.autocast("cpu", torch.bfloat16):
            low = linear(x)
    assert double.dtype == torch.float64
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), F.linear(x, linear.weight, linear.bias), rtol=0.02,
                               atol=0.02)  # fmt: skip


# The route


@pytest.mark.parametrize(
    ("vendor", "capability", "expected"),
    [
        ("AuthenticAMD", "AVX512", "onednn"),
        ("AuthenticAMD", "AVX2", "blas"),
        ("GenuineIntel", "AVX512", "blas"),
    ],
)
@needs_onednn
def test_auto_looks_at_the_cpu(monkeypatch, tmp_path, vendor, capability, expected):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"vendor_id : {vendor}\n")
    monkeypatch.setattr(quick, "Path", lambda _: cpuinfo)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    quick.onednn_is_quicker.cache_clear()
    try:
        assert quick.current_route() == expected
    finally:
        quick.onednn_is_quicker.cache_clear()


def test_a_route_lasts_as_long_as_its_block():
    before = quick.current_route()

    def fail():
        with quick.route_of("plain"):
            assert quick.current_route() == "plain"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert quick.current_route() == before


def test_routes_that_are_not_there(monkeypatch):
    with pytest.raises(ValueError, match="no route is called 'mkl'; choose one of auto, plain"):
        quick.use_route("mkl")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no oneDNN; choose route auto or blas"):
        quick.use_route("onednn")


# What is not kept for the backward pass


@pytest.mark.parametrize(
    ("name", "module"),
    [("bert", bert), ("convbert", convbert), ("modernbert", modernbert)],
)
def test_large_intermediate_results_are_not_kept(monkeypatch, name, module):
    """GELU's output and attention's probabilities are gone, and the gradients are the same bits."""
    config = ENCODERS[name].Config(**TINY_SIZES[name])
    encoder = ENCODERS[name](config).train()
    ids, layout = torch.randint(1, 50, (40,)), Packed([20, 20])
    made = []

    def remembered(function):
        def call(*args):
            found = function(*args)
            result = found[1] if isinstance(found, tuple) else found
            made.append(StorageWeakRef(result.untyped_storage()))
            return found

        return call

    monkeypatch.setattr(module.F, "gelu", remembered(F.gelu))
    monkeypatch.setattr(
        quick, "scaled_dot_product_attention", remembered(scaled_dot_product_attention)
    )
    found = {}
    for large in (10**9, 1):
        monkeypatch.setattr(quick, "LARGE", large)
        torch.manual_seed(0)
        encoder.zero_grad()
        made.clear()
        states = encoder(ids, layout=layout).last_hidden_state
        kept = sum(not reference.expired() for reference in made)
        (states * torch.linspace(-1, 1, 48)).sum().backward()
        gradients = {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}
        found[large] = {n: g.clone() for n, g in gradients.items()}, kept
    for n, gradient in found[1][0].items():
        assert torch.equal(gradient, found[10**9][0][n]), n
    assert found[10**9][1] == 2 * config.num_layers
    assert found[1][1] == 0


def test_what_is_computed_again_stops_before_the_last_linear_map(monkeypatch):
    monkeypatch.setattr(quick, "LARGE", 1)
    outer, x = quick.Linear(30, 20), torch.randn(7, 30, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        quick.recomputed(lambda x: outer(F.gelu(x)), x).sum().backward()
    product = 2 * 7 * 30 * 20
    assert counter.get_total_flops() == 3 * product  # forward, and the gradients of both factors


@pytest.mark.parametrize("why", ["small", "plain", "frozen", "inference"])
def test_what_need_not_be_computed_again(monkeypatch, why):
    monkeypatch.setattr(quick, "LARGE", 31 if why == "small" else 1)
    monkeypatch.setattr(quick, "checkpoint", None)
    x = torch.randn(30, requires_grad=why != "frozen")
    with (
        quick.route_of("plain" if why == "plain" else "blas"),
        torch.set_grad_enabled(why != "inference"),
    ):
        assert torch.equal(quick.recomputed(F.gelu, x), F.gelu(x))


# Attention


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_at_inference_equals_the_plain_one(monkeypatch, masked, dtype):
    inputs = [torch.randn(3, 2, 7, 5, dtype=dtype) for _ in range(3)]
    mask = (torch.arange(7) < torch.tensor([7, 1, 4])[:, None])[:, None, None] if masked else None
    plain, _ = scaled_dot_product_attention(*inputs, mask, nn.Dropout(0.5).eval())
    monkeypatch.setattr(quick, "scaled_dot_product_attention", None)
    for dropout in (quick.Dropout(0.5).eval(), quick.Dropout(0.0)):
        torch.testing.assert_close(quick.attention(*inputs, mask, dropout), plain)


def test_attention_in_training_has_the_plain_gradient():
    inputs = [torch.randn(3, 2, 7, 5, requires_grad=True) for _ in range(3)]
    contexts = [
        quick.attention(*inputs, None, quick.Dropout(0.0)),
        scaled_dot_product_attention(*inputs, None, nn.Identity())[0],
    ]
    ours, plain = (torch.autograd.grad(c.square().sum(), inputs) for c in contexts)
    assert all(a.equal(b) for a, b in zip(ours, plain, strict=True))


def test_attention_with_dropout_or_without_its_route_is_the_plain_one():
    inputs = [torch.randn(3, 2, 7, 5) for _ in range(3)]
    context = {}
    for route in ("plain", "blas"):
        with quick.route_of(route):
            torch.manual_seed(1)
            context[route] = quick.attention(*inputs, None, nn.Dropout(0.5))
    assert context["plain"].equal(context["blas"])
    exact = scaled_dot_product_attention(*inputs, None, nn.Identity())[0]
    assert not torch.allclose(context["plain"], exact)
    with quick.route_of("plain"):
        assert quick.attention(*inputs, None, nn.Dropout(0.5).eval()).equal(exact)
    assert quick.attention(*inputs, None, nn.Identity()).equal(exact)


# Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_has_its_distribution(p):
    factors = quick.dropout_factors(torch.empty(1000, 1001), p)
    kept = factors.flatten() != 0
    exact = round(p * 2**16) / 2**16
    assert set(factors.unique().tolist()) == {0.0, float(np.float32(1 / (1 - exact)))}
    test = stats.binomtest(int(kept.sum()), kept.numel(), 1 - exact)
    assert test.pvalue > 1e-4, f"{test.statistic:.5f} of the numbers were kept"
    # A draw of 64 bits serves four numbers, so look for ties between neighbours.
    for lag in (1, 2, 3, 4, 1001):
        table = np.histogram2d(kept[:-lag].numpy(), kept[lag:].numpy(), bins=2)[0]
        assert stats.chi2_contingency(table).pvalue > 1e-4, f"numbers {lag} apart are tied"
    for place in range(4):
        share = kept[place::4].double().mean().item()
        assert abs(share - (1 - exact)) < 5 * math.sqrt(p * (1 - p) / (kept.numel() / 4)), place


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3, 5), (4, 4)])
def test_dropout_of_any_shape(shape):
    x = torch.randn(shape, requires_grad=True)
    y = quick.Dropout(0.3)(x)
    assert y.shape == x.shape
    y.sum().backward()
    factors = torch.where(x.detach() == 0, x.grad, y.detach() / x.detach())
    torch.testing.assert_close(x.grad, factors)


def test_dropout_repeats_with_its_seed():
    x, dropout = torch.ones(100, 100), quick.Dropout(0.5)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(dropout(x))
    assert draws[0].equal(draws[1])
    assert not draws[0].equal(draws[2])


def test_dropout_outside_its_route():
    x = torch.randn(50, 50)
    assert quick.Dropout(0.5).eval()(x) is x
    assert quick.Dropout(0.0)(x).equal(x)
    assert quick.Dropout(1.0)(x).eq(0).all()
    with quick.route_of("plain"):
        torch.manual_seed(3)
        ours = quick.Dropout(0.5)(x)
    torch.manual_seed(3)
    assert ours.equal(F.dropout(x, 0.5))


def test_dropout_keeps_the_dtype():
    x = torch.ones(64, 64, dtype=torch.bfloat16)
    y = quick.Dropout(0.25)(x)
    assert y.dtype == torch.bfloat16
    assert set(y.float().unique().tolist()) == {0.0, 1.3359375}


# Memory

FAULTS = """
import resource, sys, torch
from minbert.quick import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(6):
    torch.ones(2**24)
before = faults()
for _ in range(20):
    torch.ones(2**24)
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_freed_memory_is_kept():
    """A tensor of 64 MB is 16,384 pages, and each is handed out anew where none is kept."""
    found = {}
    for mode in ("keep", "leave"):
        done = subprocess.run(
            [sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True
        )
        found[mode] = int(done.stdout)
    if found["leave"] < 1000:
        pytest.skip("this C library keeps freed memory by itself")
    # Now and then a small block lands in a kept one, and the next large one is new.
    assert found["keep"] < found["leave"] / 3, found


HELD = """
import torch
from minbert.quick import give_back_memory, keep_freed_memory
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 2**20
keep_freed_memory()
torch.ones(2**26)
before = held()
give_back_memory()
print(before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is meant")
def test_kept_memory_can_be_given_back():
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 200  # of the tensor's 256 MB
