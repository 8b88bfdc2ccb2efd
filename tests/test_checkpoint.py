"""Checkpoints: what comes back, what is refused, and that a killed write leaves the old file."""

import json
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from data.tasks import TASKS
from minbert import backbones
from multitask.heads import CosineOutput
from multitask.runs.checkpoint import (
    load_checkpoint,
    load_optimizer,
    load_trained,
    optimizer_state,
    save_checkpoint,
    trainable,
)
from optim import AdamW

TENSORS = {
    "a.weight": torch.arange(6.0).view(2, 3).T,  # not contiguous
    "b": torch.tensor([2.5]),
    "c": torch.tensor([[1.5]], dtype=torch.bfloat16),
    "d": torch.tensor([1, -(2**40)]),
}
STATE = {"step": 7, "best": -float("inf"), "names": ["é", "\u2028"], "none": None}


@pytest.fixture
def path(tmp_path):
    save_checkpoint(tmp_path / "new" / "last.safetensors", TENSORS, STATE)
    return tmp_path / "new" / "last.safetensors"


def test_tensors_and_state_come_back_bit_by_bit(path):
    tensors, state = load_checkpoint(path)
    assert state == STATE and tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        torch.testing.assert_close(tensors[name], tensor, rtol=0, atol=0)
    assert [p.name for p in path.parent.iterdir()] == ["last.safetensors"]


def test_equal_weights_and_state_give_equal_bytes(path):
    """The library's own writer puts the header's texts in an order that differs each time."""
    first = path.read_bytes()
    turned = dict(reversed(TENSORS.items()))
    for number in range(20):
        save_checkpoint(path, turned if number % 2 else TENSORS, STATE)
        assert path.read_bytes() == first


def test_the_library_reads_every_number_format(tmp_path):
    tensors = {str(dtype): torch.ones(3, 2).to(dtype) for dtype in backbones.DTYPES}
    tensors |= {"empty": torch.zeros(0, 4), "scalar": torch.tensor(7)}
    backbones.write_tensors(tmp_path / "all", tensors, {"é": "\u2028", "a": '"'})
    found = load_file(tmp_path / "all")
    assert found.keys() == tensors.keys() and len(found) == 12
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
    with safe_open(tmp_path / "all", framework="pt") as file:
        assert file.metadata() == {"é": "\u2028", "a": '"'}


def test_a_checkpoint_that_the_library_wrote_is_read(path):
    """Those of earlier versions are."""
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    plain = {name: tensor.contiguous() for name, tensor in TENSORS.items()}
    save_file(plain, path.with_name("old"), metadata=header)
    tensors, state = load_checkpoint(path.with_name("old"))
    assert state == STATE and all(torch.equal(tensors[name], plain[name]) for name in plain)


def test_every_flipped_byte_is_noticed(path):
    whole = path.read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    assert json.loads(whole[8 : 8 + header])["__metadata__"]["sha256"]

    def is_refused(place):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            load_checkpoint(path)
        except ValueError as error:
            return str(path) in str(error)
        return False

    assert [place for place in range(len(whole)) if not is_refused(place)] == []


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_damaged(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"last.safetensors is damaged or no checkpoint: .*again"):
        load_checkpoint(path)


def test_a_foreign_file_is_refused(path):
    with pytest.raises(ValueError, match="does not exist; this is no run with a checkpoint"):
        load_checkpoint(path.parent / "other")
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"no checkpoint of this version .* format is None; .*--b"):
        load_checkpoint(path)
    save_file({"x": torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="its format is 'pt'; a plain model folder is loaded with"):
        load_checkpoint(path)
    path.write_text("epoch 3\n" * 9, encoding="utf-8")
    with pytest.raises(ValueError, match="is damaged or no checkpoint"):
        load_checkpoint(path)


def test_a_write_that_fails_leaves_the_old_file(path, monkeypatch):
    def fail(tensors, temporary, metadata):
        temporary.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(backbones, "save_file", fail)
    message = r"last.safetensors could not be written: .*disk full; make room"
    with pytest.raises(OSError, match=message):
        save_checkpoint(path, {}, {})
    assert load_checkpoint(path)[1] == STATE
    assert [p.name for p in path.parent.iterdir()] == ["last.safetensors"]


def test_only_what_trains_is_kept_and_must_fit(path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    model.add_module("tied", model[1])
    kept = trainable(model)
    assert list(kept) == ["1.weight", "1.bias"]

    values = {name: torch.full_like(p, 5.0) for name, p in kept.items()}
    frozen = model[0].weight.clone()
    load_trained(model, values, path)
    assert all((p == 5).all() for p in model[1].parameters())
    assert torch.equal(model[0].weight, frozen)

    wrong = {"1.weight": torch.zeros(1, 4), "0.bias": torch.zeros(3)}
    with pytest.raises(ValueError, match="does not fit the model: ") as error:
        load_trained(model, wrong, path)
    for problem in (
        "lacks 1.bias",
        "has 0.bias, which the model does not",
        "has 1.weight of shape (1, 4), not (1, 3)",
    ):
        assert problem in str(error.value)
    assert all((p == 5).all() for p in model[1].parameters())


def test_a_scalar_of_version_0_1_0_fits_a_vector_of_one(path):
    """Scale and shift of a cosine were scalars there; only what is one now stays one."""
    model = CosineOutput(TASKS["sts"])
    old = {"scale": torch.tensor(3.0), "shift": torch.tensor(-1.0)}
    save_checkpoint(path, old, {})
    load_trained(model, load_checkpoint(path)[0], path)
    assert model.scale.tolist() == [3.0] and model.shift.tolist() == [-1.0]
    model.register_parameter("kept", nn.Parameter(torch.tensor(0.0)))
    load_trained(model, {**old, "kept": torch.tensor(0.5)}, path)
    assert model.kept.shape == () and model.kept.item() == 0.5
    with pytest.raises(ValueError, match=r"has shift of shape \(2,\), not \(1,\)"):
        load_trained(model, {**old, "shift": torch.zeros(2), "kept": torch.tensor(0.5)}, path)

    optimizer = AdamW([model.scale], lr=0.1)
    moments = {f"{m}/scale": torch.tensor(2.0) for m in ("exp_avg", "exp_avg_sq")}
    load_optimizer(optimizer, moments, {"scale": 4}, {"scale": model.scale})
    assert optimizer.state[model.scale]["exp_avg"].tolist() == [2.0]


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_continues_where_it_was(path, fused):
    def make():
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        return model, AdamW(model.parameters(), lr=0.1, weight_decay=0.1, fused=fused)

    def step(model, optimizer, number):
        optimizer.zero_grad()
        model(torch.full((1, 3), number + 1.0)).square().sum().backward()
        if number < 2:
            model.bias.grad = None  # counts its steps on its own
        optimizer.step()

    model, optimizer = make()
    for number in range(4):
        step(model, optimizer, number)
        if number == 2:
            names = {p: name for name, p in model.named_parameters()}
            tensors, steps = optimizer_state(optimizer, names)
            save_checkpoint(path, tensors, {"steps": steps})
            halfway = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert steps == {"weight": 3, "bias": 1}

    again, other = make()
    load_trained(again, halfway, path)
    tensors, state = load_checkpoint(path)
    load_optimizer(other, tensors, state["steps"], dict(again.named_parameters()))
    step(again, other, 3)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name
