"""Costs by formula against what modules, adapters, the optimizer and PyTorch's counter have."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig as TheirConfig
from transformers import BertModel

from minbert import Bert, BertConfig
from minbert.costs import (
    bert_parameters,
    layer_flops,
    lora_parameters,
    promised_decrease,
    rate_of_few,
    training_bytes,
)
from minbert.quick import route_of
from optim import AdamW

SMALL = BertConfig(
    vocab_size=11, hidden_size=6, num_layers=3, num_heads=2, intermediate_size=10,
    max_positions=9, type_vocab_size=3,
)  # fmt: skip
ROLES = {
    "query": "query", "key": "key", "value": "value", "attention_output": "attention.output.dense",
    "feed_forward_inner": "intermediate.dense", "feed_forward_outer": r"\d.output.dense",
    "pooler": "pooler.dense",
}  # fmt: skip
"""Role -> how transformers calls it."""


def theirs(config):
    return BertModel(
        TheirConfig(
            vocab_size=config.vocab_size, hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers, num_attention_heads=config.num_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.max_positions, type_vocab_size=config.type_vocab_size,
        )
    )  # fmt: skip


@pytest.mark.parametrize("config", [SMALL, BertConfig(), BertConfig(**BertConfig.SIZES["mini"])])
def test_parameters_are_those_of_transformers(config):
    with torch.device("meta"):
        count = sum(p.numel() for p in theirs(config).parameters())
        assert sum(p.numel() for p in Bert(config).parameters()) == count
    assert bert_parameters(config) == count
    if config == BertConfig():
        assert f"{count:,}" in bert_parameters.__doc__


@pytest.mark.parametrize("roles", [*((role,) for role in ROLES), ("query", "value"), (*ROLES,)])
def test_parameters_of_lora_are_those_of_peft(roles):
    names = "|".join(ROLES[role] for role in roles)
    model = get_peft_model(theirs(SMALL), LoraConfig(r=4, target_modules=rf".*({names})"))
    assert lora_parameters(SMALL, 4, roles) == model.get_nb_trainable_parameters()[0]


def test_memory_is_that_of_the_optimizers_state():
    model = Bert(SMALL)
    model.embeddings.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(trained)
    model(torch.ones(2, 3, dtype=torch.long)).pooler_output.sum().backward()
    optimizer.step()
    kept = [*model.parameters(), *(p.grad for p in trained)]
    moments = ("exp_avg", "exp_avg_sq")
    kept += [optimizer.state[p][name] for p in trained for name in moments]
    count = sum(p.numel() for p in trained)
    held = sum(tensor.numel() * tensor.element_size() for tensor in kept)
    assert training_bytes(bert_parameters(SMALL), count) == held


@pytest.mark.parametrize("length", [1, 7])
def test_operations_are_those_that_pytorch_counts(length):
    counter = FlopCounterMode(display=False)  # it does not know the quick kernel of attention
    one = replace(SMALL, num_layers=1)
    with torch.no_grad(), route_of("plain"), counter:
        Bert(one)(torch.ones(1, length, dtype=torch.long))
    assert layer_flops(one, length) == counter.get_total_flops() - 2 * one.hidden_size**2


def test_adams_first_step_keeps_its_promise():
    """At a small rate, of all parameters and of biases alone at the rate that is said."""
    torch.manual_seed(0)
    model = Bert(SMALL).double().eval()
    weights = torch.randn(SMALL.hidden_size, dtype=torch.float64)
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])

    def loss():
        return (model(ids).last_hidden_state @ weights).square().mean()

    named = dict(model.named_parameters())
    loss().backward()
    gradients = {name: p.grad for name, p in named.items() if p.grad is not None}
    biases = [name for name in gradients if name.endswith("bias")]
    before, lr = loss().item(), 1e-7
    promised = promised_decrease(lr, gradients.values())
    for names, rate in ((gradients, lr), (biases, rate_of_few(lr, gradients, biases))):
        optimizer = AdamW([named[name] for name in names], lr=rate, eps=1e-30, weight_decay=0.0)
        state = {name: p.detach().clone() for name, p in named.items()}
        optimizer.step()
        assert before - loss().item() == pytest.approx(promised, rel=1e-3)
        model.load_state_dict(state)


def test_the_bias_of_a_linear_map_wants_as_much_more_as_its_input_is_large():
    map_, x = torch.nn.Linear(5, 3), torch.randn(5)
    (map_(x) * torch.randn(3)).sum().backward()
    gradients = {name: p.grad for name, p in map_.named_parameters()}
    expected = 0.01 * (x.abs().sum().item() + 1)
    assert rate_of_few(0.01, gradients, ["bias"]) == pytest.approx(expected)
    with pytest.raises(ValueError, match="no gradient, so no rate will do"):
        rate_of_few(0.01, gradients, [])
