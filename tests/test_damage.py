"""Files that are damaged, or of another make, end in a message and never in a traceback."""

import os

import pytest
import torch
from helpers import config, tiny
from json_damage import records, survey, things
from safetensors.torch import load_file, save_file

from minbert import load_backbone
from minbert.files import read_json, write_json
from multitask import Predictor, train, training
from multitask.report import drawing
from multitask.runs.checkpoint import load_checkpoint, save_checkpoint

LARGE = 2**20
"""A hidden size whose square no memory holds."""


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(training, "draw_run", lambda run: None)
    monkeypatch.setattr(drawing, "save_figure", lambda path, *rest: path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run."""
    root = tiny(tmp_path_factory.mktemp("run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_run", lambda run: None)
        return train(config(root, epochs=1), progress=False).folder


def change(path, **values):
    write_json(path, read_json(path) | values)


def test_damaged_json_ends_in_a_message(tmp_path, capsys):
    """A few of the damages that `survey` knows, in every file of everything that has files."""
    every = things(tmp_path)
    every |= records(tmp_path)
    del every["resumed"], every["pretrained"]  # which train
    for name, thing in every.items():
        calls, failures, said = survey(thing, count=1 if "study" in name else 4)
        assert not failures, failures[0]
        assert calls and said, name


def test_a_backbone_is_compared_with_its_config_before_memory_is_taken(tmp_path):
    folder = tiny(tmp_path) / "backbone"
    change(folder / "config.json", hidden_size=LARGE, intermediate_size=LARGE)
    with pytest.raises(ValueError, match=r"does not hold the weights of the bert .* misshapen: "):
        load_backbone(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"does not hold the weights of the bert .* misshapen: "):
        load_backbone(folder)
    change(folder / "config.json", num_hidden_layers=10**9)
    with pytest.raises(ValueError, match="num_layers is 1000000000, and can be 1,000"):
        load_backbone(folder)


@pytest.mark.parametrize("name, settings", [
    ("config.json", {"head_size": 2**40}),
    ("backbone/config.json", {"hidden_size": LARGE, "intermediate_size": LARGE}),
])  # fmt: skip
def test_a_run_is_compared_with_its_config_before_memory_is_taken(run, name, settings):
    before = read_json(run / name)
    change(run / name, **settings)
    try:
        with pytest.raises(ValueError, match=r"best.safetensors does not fit the model: has "):
            Predictor(run)
    finally:
        write_json(run / name, before)
    assert Predictor(run).predict("sst", ["a text"])


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_pipe_or_a_device_in_a_file_s_place_is_refused(tmp_path, name):
    folder = tiny(tmp_path) / "backbone"
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ValueError, match=f"{name}"):
        load_backbone(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=f"{name}"):
        load_backbone(folder)


def test_a_large_header_is_not_printed(tmp_path):
    path = tmp_path / "best.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"format": "y" * 10**6})
    with pytest.raises(ValueError, match=r"best.safetensors is no checkpoint of this") as caught:
        load_checkpoint(path)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("state", [[], None, "x", {"progress": {}}, {"progress": {"step": 1.5}}])
def test_a_checkpoint_of_another_state_is_no_place_to_go_on_from(run, tmp_path, state):
    tensors, before = load_checkpoint(run / "last.safetensors")
    save_checkpoint(run / "last.safetensors", tensors, state)
    try:
        with pytest.raises(ValueError, match=r"last\.safetensors"):
            training.resume(run, progress=False)
    finally:
        save_checkpoint(run / "last.safetensors", tensors, before)
