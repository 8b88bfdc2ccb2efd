"""The masked language model in the one training loop: against transformers, against a loop written
out, and what its runs leave behind."""

import json
import math
import re
import runpy
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import (
    FILLERS,
    make_pretrainer,
    pretrain_config,
    tiny,
    weights,
    write_data_with_bad_rows,
)
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM

from data.tasks import MLM
from minbert import Bert, BertConfig, load_backbone, save_pretrained
from minbert.encoder import EncoderConfig
from minbert.encoders import encoder_class
from minbert.loading import hub_names
from multitask import Predictor, TrainConfig, resume, train
from multitask.evaluate import evaluate
from multitask.extensions import base
from multitask.extensions.gradient_surgery import GradientSurgery
from multitask.extensions.loss_weights import LossWeights
from multitask.extensions.sampling import Sampling
from multitask.heads import row_losses
from multitask.runs.origin import backbone_of
from multitask.runs.run import Run

pytestmark = pytest.mark.usefixtures("no_figure")

ROOT = Path(__file__).resolve().parent.parent
EXACT = {"rtol": 1e-5, "atol": 1e-8}  # weights are float64, and the loss is float32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tiny(tmp_path_factory.mktemp("tiny"))
    lines = [
        " ".join(FILLERS[(n * k) % len(FILLERS)] for k in range(1, 4 + n % 9)) for n in range(60)
    ]
    (folder / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


# Against transformers


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("training_mode", [False, True])
def test_loss_and_gradients_are_those_of_transformers(folder, layout, training_mode):
    """The reference runs its decoder on every token, and leaves out those labelled -100."""
    settings = pretrain_config(folder, tasks=("sst", "para"), layout=layout, mask_rate=0.4)
    trainer = make_pretrainer(settings)
    model = trainer.model.train(training_mode)
    batch = trainer.data["mlm"].train.batch([0, 3, 25, 31], draw=2)
    outputs = model(batch, "mlm")
    assert outputs.shape == (batch.weight, model.encoder.config.vocab_size) and batch.weight > 3
    loss = row_losses(MLM, outputs, batch.labels).sum() / batch.weight
    loss.backward()

    start = settings.out / "start"
    backbone = backbone_of(settings)
    save_pretrained(start, backbone.encoder, backbone.tokenizer, mlm_head=backbone.mlm_head)
    reference = BertForMaskedLM.from_pretrained(
        start, attn_implementation="eager", hidden_dropout_prob=0, attention_probs_dropout_prob=0
    ).double()  # fmt: skip
    reference.train(training_mode)
    labels = torch.full(batch.layout.shape, -100).flatten()
    labels[batch.masked] = batch.labels
    ids, types, labels = (
        batch.layout.to_padded(x.view(batch.layout.shape))
        for x in (batch.input_ids, batch.token_type_ids, labels)
    )
    real = batch.layout.to_padded(torch.ones(batch.layout.shape, dtype=torch.long))
    labels = labels.masked_fill(real == 0, -100)
    assert types.max() == 1, "there is a pair"
    expected = reference(input_ids=ids, attention_mask=real, token_type_ids=types, labels=labels)
    torch.testing.assert_close(loss.double(), expected.loss, **EXACT)
    expected.loss.backward()

    modules = torch.nn.ModuleDict({"encoder": model.encoder, "mlm_head": model.heads["mlm"]})
    compared = 0
    for ours, theirs in hub_names(modules).items():
        if "pooler" in ours:
            assert modules.get_parameter(ours).grad is None
            continue
        prefix = "bert." if ours.startswith("encoder.") else ""
        torch.testing.assert_close(
            modules.get_parameter(ours).grad, reference.get_parameter(prefix + theirs).grad,
            **EXACT, msg=lambda m, name=ours: f"{name}: {m}",
        )  # fmt: skip
        compared += 1
    assert compared > 30


def test_the_backbone_of_a_run_loads_here_and_in_transformers(folder, tmp_path):
    run = train(pretrain_config(folder, tmp_path / "run"), progress=False)
    ours = load_backbone(run.backbone, mlm_head=True)
    reference = AutoModelForMaskedLM.from_pretrained(run.backbone).eval()
    assert type(reference) is BertForMaskedLM
    texts = ["ban bet superb", "fit"]
    tokens = AutoTokenizer.from_pretrained(run.backbone)(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        found = ours.mlm_head(ours.encoder(**tokens).last_hidden_state)
        expected = reference(**tokens).logits
    real = tokens["attention_mask"].bool()
    torch.testing.assert_close(found[real], expected[real], rtol=1e-5, atol=1e-5)
    encoder, before = ours.encoder, load_backbone(folder / "backbone").encoder
    assert not torch.equal(encoder.embeddings.word.weight, before.embeddings.word.weight)
    assert torch.equal(encoder.pooler.dense.weight, before.pooler.dense.weight)

    again = train(
        TrainConfig(tasks=("sst",), data_dir=folder / "data", backbone=str(run.backbone),
                    out=tmp_path / "fine", epochs=1, device="cpu"), progress=False,
    )  # fmt: skip
    assert again.record()["backbone"]["source"] == str(run.backbone)
    with pytest.raises(ValueError, match="is a pre-training run and answers no task; its backbone"):
        Predictor(run.folder)


# Against a loop written out


def test_steps_are_those_of_a_loop_written_out(folder):
    """Two batches a step with unequal numbers of masked tokens count by their tokens."""
    settings = pretrain_config(folder, batch_size=6, accumulate=2, weight_decay=0.0, eps=1e-10,
                               clip=0.5, schedule="constant", warmup=0.0)  # fmt: skip
    trainer, other = (make_pretrainer(replace(settings, out=settings.out / name)) for name in "ab")
    source, stream, model = (
        trainer.data["mlm"].train,
        trainer.engine.streams["mlm"],
        other.model.train(),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=0, eps=1e-10)
    losses, weight = [], []
    for step in range(trainer.total_steps):
        weight += [source.batch(part, step).weight for part in np.split(stream[step], [6])]
        batch = source.batch(stream[step], draw=step)
        loss = F.cross_entropy(model(batch), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    assert len(set(weight)) > 2, "batches of unequal weight"
    trainer.fit()
    steps = [line["loss"] for line in trainer.run.metrics() if line["kind"] == "step"]
    assert steps == pytest.approx(losses, rel=1e-5)
    for name, value in weights(other).items():
        torch.testing.assert_close(
            trainer.parameters[name].detach(), value, rtol=1e-4, atol=1e-6,
            msg=lambda m, name=name: f"{name}: {m}",
        )  # fmt: skip


def fitted(folder, dtype=torch.float64, **changes):
    trainer = make_pretrainer(pretrain_config(folder, **changes), dtype)
    trainer.fit()
    return trainer


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 3, "accumulate": 4},
        {"batch_size": 12, "layout": "padded"},
        {"batch_size": 12, "gradient_checkpointing": True},
    ],
    ids=["accumulated", "padded", "checkpointed"],
)
def test_ways_to_compute_the_same(folder, changes):
    one, other = fitted(folder, batch_size=12), fitted(folder, **changes)
    for (name, value), found in zip(weights(one).items(), weights(other).values(), strict=True):
        torch.testing.assert_close(found, value, **EXACT, msg=lambda m, n=name: f"{n}: {m}")
    lines = [
        [{k: line[k] for k in ("step", "loss")} for line in t.run.metrics() if "loss" in line]
        for t in (one, other)
    ]
    assert len(lines[0]) > 3
    for found, expected in zip(*lines, strict=True):
        assert found == pytest.approx(expected, rel=1e-5)


def test_a_step_without_masked_tokens_changes_nothing(folder):
    trainer = make_pretrainer(pretrain_config(folder, weight_decay=0.0))
    trainer.data["mlm"].train._masker.rate = 0.0
    before = weights(trainer)
    assert trainer.step() == 0.0
    for name, value in weights(trainer).items():
        assert torch.equal(value, before[name]), name


def test_bf16_comes_close(folder):
    exact, low = (
        fitted(folder, precision=precision, dtype=torch.float32).run.metrics()[-1]["scores"]["mlm"]
        for precision in ("fp32", "bf16")
    )
    assert low["loss"] != exact["loss"]
    assert low["loss"] == pytest.approx(exact["loss"], rel=0.05)


# Development scores


def test_development_scores_are_formulas_over_all_masked_tokens(folder):
    trainer = make_pretrainer(pretrain_config(folder, tasks=("sst", "sts")))
    source, model = trainer.data["mlm"].sources["dev"], trainer.model
    found = evaluate(model, MLM, source, progress=False)
    batch = source.batch(range(len(source.ids)))
    with torch.no_grad():
        outputs = model.eval()(batch)
    loss = float(F.cross_entropy(outputs, batch.labels))
    right = float((outputs.argmax(-1) == batch.labels).double().mean())
    expected = {"loss": loss, "perplexity": math.exp(loss), "accuracy": right}
    assert found.metrics == pytest.approx(expected, rel=1e-5)
    assert len(found.answers) == len(found.labels) == batch.weight


def test_development_masks_are_those_of_every_run_and_epoch(folder):
    one, other = (make_pretrainer(pretrain_config(folder, seed=seed)).data["mlm"].sources
                  for seed in (1, 2))  # fmt: skip
    assert one["dev"].batch([0, 1, 2]).masked.equal(other["dev"].batch([0, 1, 2]).masked)
    drawn = [source["train"].batch(range(20), draw=3) for source in (one, other)]
    assert not torch.equal(drawn[0].input_ids, drawn[1].input_ids)
    rows = range(len(one["dev"].ids))
    texts = [sources["dev"].batch(rows).weight for sources in (one, other)]
    assert texts[0] == texts[1] > 0


def test_the_best_epoch_is_that_of_the_lowest_loss(folder, monkeypatch):
    trainer = make_pretrainer(pretrain_config(folder, epochs=4, patience=2))
    losses = iter([3.0, 2.0, 2.5, 2.25])
    monkeypatch.setattr(
        trainer, "_score", lambda epoch: {"mlm": {"loss": next(losses), "perplexity": 1.0}}
    )
    progress = trainer.fit()
    assert (progress.best_epoch, progress.evaluated, progress.best_score) == (2, 4, -2.0)


def test_training_lowers_perplexity(folder, tmp_path):
    """On lines of ten words, of the 89 that the tokenizer knows."""
    lines = [" ".join(FILLERS[(n + k) % 10] for k in range(6)) for n in range(160)]
    (tmp_path / "counting.txt").write_text("\n".join(lines), encoding="utf-8")
    settings = pretrain_config(folder, tmp_path / "run", tasks=(), hold_out=5, epochs=8, lr=1e-2,
                               text=(tmp_path / "counting.txt",), evaluate_first=True)  # fmt: skip
    record = train(settings, progress=False).record()
    before, after = (record[when]["mlm"]["perplexity"] for when in ("before", "dev"))
    assert before > 60 and after < 15
    assert record["score"] == -record["dev"]["mlm"]["loss"]
    assert record["config"]["command"] == "pretrain"


# Text


def texts_of(trainer, split):
    source = trainer.data["mlm"].sources[split]
    tokenizer = backbone_of(trainer.config).tokenizer
    rows = source._tokens.rows(source._tokens.input_ids, range(len(source.ids)))
    return [tokenizer.decode(row.tolist()) for row in rows]


def test_lines_of_files_are_trained_on_or_held_out(folder, tmp_path):
    lines = (folder / "text.txt").read_text(encoding="utf-8").split("\n")[:-1]
    settings = pretrain_config(folder, tasks=(), text=(folder / "text.txt",), hold_out=7)
    trainer = make_pretrainer(settings)
    assert texts_of(trainer, "dev") == lines[6::7]
    assert texts_of(trainer, "train") == [t for n, t in enumerate(lines, start=1) if n % 7]

    (tmp_path / "dev.txt").write_text("ban bet\n", encoding="utf-8")
    trainer = make_pretrainer(
        replace(settings, dev_text=(tmp_path / "dev.txt",), limit=9, out=tmp_path / "run")
    )
    assert texts_of(trainer, "dev") == ["ban bet"]
    assert texts_of(trainer, "train") == lines[:9]


def test_tasks_and_files_add_up(folder):
    both = pretrain_config(folder, tasks=("sst", "para"), text=(folder / "text.txt",))
    sizes = [
        len(make_pretrainer(replace(both, tasks=tasks, text=text, overwrite=True)).data["mlm"]
            .train.ids)
        for tasks, text in [(both.tasks, both.text), (("sst",), ()), (("para",), ()),
                            ((), both.text)]
    ]  # fmt: skip
    assert sizes[0] == sum(sizes[1:])


def test_text_without_held_out_lines_is_refused(folder, tmp_path):
    (tmp_path / "short.txt").write_text("ban bet\nfit got\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"there is no dev text: .*--hold-out"):
        make_pretrainer(pretrain_config(folder, tasks=(), text=(tmp_path / "short.txt",)))


def test_held_out_text_without_a_masked_token_is_refused(folder, tmp_path):
    (tmp_path / "short.txt").write_text("bat\n", encoding="utf-8")
    settings = pretrain_config(folder, tmp_path / "run", text=(folder / "text.txt",), tasks=(),
                               dev_text=(tmp_path / "short.txt",), mask_rate=0.01)  # fmt: skip
    with pytest.raises(ValueError, match="no token of the held-out text is masked, in 1 rows, so"):
        train(settings, progress=False)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    "extension", [GradientSurgery(), Sampling(leave_out="sst"), LossWeights(weights={"sst": 0.0})]
)
def test_an_extension_for_several_tasks_is_refused(folder, extension):
    with pytest.raises(ValueError, match=f"{extension.name} is about several tasks, and pre-train"):
        pretrain_config(folder, tasks=("sst", "para"), extensions=(extension,))


def test_a_resumed_run_reads_its_own_copy_of_a_file_and_refuses_other_rows(folder, tmp_path):
    (tmp_path / "text.txt").write_text(
        (folder / "text.txt").read_text(encoding="utf-8"), encoding="utf-8"
    )
    settings = pretrain_config(folder, tmp_path / "run", tasks=(), text=(tmp_path / "text.txt",),
                               hold_out=5)  # fmt: skip
    run = train(settings, progress=False)
    (tmp_path / "text.txt").unlink()
    resume(run.folder, progress=False)
    for path in run.text.iterdir():
        path.unlink()
    (tmp_path / "text.txt").write_text("ban bet\n" * 60, encoding="utf-8")
    with pytest.raises(ValueError, match="the training rows of mlm are not those"):
        resume(run.folder, progress=False)


def test_a_run_that_is_refused_leaves_the_earlier_one_as_it_was(folder, tmp_path):
    (tmp_path / "short.txt").write_text("ban bet\nfit got\n", encoding="utf-8")
    run = train(scratch(folder, tmp_path / "run"), progress=False)
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    assert {path.parent.name for path in files} == {"run", "backbone", "text"}
    start = {"out": run.folder, "overwrite": True}
    starts_from_itself = "run is the run to start from; choose another --out"
    for message, settings in (
        (starts_from_itself, pretrain_config(folder, backbone=str(run.folder))),
        (starts_from_itself, pretrain_config(folder, backbone=str(run.backbone))),
        ("max_length 999 is more than", scratch(folder, None, size="mini", max_length=999)),
        ("no dev text", scratch(folder, None, tasks=(), text=(tmp_path / "short.txt",))),
    ):
        with pytest.raises(ValueError, match=message):
            train(replace(settings, **start), progress=False)
        assert before == {path: path.read_bytes() for path in files}
    assert load_backbone(run.backbone, mlm_head=True).encoder.config.num_layers == 2
    again = train(scratch(folder, run.folder, size="mini", overwrite=True), progress=False)
    assert load_backbone(again.backbone, mlm_head=True).encoder.config.num_layers == 4
    assert not run.new_text.exists()


def test_the_script_compares_with_plain_fine_tuning(folder, tmp_path, monkeypatch, capsys):
    data = write_data_with_bad_rows(tmp_path / "data")
    words = ["--data-dir", data, "--backbone", folder / "backbone", "--out", tmp_path,
             "--mlm-epochs", 1, "--epochs", 1]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["further_pretraining.py", *map(str, words)])
    runpy.run_path(str(ROOT / "scripts" / "further_pretraining.py"), run_name="__main__")
    out = capsys.readouterr().out
    for name, run in (("plain", "plain"), ("further pre-trained", "further-pre-trained")):
        score = Run(tmp_path / run).record()["score"]
        assert re.search(rf"^{name} +- +{score:.3f} +- +[\d,]+ +\d+$", out, flags=re.MULTILINE)
    before, after = (Run(tmp_path / "mlm").record()[k]["mlm"] for k in ("before", "dev"))
    assert f" {before['perplexity']:.1f}, {after['perplexity']:.1f} " in out
    source = Run(tmp_path / "further-pre-trained").record()["backbone"]["source"]
    assert source == str(tmp_path / "mlm" / "backbone")


# Extensions


@dataclass(frozen=True, kw_only=True)
class Slow(base.Extension):
    """Halves the rate of the embeddings and freezes the first layer."""

    name = "slow"

    def prepare(self, model):
        model.encoder.layers[0].requires_grad_(False)

    def lr_scale(self, model):
        return {"encoder.embeddings.word.weight": 0.0}


@dataclass(frozen=True, kw_only=True)
class Adds(base.Extension):
    name = "adds"

    def prepare(self, model):
        model.encoder.layers[0].extra = torch.nn.Linear(2, 2)


def test_extensions_that_keep_the_parameters_work(folder):
    trainer = make_pretrainer(pretrain_config(folder, extensions=(Slow(),), weight_decay=0.0))
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    trainer.fit()
    for name, p in trainer.model.named_parameters():
        kept = "layers.0" in name or "embeddings.word" in name or "pooler" in name
        assert torch.equal(p, before[name]) == kept, name


def test_an_extension_that_adds_parameters_is_refused(folder):
    with pytest.raises(ValueError, match="extension adds changes which parameters the encoder has"):
        make_pretrainer(pretrain_config(folder, extensions=(Adds(),)))


# The start


def test_a_head_that_is_missing_depends_on_the_seed_alone(folder):
    first, same, other = (backbone_of(pretrain_config(folder, seed=seed)) for seed in (1, 1, 2))
    assert any("mlm_head" in name for name in first.fresh)
    values = [b.mlm_head.dense.weight for b in (first, same, other)]
    assert values[0].equal(values[1]) and not values[0].equal(values[2])


@pytest.mark.parametrize(
    "size, millions",
    [("tiny", 4.4), ("mini", 11.3), ("small", 29.1), ("medium", 41.7), ("base", 110.1)],
)
def test_sizes_are_those_of_the_paper(size, millions):
    """Parameters as published with the paper's checkpoints, of the encoder and its head."""
    with torch.device("meta"):
        encoder = Bert(BertConfig.of_size(size))
        head = encoder.make_mlm_head()
    count = len({p for m in (encoder, head) for p in m.parameters()})
    total = sum(p.numel() for p in {p for m in (encoder, head) for p in m.parameters()})
    assert count > 20 and round(total / 1e6, 1) == pytest.approx(millions, abs=0.11)


def scratch(folder, out, **changes):
    return pretrain_config(folder, out, **{"from_scratch": "bert", "size": "tiny",
                                           "vocab_size": 80, "epochs": 1, **changes})  # fmt: skip


def test_an_encoder_from_scratch(folder, tmp_path):
    run = train(scratch(folder, tmp_path / "a"), progress=False)
    backbone = load_backbone(run.backbone, mlm_head=True)
    assert len(backbone.tokenizer) == backbone.encoder.config.vocab_size == 80
    assert (backbone.encoder.config.hidden_size, backbone.encoder.config.num_layers) == (128, 2)
    assert run.record()["backbone"]["source"] == "bert of size tiny, from scratch"
    reference = AutoModelForMaskedLM.from_pretrained(run.backbone)
    assert reference.config.vocab_size == 80
    same, other = (
        train(scratch(folder, tmp_path / name, seed=seed), progress=False)
        for name, seed in (("b", 11711), ("c", 1))
    )
    loaded = [load_backbone(r.backbone).encoder.embeddings.word.weight for r in (run, same, other)]
    assert loaded[0].equal(loaded[1]) and not loaded[0].equal(loaded[2])


def test_an_encoder_from_a_config_file(folder, tmp_path):
    path = tmp_path / "small.json"
    hub = BertConfig(vocab_size=9, hidden_size=12, num_layers=1, num_heads=2, intermediate_size=20,
                     max_positions=16).to_hub()  # fmt: skip
    path.write_text(json.dumps({"model_type": "bert", **hub}), encoding="utf-8")
    changes = {"from_scratch": None, "encoder_config": path, "size": "mini"}
    run = train(scratch(folder, tmp_path / "a", **changes), progress=False)
    config = load_backbone(run.backbone).encoder.config
    assert (config.hidden_size, config.max_positions, config.vocab_size) == (12, 16, 80)


def test_what_cannot_be_made_from_scratch_is_refused(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no encoder is called 'elmo'; known are"):
        train(scratch(folder, tmp_path / "a", from_scratch="elmo"), progress=False)
    with pytest.raises(ValueError, match="tokens already, and vocab_size is 5; allow more"):
        train(scratch(folder, tmp_path / "a", vocab_size=5), progress=False)
    with pytest.raises(ValueError, match="no size called 'huge', known are tiny, mini, small, med"):
        train(scratch(folder, tmp_path / "a", size="huge"), progress=False)
    monkeypatch.setattr(encoder_class("bert").Config, "SIZES", EncoderConfig.SIZES)
    with pytest.raises(ValueError, match="BertConfig has no size called 'tiny', it has none; give"):
        train(scratch(folder, tmp_path / "a"), progress=False)
    assert not Run(tmp_path / "a").config_path.exists()
