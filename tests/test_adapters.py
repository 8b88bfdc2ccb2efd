"""LoRA, DoRA and IA3 against peft's own on transformers' BERT."""

import copy

import pytest
import torch
from adapting import (
    EMBEDDINGS,
    EXACT,
    LINEAR,
    assert_same,
    backward,
    batch,
    fill,
    outputs,
    save_peft,
    trained,
)
from peft import IA3Config, LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn

from minbert import Packed
from minbert.adapters import (
    load_adapter,
    merge,
    merge_and_remove,
    save_adapter,
    unmerge,
    use_adapter,
)
from minbert.adapters.apply import adapted
from minbert.quick import route_of

CONFIGS = {
    "lora": LoraConfig(r=3, lora_alpha=5, target_modules=["query", "value"]),
    "lora with dropout": LoraConfig(r=2, lora_dropout=0.4, target_modules=LINEAR),
    "lora everywhere": LoraConfig(r=4, lora_alpha=1, target_modules=LINEAR + EMBEDDINGS),
    "rank-stabilised": LoraConfig(r=4, use_rslora=True, target_modules=["key", "word_embeddings"]),
    "dora": LoraConfig(r=3, use_dora=True, target_modules=LINEAR + EMBEDDINGS),
    "dora with dropout": LoraConfig(
        r=3, use_dora=True, lora_dropout=0.4, target_modules=["query", "output.dense"]
    ),
    "ranks": LoraConfig(
        r=3,
        target_modules=["query", "value", "word_embeddings"],
        rank_pattern={"value": 5, "layer.1.attention.self.query": 2},
        alpha_pattern={"value": 2},
    ),
    "pooler whole": LoraConfig(r=3, target_modules=LINEAR, modules_to_save=["pooler"]),
    "layer norm whole": LoraConfig(
        r=3, target_modules=["query"], modules_to_save=["embeddings.LayerNorm"]
    ),
    "ia3": IA3Config(
        target_modules=["key", "value", "intermediate.dense"],
        feedforward_modules=["intermediate.dense"],
    ),
    "ia3 by default": IA3Config(task_type="FEATURE_EXTRACTION"),
}
"""What peft can make; "dense" stands for three modules of a layer and the pooler's."""


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda name: name.replace(" ", "-"))
def pair(request, odd, tmp_path_factory):
    """peft's model with an adapter of random values, and our encoder with it, in float64."""
    theirs = get_peft_model(copy.deepcopy(odd.reference.bert), CONFIGS[request.param])
    fill(trained(theirs))
    folder = tmp_path_factory.mktemp("theirs")
    save_peft(theirs.eval(), folder)
    ours = copy.deepcopy(odd.ours.encoder)
    assert load_adapter(folder, ours) == {}
    return ours, theirs


@pytest.fixture
def twins(pair):
    """Copies of both, to be changed."""
    return copy.deepcopy(pair)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_outputs_and_gradients_are_pefts(twins, odd, tmp_path, mode):
    """In train mode with every dropout on, those of the encoder and those of LoRA.

    Gradients are compared as files: each side's are put in the place of its values and saved.
    """
    inputs = batch(odd.ours.encoder.config)
    found = []
    for model in twins:
        model.train(mode == "train")
        with torch.random.fork_rng(), route_of("plain"):
            torch.manual_seed(3)
            found.append(outputs(model, inputs))
        backward(found[-1])
        for _, parameter in trained(model):
            parameter.data = parameter.grad
    assert_same(*found)
    plain = outputs(odd.ours.encoder, inputs)
    assert not torch.allclose(plain[1], found[0][1], atol=1e-2), "the adapter does nothing"

    ours, theirs = twins
    assert all(p.grad is None for _, p in ours.named_parameters() if not p.requires_grad)
    save_adapter(tmp_path / "ours", ours)
    save_peft(theirs, tmp_path / "gradients")
    files = [load_file(tmp_path / name / "adapter_model.safetensors")
             for name in ("ours", "gradients")]  # fmt: skip
    assert files[0].keys() == files[1].keys()
    for name, gradient in files[0].items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, files[1][name], **EXACT, msg=lambda m, n=name: n + m)


def test_merged_weights_are_pefts(twins, odd):
    """And merging and unmerging, once or twice, lose not one bit."""
    ours, theirs = twins
    inputs = batch(odd.ours.encoder.config)
    before, separate = outputs(odd.ours.encoder, inputs), outputs(ours, inputs)
    own = {name: p.clone() for name, p in ours.named_parameters()}
    for _ in range(2):
        merge(ours)
        merge(ours)
        assert_same(outputs(ours, inputs), separate)
        unmerge(ours)
        unmerge(ours)
        assert all(torch.equal(p, own[name]) for name, p in ours.named_parameters())
    use_adapter(ours, None)
    assert_same(outputs(ours, inputs), before)

    use_adapter(ours, "default")
    merge_and_remove(ours)
    assert not adapted(ours)
    merged = theirs.merge_and_unload().state_dict()
    plain = copy.deepcopy(odd.reference.bert)
    plain.load_state_dict(merged)
    assert_same(outputs(ours, inputs), outputs(plain, inputs))
    assert {n for n, _ in ours.named_parameters()} == {
        n for n, _ in odd.ours.encoder.named_parameters()
    }


def test_packed_batches_and_gradient_checkpointing_give_the_same(pair, odd):
    ours = copy.deepcopy(pair[0])
    ids, mask, types = inputs = batch(odd.ours.encoder.config)
    with torch.random.fork_rng():
        for module in ours.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        ours.train()
        want = outputs(ours, inputs)
        backward(want)
        gradients = {name: p.grad for name, p in trained(ours)}
        ours.zero_grad(set_to_none=True)
        ours.gradient_checkpointing = True
        real = mask.bool()
        packed = ours(
            ids[real], token_type_ids=types[real], layout=Packed(mask.sum(dim=1).tolist())
        )
    assert_same((packed.last_hidden_state, packed.pooler_output), want)
    backward((packed.last_hidden_state, packed.pooler_output))
    found = {name: p.grad for name, p in trained(ours)}
    assert_same(found.values(), gradients.values())
