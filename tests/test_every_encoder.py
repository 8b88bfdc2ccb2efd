"""What every encoder does, one suite for all that are registered: adapters, rates, unfreezing,
pre-training, both layouts, files; a reference is transformers' or peft's own of that encoder."""

import copy
import json
import shutil
from dataclasses import replace

import pytest
import torch
from adapting import fill, trained
from comparing import assert_same
from helpers import (
    config,
    contents,
    make_pretrainer,
    make_trainer,
    pretrain_config,
    weights,
    without_seconds,
    write_backbone,
    write_data,
)
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from minbert import embed, load_backbone, save_pretrained
from minbert.adapters import (
    IA3Settings,
    LoRASettings,
    add_ia3,
    add_lora,
    load_adapter,
    merge,
    merge_and_remove,
    save_adapter,
    unmerge,
    use_adapter,
)
from minbert.adapters.apply import adapted, select
from minbert.embedding import POOLINGS
from minbert.encoder import ENCODERS
from minbert.loading import empty_encoder
from multitask import MultitaskModel, Predictor, resume, train
from multitask.commands.glue_commands import RunGlue
from multitask.commands.main import parse
from multitask.extensions.bitfit import BitFit
from multitask.extensions.ia3 import IA3
from multitask.extensions.layer_lr import LayerLR
from multitask.extensions.lora import LoRA
from multitask.extensions.unfreeze import Unfreeze
from multitask.glue.glue_recipes import RECIPES
from multitask.loop.trainer import Trainer
from multitask.runs.checkpoint import load_checkpoint
from multitask.runs.origin import backbone_of

pytestmark = pytest.mark.usefixtures("no_figure")

BACKBONES = {name: {} for name in ENCODERS}
BACKBONES["convbert"] = {"embedding_size": 12}
BACKBONES["convbert, grouped"] = {"embedding_size": 16, "num_groups": 2}
BACKBONES["modernbert"] = {"local_attention": 8}
"""Each encoder by name, one with grouped linear maps and no projection -> its sizes."""
TOP = {"bert": ["encoder.pooler."], "modernbert": ["encoder.pooler.", "encoder.final_norm."]}
"""Parts between the heads and the last layer, from the top down."""
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
EXACT = {"rtol": 1e-7, "atol": 1e-9}
TEXTS = ["bet superb bon dot", "awful", "fit got bon"]


@pytest.fixture(scope="module", params=BACKBONES)
def folder(request, tmp_path_factory):
    """A tiny random backbone of two layers and tiny data."""
    folder = tmp_path_factory.mktemp("every")
    cls = ENCODERS[request.param.partition(",")[0]]
    write_backbone(folder / "backbone", encoder=cls, **BACKBONES[request.param])
    write_data(folder / "data")
    return folder


@pytest.fixture
def encoder(folder):
    return load_backbone(folder / "backbone").encoder


def theirs_of(folder):
    """transformers' model of the backbone in a folder."""
    return AutoModel.from_pretrained(folder, attn_implementation="eager").eval()


def tokens(encoder, lengths=(9, 30, 4)):
    """A padded batch, with segments where the encoder has them."""
    generator = torch.Generator().manual_seed(0)
    real = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.randint(5, encoder.config.vocab_size, real.shape, generator=generator)
    found = {"input_ids": ids, "attention_mask": real.long()}
    if hasattr(encoder.config, "type_vocab_size"):
        found["token_type_ids"] = torch.randint(2, real.shape, generator=generator)
    return found


def outputs(model, inputs):
    """What both libraries' models compute: hidden states at real tokens. In float64, where the
    route of a linear map makes no difference."""
    with torch.no_grad():
        states = copy.deepcopy(model).double()(**inputs).last_hidden_state
    return {"last": states[inputs["attention_mask"].bool()]}


def settings(folder, **changes):
    """A run with a pooling that every encoder has."""
    return config(folder, **{"pooling": "mean", **changes})


def parts_of(encoder):
    """Beginnings of parameters' names, a part each, from the heads down."""
    layers = [f"encoder.layers.{n}." for n in reversed(range(len(encoder.layers)))]
    return ["heads.", *TOP.get(encoder.name, []), *layers, "encoder.embeddings."]


def test_all_encoders_are_here():
    assert ENCODERS.keys() == {"bert", "convbert", "modernbert"}
    assert {name.partition(",")[0] for name in BACKBONES} == ENCODERS.keys()


def test_an_empty_encoder_draws_no_random_numbers(folder):
    before = torch.get_rng_state()
    empty = empty_encoder(folder / "backbone")
    assert torch.equal(torch.get_rng_state(), before)
    assert not empty.embeddings.word.weight.any()
    encoder = load_backbone(folder / "backbone").encoder
    shapes = {name: p.shape for name, p in encoder.named_parameters()}
    assert {name: p.shape for name, p in empty.named_parameters()} == shapes
    assert all(p.device.type == "cpu" and p.requires_grad for p in empty.parameters())
    ordinary = type(encoder)(encoder.config)  # random as ever, once the other is made
    assert ordinary.embeddings.word.weight.std() > 0.1


def test_roles_and_parts_name_all_that_is_there(encoder):
    found = {place.replace(".0.", ".{n}."): module for place, module in encoder.named_modules()}
    kinds = (nn.Linear, nn.Embedding)
    named = {place for place, m in found.items() if isinstance(m, kinds) and ".1." not in place}
    assert named <= encoder.ROLES.keys() <= encoder.config.HUB.keys.keys() and len(named) > 4
    for place in encoder.ROLES.keys() - named:
        assert type(found[place]).__name__ in ("GroupedLinear", "Identity"), place
    for place in named:
        assert select(encoder, [encoder.ROLES[place]]), place
    parts = [id(p) for _, module in encoder.depths() for p in module.parameters()]
    assert sorted(parts) == sorted(id(p) for p in encoder.parameters())


# Adapters

ADAPTERS = {
    "linear": LoRASettings(rank=3),
    "all": LoRASettings(rank=2, alpha=3.0, targets=("all",), dora=True, ranks={"query": 4}),
    "ia3": IA3Settings(),
}


@pytest.mark.parametrize("head_first", [True, False])
def test_a_tied_head_sees_the_adapter_of_the_embeddings(encoder, head_first):
    head = encoder.make_mlm_head() if head_first else None
    add_lora(encoder, LoRASettings(rank=2, targets=("all",)))
    fill(trained(encoder))
    head = (head or encoder.make_mlm_head()).eval()
    states = torch.randn(3, encoder.config.hidden_size)
    adapted_scores = head(states)
    word = encoder.embeddings.word
    word.adapter.A.grad = None
    adapted_scores.sum().backward()
    assert word.adapter.A.grad.abs().sum() > 0
    merge(encoder)
    torch.testing.assert_close(head(states), adapted_scores, **CLOSE)
    unmerge(encoder)
    use_adapter(encoder, None)
    assert not torch.allclose(head(states), adapted_scores, atol=1e-2)
    use_adapter(encoder, "default")
    merge_and_remove(encoder)
    torch.testing.assert_close(head(states), adapted_scores, **CLOSE)


@pytest.fixture(params=ADAPTERS)
def with_adapter(request, encoder):
    """The encoder with an adapter of random values."""
    chosen = ADAPTERS[request.param]
    if encoder.name == "modernbert" and request.param != "ia3":
        # Its pooler is no part of transformers' model without a head.
        roles = ("query_key_value", "attention_output", "feed_forward_inner", "feed_forward_outer")
        tables = ("embeddings",) if request.param == "all" else ()
        chosen = replace(chosen, targets=(*roles, *tables))
    grouped = not isinstance(encoder.layers[0].feed_forward.outer, nn.Linear)
    if request.param == "ia3" and grouped:
        with pytest.raises(ValueError, match=r"outer is a GroupedLinear, which this"):
            add_ia3(encoder, chosen)
        chosen = IA3Settings(input_targets=())
    (add_ia3 if request.param == "ia3" else add_lora)(encoder, chosen)
    fill(trained(encoder))
    return encoder


def test_peft_loads_adapters_that_we_write_and_back(folder, with_adapter, tmp_path):
    inputs, base = tokens(with_adapter), theirs_of(folder / "backbone")
    before, found = outputs(base, inputs), outputs(with_adapter, inputs)
    assert (found["last"] - before["last"]).abs().max() > 0.1, "the adapter does nothing"
    save_adapter(tmp_path / "ours", with_adapter)
    theirs = PeftModel.from_pretrained(base, tmp_path / "ours")
    assert_same(outputs(theirs, inputs), found, 1e-5)

    theirs.save_pretrained(tmp_path / "theirs")
    again = load_backbone(folder / "backbone").encoder
    load_adapter(tmp_path / "theirs", again)
    assert_same(outputs(again, inputs), found, 1e-5)


def test_linear_is_pefts_all_linear(folder, encoder, tmp_path):
    theirs = get_peft_model(
        theirs_of(folder / "backbone"), LoraConfig(r=3, target_modules="all-linear")
    )
    fill(trained(theirs))
    theirs.eval().save_pretrained(tmp_path)
    again = copy.deepcopy(encoder)
    load_adapter(tmp_path, encoder)
    assert_same(outputs(encoder, tokens(encoder)), outputs(theirs, tokens(encoder)), 1e-5)
    add_lora(again, LoRASettings())
    headless = encoder.name == "modernbert"  # its pooler is no part of the model without a head
    places = adapted(again).keys() - ({"pooler.dense"} if headless else set())
    assert adapted(encoder).keys() == places


def test_an_adapter_beside_a_head_is_named_as_in_a_classifier(encoder, folder, tmp_path):
    """As transformers' own names of a model with a head are, where the pooler may be outside."""
    add_lora(encoder, LoRASettings(rank=2))
    fill(trained(encoder))
    save_adapter(tmp_path, encoder, head={"classifier.weight": torch.ones(2, 16)})
    written = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))[
        "target_modules"
    ]
    reference = AutoModelForMaskedLM.from_pretrained(folder / "backbone")
    names = {name for name, _ in reference.named_modules()} | {"bert.pooler.dense"}
    assert set(written) <= names and len(written) == len(adapted(encoder))
    again = load_backbone(folder / "backbone").encoder
    assert load_adapter(tmp_path, again).keys() == {"classifier.weight"}
    inputs = tokens(encoder)
    assert_same(outputs(again, inputs), outputs(encoder, inputs), 0)


def test_peft_and_we_exchange_a_classifier_with_an_adapted_pooler(folder, encoder, tmp_path):
    if not encoder.has_pooler:
        pytest.skip("this encoder has no pooler")
    theirs = AutoModelForSequenceClassification.from_pretrained(folder / "backbone")
    (place,) = (n for n, _ in theirs.named_modules() if n.endswith(("pooler.dense", "head.dense")))
    settings = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=[place])
    peft = get_peft_model(theirs, settings).eval()
    fill(trained(peft))
    peft.save_pretrained(tmp_path / "theirs")
    head = load_adapter(tmp_path / "theirs", encoder)
    assert adapted(encoder).keys() == {"pooler.dense"} and len(head) == 2

    def logits(encoder, head):
        with torch.no_grad():
            return encoder(**tokens(encoder)).pooler_output @ head["classifier.weight"].T

    with torch.no_grad():
        wanted = peft(**tokens(encoder)).logits - head["classifier.bias"]
    torch.testing.assert_close(logits(encoder, head), wanted, **CLOSE)
    save_adapter(tmp_path / "ours", encoder, head=head)
    again = load_backbone(folder / "backbone").encoder
    torch.testing.assert_close(
        logits(again, load_adapter(tmp_path / "ours", again)), wanted, **CLOSE
    )


def test_merging_is_exact_and_exports_an_ordinary_backbone(folder, with_adapter, tmp_path):
    encoder, inputs = with_adapter.double(), tokens(with_adapter)
    separate = outputs(encoder, inputs)
    own = {name: p.clone() for name, p in encoder.named_parameters()}
    merge(encoder)
    assert_same(outputs(encoder, inputs), separate, 1e-12)
    unmerge(encoder)
    assert all(p.equal(own[name]) for name, p in encoder.named_parameters())
    merge_and_remove(encoder)
    save_pretrained(tmp_path, encoder, load_backbone(folder / "backbone").tokenizer)
    assert_same(outputs(theirs_of(tmp_path), inputs), separate, 1e-5)


@pytest.mark.parametrize("extension", [LoRA(targets=("query", "value")), IA3(input_targets=())])
def test_training_an_adapter_leaves_the_backbone_alone(folder, extension):
    trainer = make_trainer(settings(folder, tasks=("sst",), epochs=1, extensions=(extension,)))
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    trainer.fit()
    changed = {n for n, p in trainer.model.named_parameters() if not p.equal(before[n])}
    assert changed == trainer.parameters.keys()
    inside = {name for name in changed if not name.startswith("heads.")}
    assert inside and all(".adapters.default." in name for name in inside)


def test_bitfit_trains_every_bias(folder, encoder):
    chosen = settings(folder, extensions=(BitFit(),))
    biases = {name for name, _ in encoder.named_parameters() if name.endswith(".bias")}
    if not biases:
        assert encoder.name == "modernbert"
        with pytest.raises(ValueError, match="modernbert has no biases, so BitFit has nothing to "):
            MultitaskModel.from_config(chosen, encoder)
        return
    trainer = make_trainer(replace(chosen, tasks=("sst",), epochs=1))
    before = weights(trainer)
    trainer.fit()
    inside = {n for n in trainer.parameters if n.startswith("encoder.")}
    assert inside == {f"encoder.{name}" for name in biases}
    moved = {n for n in inside if not trainer.parameters[n].equal(before[n])}
    assert all("pooler" in name for name in inside - moved)


# Rates and unfreezing


@pytest.mark.parametrize("pretrains", [False, True], ids=["train", "pretrain"])
def test_rates_of_layers_are_those_of_a_hand_calculation(folder, pretrains):
    """Every parameter has that of its part; one that a head is tied to has its own part's."""
    make, change = (make_pretrainer, pretrain_config) if pretrains else (make_trainer, settings)
    trainer = make(change(folder, lr=0.01, extensions=(LayerLR(decay=0.5),)))
    found = {name: g["lr"] for g in trainer.optimizer.param_groups for name in g["names"]}
    assert found.keys() == dict(trainer.model.named_parameters()).keys()
    parts, seen = parts_of(trainer.model.encoder), set()
    for name, rate in found.items():
        (distance,) = (d for d, part in enumerate(parts) if name.startswith(part))
        assert rate == pytest.approx(0.01 * 0.5**distance, rel=1e-12), name
        seen.add(distance)
    assert seen == set(range(len(parts)))


@pytest.mark.parametrize("pretrains", [False, True], ids=["train", "pretrain"])
def test_one_more_part_learns_from_the_top_down(folder, encoder, monkeypatch, pretrains):
    pooling = "pooler" if encoder.has_pooler else "cls"
    parts = parts_of(encoder)
    make, change, changes = make_trainer, config, {"pooling": pooling, "tasks": ("sst",)}
    if pretrains:
        make, change, changes = make_pretrainer, pretrain_config, {}
    trainer = make(
        change(folder, epochs=len(parts), steps_per_epoch=1, warmup=0.0, schedule="constant",
               extensions=(Unfreeze(),), **changes)
    )  # fmt: skip
    moved, step = [], Trainer.step

    def watched(trainer):
        before = weights(trainer)
        step(trainer)
        names = [n for n, value in weights(trainer).items() if not value.equal(before[n])]
        moved.append({part for part in parts if any(name.startswith(part) for name in names)})

    monkeypatch.setattr(Trainer, "step", watched)
    trainer.fit()
    idle = {"encoder.pooler."} if pretrains and encoder.name == "bert" else set()
    assert moved == [set(parts[: n + 1]) - idle for n in range(len(parts))]


# Training


RUNS = {
    "packed": {"tasks": ("sst", "sts"), "encoder_dropout": 0.1},
    "padded": {"tasks": ("sst", "sts"), "layout": "padded", "gradient_checkpointing": True,
               "encoder_dropout": 0.1},
    "frozen": {"tasks": ("sst",), "frozen": True, "pair": "concat"},
}  # fmt: skip


@pytest.mark.parametrize("kind", RUNS)
def test_training_resumes_evaluates_and_exports(folder, tmp_path, kind, monkeypatch):
    dropped = {"head_dropout": 0.1, "epochs": 1, "save_every": 1}
    chosen = settings(folder, **RUNS[kind], **dropped, out=tmp_path / "alone")
    run = train(chosen, progress=False)
    before = load_backbone(folder / "backbone").encoder.state_dict()
    encoder = Predictor(run.folder).model.encoder
    assert any(not p.equal(before[n]) for n, p in encoder.named_parameters()) == (kind != "frozen")

    cut_short(monkeypatch, lambda: train(replace(chosen, out=tmp_path / "cut"), progress=False))
    resumed = resume(tmp_path / "cut", progress=False)
    assert without_seconds(resumed.metrics()) == without_seconds(run.metrics())
    (found, _), (wanted, _) = (load_checkpoint(one.last) for one in (resumed, run))
    assert_same(found, wanted, 0)
    assert contents(resumed.predictions) == contents(run.predictions)

    predictor = Predictor(run.folder)
    scores = predictor.evaluate("dev")["sst"].metrics
    assert scores == pytest.approx(run.record()["dev"]["sst"], rel=1e-5)
    assert len(predictor.predict("sst", TEXTS)) == len(TEXTS)
    save_pretrained(tmp_path / "saved", encoder, predictor.tokenizer)
    theirs, inputs = theirs_of(tmp_path / "saved"), tokens(encoder)
    assert_same(outputs(theirs, inputs), outputs(encoder, inputs), 1e-5)


def cut_short(monkeypatch, act, number=2):
    """Run something whose training fails at a step."""
    step = Trainer.step

    def cut(trainer):
        if trainer.progress.step == number:
            raise ConnectionError("cut")
        step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", cut)
        with pytest.raises(ConnectionError, match="cut"):
            act()


def calls_of(layer):
    """A list that grows by one with each call of a layer's attention."""
    calls = []
    layer.attention.register_forward_hook(lambda *_: calls.append(layer))
    return calls


@pytest.mark.parametrize("pretrains", [False, True], ids=["train", "pretrain"])
def test_layouts_and_gradient_checkpointing_train_the_same(folder, tmp_path, pretrains):
    """In float64; ConvBERT's convolutions do not see padding where it is batch-invariant."""
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "backbone" / "config.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    if "batch_invariant" in written:
        path.write_text(json.dumps({**written, "batch_invariant": True}), encoding="utf-8")
    make, change = (make_pretrainer, pretrain_config) if pretrains else (make_trainer, settings)
    found, counts = [], []
    for changes in ({}, {"layout": "padded"}, {"gradient_checkpointing": True}):
        chosen = change(tmp_path / "copy", lr=1e-3, epochs=1, tasks=("sst", "sts"), **changes)
        trainer = make(chosen, dtype=torch.float64)
        before, calls = weights(trainer), calls_of(trainer.model.encoder.layers[0])
        trainer.fit()
        found.append(weights(trainer))
        counts.append(len(calls))
    name = "encoder.embeddings.norm.weight"
    assert not found[0][name].equal(before[name])
    assert counts[0] == counts[1] < counts[2], "nothing is computed again"
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(other[name], value, **EXACT, msg=lambda m, n=name: n + m)


def test_it_learns(folder):
    chosen = settings(folder, tasks=("sst",), pooling="max", epochs=16)
    run = train(chosen, progress=False)
    losses = [line["loss"] for line in run.metrics() if "loss" in line]
    assert sum(losses[-3:]) / 3 < losses[0] / 2, losses


def test_embeddings_are_those_of_each_text_alone(folder):
    backbone, reference = load_backbone(folder / "backbone"), theirs_of(folder / "backbone")
    for pooling in POOLINGS:
        vectors = embed(backbone, TEXTS, pooling=pooling, normalize=False)
        for text, vector in zip(TEXTS, vectors, strict=True):
            ids = torch.tensor(backbone.tokenizer.encode([text]).input_ids)
            with torch.no_grad():
                last = reference(ids).last_hidden_state[0]
            want = {"cls": last[0], "mean": last.mean(0), "max": last.amax(0)}[pooling]
            torch.testing.assert_close(vector, want, **CLOSE)


# Pre-training


def assert_transformers_agrees(folder):
    """Outputs of the masked language model in a folder, by both libraries."""
    ours, reference = load_backbone(folder, mlm_head=True), AutoModelForMaskedLM
    reference, report = reference.from_pretrained(folder, output_loading_info=True)
    assert not any(report[k] for k in ("missing_keys", "mismatched_keys"))
    assert all("pooler" in name for name in report["unexpected_keys"])  # BERT's, with no use for it
    inputs = tokens(ours.encoder)
    with torch.no_grad():
        found = ours.mlm_head(ours.encoder(**inputs).last_hidden_state)
        wanted = reference.eval()(**inputs).logits
    real = inputs["attention_mask"].bool()
    assert_same({"logits": found[real]}, {"logits": wanted[real]}, 2e-5)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer(TEXTS)["input_ids"] == ours.tokenizer.encode(TEXTS).input_ids
    assert reference.config.pad_token_id == tokenizer.pad_token_id == ours.tokenizer.pad_id
    return reference


def test_further_pretraining_resumes_and_fine_tuning_starts_from_it(folder, tmp_path, monkeypatch):
    dropped = {"encoder_dropout": 0.1, "save_every": 1, "extensions": (LayerLR(decay=0.9),)}
    chosen = pretrain_config(folder, tmp_path / "mlm", **dropped)
    run = train(chosen, progress=False)
    cut_short(monkeypatch, lambda: train(replace(chosen, out=tmp_path / "cut"), progress=False))
    resumed = resume(tmp_path / "cut", progress=False)
    assert contents(resumed.backbone) == contents(run.backbone)
    assert_transformers_agrees(run.backbone)

    found = load_backbone(run.backbone).encoder
    before = load_backbone(folder / "backbone").encoder.state_dict()
    same = {n for n, p in found.named_parameters() if p.equal(before[n])}
    assert same == {n for n in before if "pooler" in n and found.name == "bert"}
    chosen = settings(folder, backbone=str(run.backbone), tasks=("sst",), epochs=1)
    encoder = make_trainer(chosen).model.encoder
    assert_same(dict(encoder.named_parameters()), dict(found.named_parameters()), 0)
    again = train(replace(chosen, out=tmp_path / "fine"), progress=False)
    assert again.record()["backbone"]["source"] == str(run.backbone)


@pytest.mark.parametrize("name", ENCODERS)
def test_from_scratch(tmp_path, name):
    """By the command, of the size that it has by default, and then fine-tuned."""
    data = write_data(tmp_path / "data")
    words = ["pretrain", "--from-scratch", name, "--tasks", "sst", "--data-dir", data, "--out",
             tmp_path / "run", "--vocab-size", "400", "--epochs", "1", "--steps-per-epoch", "1",
             "--device", "cpu"]  # fmt: skip
    parse([str(word) for word in words]).run()
    reference = assert_transformers_agrees(tmp_path / "run" / "backbone")
    backbone = load_backbone(tmp_path / "run" / "backbone")
    tokenizer, made = backbone.tokenizer, backbone.encoder.config
    assert made.vocab_size == reference.config.vocab_size == len(tokenizer) <= 400
    assert made == replace(
        ENCODERS[name].Config.of_size("mini"), vocab_size=len(tokenizer),
        **{f: getattr(made, f) for f in made.TOKEN_IDS},
    )  # fmt: skip
    if name == "modernbert":
        ids = [made.pad_token_id, made.cls_token_id, made.bos_token_id, made.sep_token_id,
               made.eos_token_id]  # fmt: skip
        assert ids == [tokenizer.pad_id, *[tokenizer.cls_id] * 2, *[tokenizer.sep_id] * 2]


@pytest.mark.parametrize("name", ENCODERS)
def test_sizes_that_the_help_names_are_there(name, capsys):
    config_class, other = ENCODERS[name].Config, {"bert": "medium", "convbert": "medium-small"}
    sizes = {"tiny", "mini", "small", "base", other.get(name, "large")}
    assert config_class.SIZES.keys() == sizes
    with pytest.raises(SystemExit):
        parse(["pretrain", "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert all(size in said for size in sizes)
    counts = {}
    for size in sizes:
        with torch.device("meta"):
            encoder = ENCODERS[name](config_class.of_size(size))
        counts[size] = sum(p.numel() for p in encoder.parameters())
    assert counts["tiny"] < counts["mini"] < counts["small"] < counts["base"]


# GLUE


@pytest.mark.parametrize("recipe", [None, *RECIPES])
def test_recipes_of_glue_accept_it(folder, encoder, tmp_path, recipe):
    methods = ("full", "lora") if recipe else ("full", "lora", "bitfit")
    made = 0
    for method in methods:
        command = RunGlue(
            data_dir=folder / "data", backbone=str(folder / "backbone"), out=tmp_path,
            tasks=("mrpc", "sst2"), recipe=recipe, method=method,
        )  # fmt: skip
        for chosen in command.configs():
            backbone = backbone_of(chosen)
            bitfit = any(isinstance(extension, BitFit) for extension in chosen.extensions)
            if bitfit and encoder.name == "modernbert":
                with pytest.raises(ValueError, match="use LoRA or IA3"):
                    MultitaskModel.from_config(chosen, backbone.encoder)
                continue
            model = MultitaskModel.from_config(chosen, backbone.encoder)
            assert any(p.requires_grad for p in model.encoder.parameters())
            made += 1
            if recipe is None and method == "full":
                plain = replace(RECIPES[encoder.name](chosen.tasks[0]), backbone=chosen.backbone)
                assert (chosen.pooling, chosen.lr) == (plain.pooling, plain.lr)
    assert made >= 4 - (encoder.name == "modernbert") * 2
