"""Recorded steps: what a CUDA graph does to memory, on a CPU, and one test for a GPU."""

import copy

import pytest
import torch
from comparing import assert_same
from gpu_kernels import kernels_on_a_cpu
from helpers import config, make_trainer, weights
from torch import nn

from minbert import Bert, BertConfig, Packed, Padded, graphs
from minbert.checks import InputWarning
from minbert.encoders.modernbert import ModernBert, ModernBertConfig
from minbert.graphs import Recorded, filled_up
from minbert.low_precision import LowPrecision
from multitask.extensions.unfreeze import Unfreeze
from multitask.loop import engine

pytestmark = pytest.mark.usefixtures("no_figure")

SIZES = {"vocab_size": 40, "hidden_size": 32, "num_heads": 4, "intermediate_size": 48}


class Graph(torch.autograd.Function):
    """A recording's inputs, output and gradients, each in memory of its own, used again."""

    @staticmethod
    def forward(ctx, recording, *inputs):
        assert [x.shape for x in inputs] == [x.shape for x in recording.inputs]
        for own, given in zip(recording.inputs, inputs, strict=True):
            if own.data_ptr() != given.data_ptr():
                own.copy_(given)
        with torch.enable_grad():
            output = recording.function(*recording.inputs)
        if recording.output is None:
            recording.output = output
        recording.output.data.copy_(output.detach())
        recording.latest, ctx.recording = output, recording
        return recording.output.detach()

    @staticmethod
    def backward(ctx, gradient):
        recording = ctx.recording
        learning = [x for x in recording.inputs if x.requires_grad]
        found = torch.autograd.grad(recording.latest, learning, gradient, allow_unused=True)
        if recording.gradients is None:
            recording.gradients = [None if x is None else torch.empty_like(x) for x in found]
        for own, new in zip(recording.gradients, found, strict=True):
            if own is not None:
                own.copy_(new)
        own = (None if x is None else x.detach() for x in recording.gradients)
        return None, *(next(own) if x.requires_grad else None for x in recording.inputs)


class Recording:
    made = 0

    def __init__(self, function, inputs, **_):
        torch.rand(3)  # as trial runs do
        self.function, self.inputs = function, inputs
        self.output = self.latest = self.gradients = None
        Recording.made += 1

    def __call__(self, *inputs):
        return Graph.apply(self, *inputs)


@pytest.fixture
def recordings(monkeypatch):
    """A CPU that has kernels for packed sequences, and records; gives the class of recordings."""
    monkeypatch.setattr(Recording, "made", 0)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", Recording)
    with kernels_on_a_cpu(monkeypatch):
        yield Recording


def encoder_of(kind):
    torch.manual_seed(0)
    if kind is Bert:
        return Bert(BertConfig(**SIZES, num_layers=2, hidden_dropout=0.0, attention_dropout=0.0))
    sizes = {**SIZES, "num_layers": 3, "local_attention": 8, "max_positions": 64}
    return ModernBert(ModernBertConfig(**sizes, pad_token_id=0))


def loss_of(encoder, lengths, seed):
    layout = Packed(lengths)
    ids = torch.randint(1, 40, layout.shape, generator=torch.Generator().manual_seed(seed))
    output = encoder(ids, layout=layout)
    return (output.last_hidden_state.float() * torch.linspace(-1, 1, 32)).sum(), output


BATCHES = [[9, 31, 2], [4, 5, 40], [20, 20, 19], [3, 1, 1], [30, 2, 17]]


@pytest.mark.parametrize("kind", [Bert, ModernBert])
def test_recorded_passes_give_the_same_outputs_and_gradients(recordings, monkeypatch, kind):
    """Of steps of two batches each, whose gradients add up."""
    monkeypatch.setattr(graphs, "MEETINGS", 1)
    outputs, gradients = [], []
    for make in (LowPrecision, Recorded):
        encoder = encoder_of(kind).train()
        low = make(encoder, torch.bfloat16)
        low.refresh()
        outputs.append([])
        gradients.append([])
        for step in range(2):
            encoder.zero_grad()
            for number, lengths in enumerate(BATCHES):
                with low.in_use():
                    loss, output = loss_of(encoder, lengths, 10 * step + number)
                    loss.backward()
                outputs[-1].append(output.last_hidden_state.detach())
            gradients[-1].append({n: p.grad.clone() for n, p in encoder.named_parameters()
                                  if p.grad is not None})  # fmt: skip
        assert "encode" not in vars(encoder)
    assert recordings.made == 2 and len(low._graphs) == 2  # two numbers of sequences, with the rest
    for expected, found in zip(*outputs, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0.02)
    for expected, found in zip(*gradients, strict=True):
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert (value - expected[name]).norm() < 0.02 * value.norm() + 0.05, name


def test_tokens_are_filled_up_to_few_numbers():
    seen = set()
    for tokens in range(1, 3000, 31):
        layout = filled_up(Packed([1] * (tokens - 1) + [1]))
        more = layout.shape[0] - tokens
        assert 0 <= more <= max(63, tokens // 16)
        assert layout.batch_size == tokens + (more > 0)
        assert layout.max_length >= max(more, 1) and layout.positions.max() == 0
        assert layout.offsets[-1] == layout.shape[0]
        seen.add(layout.shape[0])
    assert len(seen) <= 40


def test_what_is_filled_up_counts_for_nothing():
    encoder, lengths = encoder_of(Bert).double(), [5, 9, 2]
    results = []
    for fill in (False, True):
        layout = Packed(lengths)
        ids = torch.arange(1, 17)
        if fill:
            layout = filled_up(layout)
            ids = nn.functional.pad(ids, (0, layout.shape[0] - 16))
        encoder.zero_grad()
        states = encoder(ids, layout=layout).last_hidden_state[:16]
        states.square().sum().backward()
        results.append(
            {"states": states.detach()}
            | {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}
        )
    results[0].pop("pooler.dense.weight", None), results[1].pop("pooler.dense.weight", None)
    assert_same(results[1], results[0], 1e-12)


def test_only_what_is_sure_to_fit_is_recorded(recordings, monkeypatch):
    """The first pass of a block in training, of packed tokens, whose last output is wanted."""
    monkeypatch.setattr(graphs, "MEETINGS", 0)
    encoder = encoder_of(Bert).train()
    low = Recorded(encoder, torch.bfloat16)
    low.refresh()
    ids, layout, padded = torch.arange(1, 17), Packed([7, 9]), Padded(torch.ones(2, 8).long())
    for inputs, wanted in (
        ((ids.view(2, 8), padded), {}),
        ((ids, layout), {"output_hidden_states": True}),
        ((ids, layout), {"output_attentions": True}),
    ):
        with low.in_use():
            output = encoder(inputs[0], layout=inputs[1], **wanted)
        assert output.hidden_states is None or len(output.hidden_states) == 3
    with low.in_use(), torch.no_grad():
        encoder(ids, layout=layout)
    encoder.eval()
    with low.in_use():
        encoder(ids, layout=layout)
    encoder.train()
    hook = encoder.layers[0].register_forward_hook(lambda *_: None)
    with low.in_use():
        encoder(ids, layout=layout)
    hook.remove()
    assert recordings.made == 0
    with low.in_use():
        first, again = (encoder(ids, layout=layout).last_hidden_state for _ in range(2))
        (first.square().sum() + again.square().sum()).backward()
    assert recordings.made == 1
    torch.testing.assert_close(first, again, rtol=0, atol=0.02)


def test_a_second_pass_draws_the_dropout_of_a_recorded_one(recordings, monkeypatch):
    """As extensions want it which compare two passes."""
    monkeypatch.setattr(graphs, "MEETINGS", 0)
    encoder = encoder_of(Bert).train()
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
    low = Recorded(encoder, torch.bfloat16)
    low.refresh()
    found = []
    with low.in_use():
        for context in (torch.enable_grad, torch.enable_grad, torch.no_grad):
            torch.manual_seed(5)
            with context():
                found.append(encoder(torch.arange(1, 17), layout=Packed([7, 9])).last_hidden_state)
    assert recordings.made == 1
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_a_recording_that_fails_is_told_once_and_steps_go_on(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(graphs, "MEETINGS", 0)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
    encoder = encoder_of(Bert).train()
    low = Recorded(encoder, torch.bfloat16)
    low.refresh()

    def steps():
        for seed in range(3):
            with low.in_use():
                loss_of(encoder, [5, 9], seed)[0].backward()

    with pytest.warns(InputWarning, match="go on without.*stream is capturing$") as told:
        steps()
    assert len(told) == 1 and encoder.layers[0].attention.query.weight.grad is not None


def test_attention_in_rectangles_is_not_recorded(monkeypatch):
    """Their places would be those of the recorded batch."""
    monkeypatch.setattr(graphs, "MEETINGS", 0)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", lambda f, inputs, **_: f(*inputs))
    encoder = encoder_of(Bert).train()  # on a CPU without the kernels
    low = Recorded(encoder, torch.bfloat16)
    low.refresh()
    with pytest.warns(InputWarning, match="no attribute"), low.in_use():
        loss_of(encoder, [5, 9], 0)[0].backward()


RUNS = {
    "one task": {"tasks": ("sst",)},
    "accumulation": {"accumulate": 2, "batch_size": 3},
    "unfreezing": {"extensions": (Unfreeze(every=0.2),)},
}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=() if k == "one task" else pytest.mark.slow) for k in RUNS]
)
def test_a_run_does_not_show_which_steps_were_recorded(folder, monkeypatch, recordings, kind):
    """So that a resumed one, which begins to record anew, makes the same numbers."""
    monkeypatch.setattr(engine, "on_gpu", lambda device: True)
    found = []
    for meetings in (1, 10**9):
        monkeypatch.setattr(graphs, "MEETINGS", meetings)
        settings = {"precision": "bf16", "cuda_graphs": True, "epochs": 2, "encoder_dropout": 0.3}
        trainer = make_trainer(config(folder, **{**settings, **RUNS[kind]}))
        assert isinstance(trainer.engine.low, Recorded)
        trainer.fit()
        lines = trainer.run.metrics()
        losses = [line["loss"] for line in lines if line["kind"] == "step"]
        found.append((losses, copy.deepcopy(weights(trainer)), recordings.made))
    (losses, values, made), (expected, expected_values, all_made) = found
    assert made > 0 and all_made == made
    assert losses == expected and all(torch.equal(v, expected_values[n]) for n, v in values.items())


def test_a_run_without_a_gpu_says_so(folder):
    with pytest.warns(InputWarning, match="cuda_graphs: steps go on without, for they are for one"):
        trainer = make_trainer(config(folder, precision="bf16", cuda_graphs=True))
    assert trainer.engine.low is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_recorded_steps_on_a_gpu_learn_what_others_do(folder, monkeypatch):
    losses = []
    for meetings in (1, 10**9):
        monkeypatch.setattr(graphs, "MEETINGS", meetings)
        settings = {"precision": "bf16", "cuda_graphs": True, "device": "cuda", "epochs": 2}
        trainer = make_trainer(config(folder, **settings))
        trainer.fit()
        low = trainer.engine.low
        assert not low._failed and (meetings > 1 or low._graphs)
        lines = trainer.run.metrics()
        losses.append(torch.tensor([x["loss"] for x in lines if x["kind"] == "step"]))
    torch.testing.assert_close(*losses, rtol=0.02, atol=0.02)
