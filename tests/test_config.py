"""TrainConfig: what it refuses, and its way through JSON."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

from data.tasks import TASKS
from multitask import TrainConfig
from multitask.extensions import base


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


# Another value than the default for every setting
CHANGED = {
    "tasks": ("sts", "cfimdb"), "data_dir": Path("a b"), "out": Path("c/d"), "frozen": True,
    "backbone": "bert-base-uncased", "keep_heads": True, "overwrite": True, "pooling": "max",
    "pair": "concat", "head_size": 3, "head_dropout": 0.3, "encoder_dropout": 0.0, "epochs": 4,
    "accumulate": 2,
    "steps_per_epoch": 5, "batch_size": 6, "batches": "bucketed", "layout": "padded",
    "max_length": 7, "lr": 1e-3, "schedule": "cosine", "warmup": 0.0, "weight_decay": 0.5,
    "beta1": 0.8, "beta2": 0.99, "eps": 1e-8, "correct_bias": False, "optimizer": "plain",
    "clip": 0.0, "gradient_checkpointing": True, "precision": "bf16", "route": "plain",
    "shard": True, "device": "cpu", "seed": 0, "patience": 1,
    "evaluate_first": True, "save_every": 3, "log_every": 2, "tensorboard": True,
    "on_bad_row": "skip", "limit": 9, "revision": "main", "offline": True,
}  # fmt: skip


def test_every_setting_comes_back_from_json(pull):
    default = TrainConfig()
    config = TrainConfig(**CHANGED, extensions=(pull(strength=2.0, layers=3), pull()))
    same = [f.name for f in fields(config) if getattr(config, f.name) == getattr(default, f.name)]
    assert not same, "give these settings another value in CHANGED"
    for each in (default, config):
        assert TrainConfig.from_dict(json.loads(json.dumps(each.to_dict()))) == each


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
        ({"seed": -1}, "seed must not be negative, it is -1"),
        ({"frozen": True, "pair": "cosine"}, "use pair concat with frozen, or train the encoder"),
        ({"pooling": "sum"}, "pooling is 'sum'; choose one of pooler, cls, mean, max"),
        *[
            ({name: "other"}, f"{name} is 'other'; choose one of ")
            for name in ("pair", "batches", "layout", "schedule", "optimizer", "precision")
        ],
        ({"on_bad_row": "other"}, "on_bad_row is 'other'; choose one of stop, skip"),
    ],
)
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
    ],
)
def test_a_config_of_another_make_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict(TrainConfig().to_dict() | change)


@pytest.mark.parametrize("values", [[], None, "config"])
def test_json_that_is_no_object_is_no_config(values):
    with pytest.raises(ValueError, match="not a training config"):
        TrainConfig.from_dict(values)


def test_a_config_is_changed_by_replace_and_checked_again():
    config = replace(TrainConfig(), tasks=tuple(TASKS))
    assert config.tasks == tuple(TASKS)
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        replace(config, epochs=0)
