"""Compiled layers: the same numbers, and names of parameters that know nothing of it.

By `aot_eager`, which traces and differentiates as the default does, and spares the C++ compiler.
"""

from functools import partialmethod

import pytest
import torch
from helpers import config, make_trainer, weights, without_seconds

from minbert.encoder import Encoder
from multitask.loop import engine
from multitask.loop.trainer import Trainer


@pytest.fixture(autouse=True)
def without_compiler(monkeypatch):
    quick = partialmethod(Encoder.compile_layers, backend="aot_eager")
    monkeypatch.setattr(Encoder, "compile_layers", quick)
    yield
    torch.compiler.reset()


def test_a_compiled_run_is_the_same_and_goes_on_without(folder):
    """Other lengths come with every batch, and both halves of the run are checkpointed."""
    changes = {"tasks": ("sts",), "pooling": "mean", "gradient_checkpointing": True}
    plain = make_trainer(config(folder, **changes))
    plain.fit()
    compiled = make_trainer(config(folder, compile=True, **changes))
    layer = compiled.model.encoder.layers[0]
    assert layer.feed_forward._compiled_call_impl and layer.attention_norm._compiled_call_impl
    assert layer.attention._compiled_call_impl is None
    assert list(compiled.model.state_dict()) == list(plain.model.state_dict())
    compiled.fit()

    lines = [without_seconds(trainer.run.metrics()) for trainer in (compiled, plain)]
    assert len(lines[0]) == len(lines[1]) > 6
    for found, wanted in zip(*lines, strict=True):
        assert found.keys() == wanted.keys()
        if wanted["kind"] == "step":
            assert found["loss"] == pytest.approx(wanted["loss"], abs=1e-5)
            assert found["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-4)
    for name, value in weights(plain).items():
        torch.testing.assert_close(compiled.parameters[name].data, value, rtol=0, atol=1e-4)

    model = make_trainer(config(folder, **changes)).model
    again = Trainer(plain.config, model, plain.data, compiled.run, progress_bar=False)
    again.restore()
    assert again.progress.evaluated == 2
    assert all(torch.equal(v, weights(compiled)[name]) for name, v in weights(again).items())


def test_compiled_layers_compute_with_weights_in_16_bits(folder, monkeypatch):
    """As on a GPU: compiled or not, the same losses."""
    monkeypatch.setattr(engine, "on_gpu", lambda device: True)
    losses = []
    for compiled in (False, True):
        settings = config(folder, compile=compiled, precision="bf16", epochs=1)
        trainer = make_trainer(settings)
        assert trainer.engine.low is not None
        trainer.fit()
        lines = trainer.run.metrics()
        losses.append([line["loss"] for line in lines if line["kind"] == "step"])
    assert losses[0] == pytest.approx(losses[1], abs=0.02)
