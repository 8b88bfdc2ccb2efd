"""Every key of a config.json, against transformers' classes: read, without effect, or refused."""

import json
import warnings
from dataclasses import fields

import numpy as np
import pytest
import torch
import transformers
from helpers import FILLERS, write_backbone

from minbert import Bert, BertConfig, ConvBert, ModernBert, load_backbone
from minbert.checks import InputWarning
from minbert.hub_keys import NO_EFFECT, ONLY
from minbert.loading import empty_encoder, read_config

ENCODERS = {"bert": Bert, "convbert": ConvBert, "modernbert": ModernBert}
INHERITED = {
    # set through properties or taken from the keyword arguments of PreTrainedConfig
    "output_attentions", "num_labels", "name_or_path", "_name_or_path", "torch_dtype",
    "attn_implementation", "per_layer_config", "model_type", "tie_last_hidden_states", "use_cache",
}  # fmt: skip

OTHER = {
    "hidden_act": "relu",
    "hidden_activation": "relu",
    "classifier_activation": "relu",
    "attention_bias": True,
    "norm_bias": True,
    "mlp_bias": True,
    "classifier_bias": True,
    "decoder_bias": False,
    "tie_word_embeddings": False,
    "is_decoder": True,
    "add_cross_attention": True,
    "is_encoder_decoder": True,
    "classifier_pooling": "mean",
    "layer_types": ["full_attention", "full_attention"],
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0},
        "sliding_attention": {"rope_type": "linear", "factor": 1.5},
    },
    "local_attention": 4,
    "layer_norm_eps": 0.1,
    "norm_eps": 0.1,
    "chunk_size_feed_forward": 2,
    "dtype": "float32",
    "id2label": {"0": "a", "1": "b", "2": "c"},
    "label2id": {"a": 0, "b": 1, "c": 2},
    "problem_type": "regression",
    "per_layer_config": {"0": {"hidden_act": "relu"}},
    "tie_last_hidden_states": False,
    "output_attentions": True,
    "output_hidden_states": True,
    "return_dict": True,
    "architectures": ["Other"],
    "transformers_version": "4.0.0",
    "pad_token_id": 3,
    "eos_token_id": 4,
    "conv_kernel_size": 7,
    "head_ratio": 1,
    "num_groups": 2,
    # beside the fields of the classes
    "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    "global_rope_theta": 100.0,
    "local_rope_theta": 50.0,
    "global_attn_every_n_layers": 1,
    "head_dim": 4,
}
"""Key -> a value that is not the default."""
SHAPES = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "embedding_size",
          "intermediate_size", "max_position_embeddings", "type_vocab_size", "head_ratio",
          "conv_kernel_size", "num_groups"}  # fmt: skip
"""Keys with which a checkpoint has tensors of other shapes; those are compared elsewhere."""


def keys_of(name):
    """All keys that transformers' config of an encoder knows."""
    cls = type(transformers.AutoConfig.for_model(name))
    return {field.name for field in fields(cls)} | INHERITED


def handled(cls):
    config = cls.Config
    own = {config.HUB.names.get(field.name, field.name) for field in fields(config)}
    sets = (own, NO_EFFECT, ONLY, config.HUB.fixed, config.HUB.read)
    return set().union(*sets)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_key_of_transformers_is_in_one_table(name):
    keys = keys_of(name)
    assert len(keys) > 30
    assert not keys - handled(ENCODERS[name])


@pytest.fixture(scope="module", params=ENCODERS)
def folder(request, tmp_path_factory):
    sizes = {"hidden_size": 16, "max_positions": 128}
    more = {"local_attention": 16, "global_every": 2} if request.param == "modernbert" else {}
    if request.param == "convbert":
        more = {"embedding_size": 16, "conv_kernel_size": 3}
    path = tmp_path_factory.mktemp(request.param)
    return write_backbone(path, encoder=ENCODERS[request.param], **sizes, **more)


def changed(folder, target, key, value):
    """A copy of a backbone whose config.json has this key, and in place of its newer names."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "rope" in key:
        config.pop("rope_parameters", None)
    if key == "global_attn_every_n_layers":
        del config["layer_types"]
    config[key] = value
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return target


def outputs(folder):
    """Ours and transformers', of one row that is longer than the local window."""
    backbone = load_backbone(folder)
    ids = torch.tensor(backbone.tokenizer.encode([" ".join(FILLERS[:60])]).input_ids)
    theirs = transformers.AutoModel.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    with torch.no_grad():
        found = theirs(ids, return_dict=True).last_hidden_state
        return backbone.encoder(ids).last_hidden_state, found


@pytest.mark.parametrize(
    "folder",
    ["bert", *(pytest.param(name, marks=pytest.mark.slow) for name in ("convbert", "modernbert"))],
    indirect=True,
)
def test_each_key_gives_transformers_outputs_or_is_refused(folder, tmp_path):
    """And of the keys that are without effect, no one has any in transformers."""
    name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    plain, same = outputs(folder)
    torch.testing.assert_close(plain, same, rtol=1e-4, atol=1e-5)
    beside = {"rope_scaling", "global_rope_theta", "local_rope_theta", "global_attn_every_n_layers"}
    keys = keys_of(name) & OTHER.keys() | {"head_dim"} | (beside if name == "modernbert" else set())
    refused, compared, effective = set(), set(), set()
    for number, key in enumerate(sorted(keys - SHAPES)):
        target = changed(folder, tmp_path / str(number), key, OTHER[key])
        try:
            ours, theirs = outputs(target)
        except ValueError as error:
            refused |= {key} if key in str(error) else {f"{key}: {error}"}
            continue
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=lambda m, k=key: k + m)
        compared.add(key)
        if not torch.allclose(ours, plain, rtol=1e-4, atol=1e-5):
            effective.add(key)
    assert refused <= keys
    assert refused >= {"is_encoder_decoder", "head_dim", "per_layer_config"}
    if name == "modernbert":
        assert effective >= beside | {"norm_eps", "local_attention", "layer_types",
                                      "rope_parameters"}  # fmt: skip
    else:
        assert effective == {"layer_norm_eps"}
    assert compared >= {"dtype", "problem_type", "chunk_size_feed_forward", "output_attentions"}


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
            "rope_type = 'yarn', and ModernBertConfig computes",
        ),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "type = 'linear', and M"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_type = 'linear' and no factor; give one"),
        ({"rope_scaling": {"rope_type": "default", "factor": 2.0}}, "factor = 2.0, and M"),
        ({"rope_scaling": [2]}, r"rope_scaling = \[2\]; .* is an object"),
        ({"rope_parameters": {"rope_type": "linear"}}, "rope_parameters has an object for full_at"),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "dynamic", "factor": 2.0}}},
            "rope_type = 'dynamic', and M",
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": "2"}}},
            "rope_parameters.full_attention.factor is '2'; give a number",
        ),
        ({"local_rope_theta": None}, "local_rope_theta is None; give a number"),
        ({"global_rope_theta": 0}, "global_theta must be more than 0, it is 0"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
    ],
)
def test_rotary_positions_of_another_kind_are_refused(tmp_path, changes, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "modernbert", **changes}), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_config(path)


@pytest.mark.parametrize("value", ["2", 2.5, True, None, [2]])
def test_a_size_of_another_type_is_refused_under_the_files_name(tmp_path, value):
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps({"model_type": "bert", "num_hidden_layers": value}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match=r"config.json: num_hidden_layers is .*whole number"):
        read_config(path)


def test_what_is_not_known_is_said_once(tmp_path, folder):
    changed(folder, tmp_path / "in", "hidden_dropuot", 0.5)
    with pytest.warns(InputWarning, match="nothing is known of hidden_dropuot; without eff") as all:
        empty_encoder(tmp_path / "in")
    assert len(all) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty_encoder(folder)


def test_numbers_of_numpy_are_converted():
    config = BertConfig(
        hidden_size=np.int64(64), num_heads=np.array(4), hidden_dropout=np.float32(0.5)
    )
    assert json.dumps(config.to_hub())
    assert [type(each) for each in (config.hidden_size, config.num_heads)] == [int, int]
    assert config.hidden_dropout == 0.5
    with pytest.raises(ValueError, match="hidden_size is '64'; give a whole number"):
        BertConfig(hidden_size="64")
