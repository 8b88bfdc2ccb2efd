"""The configs of runs: what they refuse, and their way through JSON."""

import ast
import inspect
import json
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data.tasks import TASKS, is_built_in
from multitask import ContrastConfig, PretrainConfig, TrainConfig
from multitask.config import config_from_dict
from multitask.extensions import base
from multitask.extensions.bitfit import BitFit
from multitask.extensions.ia3 import IA3
from multitask.extensions.lora import LoRA
from multitask.settings import SECTIONS, OptimizerSettings, TextSettings


@pytest.fixture
def pull(monkeypatch):
    """An extension with settings, registered for one test."""
    monkeypatch.setattr(base, "EXTENSIONS", dict(base.load_extensions()))

    @base.register("pull")
    @dataclass(frozen=True, kw_only=True)
    class Pull(base.Extension):
        strength: float = 0.5
        layers: int | None = None

    return Pull


def test_the_defaults_are_the_course_setting():
    config = TrainConfig()
    assert config.tasks == ("sst", "para", "sts", "cola")
    assert (config.lr, config.batch_size, config.seed) == (5e-5, 16, 11711)


@pytest.mark.parametrize("cls", [TrainConfig, PretrainConfig, ContrastConfig])
def test_a_config_is_made_of_sections(cls):
    sections = [section for section in SECTIONS.values() if issubclass(cls, section)]
    names = [name for section in sections for name in section.__annotations__]
    assert sorted([*names, "extensions"]) == sorted(f.name for f in fields(cls))


@pytest.mark.parametrize("section", SECTIONS.values())
def test_each_setting_of_a_section_says_what_it_is(section):
    (tree,) = ast.parse(inspect.getsource(section)).body
    settings = [node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)]
    after = {a.target.id: b for a, b in pairwise(tree.body) if isinstance(a, ast.AnnAssign)}
    assert settings == list(section.__annotations__) and section.__doc__
    for name in settings:
        assert isinstance(after[name], ast.Expr) and after[name].value.value.endswith("."), name


def test_a_section_stands_and_is_checked_by_itself():
    assert OptimizerSettings(lr=np.float32(0.5)).lr == 0.5
    with pytest.raises(ValueError, match="lr must be finite and not negative: -1"):
        OptimizerSettings(lr=-1)
    with pytest.raises(ValueError, match="hold_out must be at least 2, it is 1"):
        TextSettings(hold_out=1)


# Another value than the default for every setting
CHANGED = {
    "tasks": ("sts", "cfimdb"), "data_dir": Path("a b"), "out": Path("c/d"), "frozen": True,
    "backbone": "bert-base-uncased", "keep_heads": True, "overwrite": True, "pooling": "max",
    "head": "linear", "head_layers": 2, "head_activation": "relu", "layer_mix": True,
    "pair": "concat", "pair_of": {"sts": "cross"}, "both_orders": True, "head_size": 3,
    "head_dropout": 0.3, "encoder_dropout": 0.0, "epochs": 4, "accumulate": 2,
    "steps_per_epoch": 5, "batch_size": 6, "batches": "bucketed", "layout": "padded",
    "max_length": 7, "lr": 1e-3, "schedule": "cosine", "warmup": 0.0, "weight_decay": 0.5,
    "beta1": 0.8, "beta2": 0.99, "eps": 1e-8, "correct_bias": False, "optimizer": "plain",
    "clip": 0.0, "gradient_checkpointing": True, "compile": True, "precision": "bf16",
    "route": "plain", "shard": True, "device": "cpu", "seed": 0, "patience": 1,
    "evaluate_first": True, "save_every": 3, "log_every": 2, "tensorboard": True,
    "scores_per_epoch": 2, "cuda_graphs": True,
    "on_bad_row": "skip", "limit": 9, "revision": "main", "offline": True, "adapter": Path("f"),
}  # fmt: skip


PRETRAIN_CHANGED = {
    "text": (Path("a b.txt"), Path("c")), "dev_text": (Path("d"),), "hold_out": 9,
    "mask_rate": 0.3, "mask_share": 0.5, "random_share": 0.25, "whole_words": True,
    "from_scratch": "bert", "size": "tiny", "encoder_config": Path("e.json"), "vocab_size": 99,
}  # fmt: skip
"""The same for what pre-training adds."""
CONTRAST_CHANGED = {
    "objective": "simcse", "temperature": 0.1, "margin": 0.3, "positive_above": 0.5,
    "positive_class": "b", "score_on": ("para",), "evaluate_first": False, "encoder_dropout": 0.2,
}  # fmt: skip
"""The same for a contrastive stage, whose other defaults these are."""
APART = [
    {"frozen", "from_scratch", "encoder_config", "size", "vocab_size", "head", "cuda_graphs"},
    {"encoder_dropout", "gradient_checkpointing", "compile", "shard", "adapter", "encoder_config",
     "backbone", "revision", "head", "layer_mix"},
    {"frozen", "from_scratch", "size", "backbone", "revision", "pooling", "pair", "pair_of",
     "head_size", "head_layers", "head_activation", "layer_mix", "cuda_graphs"},
]  # fmt: skip
"""Settings that exclude others: each set is what the rest goes without."""


@pytest.mark.parametrize("cls", [TrainConfig, PretrainConfig])
def test_every_setting_comes_back_from_json(pull, cls):
    names = {f.name for f in fields(cls)} - {"task_files"}  # whose tasks a run keeps by name
    changes = {k: v for k, v in {**CHANGED, **PRETRAIN_CHANGED}.items() if k in names}
    changes["extensions"] = (pull(strength=2.0, layers=3), pull())
    default = cls(tasks=("sst",))
    assert changes.keys() == names, "give these settings another value in CHANGED"
    assert not [name for name, value in changes.items() if value == getattr(default, name)]
    parts = [{k: v for k, v in changes.items() if k not in without} for without in APART]
    for each in (default, *(cls(**part) for part in parts)):
        again = config_from_dict(json.loads(json.dumps(each.to_dict())))
        assert again == each and type(again) is cls


def test_every_setting_of_a_contrastive_stage_comes_back_from_json():
    names = {f.name for f in fields(ContrastConfig)} - {"task_files", "extensions"}
    every = {**CHANGED, **PRETRAIN_CHANGED, **CONTRAST_CHANGED}
    changes = {name: value for name, value in every.items() if name in names}
    default = ContrastConfig(tasks=("sst",), objective="simcse")
    assert changes.keys() == names, "give these settings another value in CONTRAST_CHANGED"
    same = [name for name, value in changes.items() if value == getattr(default, name)]
    assert same == ["objective"]
    alone = {"objective": "margin", "tasks": ("sts",)}
    own = ("compile", "gradient_checkpointing", "shard")  # what cuda_graphs goes without
    parts = [
        {k: v for k, v in changes.items() if k not in ("margin", "cuda_graphs")},
        {k: v for k, v in changes.items() if k not in ("temperature", "text", "dev_text", *own)}
        | alone,
    ]
    for part in parts:
        made = ContrastConfig(**part)
        again = config_from_dict(json.loads(json.dumps(made.to_dict())))
        assert again == made and type(again) is ContrastConfig


def test_a_config_of_before_there_was_pretraining_is_one_of_training():
    values = TrainConfig().to_dict()
    del values["command"]
    assert config_from_dict(values) == TrainConfig()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"tasks": ()}, "there is no text; name tasks whose rows to read .* or files"),
        ({"tasks": ("mlm",)}, "mlm is no task with labels; train it with minbert pretrain"),
        ({"dev_text": (Path("a"),)}, "dev_text is held out of text files; tasks have development"),
        ({"hold_out": 1}, "hold_out must be at least 2, it is 1"),
        ({"mask_rate": 0.0}, "mask_rate must be more than 0 and at most 1: 0.0"),
        ({"mask_rate": 1.1}, "mask_rate must be more than 0 and at most 1: 1.1"),
        ({"mask_share": -0.1}, "mask_share is a share, from 0 to 1; it is -0.1"),
        ({"random_share": 1.1}, "random_share is a share, from 0 to 1; it is 1.1"),
        ({"mask_share": 0.8, "random_share": 0.3}, "0.8 and random_share 0.3 are more than 1 tog"),
        ({"from_scratch": "bert", "encoder_config": Path("a")}, "both say what to make; give one"),
        ({"vocab_size": 0}, "vocab_size must be at least 1, it is 0"),
        ({"size": "tiny"}, "size is 'tiny' and has no effect: a backbone has its own; leave it ou"),
        ({"vocab_size": 500}, "vocab_size is 500 and has no effect: .*, or give from_scratch"),
        ({"encoder_config": Path("a"), "size": "tiny"}, "no effect: encoder_config says how large"),
        ({"from_scratch": "bert", "backbone": "a"}, "backbone is 'a' and has no effect: an encod"),
        ({"encoder_config": Path("a"), "revision": "b"}, "revision is 'b' and has no effect: an e"),
        ({"epochs": 0}, "epochs must be at least 1, it is 0"),
    ],
)
def test_an_impossible_setting_of_pretraining_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PretrainConfig(**{"tasks": ("sst",), **changes})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"tasks": ()}, "tasks is empty; name at least one"),
        ({"tasks": ("sst", "qa")}, "no task is called 'qa'; known are sst, para"),
        ({"tasks": ("sst", "sst")}, "name one twice; name each once"),
        *[
            ({name: 0}, f"{name} must be at least 1, it is 0")
            for name in (
                *("epochs", "steps_per_epoch", "batch_size", "accumulate", "head_size"),
                *("max_length", "patience", "save_every", "log_every", "limit"),
            )
        ],
        *[
            ({name: value}, f"{name} must be finite and not negative: {value}")
            for name in ("lr", "weight_decay", "clip", "eps")
            for value in (-0.1, float("inf"), float("nan"))
        ],
        *[
            ({name: value}, rf"{name} must be in \[0, 1\), it is {value}")
            for name in ("head_dropout", "encoder_dropout", "beta1", "beta2")
            for value in (-0.1, 1.0, float("nan"))
        ],
        ({"warmup": 1.1}, "warmup is a share of all steps, from 0 to 1; it is 1.1"),
        *[
            ({"seed": value}, rf"seed must be at least 0 and less than 2\*\*64, it is {value}")
            for value in (-1, 2**64)
        ],
        ({"frozen": True, "pair": "cosine"}, "use pair concat with frozen, or train the encoder"),
        ({"frozen": True, "pair_of": {"sts": "cosine"}}, "use pair concat with frozen, or train"),
        ({"pair_of": {"sst": "concat"}}, "pair_of has sst, whose rows are single texts"),
        ({"tasks": ("sst",), "pair_of": {"sts": "concat"}}, "pair_of has sts, and tasks of this"),
        ({"pair_of": {"sts": "other"}}, "pair_of.*'other'.*; choose one of cross, concat"),
        *[
            ({"frozen": True, name: value}, f"{name} is {value} and has no effect: frozen computes")
            for name, value in {
                "encoder_dropout": 0.0, "gradient_checkpointing": True, "compile": True,
            }.items()
        ],
        ({"cuda_graphs": True, "compile": True}, "cuda_graphs does not go with compile"),
        ({"cuda_graphs": True}, "cuda_graphs records 16-bit steps; use precision bf16 or fp16"),
        ({"extensions": (LoRA(), BitFit())}, "lora and bitfit each say what is left"),
        ({"extensions": (IA3(),), "frozen": True}, "ia3 and frozen each say what is left"),
        ({"pooling": "sum"}, "pooling is 'sum'; choose one of pooler, cls, mean, max"),
        *[
            ({name: "other"}, f"{name} is 'other'; choose one of ")
            for name in ("pair", "batches", "layout", "schedule", "optimizer", "precision")
        ],
        ({"on_bad_row": "other"}, "on_bad_row is 'other'; choose one of stop, skip"),
    ],
)  # fmt: skip
def test_an_impossible_setting_is_refused_with_rule_and_value(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**changes)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"learning_rate": 1}, r"unknown settings: \['learning_rate'\]"),
        ({"extensions": [{"name": "push"}]}, "no extension is called 'push'; known are"),
        ({"extensions": [{"strength": 1}]}, "no extension is called None"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"command": "predict"}, "command is 'predict', and this is a config of train"),
        ({"extensions": {}}, "the value is {}; give a list"),
        ({"extensions": [3]}, "the value is 3; give names with values"),
        ({"extensions": [{"name": "lora", "rank": 2.0}]}, "extension lora: rank is 2.0; give"),
        ({"extensions": [{"name": "lora", "rang": 2}]}, r"extension lora: .*: \['rang'\]"),
        *[({"epochs": value}, f"epochs is {value}; give a whole") for value in (2.5, 2.0, True)],
        ({"seed": 1.5}, "seed is 1.5; give a whole number"),
        ({"lr": True}, "lr is True; give a number"),
        ({"lr": "1e-3"}, "lr is '1e-3'; give a number"),
        ({"overwrite": 1}, "overwrite is 1; give true or false"),
        ({"tasks": "sst"}, "tasks is 'sst'; give a list"),
        ({"data_dir": 3}, "data_dir is 3; give a path"),
        ({"pair": "other"}, "pair is 'other'; choose one of cross, concat, cosine"),
    ],
)
def test_a_config_of_another_make_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict(TrainConfig().to_dict() | change)


@pytest.mark.parametrize("values", [[], None, "config"])
def test_json_that_is_no_object_is_no_config(values):
    with pytest.raises(ValueError, match=r"the value is .*; give names with values"):
        TrainConfig.from_dict(values)


def test_a_config_is_changed_by_replace_and_checked_again():
    tasks = tuple(name for name in TASKS if is_built_in(name))  # other tests may add their own
    config = replace(TrainConfig(), tasks=tasks)
    assert config.tasks == tasks
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        replace(config, epochs=0)
