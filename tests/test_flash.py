"""Attention in packed sequences by a kernel of a GPU: PyTorch's are for GPUs, so here a CPU has
them, and the meta device, which has no numbers, runs PyTorch's own shapes of them."""

from functools import partial

import pytest
import torch
from comparing import assert_same, assert_same_gradients, gradients, in_mode
from gpu_kernels import kernels_on_a_cpu
from scipy import stats
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from minbert import Bert, BertConfig, ConvBert, ConvBertConfig, Packed, Padded, attend, flash
from minbert.attention import scaled_dot_product_attention
from minbert.encoders.modernbert import ModernBert, ModernBertConfig
from minbert.quick import Dropout, route_of
from multitask.environment import environment

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
KERNELS = pytest.mark.parametrize("kernel", [flash.flash, flash.efficient])


@pytest.fixture(autouse=True)
def generator_as_it_was():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def tokens_on(device, dtype=torch.bfloat16, size=32):
    return torch.empty(sum(LENGTHS), size, device=device, dtype=dtype)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Take every tensor for one on a GPU; gives the kernels' stand-ins."""
    with kernels_on_a_cpu(monkeypatch) as kernels:
        yield kernels


def inputs(*, heads=3, size=8):
    shape = (sum(LENGTHS), heads, size)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(3)]


def each_alone(query, key, value, window=None):
    """Attention step by step, one sequence at a time, (T, N, D)."""
    parts = zip(*(x.split(LENGTHS) for x in (query, key, value)), strict=True)
    contexts = []
    for part in parts:
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in part)  # (1, N, S, D)
        places = torch.arange(q.size(2))
        near = (places[:, None] - places).abs() <= (len(places) if window is None else window)
        context, _ = scaled_dot_product_attention(q, k, v, near, nn.Identity())
        contexts.append(context[0].transpose(0, 1))
    return torch.cat(contexts)


def assert_equal_with_gradients(compute, expected, tokens, atol=1e-12):
    ours, want = compute(*tokens), expected(*tokens)
    weights = torch.randn_like(want)
    torch.testing.assert_close(ours, want, rtol=0, atol=atol)
    torch.testing.assert_close(
        torch.autograd.grad(ours, tokens, weights),
        torch.autograd.grad(want, tokens, weights),
        rtol=0,
        atol=atol,
    )


@KERNELS
def test_a_kernel_and_its_gradients_equal_each_sequence_alone(on_a_gpu, kernel):
    compute = lambda q, k, v: kernel(Packed(LENGTHS), q, k, v, 0.0, None)  # noqa: E731
    assert_equal_with_gradients(compute, each_alone, inputs())
    assert on_a_gpu.calls == [(kernel.__name__, None, 0.0)]


def test_flash_attention_has_windows(on_a_gpu):
    compute = lambda q, k, v: flash.flash(Packed(LENGTHS), q, k, v, 0.0, 4)  # noqa: E731
    assert_equal_with_gradients(compute, partial(each_alone, window=4), inputs())
    assert on_a_gpu.calls == [("flash", 4, 0.0)]


@KERNELS
def test_attention_takes_views_and_passes_dropout_on(on_a_gpu, kernel):
    together = torch.randn(sum(LENGTHS), 3 * 16, dtype=torch.float64)
    tokens = together.chunk(3, dim=-1)
    for dropout, rate in ((Dropout(0.3), 0.3), (Dropout(0.3).eval(), 0.0)):
        ours = flash.attention(kernel, Packed(LENGTHS), *tokens, 2, dropout)
        want = each_alone(*(x.unflatten(1, (2, 8)) for x in tokens)).flatten(1)
        torch.testing.assert_close(ours, want, rtol=0, atol=1e-12)
        assert on_a_gpu.calls.pop() == (kernel.__name__, None, rate)


def test_what_no_gradient_needs_is_not_kept(on_a_gpu):
    tokens = inputs()
    flash.efficient(Packed(LENGTHS), *tokens, 0.0, None)
    flash.efficient(Packed(LENGTHS), *(x.detach() for x in tokens), 0.0, None)
    with torch.no_grad():
        flash.efficient(Packed(LENGTHS), *tokens, 0.0, None)
    assert on_a_gpu.kept == [True, False, False]


# The route without a kernel: one call for the whole batch, with padding


@pytest.fixture
def elsewhere(monkeypatch):
    """Have PyTorch's call do what it does on a device that is neither a CPU nor has the kernels."""
    monkeypatch.setattr(attend, "on_cpu", lambda x: False)


@pytest.mark.parametrize("window", [None, 4, 15])
def test_the_padded_call_and_its_gradients_equal_each_sequence_alone(elsewhere, window):
    """Of windows, short ones are cut into blocks, and others are a mask."""

    def compute(*tokens):
        layout = Packed(LENGTHS).whole()
        tokens = (x.flatten(1) for x in tokens)
        return attend.attend(layout, *tokens, 3, Dropout(0.0), window=window).unflatten(1, (3, -1))

    assert_equal_with_gradients(compute, partial(each_alone, window=window), inputs())


def test_the_padded_call_drops_probabilities_and_scales_the_others(elsewhere):
    """With values that name their key, a context is its row of probabilities."""
    length, rate = 64, 0.3
    layout = Packed([length] * 19 + [length - 9]).whole()
    query, key = (torch.randn(layout.shape[0], 2 * length) for _ in range(2))
    value = torch.eye(length).repeat(20, 2)[: layout.shape[0]]
    exact = attend.attend(layout, query, key, value, 2, Dropout(rate).eval())
    found = attend.attend(layout, query, key, value, 2, Dropout(rate))
    kept = (found != 0) & (exact != 0)
    torch.testing.assert_close(found[kept], exact[kept] / (1 - rate))
    assert not found[exact == 0].any()
    drawn = int((exact != 0).sum())
    assert stats.binomtest(int(kept.sum()), drawn, 1 - rate).pvalue > 1e-4


def test_a_device_without_kernels_takes_the_batch_in_one_rectangle():
    seen = []

    def look(x, mask):
        seen.append((tuple(x.shape), tuple(mask.shape)))
        return x

    x = torch.empty(sum(LENGTHS), 6, device="meta")
    assert Packed(LENGTHS).to("meta").per_sequence(look, x).shape == x.shape
    assert seen == [((len(LENGTHS), 40, 6), (len(LENGTHS), 40))]


# Encoders


def encoders():
    off = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
    yield "bert", Bert(BertConfig(**SIZES, **off))
    yield "convbert", ConvBert(ConvBertConfig(**SIZES, **off, embedding_size=32))
    yield "modernbert", ModernBert(ModernBertConfig(**SIZES, local_attention=8))


@pytest.mark.parametrize("name", ["bert", "convbert", "modernbert"])
@pytest.mark.parametrize("form", ["flash", "efficient", "padded"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_an_encoder_and_its_gradients_are_the_same_by_each_route(
    monkeypatch, on_a_gpu, elsewhere, name, form, mode
):
    def kernel(device, dtype, head_size, windowed):
        usable = form != "padded" and not (windowed and form == "efficient")
        return getattr(flash, form) if usable else None

    monkeypatch.setattr(flash, "_kernel", kernel)
    encoder = dict(encoders())[name].double()
    ids = torch.randint(1, 50, (sum(LENGTHS),))
    found = {}
    with in_mode(mode, encoder):
        for route in ("auto", "plain"):
            layout = Packed(LENGTHS) if route == "plain" else Packed(LENGTHS).whole()
            with route_of(route):
                output = encoder(ids, layout=layout)
            outcome = {"states": output.last_hidden_state, "pooled": output.pooler_output}
            outcome = {part: x for part, x in outcome.items() if x is not None}
            found[route] = outcome, gradients(encoder, outcome)
    for compare, got, want in zip(
        (assert_same, assert_same_gradients), found["auto"], found["plain"], strict=True
    ):
        compare(*({k: v for k, v in x.items() if v is not None} for x in (got, want)), 1e-9)
    windows = [None, 4, 4, None] if name == "modernbert" else [None] * 4
    if form == "efficient":
        windows = [window for window in windows if window is None]
    expected = [] if form == "padded" else [(form, window, 0.0) for window in windows]
    assert on_a_gpu.calls == expected


# Which kernel


MASK = torch.arange(5) < torch.tensor([[5], [2]])
ASKED = {
    "in 16 bits": ({}, "flash"),
    "in the other 16 bits": ({"query": tokens_on("cpu", torch.float16)}, "flash"),
    "dropout in a window": ({"dropout": Dropout(0.1)}, "flash"),
    "in 32 bits": ({"query": tokens_on("cpu", torch.float32), "window": None}, "efficient"),
    "a window as long as the longest sequence": (
        {"query": tokens_on("cpu", torch.float32), "window": max(LENGTHS) - 1}, "efficient",
    ),
    "a window in 32 bits": ({"query": tokens_on("cpu", torch.float32)}, None),
    "in 64 bits": ({"query": tokens_on("cpu", torch.float64)}, None),
    "padded batches": ({"layout": Padded(MASK)}, None),
    "another kind of dropout": ({"dropout": nn.Identity()}, None),
    "heads of 12 features": ({"query": tokens_on("cpu", size=48)}, None),
    "heads of 200 features": ({"query": tokens_on("cpu", size=800)}, None),
}  # fmt: skip


def kernel_of(**changes):
    known = {
        "layout": Packed(LENGTHS), "query": tokens_on("cpu"), "num_heads": 4,
        "dropout": Dropout(0.0), "window": 4,
    }  # fmt: skip
    found = flash.kernel_for(**{**known, **changes})
    return None if found is None else found.__name__


@pytest.mark.parametrize("case", ASKED)
def test_the_kernel_is_one_that_knows_what_is_asked(on_a_gpu, case):
    changes, expected = ASKED[case]
    assert kernel_of(**changes) == expected


def test_a_gpu_before_ampere_has_efficient_attention_alone(monkeypatch):
    with kernels_on_a_cpu(monkeypatch, generation=(7, 5)):
        for dtype, expected in (
            (torch.float16, "efficient"), (torch.float32, "efficient"), (torch.bfloat16, None),
        ):  # fmt: skip
            assert kernel_of(query=tokens_on("cpu", dtype), window=None) == expected
        assert kernel_of(query=tokens_on("cpu", torch.float16)) is None


WRONG = {
    "gradients of zero": lambda gradients: [x * 0 for x in gradients],
    "gradients in another order": lambda gradients: gradients[::-1],
}


@pytest.mark.parametrize("case", [*WRONG, "no kernel for this GPU", "windows of another kind"])
def test_a_kernel_that_does_not_work_is_not_used(monkeypatch, on_a_gpu, case):
    windows = {"window": None}
    if case in WRONG:
        on_a_gpu.wrong = WRONG[case]
    elif case == "windows of another kind":
        forward = flash.flash
        monkeypatch.setattr(flash, "flash", lambda *args: forward(*args[:-1], args[-1] + 1))
        windows = {}
    else:
        monkeypatch.setattr(on_a_gpu, "_forward", fail)
    assert kernel_of(**windows) is None


def fail(*_):
    raise RuntimeError("no kernel image is available for execution on the device")


def test_a_pytorch_with_other_arguments_has_no_kernels(monkeypatch, on_a_gpu):
    """It has them under these names now, and none under a name that it does not know."""
    assert flash._has_flash() and flash._has_efficient()
    assert flash._arguments("_no_such_attention") == ()
    names = flash._arguments
    for other in (lambda _: (), lambda operation: names(operation)[::-1]):
        flash._kernel.cache_clear()
        monkeypatch.setattr(flash, "_arguments", other)
        assert kernel_of(window=None) is None
    without = lambda operation: tuple(n for n in names(operation) if "window" not in n)  # noqa: E731
    flash._kernel.cache_clear()
    monkeypatch.setattr(flash, "_arguments", without)
    assert kernel_of(window=None) == "efficient"


def test_the_kernels_are_named_for_minbert_info_and_records(monkeypatch, on_a_gpu):
    cpu = torch.device("cpu")
    assert flash.described(cpu) == "fp32 efficient, fp16 flash, bf16 flash"
    assert "attention" not in environment(cpu)
    monkeypatch.setattr("multitask.environment.on_gpu", lambda device: True)
    assert environment(cpu)["attention"] == flash.described(cpu)
    monkeypatch.setattr(flash, "_has_efficient", lambda: False)
    flash._kernel.cache_clear()
    assert flash.described(cpu) == "fp32 padded, fp16 flash, bf16 flash"


def test_the_plain_route_and_attention_maps_go_step_by_step(on_a_gpu):
    encoder, ids = dict(encoders())["bert"].eval(), torch.randint(1, 50, (sum(LENGTHS),))
    with torch.no_grad():
        encoder(ids, layout=Packed(LENGTHS))
    tried = len(on_a_gpu.calls) - 4
    assert tried == 1 and {name for name, *_ in on_a_gpu.calls} == {"efficient"}
    on_a_gpu.calls.clear()
    assert encoder(ids, layout=Packed(LENGTHS), output_attentions=True).attentions
    with route_of("plain"):
        encoder(ids, layout=Packed(LENGTHS))
    assert on_a_gpu.calls == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_cpu_has_no_such_kernels(dtype):
    flash._kernel.cache_clear()
    assert kernel_of(query=tokens_on("cpu", dtype)) is None


@pytest.mark.parametrize("rate", [pytest.param(0.0, marks=pytest.mark.slow), 0.1])
@pytest.mark.parametrize("encoder", [Bert, ConvBert, ModernBert])
@pytest.mark.parametrize("form", ["flash", "efficient", "padded"])
def test_nothing_is_read_back_from_the_device(monkeypatch, encoder, rate, form):
    """On the meta device there are no numbers, so whoever reads one fails."""
    generation = None if form == "padded" else (9, 0)
    monkeypatch.setattr(flash, "capability", lambda device: generation)
    flash._kernel.cache_clear()
    with torch.device("meta"):
        model = encoder(encoder.Config(**SIZES, attention_dropout=rate))
    model.train().to(torch.float32 if form == "efficient" else torch.bfloat16)
    with FlopCounterMode(display=False) as counter:
        ids = torch.empty(sum(LENGTHS), dtype=torch.long, device="meta")
        output = model(ids, layout=Packed(LENGTHS).to("meta"))
        output.last_hidden_state.sum().backward()
    flash._kernel.cache_clear()
    counted = {str(operation) for operation in counter.get_flop_counts()["Global"]}
    known = {
        form: {f"aten._{form}_attention_forward", f"aten._{form}_attention_backward"}
        for form in ("flash", "efficient")
    }
    for other, operations in known.items():
        assert operations <= counted if other == form else operations.isdisjoint(counted)
    assert model.embeddings.word.weight.grad.shape == model.embeddings.word.weight.shape


def generation():
    return torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)


ON_GPU = [
    (flash.flash, torch.bfloat16, None), (flash.flash, torch.float16, None),
    (flash.flash, torch.bfloat16, 4), (flash.efficient, torch.float16, None),
    (flash.efficient, torch.float32, None),
]  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(generation() < (7, 0), reason="the kernels need a GPU")
@pytest.mark.parametrize(("kernel", "dtype", "window"), ON_GPU)
def test_the_kernels_of_a_gpu(kernel, dtype, window):
    """Outputs and gradients, against the plain route in float64 of the same rounded numbers."""
    if kernel is flash.flash and generation() < (8, 0):
        pytest.skip("flash attention needs Ampere or newer")
    exact = [x.detach().to(dtype).double().requires_grad_() for x in inputs(heads=4, size=64)]
    low = [x.detach().to("cuda", dtype).requires_grad_() for x in exact]
    layout, dropout = Packed(LENGTHS).to("cuda"), Dropout(0.0)
    chosen = flash.kernel_for(layout, low[0].flatten(1), 4, dropout, window=window)
    assert chosen is (flash.flash if dtype != torch.float32 and generation() >= (8, 0) else kernel)
    ours = kernel(layout, *low, 0.0, window)
    want = each_alone(*exact, window=window)
    weights = torch.randn_like(want).to(dtype)
    found = torch.autograd.grad(ours, low, weights.cuda())
    expected = torch.autograd.grad(want, exact, weights.double())
    for got, true in zip((ours, *found), (want, *expected), strict=True):
        torch.testing.assert_close(got.cpu().double(), true, rtol=0.02, atol=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(generation() < (7, 0), reason="the kernels need a GPU")
@pytest.mark.parametrize("kernel", [flash.flash, flash.efficient])
def test_the_kernels_of_a_gpu_drop_probabilities(kernel):
    """With values that name their key, a context is its row of probabilities."""
    if kernel is flash.flash and generation() < (8, 0):
        pytest.skip("flash attention needs Ampere or newer")
    length, rate, layout = 64, 0.3, Packed([64] * 20).to("cuda")
    query, key = (torch.randn(1280, 2, length, device="cuda").half() for _ in range(2))
    value = torch.eye(length).half().cuda().repeat(20, 1).unsqueeze(1).expand(-1, 2, -1)
    exact = kernel(layout, query, key, value.contiguous(), 0.0, None)
    found = kernel(layout, query, key, value.contiguous(), rate, None)
    kept = found != 0
    torch.testing.assert_close(found[kept], exact[kept] / (1 - rate), rtol=0.02, atol=0.002)
    drawn = int((exact != 0).sum())
    assert stats.binomtest(int(kept.sum()), drawn, 1 - rate).pvalue > 1e-4
