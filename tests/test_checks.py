"""What callers pass: harmless forms are converted, the rest is refused by name and row."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_backbone

from data.readers import read_split
from data.tasks import get_task
from minbert import Packed, Padded, embed, load_backbone
from minbert.checks import texts_of
from multitask import PretrainConfig, TrainConfig
from multitask.extensions.base import load_extensions
from multitask.extensions.lora import LoRA

PATHS = {"data_dir": TrainConfig, "task_files": TrainConfig, "out": TrainConfig,
         "adapter": TrainConfig, "encoder_config": PretrainConfig, "text": PretrainConfig,
         "dev_text": PretrainConfig}  # fmt: skip
TEXT = {"text": ["a.txt"]}


def test_every_path_may_be_text():
    found = {f.name for cls in (TrainConfig, PretrainConfig) for f in fields(cls)
             if "Path" in str(f.type)}  # fmt: skip
    assert found == PATHS.keys()
    for name, cls in PATHS.items():
        if name == "task_files":  # which are read: see test_own_tasks.py
            continue
        several = name in ("text", "dev_text")
        values = {**(TEXT if cls is PretrainConfig else {}), name: ["x/y"] if several else "x/y"}
        value = getattr(cls(**values), name)
        assert value == ((Path("x/y"),) if several else Path("x/y")), name
    assert TrainConfig(backbone=Path("x/y")).backbone == "x/y"


def test_numbers_of_numpy_become_pythons_in_every_config():
    numbers = {int: np.int64, float: np.float64, bool: np.bool_}
    classes = (TrainConfig, *load_extensions().values())
    count = 0
    for cls in classes:
        plain = cls()
        for field in fields(cls):
            value = getattr(plain, field.name)
            if type(value) in numbers:
                made = cls(**{field.name: numbers[type(value)](value)})
                assert type(getattr(made, field.name)) is type(value), field.name
                count += 1
    assert count > 30
    lora = LoRA(ranks={"query": np.int64(2)}, targets=np.array(["query"]))
    assert type(lora.ranks["query"]) is int and lora.targets == ("query",)


@pytest.mark.parametrize(
    "cls, values, message",
    [
        (TrainConfig, {"epochs": 2.5}, "epochs is 2.5; give a whole number"),
        (TrainConfig, {"epochs": True}, "epochs is True; give a whole number"),
        (TrainConfig, {"lr": "1e-3"}, "lr is '1e-3'; give a number"),
        (TrainConfig, {"tasks": "sst"}, "tasks is 'sst'; give a list"),
        (TrainConfig, {"tasks": {"sst"}}, "tasks is {'sst'}, in no order; give a list"),
        (TrainConfig, {"tasks": (None,)}, r"tasks\[0\] is None; give text"),
        (TrainConfig, {"out": 5}, "out is 5; give a path"),
        (TrainConfig, {"out": ""}, "out is ''; give a path"),
        (TrainConfig, {"frozen": "no"}, "frozen is 'no'; give true or false"),
        (TrainConfig, {"extensions": ("lora",)}, "extensions has 'lora'; give"),
        (TrainConfig, {"precision": 32}, "precision is 32; choose one of fp32, tf32, bf16, fp16"),
        (TrainConfig, {"backbone": " "}, "backbone is ' '; give minilm, a folder or a hub name"),
        (LoRA, {"rank": "8"}, "rank is '8'; give a whole number"),
        (LoRA, {"ranks": ["query"]}, r"ranks is \['query'\]; give names with values"),
    ],
)
def test_a_setting_of_another_type_is_refused_by_its_name(cls, values, message):
    with pytest.raises(ValueError, match=message):
        cls(**values)


def test_texts_come_in_any_sequence_of_them():
    class Column:
        """As a column of a table: values in their order, and no row 0."""

        def __iter__(self):
            return iter(["a", "b"])

    for texts in (["a", "b"], ("a", "b"), np.array(["a", "b"]), np.array(["a", "b"], object),
                  Column(), (x for x in "ab")):  # fmt: skip
        assert texts_of(texts) == ["a", "b"]


@pytest.mark.parametrize(
    "texts, message",
    [
        ("a", "texts must be a list of texts, not one; put the one text in a list"),
        ({"text": ["a"]}, "texts must be a list of texts, not a dict"),
        ({"a", "b"}, "texts must be a list of texts, not a set"),
        (None, "texts must be a list of texts, not a NoneType"),
        (["a", None], "texts: row 2 is None, and not a text"),
        (["a", float("nan")], "texts: row 2 is nan, and not a text"),
        ([("a", "b")], r"texts: row 1 is \('a', 'b'\), and not a text"),
        ([b"a"], "texts: row 1 is b'a', and not a text"),
        (["a", "\ud800"], r"texts: row 2 is '\\ud800', which is no valid Unicode"),
    ],
)
def test_what_is_no_text_is_refused_by_its_row(texts, message):
    with pytest.raises(ValueError, match=message):
        texts_of(texts)


def test_public_functions_of_the_encoder(tmp_path):
    backbone = load_backbone(str(write_backbone(tmp_path)))
    encode, encoder = backbone.tokenizer.encode, backbone.encoder
    rows = encode(np.array(["bat bet", "bit"]), ("bat", "bet"))
    assert rows == encode(["bat bet", "bit"], ["bat", "bet"])
    with pytest.raises(ValueError, match="pairs: row 2 is None"):
        encode(["a", "b"], ["a", None])
    with pytest.raises(ValueError, match="row 1 is 5, and not a text"):
        embed(backbone, [5])

    ids = encode(["bat", "bet"]).input_ids
    want = encoder(torch.tensor(ids)).last_hidden_state
    mask = np.ones((2, 3), dtype=np.int64)
    for found in (encoder(ids), encoder(np.array(ids), mask), encoder(torch.tensor(ids).int())):
        torch.testing.assert_close(found.last_hidden_state, want)
    packed = encoder(np.ravel(ids), layout=Packed(np.array([3, 3])))
    torch.testing.assert_close(packed.last_hidden_state.view_as(want), want)
    for bad, message in (([[1, 2], [1]], "no rectangle of whole numbers"),
                         ([[0.5]], "input_ids must be int64, they are torch.float32")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            encoder(bad)
    with pytest.raises(ValueError, match=re.escape("lengths must be whole numbers")):
        Packed([2.5])
    assert Padded([[1, 0]]).max_length == 2
    with pytest.raises(ValueError, match="name is ''; give minilm, a folder or a hub name"):
        load_backbone("")
    with pytest.raises(ValueError, match="on_bad_row is 'skp'; choose one of stop, skip"):
        read_split(get_task("sst"), "dev", on_bad_row="skp")
