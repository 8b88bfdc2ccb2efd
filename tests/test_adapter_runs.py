"""Training with LoRA, IA3 and BitFit: what trains, what is saved, and where it goes from there."""

import copy
import itertools
import json
import os
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapting import assert_same, batch, fill, outputs, trained
from helpers import (
    config,
    contents,
    make_trainer,
    weights,
    without_seconds,
    write_data_with_bad_rows,
)
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from transformers import BertForSequenceClassification, BertModel

from minbert import load_backbone
from minbert.adapters import load_adapter
from multitask import Predictor, TrainConfig, resume, train, training
from multitask.commands.main import parse
from multitask.experiments.compare import Comparison, compare
from multitask.extensions.base import extension_from_dict, extension_to_dict
from multitask.extensions.bitfit import BitFit
from multitask.extensions.ia3 import IA3
from multitask.extensions.lora import LoRA
from multitask.loop.trainer import Trainer
from multitask.model import MultitaskModel
from multitask.parameters import METHODS, methods_table, trainable_parameters
from multitask.runs.checkpoint import load_checkpoint, trainable
from multitask.runs.origin import trained_backbone
from multitask.runs.run import Run

pytestmark = pytest.mark.usefixtures("no_figure")

EXTENSIONS = {
    "lora": LoRA(rank=2, targets=("all",), dropout=0.3, ranks={"query": 3}, whole=("pooler",)),
    "dora": LoRA(rank=2, dora=True, rank_stabilised=True),
    "ia3": IA3(),
    "bitfit": BitFit(),
    "biases of two roles": BitFit(roles=("query", "feed_forward_inner")),
}
ADAPTERS = [name for name in EXTENSIONS if "bi" not in name]


def settings(folder, name, **changes):
    dropout = {"encoder_dropout": 0.1, "head_dropout": 0.1}
    return config(folder, **{**dropout, "extensions": (EXTENSIONS[name],), **changes})


@pytest.fixture(scope="module")
def runs(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_run", lambda run: None)
        return {name: train(settings(folder, name), progress=False) for name in EXTENSIONS}


NAMES = pytest.mark.parametrize("name", EXTENSIONS)


@NAMES
def test_only_what_is_named_and_the_heads_change(folder, name):
    trainer = make_trainer(settings(folder, name, epochs=1))
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    trainer.fit()
    changed = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == trainer.parameters.keys() == trainable(trainer.model).keys()
    inside = {n for n in changed if not n.startswith("heads.")}
    assert inside and len(changed) == len(inside) + 6
    for parameter in inside:
        assert (".adapters.default." in parameter) == (name in ADAPTERS), parameter
        assert parameter.endswith(".bias") or name in ADAPTERS
    pretrained = load_backbone(folder / "backbone").encoder.state_dict()
    kept = {n.removeprefix("encoder."): p for n, p in before.items() if n not in changed}
    for parameter, values in pretrained.items():
        own = kept.get(parameter, kept.get(parameter.replace(".weight", ".base.weight")))
        assert own is None or torch.equal(own, values), parameter


@NAMES
def test_checkpoints_hold_what_trains_alone(runs, name):
    model = Predictor(runs[name].folder).model
    tensors, _ = load_checkpoint(runs[name].best)
    assert tensors.keys() == trainable(model).keys()
    moments, _ = load_checkpoint(runs[name].last)
    assert len(moments) == 3 * len(tensors)  # the value and two moments
    trained = sum(tensor.numel() for tensor in tensors.values())
    assert runs[name].record()["parameters"]["trained"] == trained
    assert trained == sum(trainable_parameters(model).values())


@NAMES
def test_a_loaded_run_scores_as_it_did(runs, name):
    found = Predictor(runs[name].folder).evaluate("dev")
    for task, metrics in runs[name].record()["dev"].items():
        assert found[task].metrics == pytest.approx(metrics, abs=1e-6)


@pytest.mark.parametrize("name", ["lora", "bitfit"])
def test_a_run_that_was_cut_short_and_resumed_is_the_same(folder, runs, name, monkeypatch):
    step, calls = Trainer.step, itertools.count()

    def breaking(trainer):
        if next(calls) == 5:
            raise OSError("the power failed")
        step(trainer)

    monkeypatch.setattr(Trainer, "step", breaking)
    cut = settings(folder, name, save_every=2)
    with pytest.raises(OSError, match="the power failed"):
        train(cut, progress=False)
    run = resume(cut.out, progress=False)
    assert without_seconds(run.metrics()) == without_seconds(runs[name].metrics())
    tensors, wanted = load_checkpoint(run.best)[0], load_checkpoint(runs[name].best)[0]
    assert all(torch.equal(tensors[key], wanted[key]) for key in wanted)


def test_layouts_and_gradient_checkpointing_train_the_same(folder):
    """In float64, and without dropout, which draws numbers in another order."""
    extension = replace(EXTENSIONS["lora"], dropout=0.0, dora=True)
    changes = [{}, {"layout": "padded"}, {"gradient_checkpointing": True}]
    found = []
    for change in changes:
        change = {"tasks": ("sst",), "extensions": (extension,), **change}
        trainer = make_trainer(config(folder, **change), torch.float64)
        trainer.fit()
        found.append(weights(trainer))
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        assert_same(other.values(), found[0].values())


@NAMES
def test_export_writes_an_ordinary_backbone(runs, tmp_path, minbert, name):
    """Merged: transformers' own BERT gives what our encoder gave with its adapter."""
    minbert("export", runs[name].folder, tmp_path)
    encoder = Predictor(runs[name].folder).model.encoder
    inputs = batch(encoder.config)
    wanted = outputs(encoder, inputs)
    for model in (load_backbone(tmp_path).encoder, BertModel.from_pretrained(tmp_path).eval()):
        assert_same(outputs(model, inputs), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ADAPTERS)
def test_export_writes_an_adapter_for_peft(folder, runs, tmp_path, command_line, name):
    assert command_line("export", runs[name].folder, tmp_path / "adapter", "--adapter")[0] == 0
    encoder = Predictor(runs[name].folder).model.encoder
    inputs = batch(encoder.config)
    base = BertModel.from_pretrained(folder / "backbone").eval()
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert_same(outputs(theirs, inputs), outputs(encoder, inputs), rtol=1e-5, atol=1e-5)
    again = load_backbone(folder / "backbone").encoder
    load_adapter(tmp_path / "adapter", again)
    assert_same(outputs(again, inputs), outputs(encoder, inputs))
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert written["base_model_name_or_path"] == os.path.relpath(
        folder / "backbone", tmp_path / "adapter"
    )
    code, _, err = command_line("export", runs[name].folder, tmp_path / "adapter", "--adapter")
    assert code == 2 and "adapter" in err, "there is one now"


def test_a_run_without_an_adapter_has_none_to_export(runs, tmp_path, command_line):
    words = ("export", runs["bitfit"].folder, tmp_path / "adapter", "--adapter")
    code, _, err = command_line(*words)
    assert code == 2 and "has no LoRA or IA3 adapter 'default' to save" in err
    assert not (tmp_path / "adapter").exists()


# A start from peft's files

PEFT = {
    "lora": LoraConfig(r=3, target_modules=["query", "dense"], lora_dropout=0.1),
    "a classifier's": LoraConfig(r=2, task_type="SEQ_CLS", target_modules=["value"]),
    "ia3": IA3Config(target_modules=["key", "value"], feedforward_modules=[]),
}


def peft_model(backbone, kind):
    """A model of peft on a backbone, with values that matter."""
    classifies = PEFT[kind].task_type == "SEQ_CLS"
    base = (BertForSequenceClassification if classifies else BertModel).from_pretrained(backbone)
    model = get_peft_model(base, copy.deepcopy(PEFT[kind])).eval()
    fill(trained(model))
    return model


def encoder_of(model):
    inner = model.get_base_model()
    return getattr(inner, "bert", inner)


@pytest.mark.parametrize("kind", PEFT)
def test_a_run_starts_from_an_adapter_of_peft_and_keeps_it(folder, tmp_path, kind, capsys):
    theirs = peft_model(folder / "backbone", kind)
    theirs.save_pretrained(tmp_path / "adapter")
    settings = config(folder, out=tmp_path / "run", adapter=tmp_path / "adapter", tasks=("sst",))
    begun = make_trainer(settings)
    inputs = batch(begun.model.encoder.config)
    wanted = outputs(encoder_of(theirs), inputs)
    assert_same(outputs(begun.model.eval().encoder, inputs), wanted, rtol=1e-5, atol=1e-5)
    adapted = [name for name in begun.parameters if name.startswith("encoder.")]
    assert adapted and all(".adapters." in name for name in adapted)
    assert len(adapted) == sum("lora" in n or "ia3" in n for n, p in trained(theirs))

    run = train(replace(settings, overwrite=True), progress=False)
    left = {
        line.split(",")[0] for line in capsys.readouterr().err.splitlines() if "left out" in line
    }
    heads = ("classifier.bias", "classifier.weight")
    assert left == {f"adapter: left out {n}" for n in heads if "classifier" in kind}
    shutil.rmtree(tmp_path / "adapter")  # the run has what it needs
    (run.folder / "record.json").unlink()
    before = run.best.read_bytes()
    resume(run.folder, progress=False)
    assert run.best.read_bytes() == before
    model = Predictor(run.folder).model
    changed = outputs(model.encoder, inputs)
    assert (changed[0] - wanted[0]).abs().max() > 1e-3
    again = trained_backbone(run).encoder
    assert_same(outputs(again, inputs), changed, rtol=1e-5, atol=1e-5)


@pytest.fixture
def minbert(command_line, capsys):
    """Call the command line; gives what it prints."""

    def call(*words):
        capsys.readouterr()
        code, out, err = command_line(*words)
        assert code == 0, err
        return out

    return call


@pytest.mark.parametrize("name", ["lora", "bitfit"])
def test_a_run_answers_with_an_adapter_of_peft(folder, runs, tmp_path, minbert, name):
    """On the encoder that the run trained; in the place of the run's own adapter."""
    base = folder / "backbone"
    if name == "bitfit":
        minbert("export", runs[name].folder, tmp_path / "base")
        base = tmp_path / "base"
    theirs = peft_model(base, "lora")
    theirs.save_pretrained(tmp_path / "adapter")
    predictor = Predictor(runs[name].folder, adapter=tmp_path / "adapter")
    inputs = batch(predictor.model.encoder.config)
    wanted = outputs(encoder_of(theirs), inputs)
    assert_same(outputs(predictor.model.encoder, inputs), wanted, rtol=1e-5, atol=1e-5)
    before = contents(runs[name].predictions)
    words = ("--adapter", tmp_path / "adapter")
    assert "no predictions are written with --adapter" in minbert(
        "evaluate", runs[name].folder, *words
    )
    assert contents(runs[name].predictions) == before
    (answer,) = predictor.predict("sst", ["bana superb"])
    said = minbert("predict", "--run", runs[name].folder, "--task", "sst", *words, "bana superb")
    assert said.split("\t")[1:3] == [answer.label, f"{answer.probability:.3f}"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"extensions": (BitFit(),)}, "bitfit and adapter each say what is left of the encoder"),
        ({"adapter": "nowhere"}, "nowhere/adapter_config.json does not exist"),
    ],
)
def test_an_adapter_that_cannot_be_started_from(folder, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(config(folder, out=tmp_path / "run", **{"adapter": tmp_path, **changes}))
    assert list(tmp_path.iterdir()) == []


# Settings


@NAMES
def test_settings_survive_a_config_file(runs, name):
    again = json.loads(json.dumps(extension_to_dict(EXTENSIONS[name])))
    assert extension_from_dict(again) == EXTENSIONS[name]
    assert Run.open(runs[name].folder).config().extensions == (EXTENSIONS[name],)


def test_settings_are_flags():
    def chosen(words):
        return parse(["train", *words.split()]).chosen()

    assert chosen("--use lora") == (LoRA(),)
    words = "--lora.rank 4 --lora.alpha 1 --lora.targets all --lora.whole pooler --lora.dora"
    expected = LoRA(rank=4, alpha=1.0, targets=("all",), whole=("pooler",), dora=True)
    assert chosen(words) == (expected,)
    ranks = LoRA(ranks={"query": 2, "linear": 16}, rank_stabilised=True)
    assert chosen("--lora.ranks query 2 linear 16 --lora.rank-stabilised") == (ranks,)
    assert chosen("--bitfit.roles query") == (BitFit(roles=("query",)),)
    assert chosen("--ia3.targets value") == (IA3(targets=("value",)),)


@pytest.mark.parametrize("rank", [1, 4])
def test_lora_of_the_published_study_is_a_setting(folder, rank):
    """Every linear map and embedding, with s = 1 / r."""
    encoder = load_backbone(folder / "backbone").encoder
    model = MultitaskModel.from_config(
        config(folder, extensions=(LoRA(rank=rank, alpha=1.0, targets=("all",)),)), encoder
    )
    matrices = [
        module for module in load_backbone(folder / "backbone").encoder.modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding)
    ]  # fmt: skip
    scales = [m.scale for m in model.encoder.modules() if hasattr(m, "rank_stabilised")]
    assert scales == [1 / rank] * len(matrices)
    found = trainable_parameters(model.encoder)
    assert sum(found.values()) == rank * sum(sum(m.weight.shape) for m in matrices)


# What the documentation says is so

DOCUMENT = Path(__file__).parent.parent / "docs" / "extensions" / "adapters.md"


@pytest.mark.parametrize("name", ["lora", "bitfit"])
def test_scripts_run(folder, tmp_path, monkeypatch, capsys, name):
    script = runpy.run_path(str(DOCUMENT.parents[2] / "scripts" / f"{name}.py"))
    data, out = write_data_with_bad_rows(tmp_path / "data"), tmp_path / "runs"
    common = Comparison(
        data_dir=data, backbone=str(folder / "backbone"), epochs=1, device="cpu", out=out
    )
    script["main"](common)
    table = capsys.readouterr().out.split("\n\n")[-2]
    assert "full fine-tuning" in table and "trainable parameters" in table
    assert len(list(out.glob("*/record.json"))) == {"lora": 3, "bitfit": 5}[name]


# Tables


def test_parameters_are_counted_as_peft_counts_them(folder):
    lines = methods_table(str(folder / "backbone")).splitlines()
    assert len(lines) == len(METHODS) + 3
    targets = {"--use lora": "all-linear", "--lora.targets query value": ["query", "value"]}
    for flags, modules in targets.items():
        theirs = get_peft_model(
            BertModel.from_pretrained(folder / "backbone"), LoraConfig(r=8, target_modules=modules)
        )
        (line,) = (line for line in lines if line.startswith(f"{flags}  "))
        trained, everything = theirs.get_nb_trainable_parameters()
        assert f"{trained:,}" in line.split()
        assert line.split()[-1] == f"{4 * (everything + 3 * trained) / 1e6:.0f}"


def test_compare_trains_each_and_tables_them(folder, tmp_path, capsys):
    plain = config(folder, tasks=("sst",), epochs=1)
    configs = {"plain": replace(plain, out=None), "LoRA": settings(folder, "lora", epochs=1)}
    table = compare(configs, tmp_path)
    said = capsys.readouterr().out
    assert "2 runs" in said and f"plain: sst, 1 epochs, about 5 s, in {tmp_path}" in said
    header, _, first, second, _, *differences = table.splitlines()
    assert differences[0].split()[-3:] == ["95%", "interval", "p"]
    assert [line.split()[:2] for line in differences[2:]] == [["plain", "sst"], ["LoRA", "sst"]]
    assert header.split()[:3] == ["run", "sst", "accuracy"] and "trainable parameters" in header
    record = Run.open(tmp_path / "plain").record()
    assert first.split()[:3] == ["plain", f"{record['dev']['sst']['accuracy']:.3f}", "-"]
    assert f"{record['parameters']['trained']:,}" in first
    assert second.split()[0] == "LoRA" and "-" not in second.split()
    assert isinstance(Run.open(tmp_path / "plain").config(), TrainConfig)
