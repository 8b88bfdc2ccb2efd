"""ConvBERT against transformers' own: padded as the reference is, packed as it is alone."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from conftest import VOCABULARY, fill
from safetensors.torch import load_file, save_file
from test_bert import assert_same, assert_same_gradients, encode, gradients, in_mode, random_batch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    ConvBertForMaskedLM,
    ConvBertForSequenceClassification,
)
from transformers import ConvBertConfig as ReferenceConfig

from data.batching import Batch
from data.tasks import get_task
from minbert import (
    Backbone,
    ConvBert,
    ConvBertConfig,
    Packed,
    Padded,
    load_backbone,
    save_pretrained,
)
from minbert.loading import hub_names
from minbert.quick import route_of
from multitask import MultitaskModel

WEIGHTS = "model.safetensors"
COMMON = {
    "vocab_size": len(VOCABULARY),
    "num_hidden_layers": 2,
    "max_position_embeddings": 70,
    "type_vocab_size": 3,
    "pad_token_id": 7,
    "layer_norm_eps": 1e-3,
    "initializer_range": 0.05,
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.3,
}


def sizes(hidden, heads, ratio, kernel, groups, embedding, inner):
    return {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "head_ratio": ratio,
        "conv_kernel_size": kernel,
        "num_groups": groups,
        "embedding_size": embedding,
        "intermediate_size": inner,
    }


SHAPES = {
    "like base": sizes(24, 4, 2, 9, 1, 24, 52),
    "ratio 1, odd heads": sizes(42, 3, 1, 3, 1, 10, 31),
    "ratio 4, groups": sizes(48, 8, 4, 9, 2, 20, 36),
    "one head, three groups": sizes(30, 3, 5, 5, 3, 30, 45),
    "kernel 1": sizes(12, 5, 2, 1, 1, 11, 13),
}
LENGTHS = [1, 40, 70, 5, 33, 9]  # shorter than a kernel, up to the last position; two groups
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}
MODES = pytest.mark.parametrize("mode", ["eval", "train"])


@dataclass(frozen=True)
class Twins:
    ours: Backbone
    reference: ConvBertForMaskedLM


def write_convbert(folder, cls=ConvBertForMaskedLM, **changes):
    """A small random ConvBERT as transformers saves it, with a vocabulary; returns the model."""
    config = ReferenceConfig(**{**COMMON, **SHAPES["like base"], **changes})
    model = cls(config).eval()
    fill(model)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))
    return model


@pytest.fixture(scope="module", params=SHAPES)
def twins(request, tmp_path_factory):
    """Both in float64."""
    folder = tmp_path_factory.mktemp("convbert")
    reference = write_convbert(folder, **SHAPES[request.param]).double()
    ours = load_backbone(folder, mlm_head=True)
    ours.encoder.double()
    ours.mlm_head.double()
    return Twins(ours, reference)


@pytest.fixture
def folder(tmp_path):
    """With grouped linear maps and an embedding projection."""
    write_convbert(tmp_path / "convbert", **SHAPES["ratio 4, groups"])
    return tmp_path / "convbert"


def run_reference(reference, batch):
    """All that the reference computes, at every token."""
    ids, mask, types = batch
    output = reference(ids, mask, types, output_hidden_states=True)
    states = {f"hidden state {n}": x.flatten(0, 1) for n, x in enumerate(output.hidden_states)}
    return {**states, "logits": output.logits.flatten(0, 1)}


def run_reference_alone(reference, batch):
    """The same of each sequence in a batch of its own, without padding."""
    found = []
    for ids, mask, types in zip(*batch):
        real = mask.bool()
        found.append(run_reference(reference, [x[real][None] for x in (ids, mask, types)]))
    return {name: torch.cat([one[name] for one in found]) for name in found[0]}


def run_ours(ours, batch, layout):
    """All that we compute: at every token of a padded batch, or at the real ones."""
    wanted = {"output_hidden_states": True}
    if layout == "padded":
        output = ours.encoder(*batch, **wanted)
    elif layout == "packed":
        output, _ = encode(ours.encoder, batch, "packed", **wanted)
    else:
        before = ours.encoder.config
        ours.encoder.config = replace(before, batch_invariant=True)
        output = ours.encoder(*batch, **wanted)
        ours.encoder.config = before
    assert output.pooler_output is None
    states = output.hidden_states
    if layout == "batch_invariant":
        states = [x[batch[1].bool()] for x in states]
    elif layout == "padded":
        states = [x.flatten(0, 1) for x in states]
    logits = ours.mlm_head(states[-1])
    return {**{f"hidden state {n}": x for n, x in enumerate(states)}, "logits": logits}


def gradients_of_ours(ours, outcome):
    modules = nn.ModuleDict({"encoder": ours.encoder, "mlm_head": ours.mlm_head})
    names = hub_names(modules)
    return {names[name]: g for name, g in gradients(modules, outcome).items()}


def gradients_of_reference(reference, outcome):
    return {k.removeprefix("convbert."): g for k, g in gradients(reference, outcome).items()}


# Against transformers


@pytest.mark.parametrize("layout", ["padded", "packed", "batch_invariant"])
@MODES
def test_outputs_and_gradients_equal_transformers(twins, layout, mode):
    batch = random_batch(LENGTHS, twins.ours.encoder.config)
    reference = run_reference if layout == "padded" else run_reference_alone
    with in_mode(mode, twins.ours.encoder, twins.reference, dropout=0.0):
        ours, want = run_ours(twins.ours, batch, layout), reference(twins.reference, batch)
    assert_same(ours, want, 1e-10)
    assert_same_gradients(
        gradients_of_ours(twins.ours, ours), gradients_of_reference(twins.reference, want), 1e-10
    )
