"""What is handed on answers alike in transformers, sentence-transformers and onnxruntime."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from helpers import config, write_backbone, write_data
from huggingface_hub import ModelCard
from torch.nn import functional as F

from data.tasks import get_task
from lab.__main__ import main
from minbert import embed, load_backbone
from minbert.encoders import encoder_class
from multitask import Predictor, train, training
from multitask.export.folders import export_run
from multitask.export.model_card import interval
from multitask.extensions.lora import LoRA
from multitask.metrics import METRICS
from multitask.runs.origin import backbone_of

KINDS = ("bert", "convbert", "modernbert")
TEXTS = ["good bat", "superb ten men bat got a lot of dat", "plain", "awful bin bit bon"]
PAIRS = list(zip(TEXTS, reversed(TEXTS)))
NEEDS_ONNX = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")),
    reason="needs the extra onnx",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """make(kind, **changes) -> a short run on an encoder of a kind; the same one once made."""
    home = tmp_path_factory.mktemp("exports")
    write_data(home / "data")
    runs = {}

    def make(kind, **changes):
        key = (kind, *map(str, changes.items()))
        if key not in runs:
            folder = home / kind
            if not folder.exists():
                sizes = {"local_attention": 6} if kind == "modernbert" else {}
                write_backbone(folder, encoder=encoder_class(kind), max_positions=64, **sizes)
            settings = config(home, **{"epochs": 1, "head_size": 256, **changes})
            settings = replace(settings, backbone=str(folder), max_length=40)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(training, "draw_run", lambda run: None)
                runs[key] = train(settings, progress=False)
        return runs[key]

    return make


def answers_of(run, task, rows):
    """Probabilities of each row, or a regression's numbers, each row for itself."""
    predictor = Predictor(run.folder, device="cpu")
    return [predictor.predict(task, [row])[0] for row in rows]


LINEAR = {"head": "linear", "tasks": ("sst", "cola", "sts")}


@pytest.mark.parametrize("task", LINEAR["tasks"])
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_answers_alike(made, tmp_path, kind, task):
    run = made(kind, **LINEAR)
    folder = export_run(run.folder, tmp_path / "made", task=task)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == 40
    record, predictor = get_task(task), Predictor(run.folder, device="cpu")
    names = record.classes or (task,)
    assert model.config.id2label == dict(enumerate(names))
    assert model.config.label2id == {name: n for n, name in enumerate(names)}
    kinds = {"sst": "single_label_classification", "sts": "regression"}
    assert model.config.problem_type == kinds.get(task, kinds["sst"])
    rows = PAIRS if record.is_pair else [(text,) for text in TEXTS]
    for row in rows:
        inputs = tokenizer(*row, return_tensors="pt", truncation=True)
        with torch.no_grad():
            expected = model(**inputs).logits
            batch = predictor.encoded([_example(row)], task).batch([0])
            features = predictor.model.features(batch, task)
            found = predictor.model.heads.logits(features, task)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def _example(row):
    from data.readers import Example

    return Example("0", tuple(row), None)


def test_the_pipeline_gives_names_and_probabilities(made, tmp_path):
    run = made("bert", **LINEAR)
    for task in LINEAR["tasks"]:
        pair = get_task(task).is_pair
        folder = export_run(run.folder, tmp_path / task, task=task)
        classify = transformers.pipeline("text-classification", model=str(folder))
        rows = PAIRS if pair else TEXTS
        given = [{"text": a, "text_pair": b} for a, b in PAIRS] if pair else TEXTS
        for found, expected in zip(classify(given), answers_of(run, task, rows), strict=True):
            if task == "sts":
                assert found["score"] == pytest.approx(expected.value, abs=1e-4)
            else:
                assert found["label"] == expected.label
                assert found["score"] == pytest.approx(expected.probability, abs=1e-5)


def test_adapters_are_merged(made, tmp_path):
    run = made("bert", **{**LINEAR, "encoder_dropout": 0.0}, extensions=(LoRA(rank=2),))
    folder = export_run(run.folder, tmp_path / "made", task="sst")
    classify = transformers.pipeline("text-classification", model=str(folder))
    for found, expected in zip(classify(TEXTS), answers_of(run, "sst", TEXTS), strict=True):
        assert found["score"] == pytest.approx(expected.probability, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_comes_back_to_training(made, tmp_path, kind):
    run = made(kind, **LINEAR)
    folder = export_run(run.folder, tmp_path / "made", task="cola")
    settings = config(tmp_path, head="linear", head_size=256, tasks=("cola",), keep_heads=True)
    settings = replace(settings, backbone=str(folder))
    start = training.make_model(settings, backbone_of(settings)).state_dict()
    trained = Predictor(run.folder, device="cpu").model.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in start.items())
    assert load_backbone(folder).classifier.labels == ("unacceptable", "acceptable")


# sentence-transformers


@pytest.mark.parametrize("pair", ["cosine", "concat"])
@pytest.mark.parametrize(
    "kind, pooling",
    [("bert", p) for p in ("pooler", "cls", "mean", "max")]
    + [("convbert", "mean"), ("modernbert", "cls")],
)
def test_sentence_transformers_vectors_are_equal(made, tmp_path, kind, pooling, pair):
    from sentence_transformers import SentenceTransformer

    run = made(kind, tasks=("sts", "sst"), pair=pair, pooling=pooling)
    folder = export_run(run.folder, tmp_path / "made", format="sentence-transformers")
    reference = SentenceTransformer(str(folder), device="cpu")
    assert reference.max_seq_length == 40
    found = torch.stack([reference.encode(text, convert_to_tensor=True) for text in TEXTS])
    predictor = Predictor(run.folder, device="cpu")
    with torch.no_grad():
        outputs = [
            predictor.model.encoder(torch.tensor(predictor.tokenizer.encode([text]).input_ids))
            for text in TEXTS
        ]
        vectors = torch.cat([predictor.model.pooling(output) for output in outputs])
    if pair == "cosine":
        vectors = F.normalize(vectors, dim=-1)
    torch.testing.assert_close(found, vectors, atol=1e-5, rtol=1e-4)
    names = [type(module).__name__ for module in reference]
    assert names == [
        "Transformer",
        "Pooling",
        *(["Dense"] if pooling == "pooler" else []),
        *(["Normalize"] if pair == "cosine" else []),
    ]
    if pooling != "pooler":
        backbone = load_backbone(folder)
        assert backbone.max_length == 40
        own = embed(backbone, TEXTS, pooling=pooling, normalize=pair == "cosine")
        torch.testing.assert_close(own, vectors, atol=1e-5, rtol=1e-4)


# onnxruntime


@NEEDS_ONNX
@pytest.mark.parametrize("head", ["linear", "shared"])
@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_answers_alike_at_any_size(made, tmp_path, kind, head):
    import onnxruntime

    pooling = {"pooling": "mean"} if head == "shared" else {}
    run = made(kind, tasks=LINEAR["tasks"], head=head, **pooling)
    predictor = Predictor(run.folder, device="cpu")
    model, draw = predictor.model, torch.Generator().manual_seed(1)
    for task in LINEAR["tasks"]:
        folder = export_run(run.folder, tmp_path / task, task=task, format="onnx")
        names = transformers.AutoConfig.from_pretrained(folder).id2label
        assert tuple(names.values()) == (get_task(task).classes or (task,))
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
        for rows, length in ((1, 2), (1, 3), (3, 7), (2, 40), (5, 64)):
            ids = torch.randint(5, 60, (rows, length), generator=draw)
            mask = torch.ones_like(ids)
            mask[-1, max(2, length - 4) :] = 0
            types = (torch.arange(length) > length // 2).long().expand(rows, length)
            given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
            wanted = [each.name for each in session.get_inputs()]
            assert len(wanted) == (2 if kind == "modernbert" else 3)
            (found,) = session.run(None, {name: given[name].numpy() for name in wanted})
            with torch.no_grad():
                pooled = model.pooling(model.encoder(ids, mask, types))
                if head == "linear":
                    expected = model.heads.logits(pooled, task)
                else:
                    expected = model.heads(pooled, task)
                    if task == "cola":
                        expected = expected.sigmoid()
                        found = torch.tensor(found).softmax(-1)[:, 1:].numpy()
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=1e-4)


@NEEDS_ONNX
def test_the_only_task_needs_no_name(made, tmp_path):
    run = made("bert", tasks=("cola",), head="linear")
    folder = export_run(run.folder, tmp_path / "made", format="onnx")
    assert (folder / "model.onnx").is_file() and (folder / "tokenizer.json").is_file()


# What cannot be had


@pytest.mark.parametrize(
    "changes, options, message",
    [
        ({}, {"task": "sst"}, "a layer that tasks share.*train with --head linear"),
        ({}, {"task": "cola"}, "was not trained on task 'cola'; it knows sst, sts"),
        ({"pair": "cosine"}, {"task": "sts"}, "compares two embeddings .*sentence-transformers"),
        ({"pair": "concat"}, {"task": "sts", "format": "onnx"}, "compares two embeddings"),
        ({}, {"format": "onnx"}, "name a task with --task: sst, sts"),
        ({}, {"format": "sentence-transformers"}, "sts has no embeddings that are compared"),
        (
            {"pair": "concat"},
            {"task": "sst", "format": "sentence-transformers"},
            "sst has no embeddings",
        ),
    ],
)
def test_what_a_format_has_not_is_said(made, tmp_path, changes, options, message):
    run = made("bert", **changes)
    with pytest.raises(ValueError, match=message):
        export_run(run.folder, tmp_path / "made", **options)
    assert not (tmp_path / "made").exists()


def test_modernberts_pooler_is_no_module_of_sentence_transformers(made, tmp_path):
    run = made("modernbert", tasks=("sts",), pair="cosine", pooling="pooler")
    with pytest.raises(ValueError, match="no module for the pooler of modernbert; train with"):
        export_run(run.folder, tmp_path / "made", format="sentence-transformers")


def test_a_model_is_not_replaced(made, tmp_path):
    run = made("bert", **LINEAR)
    export_run(run.folder, tmp_path / "made", task="sst")
    with pytest.raises(ValueError, match="holds a model or a run already; choose another"):
        export_run(run.folder, tmp_path / "made", task="sst")


def test_the_command(made, tmp_path, capsys, monkeypatch):
    run = made("bert", **LINEAR)
    words = ["minbert", "export", str(run.folder), str(tmp_path / "made"), "--task", "sst"]
    monkeypatch.setattr("sys.argv", words)
    main()
    assert capsys.readouterr().out.split() == [str(tmp_path / "made")]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "made")
    assert len(model.config.id2label) == 5


# The card


def test_a_card_is_drawn_from_the_record(made, tmp_path):
    run = made("bert", **LINEAR)
    folder = export_run(run.folder, tmp_path / "my-sst", task="sst")
    card, record = ModelCard.load(folder / "README.md"), run.record()
    found = card.data.to_dict()
    assert found["pipeline_tag"] == "text-classification"
    assert (found["language"], found["library_name"]) == ("en", "transformers")
    assert found["license"] == "other" and found["license_name"] == "terms-of-sst"
    assert found["metrics"] == ["accuracy", "f1"] and card.data.model_name == "my-sst"
    scores = {each.metric_name: each.metric_value for each in card.data.eval_results}
    assert scores == {
        name: round(record["dev"]["sst"][name], 4) for name in get_task("sst").metrics
    }
    for text in (
        "22 train, 15 dev, 7 test rows",
        f"| sst | accuracy | {record['dev']['sst']['accuracy']:.3f} |",
        "longer than 40 tokens",
        "Stanford Sentiment Treebank",
        "head 'linear'",
        "very negative, negative, neutral, positive, very positive",
        'pipeline("text-classification", model="my-sst")',
    ):
        assert text in card.text, text
    assert str(tmp_path) not in str(card) and str(run.folder.parent) not in str(card)


def test_a_card_of_an_encoder_names_all_tasks_and_one_of_samples_no_scores_of_them(made, tmp_path):
    run = made("bert")
    folder = export_run(run.folder, tmp_path / "made")
    card = ModelCard.load(folder / "README.md")
    assert card.data.pipeline_tag == "feature-extraction" and card.data.license is None
    assert {each.dataset_type for each in card.data.eval_results} == {"sst", "sts"}
    path = run.folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    try:
        path.write_text(json.dumps({**settings, "data_dir": None}), encoding="utf-8")
        folder = export_run(run.folder, tmp_path / "samples")
    finally:
        path.write_text(json.dumps(settings), encoding="utf-8")
    card = ModelCard.load(folder / "README.md")
    assert card.data.eval_results is None and "made up by a program" in card.text


def test_an_interval_holds_the_score_and_is_of_the_runs_own_answers(made):
    run = made("bert", **LINEAR)
    predictor = Predictor(run.folder, device="cpu")
    task = get_task("sst")
    low, high = interval(predictor, task, "accuracy")
    score = run.record()["dev"]["sst"]["accuracy"]
    assert low < score < high
    spread = (score * (1 - score) / 15) ** 0.5  # of a share of 15 rows
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.25)
    assert "accuracy" in METRICS and interval(predictor, task, "loss") is None
