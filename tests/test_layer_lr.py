"""Per-layer learning rates: by hand, by timm's rule, in a step of the optimizer, and as shown."""

import re

import pytest
import torch
from helpers import config, make_trainer

from minbert import load_backbone
from multitask import MultitaskModel
from multitask.commands import main as cli
from multitask.extensions.layer_lr import LayerLR


def rates(trainer):
    return {name: g["lr"] for g in trainer.optimizer.param_groups for name in g["names"]}


@pytest.mark.parametrize("heads", [1.0, 10.0])
def test_rates_are_those_of_a_hand_calculation(folder, heads):
    """Two layers, lr 0.01, decay 1/2."""
    trainer = make_trainer(config(folder, extensions=(LayerLR(decay=0.5, heads=heads),)))
    hand = {
        "encoder.embeddings.": 0.000625,
        "encoder.layers.0.": 0.00125,
        "encoder.layers.1.": 0.0025,
        "encoder.pooler.": 0.005,
        "heads.": 0.01 * heads,
    }
    found = rates(trainer)
    assert found.keys() == trainer.parameters.keys()
    for part, rate in hand.items():
        inside = [value for name, value in found.items() if name.startswith(part)]
        assert inside and inside == pytest.approx([rate] * len(inside), rel=1e-12), part
    assert sum(name.startswith(tuple(hand)) for name in found) == len(found)
    decays = {n: g["weight_decay"] for g in trainer.optimizer.param_groups for n in g["names"]}
    for name, parameter in trainer.parameters.items():
        assert decays[name] == (0.01 if parameter.ndim == 2 else 0.0), name


def test_rates_follow_timms_rule(folder):
    """timm numbers the groups of layers from 0 at the input to `top` at the head, and gives group
    i the scale decay^(top - i)."""
    settings = config(folder)
    model = MultitaskModel.from_config(settings, load_backbone(settings.backbone).encoder)
    groups = ["encoder.embeddings", *(f"encoder.layers.{n}" for n in range(2))]
    groups += ["encoder.pooler", "heads"]
    top = len(groups) - 1
    found = LayerLR(decay=0.65).lr_scale(model)
    for name, scale in found.items():
        (i,) = (i for i, group in enumerate(groups) if name.startswith(f"{group}."))
        assert scale == pytest.approx(0.65 ** (top - i), rel=1e-12), name
    assert found.keys() == dict(model.named_parameters()).keys()


def test_a_step_moves_each_part_by_its_rate(folder):
    """Adam's first step moves every weight by its rate, whatever the gradient."""
    trainer = make_trainer(
        config(
            folder, tasks=("sst",), epochs=1, steps_per_epoch=1, schedule="constant", warmup=0.0,
            weight_decay=0.0, eps=1e-30, clip=0.0, extensions=(LayerLR(decay=0.5),),
        ),
        torch.float64,
    )  # fmt: skip
    before = {name: p.detach().clone() for name, p in trainer.parameters.items()}
    trainer.fit()
    seen = set()
    for name, rate in rates(trainer).items():
        moved = (trainer.parameters[name].detach() - before[name]).abs()
        moved = moved[trainer.parameters[name].grad != 0]
        assert torch.allclose(moved, torch.full_like(moved, rate), rtol=1e-6), name
        seen |= {rate} if len(moved) else set()
    assert len(seen) == 5


def test_a_parameter_in_no_part_is_an_error_that_names_it(folder):
    settings = config(folder)
    model = MultitaskModel.from_config(settings, load_backbone(settings.backbone).encoder)
    model.encoder.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"encoder.extra.weight, encoder.extra.bias: in no part "):
        LayerLR().lr_scale(model)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"decay": 0.0}, "decay must be above 0 and at most 1, it is 0.0"),
        ({"decay": 1.5}, "decay must be above 0 and at most 1, it is 1.5"),
        ({"heads": -1.0}, "heads must be positive and finite, it is -1.0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LayerLR(**settings)


def show_groups(folder, capsys, *words):
    command = ["train", "--show-groups", "--tasks", "sst", "--lr", "0.01", "--head-size", "8"]
    cli.parse([*command, "--backbone", str(folder / "backbone"), *words]).run()
    *lines, total = capsys.readouterr().out.splitlines()
    return [re.split(r"\s{2,}", line) for line in lines[2:]], total


def test_show_groups_prints_what_the_optimizer_is_given_and_trains_nothing(
    folder, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    rows, total = show_groups(folder, capsys, "--layer-lr.decay", "0.5")
    settings = config(folder, tasks=("sst",), extensions=(LayerLR(decay=0.5),))
    groups = make_trainer(settings).optimizer.param_groups
    assert len(rows) == len(groups) == 10
    for row, group in zip(rows, groups, strict=True):
        numbers = [float(cell.replace(",", "")) for cell in row[2:]]
        count = sum(parameter.numel() for parameter in group["params"])
        assert numbers == [group["lr"], group["weight_decay"], count]
    parts = ("embeddings", "layer 1", "layer 2", "pooler", "heads")
    kinds = ("matrices", "biases and norms")
    assert [row[:2] for row in rows] == [[part, kind] for part in parts for kind in kinds]
    everything = sum(int(row[4].replace(",", "")) for row in rows)
    assert total == f"{everything:,} of {everything:,} parameters are trained"
    assert not list(tmp_path.iterdir())


def test_show_groups_names_ranges_and_what_is_trained(folder, capsys):
    (row,), _ = show_groups(folder, capsys, "--weight-decay", "0")
    assert row[:4] == ["embeddings to heads", "all", "0.01", "0"]
    rows, total = show_groups(folder, capsys, "--unfreeze.only", "layer 1")
    assert [row[0] for row in rows] == ["layer 1, heads"] * 2
    trained = sum(int(row[4].replace(",", "")) for row in rows)
    assert total.startswith(f"{trained:,} of ") and f" {trained:,} parameters" not in total


def test_show_groups_of_a_run_are_those_it_is_resumed_with(folder, capsys):
    trainer = make_trainer(config(folder, lr=0.25, extensions=(LayerLR(decay=0.5),)))
    cli.parse(["train", "--show-groups", "--resume", str(trainer.run.folder)]).run()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 13 and lines[-2].split()[-3:-1] == ["0.25", "0"]
