"""Adapters in peft's files, both ways: what we write peft loads, what peft writes we load."""

import copy
import json
import shutil

import pytest
import torch
from adapting import EMBEDDINGS, LINEAR, batch, fill, outputs, save_peft, trained
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification

from minbert import Bert, BertConfig, save_pretrained
from minbert.adapters import (
    IA3Settings,
    LoRASettings,
    add_ia3,
    add_lora,
    load_adapter,
    save_adapter,
    train_biases,
)
from minbert.adapters.apply import adapted

OURS = {
    "lora": LoRASettings(rank=3, targets=("query", "value")),
    "everything": LoRASettings(rank=4, alpha=1.0, targets=("all",)),
    "dora": LoRASettings(rank=2, dora=True, dropout=0.1, targets=("all",)),
    "rank-stabilised": LoRASettings(rank=4, rank_stabilised=True, targets=("word_embeddings",)),
    "ranks": LoRASettings(
        rank=2, targets=("all",), ranks={"query": 6, "embeddings": 3}, whole=("pooler",)
    ),
    "ia3": IA3Settings(whole=("pooler",)),
}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def add(encoder, settings):
    (add_lora if isinstance(settings, LoRASettings) else add_ia3)(encoder, settings)
    fill(trained(encoder))


@pytest.fixture
def encoder(odd):
    return copy.deepcopy(odd.ours.encoder)


def classifier(odd):
    """transformers' classifier of five labels on the same encoder, with a head of its own."""
    config = copy.deepcopy(odd.reference.config)
    config.num_labels = 5
    model = BertForSequenceClassification(config).double()
    model.bert.load_state_dict(odd.reference.bert.state_dict())
    fill([(name, p) for name, p in model.named_parameters() if "classifier" in name])
    return model.eval()


@pytest.mark.parametrize("settings", OURS.values(), ids=OURS)
def test_peft_loads_what_we_write(encoder, odd, tmp_path, settings):
    add(encoder, settings)
    save_adapter(tmp_path, encoder, base="some-bert")
    theirs = PeftModel.from_pretrained(copy.deepcopy(odd.reference.bert), tmp_path)
    inputs = batch(encoder.config)
    for ours, wanted in zip(outputs(encoder, inputs), outputs(theirs, inputs), strict=True):
        torch.testing.assert_close(ours, wanted, **CLOSE)
    expected = len(trained(encoder))
    theirs = PeftModel.from_pretrained(
        copy.deepcopy(odd.reference.bert), tmp_path, is_trainable=True
    )
    assert len(trained(theirs)) == expected
    assert theirs.peft_config["default"].base_model_name_or_path == "some-bert"


@pytest.mark.parametrize("settings", OURS.values(), ids=OURS)
def test_what_we_write_we_read(encoder, odd, tmp_path, settings):
    add(encoder, settings)
    save_adapter(tmp_path / "one", encoder)
    again = copy.deepcopy(odd.ours.encoder)
    load_adapter(tmp_path / "one", again)
    assert {n for n, _ in trained(again)} == {n for n, _ in trained(encoder)}
    assert all(map(torch.equal, again.state_dict().values(), encoder.state_dict().values()))
    save_adapter(tmp_path / "two", again)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("settings", [OURS["ranks"], OURS["ia3"]], ids=["lora", "ia3"])
def test_peft_loads_a_classifier_that_we_write(encoder, odd, tmp_path, settings):
    add(encoder, settings)
    wanted = classifier(odd)
    head = {f"classifier.{name}": p for name, p in wanted.classifier.named_parameters()}
    save_adapter(tmp_path, encoder, head=head)
    fresh = classifier(odd)
    torch.nn.init.zeros_(fresh.classifier.weight)
    theirs = PeftModel.from_pretrained(fresh, tmp_path)
    ids, mask, types = inputs = batch(encoder.config)
    logits = theirs(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
    ours = wanted.classifier(outputs(encoder, inputs)[1])
    torch.testing.assert_close(ours, logits, **CLOSE)

    again = copy.deepcopy(odd.ours.encoder)
    loaded = load_adapter(tmp_path, again)
    assert loaded.keys() == head.keys()
    assert all(torch.equal(loaded[name], head[name]) for name in head)
    assert all(map(torch.equal, outputs(again, inputs), outputs(encoder, inputs)))


CLASSIFIERS = {
    "lora": LoraConfig(r=3, task_type="SEQ_CLS", target_modules=["query", "value"]),
    "all linear": LoraConfig(r=3, task_type="SEQ_CLS", target_modules="all-linear"),
    "pattern": LoraConfig(r=3, task_type="SEQ_CLS", target_modules=r".*layer\.[01].*(query|key)"),
    "some layers": LoraConfig(
        r=3, task_type="SEQ_CLS", target_modules=["query"], layers_to_transform=[0, 2],
        layers_pattern="layer",
    ),
    "dora": LoraConfig(
        r=3, task_type="SEQ_CLS", use_dora=True, target_modules=LINEAR[:3] + EMBEDDINGS
    ),
    "pooler": LoraConfig(r=3, task_type="SEQ_CLS", target_modules=["key"],
                         modules_to_save=["pooler"]),
    "ia3": IA3Config(task_type="SEQ_CLS"),
}  # fmt: skip


@pytest.mark.parametrize("config", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_we_load_a_classifier_that_peft_wrote(encoder, odd, tmp_path, config):
    theirs = get_peft_model(classifier(odd), config).eval()
    fill(trained(theirs))
    save_peft(theirs, tmp_path)
    head = load_adapter(tmp_path, encoder)
    assert set(head) == {"classifier.weight", "classifier.bias"}
    ids, mask, types = inputs = batch(encoder.config)
    logits = theirs(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
    ours = outputs(encoder, inputs)[1] @ head["classifier.weight"].T + head["classifier.bias"]
    torch.testing.assert_close(ours, logits, **CLOSE)


# What is refused


@pytest.fixture
def saved(encoder, odd, tmp_path):
    """A folder with an adapter, and functions that change its two files."""
    add(encoder, LoRASettings(rank=3, targets=("query", "word_embeddings"), whole=("pooler",)))
    folder = save_adapter(tmp_path / "saved", encoder)

    def change(config=None, tensors=None):
        path, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
        if config:
            path.write_text(
                json.dumps({**json.loads(path.read_text(encoding="utf-8")), **config}),
                encoding="utf-8",
            )
        if tensors:
            save_file(tensors(load_file(weights)), weights)
        return folder

    return change


QUERY = "base_model.model.encoder.layer.1.attention.self.query.lora_A.weight"


def renamed(old, new):
    return lambda tensors: {name.replace(old, new): t for name, t in tensors.items()}


def with_base(change):
    """The tensors with the embedding table that peft saves beside a grown vocabulary's adapter."""

    def changed(tensors, place="base_model.model.embeddings.word_embeddings."):
        return {**tensors, f"{place}base_layer.weight": change}

    return changed


def test_an_embedding_table_beside_its_adapter_must_be_the_encoders(odd, saved):
    encoder = copy.deepcopy(odd.ours.encoder)
    own = encoder.embeddings.word.weight.detach().float().clone()
    load_adapter(saved(None, with_base(own)), encoder)
    assert adapted(encoder)
    for table in (own + 1, torch.cat([own, own])):
        other = copy.deepcopy(odd.ours.encoder)
        with pytest.raises(ValueError, match=r"base_layer.weight is the table that .* is another"):
            load_adapter(saved(None, with_base(table)), other)
        assert not adapted(other)


def without(*endings):
    return lambda tensors: {n: t for n, t in tensors.items() if not n.endswith(endings)}


REFUSED = {
    "rank": ({"r": 4}, None, r"lora_(A.weight|B.weight|embedding_[AB]) has shape \(.*it is \(.*4"),
    "no rank": ({"r": "many"}, None, "r is 'many'; give a whole number"),
    "zero rank": ({"rank_pattern": {"query": 0}}, None, "rank must be at least 1, it is 0"),
    "pattern": ({"rank_pattern": {"query(": 3}}, None, r"has the pattern '.*query\(.*'"),
    "pattern's value": ({"alpha_pattern": {"query": "x"}}, None, r"alpha_pattern\[.*; give a num"),
    "kind": ({"peft_type": "PREFIX_TUNING"}, None, "peft_type 'PREFIX_TUNING'; LORA and IA3 are"),
    "other kind": ({"peft_type": "IA3"}, None, "has embeddings.word_embeddings.lora_embedding_A"),
    "unknown setting": ({"lora_bias": True}, None, "lora_bias = True, which is not computed here"),
    "biases": ({"bias": "all"}, None, "bias = 'all', which is not computed here"),
    "changed base": ({"init_lora_weights": "pissa"}, None, "init_lora_weights = 'pissa'"),
    "dora": ({"use_dora": True}, None, "lacks embeddings.word_embeddings.lora_magnitude_vector"),
    "target": ({"target_modules": ["query", "value"]}, None, "attention.self.value is changed, "),
    "one matrix": ({}, without("layer.1.attention.self.query.lora_B.weight"),
                   "lacks encoder.layer.1.attention.self.query.lora_B.weight"),
    "one module": ({}, without("layer.1.attention.self.query.lora_B.weight",
                               "layer.1.attention.self.query.lora_A.weight"),
                   "encoder.layer.1.attention.self.query is changed, and the file has nothing"),
    "module of another": ({}, renamed("self.query", "self.q_proj"), "is of no module of this bert"),
    "deeper base": ({}, renamed("layer.2", "layer.5"), "layer.5.* is of no module of this bert"),
    "whole module": ({}, without("pooler.dense.weight", "pooler.dense.bias"),
                     "pooler.dense is changed, and the file has nothing"),
    "foreign": ({}, renamed("base_model.model.", "model."), "is no tensor of an adapter"),
    "empty": ({}, lambda tensors: {}, "has no tensor for any module"),
}  # fmt: skip


@pytest.mark.parametrize("config, tensors, message", REFUSED.values(), ids=REFUSED)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(
    odd, saved, config, tensors, message
):
    encoder = copy.deepcopy(odd.ours.encoder)
    with pytest.raises(ValueError, match=message) as refusal:
        load_adapter(saved(config, tensors), encoder)
    assert "saved" in str(refusal.value), "which folder"
    assert not adapted(encoder) and all(p.requires_grad for p in encoder.parameters())


def test_the_adapter_of_a_wider_base_is_refused(saved):
    sizes = {"vocab_size": 67, "num_layers": 3, "num_heads": 5, "max_positions": 130}
    wider = Bert(BertConfig(**sizes, hidden_size=40, intermediate_size=52, type_vocab_size=3))
    with pytest.raises(ValueError, match=r"has shape \(30, 3\), .* it is \(40, 3\); load another"):
        load_adapter(saved(), wider)


def test_the_folder_may_be_in_the_home(encoder, odd, tmp_path, monkeypatch):
    add(encoder, OURS["lora"])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert save_adapter("~/saved", encoder) == tmp_path / "saved"
    load_adapter("~/saved", copy.deepcopy(odd.ours.encoder))
    assert not (tmp_path / "~").exists()


def test_missing_and_damaged_files_are_named(encoder, saved, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere/adapter_config\.json does not exist"):
        load_adapter(tmp_path / "nowhere", encoder)
    folder = saved()
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors is damaged"):
        load_adapter(folder, encoder, "two")
    weights.unlink()
    with pytest.raises(ValueError, match=r"there is no adapter_model\.safetensors; save"):
        load_adapter(folder, encoder, "two")
    (folder / "adapter_config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"the value is \[\]; give names with values"):
        load_adapter(folder, encoder, "two")
    shutil.rmtree(folder)


def test_what_a_file_cannot_hold_is_not_saved(encoder, odd, tmp_path):
    with pytest.raises(ValueError, match="no LoRA or IA3 adapter 'default' to save, it has none; "):
        save_adapter(tmp_path, encoder)
    add_lora(encoder, LoRASettings(targets=("query",)))
    with pytest.raises(
        ValueError, match=r"no LoRA or IA3 adapter 'x' to save, it has \['default'\]; of"
    ):
        save_adapter(tmp_path, encoder, "x")
    with pytest.raises(ValueError, match=r"call merge_and_remove\(encoder\) first"):
        save_pretrained(tmp_path, encoder, odd.ours.tokenizer)
    train_biases(encoder)
    with pytest.raises(ValueError, match="trains too, and an adapter's file has no place for it"):
        save_adapter(tmp_path, encoder)
    assert not list(tmp_path.iterdir())
