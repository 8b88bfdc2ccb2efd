"""Sixteen bits on a GPU, here on a CPU: weights cast once a step, a scaler that does not wait."""

import copy

import pytest
import torch
from comparing import assert_same
from helpers import config, make_pretrainer, make_trainer, pretrain_config, weights
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from minbert import Bert, BertConfig, Packed
from minbert.adapters import IA3Settings, LoRASettings, add_ia3, add_lora
from minbert.low_precision import LowPrecision, maps_of_one_input, suits
from multitask.extensions.gradient_surgery import GradientSurgery
from multitask.extensions.ia3 import IA3
from multitask.extensions.lora import LoRA
from multitask.extensions.unfreeze import Unfreeze
from multitask.loop import engine
from multitask.loop.scaling import Scaler
from optim import AdamW

pytestmark = pytest.mark.usefixtures("no_figure")


@pytest.fixture
def on_a_gpu(monkeypatch):
    monkeypatch.setattr(engine, "on_gpu", lambda device: True)


def small_encoder():
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 32, "num_layers": 2, "num_heads": 4}
    return Bert(BertConfig(**sizes, intermediate_size=64, initializer_range=0.2)).eval()


def loss_of(encoder, ids, layout):
    output = encoder(ids, layout=layout)
    return (output.last_hidden_state.float() * torch.linspace(-1, 1, 32)).sum()


def test_gradients_are_those_of_an_encoder_in_16_bits_added_up_in_32():
    """Of two passes, as of two batches of a step."""
    encoder, layout = small_encoder(), Packed([5, 9, 1])
    batches = [torch.randint(1, 40, layout.shape) for _ in range(2)]
    expected: dict[str, torch.Tensor] = {}
    for ids in batches:
        low = copy.deepcopy(encoder).bfloat16()
        low.embeddings.load_state_dict(encoder.embeddings.float().state_dict(), assign=True)
        low.embeddings.requires_grad_().register_forward_hook(lambda *args: args[-1].bfloat16())
        loss_of(low, ids, layout).backward()
        for name, p in low.named_parameters():
            if p.grad is not None:
                expected[name] = expected.get(name, 0) + p.grad.float()
    outside = dict(encoder.named_parameters())
    precision = LowPrecision(encoder, torch.bfloat16)
    precision.refresh()
    for ids in batches:
        with precision.in_use(), torch.autocast("cpu", torch.bfloat16):
            assert encoder.layers[0].attention.output.weight.dtype == torch.bfloat16
            loss_of(encoder, ids, layout).backward()
    assert all(found is outside[name] for name, found in encoder.named_parameters())
    found = {name: p.grad for name, p in outside.items() if p.grad is not None}
    assert all(x.dtype == torch.float32 for x in found.values())
    assert found.keys() == expected.keys()
    assert "pooler.dense.weight" not in found  # it took no part
    # Below the last layer's query, key and value, whose gradients add up in one product here.
    last = {name for name in found if name.startswith("layers.1.")}
    assert_same(*({name: x[name] for name in last} for x in (found, expected)), 0)
    for name, value in found.items():
        # The bias of keys has no gradient but what is rounded: softmax takes it out.
        assert (value - expected[name]).norm() < 0.02 * value.norm() + 0.05, name


def test_query_key_and_value_are_one_product_wherever_they_can_be():
    """By themselves, of other inputs or in another order, they give what each gives alone."""
    encoder = small_encoder()
    precision = LowPrecision(encoder, torch.bfloat16)
    precision.refresh()
    attention = encoder.layers[0].attention
    x, y = torch.randn(2, 5, 32).bfloat16()
    maps = attention.query, attention.key, attention.value
    for calls in ([(0, x), (1, x), (2, x)], [(2, x), (0, y), (1, x), (1, y), (1, y), (2, y)]):
        with precision.in_use(), torch.inference_mode():
            found = [maps[number](z) for number, z in calls]
        for (number, z), value in zip(calls, found, strict=True):
            low = copy.deepcopy(maps[number]).bfloat16()
            torch.testing.assert_close(value, low(z))
    assert "forward" not in vars(attention.query) and maps[0].weight.dtype == torch.float32
    with precision.in_use(), Products() as products:
        maps[0](x), maps[1](x), maps[2](x)
    assert products.shapes == [(5, 96)]
    others = {f"{n}.weight": torch.randn(32, 32) for n in ("query", "key", "value")}
    with precision.in_use():  # a pass with other weights than the encoder's own
        out = torch.func.functional_call(attention, others, (x.clone(), Packed([5])))
        assert not torch.equal(out, attention(x, Packed([5])))
    precision.remove()
    add_lora(encoder, LoRASettings(rank=2))  # of query and value, which are no plain maps then
    assert maps_of_one_input(encoder) == []


class Products(TorchDispatchMode):
    """Notes the shapes of matrix products."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.addmm.default:
            self.shapes.append(tuple(found.shape))
        return found


def test_outside_of_the_block_and_after_errors_the_encoder_is_as_it_was():
    encoder, layout, ids = small_encoder(), Packed([4]), torch.arange(1, 5)
    before = encoder(ids, layout=layout).last_hidden_state
    precision = LowPrecision(encoder, torch.bfloat16)
    precision.refresh()
    with pytest.raises(ValueError, match="layout is for"), precision.in_use():
        encoder(ids[:3], layout=layout)
    assert torch.equal(encoder(ids, layout=layout).last_hidden_state, before)
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder(ids, layout=layout).pooler_output.dtype == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")


def test_new_weights_are_seen_after_a_refresh_and_frozen_ones_have_no_gradient():
    encoder, layout, ids = small_encoder(), Packed([4]), torch.arange(1, 5)
    precision = LowPrecision(encoder, torch.bfloat16)
    encoder.layers[0].requires_grad_(False)
    with torch.no_grad():
        encoder.layers[1].feed_forward.outer.bias.fill_(3)
    precision.refresh()
    with precision.in_use():
        assert (encoder.layers[1].feed_forward.outer.bias == 3).all()
        loss_of(encoder, ids, layout).backward()
    assert all(p.grad is None for p in encoder.layers[0].parameters())
    assert encoder.layers[1].feed_forward.outer.bias.grad is not None


def test_factors_near_1_stay_in_32_bits():
    for add, settings, suited in (
        (add_lora, LoRASettings(rank=2), True),
        (add_lora, LoRASettings(rank=2, dora=True), False),
        (add_ia3, IA3Settings(), False),
    ):
        encoder = small_encoder()
        add(encoder, settings)
        assert suits(encoder) == suited


RUNS = {
    "one task": {"tasks": ("sst",)},
    "accumulation": {"accumulate": 2, "batch_size": 3, "pooling": "mean"},
    "all tasks": {"extensions": (GradientSurgery(),)},
    "adapters": {"extensions": (LoRA(rank=2),)},
    "unfreezing": {"extensions": (Unfreeze(every=0.2),), "gradient_checkpointing": True},
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind == "adapters" else pytest.mark.slow) for kind in RUNS],
)
def test_a_run_learns_what_autocast_learns(folder, monkeypatch, kind):
    """Losses of each step and the weights at the end, within what 16 bits round."""
    settings = {**RUNS[kind], "precision": "bf16", "epochs": 1, "lr": 1e-3}
    plain = make_trainer(config(folder, **settings))
    plain.fit()
    monkeypatch.setattr(engine, "on_gpu", lambda device: True)
    trainer = make_trainer(config(folder, **settings))
    assert trainer.engine.low is not None and plain.engine.low is None
    trainer.fit()
    losses = [
        [line["loss"] for line in each.run.metrics() if line["kind"] == "step"]
        for each in (trainer, plain)
    ]
    assert len(losses[0]) == len(losses[1]) >= 3
    torch.testing.assert_close(*map(torch.tensor, losses), rtol=0.05, atol=0.05)
    for name, value in weights(plain).items():
        # AdamW moves by the rate at most, in whatever direction a gradient near 0 has.
        torch.testing.assert_close(weights(trainer)[name], value, rtol=0, atol=0.05)
    assert all(value.dtype == torch.float32 for value in weights(trainer).values())


def test_gradients_of_tasks_are_kept_apart(folder, on_a_gpu):
    trainer = make_trainer(config(folder, precision="bf16"))
    draws = [engine.Draw("sst", 0), engine.Draw("sts", 0)]
    _, gradients = trainer.engine.backward_apart(draws)
    found = copy.deepcopy(gradients)
    for draw in draws:
        _, alone = trainer.engine.backward_apart([draw])
        for apart, expected in zip(found[draw.task], alone[draw.task], strict=True):
            assert (apart is None) == (expected is None)
            assert apart is None or torch.equal(apart, expected)


def test_a_run_of_pretraining_learns_with_its_tied_decoder(folder, on_a_gpu):
    trainer = make_pretrainer(pretrain_config(folder, precision="bf16"), torch.float32)
    before = trainer.parameters["encoder.embeddings.word.weight"].detach().clone()
    for _ in range(2):  # the first has a rate of 0
        trainer.step()
    after = trainer.parameters["encoder.embeddings.word.weight"]
    assert after.dtype == torch.float32 and not torch.equal(after, before)


def test_what_does_not_suit_goes_by_autocast(folder, on_a_gpu):
    for changes in ({"precision": "fp32"}, {"frozen": True}, {"extensions": (IA3(),)}):
        assert make_trainer(config(folder, **{"precision": "bf16", **changes})).engine.low is None


# fp16


class NothingRead(TorchDispatchMode):
    """Fails where a number is read on the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a tensor is read"
        return func(*args, **(kwargs or {}))


GRADIENTS = [1.0, float("inf"), 0.5, 2.0, float("nan"), float("inf"), -1.0]


def steps(make_scaler, fused):
    """Parameters, counts and scale after steps of which some overflow; one takes part in half."""
    params = [nn.Parameter(torch.tensor([1.0, -2.0])), nn.Parameter(torch.tensor([0.5]))]
    optimizer = AdamW(params, lr=0.1, eps=1e-3, weight_decay=0.1, fused=fused)
    scaler = make_scaler("cpu", init_scale=4.0, growth_interval=2)
    for number, factor in enumerate(GRADIENTS):
        for param in params[: 1 + number % 2]:
            param.grad = param.detach() * factor * scaler.scale(torch.ones(()))
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    scale = scaler.state_dict()
    return params, [optimizer.state[p]["step"] for p in params], scale


def test_the_scaler_leaves_out_what_pytorchs_leaves_out():
    params, counts, scale = steps(Scaler, fused=True)
    expected, expected_counts, expected_scale = steps(torch.amp.GradScaler, fused=False)
    assert counts == expected_counts == [4, 1] and scale == expected_scale
    for ours, want in zip(params, expected, strict=True):
        torch.testing.assert_close(ours, want)


def test_the_scaler_reads_nothing_before_the_next_step_and_waits_for_the_copy():
    param = nn.Parameter(torch.ones(3))
    optimizer, scaler = AdamW([param], fused=True), Scaler("cpu")
    scaler.scale(param.sum()).backward()
    with NothingRead():
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    assert scaler._news is not None and optimizer.state[param]["step"] == 1
    with pytest.raises(AssertionError, match="a tensor is read"), NothingRead():
        scaler.settle()


def test_nothing_is_read_between_two_writes_of_the_log(folder, on_a_gpu):
    trainer = make_trainer(config(folder, precision="bf16", log_every=100))
    trainer.step()
    with NothingRead():
        for _ in range(3):
            trainer.step()
    assert len(trainer.log.pending) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 needs a GPU")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_on_a_gpu_learns_what_float32_learns(folder, precision):
    losses = []
    for kind in ("fp32", precision):
        trainer = make_trainer(config(folder, precision=kind, device="cuda", epochs=1))
        trainer.fit()
        lines = trainer.run.metrics()
        losses.append(torch.tensor([x["loss"] for x in lines if x["kind"] == "step"]))
    torch.testing.assert_close(*losses, rtol=0.05, atol=0.05)
