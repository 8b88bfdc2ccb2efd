"""Answers on a GPU, here on a CPU: 16 bits, batches by memory, texts tokenized meanwhile."""

import numpy as np
import pytest
import torch
from helpers import config, make_trainer

from minbert import embed, embedding, inference, load_backbone
from minbert.checks import InputWarning
from minbert.encoders.bert import Bert, BertConfig
from minbert.inference import answering, automatic_precision, chosen_precision, tokens_at_once
from multitask import train
from multitask.evaluate import evaluate
from multitask.loop.trainer import Trainer
from multitask.predictor import Predictor

GPU = torch.device("cuda")


@pytest.fixture
def on_a_gpu(monkeypatch):
    """This machine's memory is a card's, of which a half is free."""
    monkeypatch.setattr(inference, "on_gpu", lambda device: True)
    monkeypatch.setattr(embedding, "on_gpu", lambda device: True)
    for name, value in (("memory_reserved", 2**30), ("memory_allocated", 2**30)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**33, 2**34))


@pytest.fixture(scope="module")
def backbone(folder):
    return load_backbone(folder / "backbone")


TEXTS = ["one", "a film", "good", "a b c d e f g h i j", "no", "a good film"]


@pytest.mark.parametrize(
    ("generation", "precision"),
    [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((7, 0), "fp16"), ((6, 1), "fp32")],
)
def test_auto_is_16_bits_where_a_gpu_is_quick_in_them(monkeypatch, generation, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: generation)
    assert automatic_precision(GPU) == chosen_precision("auto", GPU) == precision
    assert chosen_precision("fp32", GPU) == "fp32"
    for name in ("cpu", "meta"):
        assert automatic_precision(torch.device(name)) == "fp32"


def test_wrong_precisions_are_refused(backbone):
    with pytest.raises(ValueError, match="precision fp16 needs a GPU, the device is cpu"):
        embed(backbone, TEXTS, precision="fp16")
    with pytest.raises(ValueError, match="precision is 'half'; choose one of auto, fp32, tf32, b"):
        embed(backbone, TEXTS, precision="half")


def test_tf32_is_for_nvidias_gpus_since_ampere(monkeypatch):
    products = torch.backends.cuda.matmul
    for device, generation in ((torch.device("cpu"), (8, 0)), (GPU, (7, 5))):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda d, g=generation: g)
        with pytest.raises(ValueError, match=f"of the Ampere .*, the device is {device}; use fp32"):
            chosen_precision("tf32", device)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert chosen_precision("tf32", GPU) == "tf32"
    with inference.autocast(GPU, "tf32"):
        assert products.allow_tf32 and not torch.is_autocast_enabled("cuda")
    assert not products.allow_tf32


def test_a_run_in_tf32_has_it_forwards_and_backwards_and_leaves_nothing(folder, monkeypatch):
    seen = {"forward": set(), "backward": set()}
    products = torch.backends.cuda.matmul
    prepare = Trainer.__init__

    def watch(trainer, *args, **kwargs):
        prepare(trainer, *args, **kwargs)
        layer = trainer.model.encoder.layers[0]
        layer.register_forward_hook(lambda *_: seen["forward"].add(products.allow_tf32))
        layer.register_full_backward_hook(lambda *_: seen["backward"].add(products.allow_tf32))

    monkeypatch.setattr(inference, "_has_tf32", lambda device: True)
    monkeypatch.setattr(Trainer, "__init__", watch)
    train(config(folder, tasks=("sst",), precision="tf32", epochs=1), progress=False)
    assert seen == {"forward": {True}, "backward": {True}} and not products.allow_tf32


def encoder_of(hidden, layers):
    sizes = {"vocab_size": 9, "num_heads": 1, "intermediate_size": 1, "max_positions": 1}
    with torch.device("meta"):
        return Bert(BertConfig(hidden_size=hidden, num_layers=layers, **sizes))


def test_a_gpu_takes_as_many_tokens_as_its_memory_allows(on_a_gpu, monkeypatch):
    base, small = encoder_of(768, 12), encoder_of(384, 6)
    assert tokens_at_once(base) == 2**34 // 16 // (4 * 768 * 32)
    assert tokens_at_once(small) < tokens_at_once(encoder_of(64, 2)) == inference.MOST_TOKENS
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**34))
    assert tokens_at_once(base) == 2**30 // 2 // (4 * 768 * 32)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 2**34))
    assert tokens_at_once(base) == inference.TOKENS


def test_a_cpu_takes_what_it_always_took():
    assert tokens_at_once(encoder_of(768, 12)) == 4096


@torch.no_grad()
def test_an_encoder_answers_in_16_bits_and_is_left_as_it_was(backbone, on_a_gpu):
    encoder, ids = backbone.encoder, torch.tensor([[5, 6, 7]])
    before, parameters = encoder(ids).last_hidden_state, dict(encoder.named_parameters())
    seen = []
    for precision in ("fp32", "bf16"):
        with answering(encoder, precision):
            seen.append(encoder(ids).last_hidden_state)
    assert torch.equal(seen[0], before) and seen[1].dtype == torch.bfloat16
    torch.testing.assert_close(seen[1].float(), before, rtol=0.05, atol=0.05)
    assert all(p is parameters[name] for name, p in encoder.named_parameters())
    assert not encoder._forward_hooks and torch.equal(encoder(ids).last_hidden_state, before)


def test_texts_are_tokenized_while_others_are_embedded(backbone, on_a_gpu, monkeypatch):
    """In windows of two, whose vectors and cut texts are those of one window."""
    with pytest.warns(InputWarning, match="2 of 6 texts are longer .* the first is row 4"):
        expected = embed(backbone, TEXTS, precision="fp32", max_length=4)
    monkeypatch.setattr(embedding, "TEXTS", 2)
    begun, seen = [], []
    encode, forward = backbone.tokenizer.encode, backbone.encoder.forward

    def encode_and_note(texts, **settings):
        begun.append(texts)
        return encode(texts, **settings)

    def forward_and_note(*inputs, **settings):
        seen.append(len(begun))
        return forward(*inputs, **settings)

    monkeypatch.setattr(backbone.tokenizer, "encode", encode_and_note)
    monkeypatch.setattr(backbone.encoder, "forward", forward_and_note)
    with pytest.warns(InputWarning, match="2 of 6 texts are longer .* the first is row 4"):
        found = embed(backbone, TEXTS, precision="fp32", max_length=4)
    torch.testing.assert_close(found, expected)
    assert begun[:3] == [TEXTS[:2], TEXTS[2:4], TEXTS[4:]] and len(seen) == 3
    low = embed(backbone, np.array(TEXTS), max_length=None)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, embed(backbone, TEXTS, precision="fp32"), rtol=0, atol=0.05)
    assert not low.equal(embed(backbone, TEXTS, precision="fp32"))


def test_answers_of_a_run_in_16_bits(folder, on_a_gpu, no_figure, command_line):
    trainer = make_trainer(config(folder, epochs=1, pooling="mean"))
    data = trainer.data["sst"]
    exact, low = (
        evaluate(trainer.model, data.task, data.sources["dev"], precision=p, progress=False)
        for p in ("fp32", "auto")
    )
    assert not np.array_equal(low.probabilities, exact.probabilities)
    np.testing.assert_allclose(low.probabilities, exact.probabilities, atol=0.02)
    assert low.metrics["loss"] == pytest.approx(exact.metrics["loss"], abs=0.02)


def test_the_command_says_in_which_precision(folder, no_figure, command_line):
    from multitask.training import train

    run = train(config(folder, epochs=1, steps_per_epoch=2, tasks=("sst",)), progress=False)
    assert Predictor(run.folder, device="cpu").precision == "fp32"
    for words in (["evaluate", run.folder], ["predict", "A film.", "--run", run.folder]):
        _, _, told = command_line(*words, "--precision", "bf16")
        assert "answers in bf16, on cpu" in told
        assert "answers in" not in command_line(*words)[2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_embeddings_of_a_gpu_are_near_those_of_a_cpu(folder, monkeypatch):
    monkeypatch.setattr(embedding, "TEXTS", 2)
    found = []
    for device in ("cpu", "cuda"):
        backbone = load_backbone(folder / "backbone")
        backbone.encoder.to(device)
        found.append(embed(backbone, TEXTS).cpu())
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0.05)
