"""Where adapters are put, by role; several of them, switched; BitFit; and what is refused."""

import copy

import pytest
import torch
from adapting import assert_same, backward, batch, fill, outputs, trained
from torch import nn

from minbert.adapters import (
    IA3Settings,
    LoRASettings,
    adapter_names,
    add_ia3,
    add_lora,
    merge,
    train_biases,
    unmerge,
    use_adapter,
)
from minbert.adapters.apply import adapted, select
from minbert.adapters.layers import LoRALinear
from minbert.quick import Linear, route_of


@pytest.fixture
def encoder(odd):
    return copy.deepcopy(odd.ours.encoder)


def test_roles_choose_modules(encoder):
    def chosen(*targets):
        return len(select(encoder, targets))

    assert chosen("query") == chosen("feed_forward_outer") == 3
    assert chosen("pooler") == 1 and chosen("query", "pooler") == 4
    assert chosen("embeddings") == 3 and chosen("linear") == 3 * 6 + 1
    assert chosen("all") == chosen("linear", "embeddings", "key") == 3 * 6 + 4
    assert select(encoder, ["value", "word_embeddings"]) == [
        "embeddings.word", *(f"layers.{n}.attention.value" for n in range(3))
    ]  # fmt: skip


def test_ranks_of_roles_and_whole_modules(encoder):
    settings = LoRASettings(
        rank=2, targets=("all",), ranks={"linear": 3, "query": 5}, whole=("pooler",)
    )
    add_lora(encoder, settings)
    ranks = {place: getattr(m.adapter, "rank", None) for place, m in adapted(encoder).items()}
    assert ranks["embeddings.word"] == 2 and ranks["layers.1.attention.query"] == 5
    assert ranks["layers.2.feed_forward.outer"] == 3 and ranks["pooler.dense"] is None
    trains = {name for name, _ in trained(encoder)}
    assert "pooler.dense.adapters.default.module.weight" in trains
    assert all(".adapters.default." in name for name in trains)


@pytest.mark.parametrize("dora", [False, True])
def test_a_new_adapter_changes_nothing_yet(encoder, odd, dora):
    inputs = batch(encoder.config)
    settings = LoRASettings(targets=("all",), dora=dora, whole=("pooler",))
    add_lora(encoder, settings, generator=torch.Generator().manual_seed(5))
    assert_same(outputs(encoder, inputs), outputs(odd.ours.encoder, inputs))
    again = copy.deepcopy(odd.ours.encoder)
    add_lora(again, settings, generator=torch.Generator().manual_seed(5))
    assert all(map(torch.equal, encoder.state_dict().values(), again.state_dict().values()))


def test_the_first_values_have_pefts_spread(encoder):
    add_lora(encoder, LoRASettings(rank=64, targets=("query", "word_embeddings")))
    first = {place: m.adapter.requires_grad_(False) for place, m in adapted(encoder).items()}
    query, word = first["layers.0.attention.query"], first["embeddings.word"]
    assert not word.A.any() and not query.B.any()
    bound = 1 / 30**0.5  # kaiming uniform with a = √5, of 30 inputs
    assert query.A.abs().max() <= bound
    assert query.A.std() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert word.B.std() == pytest.approx(1, rel=0.1)


# Several adapters


def test_adapters_are_switched_by_name(encoder, odd):
    inputs = batch(encoder.config)
    add_lora(encoder, LoRASettings(rank=2, targets=("query", "word_embeddings")), "one")
    fill(trained(encoder), seed=1)
    one = outputs(encoder, inputs)
    add_ia3(encoder, IA3Settings(whole=("pooler",)), "two")
    fill(trained(encoder), seed=2)
    assert adapter_names(encoder) == ["one", "two"]
    two = outputs(encoder, inputs)
    assert not any(".one." in name for name, _ in trained(encoder))
    assert not torch.allclose(one[0], two[0], atol=1e-2)

    use_adapter(encoder, "one")
    assert all(map(torch.equal, outputs(encoder, inputs), one))
    assert not any(".two." in name for name, _ in trained(encoder)) and trained(encoder)
    use_adapter(encoder, "two")
    merge(encoder)
    assert_same(outputs(encoder, inputs), two)
    with pytest.raises(ValueError, match="is merged into the encoder; call unmerge"):
        use_adapter(encoder, "one")
    with pytest.raises(ValueError, match="a merged adapter does not train"):
        encoder.train()(*inputs)
    encoder.eval()
    with pytest.raises(ValueError, match="is merged into the encoder; call unmerge"):
        add_lora(encoder, LoRASettings(rank=2, dora=True), "three")
    assert adapter_names(encoder) == ["one", "two"]
    assert not any(".one." in name for name, _ in trained(encoder))
    unmerge(encoder)
    use_adapter(encoder, None)
    assert_same(outputs(encoder, inputs), outputs(odd.ours.encoder, inputs))
    add_lora(encoder, LoRASettings(rank=2, dora=True), "three")
    assert set(adapter_names(encoder)) == {"one", "two", "three"}


def test_the_adapted_modules_keep_their_quick_route(encoder):
    add_lora(encoder, LoRASettings(rank=2, targets=("linear",)))
    bases = [module.base for module in adapted(encoder).values()]
    assert len(bases) == 19 and all(type(base) is Linear for base in bases)


@pytest.mark.parametrize("route", ["blas", "onednn"])
def test_a_frozen_linear_map_keeps_no_input_for_the_backward_pass(route):
    linear = Linear(40, 30).requires_grad_(False)
    kept = []

    def keep(tensor):
        kept.append(tuple(tensor.shape))
        return tensor

    x = torch.randn(5, 40, requires_grad=True)
    with route_of(route), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = linear(x)
    y.sum().backward()
    assert kept and (5, 40) not in kept
    torch.testing.assert_close(x.grad, linear.weight.sum(dim=0).expand(5, 40))


# BitFit


def test_bitfit_trains_biases_alone(encoder):
    train_biases(encoder)
    everything = {name for name, _ in trained(encoder)}
    assert len(everything) == 1 + 3 * 8 + 1 and all(n.endswith(".bias") for n in everything)
    backward(outputs(encoder, batch(encoder.config)))
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == (name in everything), name


def test_bitfit_of_a_subset(encoder):
    train_biases(encoder, ["query", "feed_forward_inner"])
    assert sum(p.numel() for _, p in trained(encoder)) == 3 * (30 + 52)


def test_bitfit_beside_lora(encoder):
    add_lora(encoder, LoRASettings(rank=2, targets=("query",)))
    train_biases(encoder, ["value"])
    assert len(trained(encoder)) == 3 * (2 + 1)


# What is refused

MISTAKES = {
    "role": (LoRASettings(targets=("qeury",)), "bert has no role 'qeury'; choose of word_embedd"),
    "whole": (LoRASettings(whole=("head",)), "bert has no role 'head'"),
    "no target": (LoRASettings(targets=()), "targets adapts no module; name a role"),
    "whole alone": (LoRASettings(targets=("pooler",), whole=("pooler",)), "targets adapts no"),
    "rank": (
        LoRASettings(targets=("key",), ranks={"value": 3}),
        "'value' has a rank in ranks and is not",
    ),
    "twice": (IA3Settings(input_targets=("key",)), "is in targets and in input_targets"),
    "ia3 on ids": (IA3Settings(targets=("embeddings",)), "embeddings.word is a Embedding"),
}


@pytest.mark.parametrize("settings, message", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named_and_change_nothing(encoder, settings, message):
    add = add_lora if isinstance(settings, LoRASettings) else add_ia3
    with pytest.raises(ValueError, match=message):
        add(encoder, settings)
    assert not adapted(encoder) and all(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"rank": 0}, "rank must be at least 1, it is 0"),
        ({"ranks": {"key": 0}}, "the rank of key must be at least 1"),
        ({"alpha": 0.0}, "alpha must be finite and above 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
    ],
)
def test_settings_are_checked(wrong, message):
    with pytest.raises(ValueError, match=message):
        LoRASettings(**wrong)


@pytest.mark.parametrize("name", ["a.b", "", "pop", "two words"])
def test_names_are_checked(encoder, name):
    with pytest.raises(ValueError, match="cannot name an adapter"):
        add_lora(encoder, LoRASettings(), name)


def test_a_name_is_given_once_and_an_unknown_one_lists_the_others(encoder):
    add_lora(encoder, LoRASettings(), "one")
    with pytest.raises(ValueError, match="has an adapter 'one' already"):
        add_lora(encoder, LoRASettings(), "one")
    with pytest.raises(ValueError, match=r"no adapter is called 'two'; the encoder has \['one'\]"):
        use_adapter(encoder, "two")


def test_what_was_chosen_to_train_is_not_frozen_behind_ones_back(encoder):
    train_biases(encoder)
    with pytest.raises(ValueError, match="a part of the encoder is frozen already"):
        add_lora(encoder, LoRASettings())


def test_a_module_that_is_no_linear_map_is_named(encoder):
    class Grouped(nn.Module):
        pass

    encoder.layers[1].feed_forward.inner = Grouped()
    assert len(select(encoder, ["linear"])) == 3 * 6 and len(select(encoder, ["all"])) == 3 * 6 + 3
    with pytest.raises(ValueError, match=r"layers.1.feed_forward.inner is a Grouped, which this"):
        add_lora(encoder, LoRASettings(targets=("feed_forward_inner",)))
    with pytest.raises(ValueError, match=r"layers.1.feed_forward.inner is a Grouped, which this"):
        add_ia3(encoder, IA3Settings(targets=("feed_forward_inner",)))
    add_lora(encoder, LoRASettings(targets=("feed_forward_outer",)))
    assert all(isinstance(m.adapter, LoRALinear) for m in adapted(encoder).values())


def test_bitfit_names_what_has_no_bias(encoder):
    with pytest.raises(ValueError, match=r"embeddings\.word has no bias to train"):
        train_biases(encoder, ["embeddings"])
    for module in encoder.modules():
        if getattr(module, "bias", None) is not None:
            module.bias = None
    with pytest.raises(ValueError, match="bert has no biases, so BitFit has nothing to train"):
        train_biases(encoder)
