"""Contrastive stages: losses against sentence-transformers, cached gradients against one large
batch of transformers' BERT, and what the runs take, refuse and leave behind."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import FILLERS, config, contrast_config, make_contraster, tiny, write_backbone
from own_data import forget_own_tasks
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from torch.nn import functional as F
from transformers import BertModel

from data.pairs import PairRows
from data.readers import read_split
from data.schema import Example
from data.tasks import get_task
from minbert import ConvBert, ModernBert, Packed, load_backbone
from minbert.embedding import embed
from minbert.loading import hub_names
from multitask import ContrastConfig, Predictor, train
from multitask.contrastive import (
    ContrastiveLoss,
    alignment,
    cosent_loss,
    margin_loss,
    ranking_loss,
    uniformity,
)
from multitask.embedding_scores import nearest_accuracy
from multitask.export.folders import export_run
from multitask.extensions.bitfit import BitFit
from multitask.extensions.lora import LoRA
from multitask.extensions.sampling import Sampling
from multitask.extensions.unfreeze import Unfreeze
from multitask.heads import POOLINGS
from multitask.runs.origin import trained_backbone
from multitask.runs.run import Run

pytestmark = pytest.mark.usefixtures("no_figure")
EXACT = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(scope="module", autouse=True)
def registry():
    """Tests after these know the tasks that come along."""
    yield
    forget_own_tasks()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tiny(tmp_path_factory.mktemp("tiny"))
    write_backbone(folder / "convbert", encoder=ConvBert, embedding_size=12, num_groups=2)
    write_backbone(folder / "modernbert", encoder=ModernBert, local_attention=8)
    lines = [" ".join(FILLERS[(n * k) % len(FILLERS)] for k in range(1, 4 + n % 5))
             for n in range(1, 40)]  # fmt: skip
    (folder / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def embeddings(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


# The losses


def theirs(loss, vectors, labels=None):
    """A loss of sentence-transformers, of embeddings (N, C, H)."""
    return loss.compute_loss_from_embeddings(list(vectors.unbind(dim=1)), labels)


LOSSES = {
    "mnr": (2, {}, lambda: losses.MultipleNegativesRankingLoss(None)),
    "mnr, warmer": (2, {"temperature": 0.2},
                    lambda: losses.MultipleNegativesRankingLoss(None, scale=5.0)),
    "mnr with hard negatives": (3, {}, lambda: losses.MultipleNegativesRankingLoss(None)),
    "simcse": (2, {}, lambda: losses.MultipleNegativesRankingLoss(None)),
    "cosent": (2, {}, lambda: losses.CoSENTLoss(None)),
    "cosent, warmer": (2, {"temperature": 0.5}, lambda: losses.CoSENTLoss(None, scale=2.0)),
    "margin": (2, {}, lambda: losses.ContrastiveLoss(None)),
    "margin, wider": (2, {"margin": 1.3}, lambda: losses.ContrastiveLoss(None, margin=1.3)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:ContrastiveLoss expects binary labels")
@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_those_of_sentence_transformers(name):
    texts, settings, reference = LOSSES[name]
    kind = re.split(r"\W", name)[0]
    vectors = embeddings(7, texts, 5)
    labels = torch.tensor([0.0, 0.2, 0.2, 1.0, 0.6, 0.6, 0.9], dtype=torch.float64)
    groups = torch.arange(7).unsqueeze(1).repeat(1, texts)
    groups[:, 2:] += 100
    found = ContrastiveLoss(kind, **settings)(vectors, groups, labels)
    expected = theirs(reference(), vectors, labels)
    assert found > 0.05
    pairs = [torch.autograd.grad(loss, vectors)[0] for loss in (found, expected)]
    # sentence-transformers casts labels of the margin loss to float32
    close = {"rtol": 1e-6, "atol": 1e-8} if kind == "margin" else EXACT
    torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(*pairs, **close)


def test_texts_of_a_group_are_no_negatives_of_each_other():
    """The loss is that of each anchor with the candidates of other groups, written out."""
    anchors, candidates = embeddings(4, 6), embeddings(6, 6, seed=1)
    u, v = anchors.detach(), candidates.detach()
    of_anchors, of_candidates = torch.tensor([0, 1, 0, 2]), torch.tensor([0, 1, 0, 2, 1, 3])
    loss = ranking_loss(anchors, candidates, of_anchors, of_candidates, 0.1)
    found, expected = loss.item(), 0.0
    for i in range(4):
        scores = {j: float(F.cosine_similarity(u[i], v[j], dim=0)) / 0.1
                  for j in range(6) if j == i or of_candidates[j] != of_anchors[i]}  # fmt: skip
        expected -= math.log(math.exp(scores[i]) / sum(map(math.exp, scores.values()))) / 4
    assert found == pytest.approx(expected, rel=1e-10)
    (gradient,) = torch.autograd.grad(loss, candidates)
    assert gradient[5].abs().sum() > 0
    alone = ranking_loss(anchors[:1], candidates[:1], of_anchors[:1], of_candidates[:1])
    assert alone.item() == 0.0, "nothing to tell apart"
    assert not torch.autograd.grad(alone, anchors)[0].any()


def test_losses_of_rows_that_are_alike():
    cosines = torch.tensor([0.3, 0.9], dtype=torch.float64)
    assert float(cosent_loss(cosines, torch.tensor([0.5, 0.5]))) == 0.0
    assert float(cosent_loss(cosines, torch.tensor([1.0, 0.0]))) == pytest.approx(
        math.log1p(math.exp(0.6 / 0.05)), rel=1e-12
    )
    found = margin_loss(cosines, torch.tensor([0.25, 0.25], dtype=torch.float64), 0.5)
    expected = (0.25 * 0.7**2 + 0.25 * 0.1**2 + 0.75 * 0.4**2) / 4
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_alignment_and_uniformity_are_those_of_the_paper():
    """The code of Wang & Isola, section 4.1, with distances from torch.pdist."""
    u, v = F.normalize(embeddings(9, 4), dim=-1), F.normalize(embeddings(9, 4, seed=1), dim=-1)
    expected = (u - v).norm(dim=1).pow(2).mean()
    torch.testing.assert_close(alignment(3 * u, v), expected, **EXACT)
    many = torch.cat([F.normalize(embeddings(1100, 4, seed=2), dim=-1), u])
    expected = torch.pdist(many).pow(2).mul(-2).exp().mean().log()
    torch.testing.assert_close(uniformity(many * 2), expected, rtol=1e-9, atol=1e-9)
    assert float(uniformity(torch.ones(5, 3))) == pytest.approx(0, abs=1e-6)


# Rows


def rows_of(tokenizer, texts, **options):
    examples = [Example(str(n), text, None) for n, text in enumerate(texts)]
    return PairRows(examples, tokenizer, max_length=16, **options)


def test_groups_are_of_equal_tokens_and_of_linked_rows(folder):
    tokenizer = load_backbone(folder / "backbone").tokenizer
    a, b, c, d, e = FILLERS[:5]
    rows = rows_of(
        tokenizer, [(a, b), (b, c), (d, e), (d.upper(), a)], alike=[True, True, True, False]
    )
    g = rows.groups
    assert g[0, 0] == g[0, 1] == g[1, 0] == g[1, 1] == g[3, 1]
    assert g[2, 0] == g[2, 1] == g[3, 0] != g[0, 0]
    batch = rows.batch([3, 1])
    assert batch.groups.tolist() == g[[3, 1]].tolist()
    twice = rows_of(tokenizer, [(a,), (b,), (a,)])
    assert twice.is_twice and twice.groups.tolist() == [[0, 0], [1, 1], [0, 0]]
    assert twice.batch([1]).input_ids.tolist() == 2 * tokenizer.encode([b]).input_ids[0]
    with_negatives = rows_of(tokenizer, [(a, b, c), (d, e, a)])
    assert with_negatives.groups[0, 2] != with_negatives.groups[0, 0] == with_negatives.groups[1, 2]


@pytest.mark.parametrize("objective", ["mnr", "simcse", "cosent", "margin"])
def test_rows_that_an_objective_trains_on(folder, objective):
    tasks = ("sts", "para")
    trainer = make_contraster(contrast_config(folder, objective=objective, tasks=tasks))
    source = trainer.data["cosines"].train
    read = {t: read_split(get_task(t), "train", folder / "data").examples for t in tasks}
    if objective == "simcse":
        texts = {text for rows in read.values() for example in rows for text in example.texts}
        assert len(source.ids) == len(texts) and source.labels is None
        return
    if objective == "mnr":
        kept = [f"sts:{x.id}" for x in read["sts"] if x.label >= 2]
        kept += [f"para:{x.id}" for x in read["para"] if x.label == 1]
        assert list(source.ids) == kept and source.labels is None
        return
    labels = [x.label / 5 for x in read["sts"]] + [x.label for x in read["para"]]
    assert source.labels.tolist() == pytest.approx(labels)


# Cached gradients


def reference_gradients(folder, trainer, rows, objective):
    """Of transformers' BERT and sentence-transformers' loss on one large batch."""
    model = BertModel.from_pretrained(
        folder / "backbone", hidden_dropout_prob=0, attention_probs_dropout_prob=0
    ).double()
    batch = trainer.data["cosines"].train.batch(rows)
    ids = batch.layout.to_padded(batch.input_ids)
    mask = batch.layout.to_padded(torch.ones_like(batch.input_ids))
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    means = (states * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    vectors = torch.stack(means.chunk(2), dim=1)
    loss = losses.CoSENTLoss(None)
    if objective == "mnr":
        loss = losses.MultipleNegativesRankingLoss(None)
    value = theirs(loss, vectors, batch.labels)
    value.backward()
    return value, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("objective", ["mnr", "cosent"])
@pytest.mark.parametrize(
    "size, accumulate, checkpointing", [(3, 4, False), (3, 4, True), (12, 1, False)]
)
def test_a_step_has_the_gradient_of_one_large_batch(
    folder, objective, size, accumulate, checkpointing
):
    settings = contrast_config(folder, objective=objective, batch_size=size, accumulate=accumulate,
                               gradient_checkpointing=checkpointing)  # fmt: skip
    trainer = make_contraster(settings)
    trainer.model.train()
    (found,) = trainer.engine.backward(trainer._draw(["cosines"]))
    rows = trainer.engine.streams["cosines"][0]
    assert len(rows) == 12
    value, expected = reference_gradients(folder, trainer, rows, objective)
    torch.testing.assert_close(found.loss.double(), value, **EXACT)
    modules = torch.nn.ModuleDict({"encoder": trainer.model.encoder})
    compared = 0
    for ours, hub in hub_names(modules).items():
        gradient = modules.get_parameter(ours).grad
        if "pooler" in ours:
            assert gradient is None
            continue
        torch.testing.assert_close(gradient, expected[hub], rtol=1e-6, atol=1e-9)
        compared += 1
    assert compared > 25


@pytest.mark.parametrize("backbone", ["backbone", "convbert", "modernbert"])
def test_dropout_is_the_same_when_a_batch_comes_again(folder, backbone):
    """With dropout too, a step of cached gradients goes down the slope of the loss that it says."""
    settings = contrast_config(folder, backbone=str(folder / backbone), encoder_dropout=0.3,
                               objective="simcse", accumulate=3, layout="padded")  # fmt: skip
    trainer = make_contraster(settings)
    parameter = trainer.parameters["encoder.layers.1.attention.query.weight"] if (
        backbone == "backbone") else next(
            p for n, p in trainer.parameters.items() if "layers.1." in n and p.dim() == 2
        )  # fmt: skip
    trainer.model.train()

    def loss():
        torch.manual_seed(1)
        (found,) = trainer.engine.backward([("cosines", 0)])
        return float(found.loss)

    loss()
    direction = parameter.grad / parameter.grad.norm()
    slope, values = float((parameter.grad * direction).sum()), []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            parameter += step * direction
        values.append(loss())
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-4)


# Scores


def test_scores_are_those_of_scipy_and_of_embed(folder):
    run = train(contrast_config(folder, tasks=("sts", "para"), evaluate_first=True), progress=False)
    record = run.record()
    backbone = load_backbone(run.backbone)
    correlations, pairs = [], []
    for name, positive in (("sts", 2), ("para", 1)):
        rows = read_split(get_task(name), "dev", folder / "data").examples
        u, v = (embed(backbone, [x.texts[n] for x in rows]) for n in (0, 1))
        labels = np.array([x.label for x in rows])
        correlations.append(spearmanr(labels, (u * v).sum(dim=1).numpy()).statistic)
        pairs.append((u - v).norm(dim=1).pow(2)[torch.from_numpy(labels >= positive)])
    found = record["dev"]["cosines"]
    assert found["spearman"] == pytest.approx(np.mean(correlations), rel=1e-6)
    assert found["alignment"] == pytest.approx(float(torch.cat(pairs).mean()), rel=1e-5)
    assert record["before"]["cosines"].keys() == found.keys()
    assert record["before"]["cosines"]["uniformity"] != found["uniformity"]
    assert record["config"]["command"] == "contrast" and record["score"] == found["spearman"]


def test_accuracy_is_of_the_nearest_positive():
    anchors = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [1, 1]])
    positives = torch.tensor([[2.0, 0.1], [1, 0.9], [0, 1], [3, 3.1]])
    groups = torch.tensor([[0, 0], [1, 1], [2, 2], [1, 1]])
    # The second one's nearest is the third's; the last one's is its own; the third is furthest off.
    assert nearest_accuracy(anchors, positives, groups) == 0.5 + 0.25 * 1


# Runs


RUNS = {
    "mnr": ("backbone", {"tasks": ("para",)}),
    "simcse": ("convbert", {"tasks": ("sst",), "score_on": ("sts",), "objective": "simcse"}),
    "cosent": ("modernbert", {"objective": "cosent", "layout": "padded", "pooling": "cls"}),
    "LoRA": ("backbone", {"objective": "margin", "extensions": (LoRA(rank=2),)}),
    "LoRA, modernbert": ("modernbert", {"extensions": (LoRA(rank=2),)}),
    "bf16": ("modernbert", {"precision": "bf16", "accumulate": 2}),
    "bitfit": ("backbone", {"extensions": (BitFit(),), "pooling": "pooler"}),
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_stage_leaves_a_backbone_that_training_goes_on_from(folder, tmp_path, kind):
    encoder, changes = RUNS[kind]
    changes = {"backbone": str(folder / encoder), "epochs": 1, "lr": 1e-2, **changes}
    run = train(contrast_config(folder, tmp_path / "run", **changes), progress=False)
    before, after = (load_backbone(place).encoder for place in (folder / encoder, run.backbone))
    assert any(not p.equal(q) for p, q in zip(before.parameters(), after.parameters(), strict=True))
    tokens = torch.tensor([[2, 9, 10, 3]])
    merged = trained_backbone(run).encoder
    found, expected = (x.eval()(tokens).last_hidden_state for x in (after, merged))
    torch.testing.assert_close(found, expected)
    if kind == "LoRA":
        tuned = config(folder, tasks=("sts",), backbone=str(run.folder), pair="cosine",
                       pooling="mean", epochs=1, steps_per_epoch=1)  # fmt: skip
        assert train(tuned, progress=False).record()["steps"] == 1
    with pytest.raises(ValueError, match="is a contrastive run and answers no task; its backbone"):
        Predictor(run.folder)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_sentence_transformers_loads_what_a_stage_exports(folder, tmp_path, pooling):
    changes = {"pooling": pooling, "extensions": (LoRA(rank=2),), "epochs": 1, "lr": 1e-2}
    run = train(contrast_config(folder, tmp_path / "run", **changes), progress=False)
    made = export_run(run.folder, tmp_path / "made", format="sentence-transformers")
    texts = ["ban bet superb", "fit", "ban"]
    vectors = SentenceTransformer(str(made), device="cpu").encode(texts)
    backbone = load_backbone(run.backbone)
    tokens = backbone.tokenizer.encode(texts)
    layout = Packed([len(ids) for ids in tokens.input_ids])
    with torch.no_grad():
        output = backbone.encoder(torch.tensor(np.concatenate(tokens.input_ids)), layout=layout)
    expected = F.normalize(POOLINGS[pooling](output), dim=-1).numpy()
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-6)
    card = (made / "README.md").read_text(encoding="utf-8")
    assert "| uniformity |" in card and "rows of sts" in card
    with pytest.raises(ValueError, match="has embeddings and no head of a task; leave out --task"):
        export_run(run.folder, tmp_path / "graph", format="onnx")


def test_text_alone_is_scored_by_its_own_loss(folder):
    settings = contrast_config(folder, tasks=(), text=(folder / "text.txt",), hold_out=5,
                               objective="simcse", encoder_dropout=0.4)  # fmt: skip
    runs = [train(replace(settings, out=folder / f"text-{n}"), progress=False) for n in "ab"]
    records = [run.record() for run in runs]
    scores = records[0]["dev"]["neighbours"]
    assert scores == records[1]["dev"]["neighbours"] and records[0]["score"] == -scores["loss"]
    assert 0 < scores["accuracy"] <= 1 and scores["alignment"] > 0.01
    assert records[0]["rows"]["neighbours"] == {"train": 32, "dev": 7}


def test_a_file_of_pairs_with_hard_negatives(folder, tmp_path, command_line):
    lines = ["anchor,same,other"]
    lines += [",".join(FILLERS[(n + k) % len(FILLERS)] for k in (0, 1, 7)) for n in range(40)]
    (tmp_path / "nli.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "nli.toml").write_text(
        'name = "nli"\nkind = "pairs"\ntext = ["anchor", "same", "other"]\n[hold_out]\ndev = 0.2\n'
        '[[files]]\npath = "nli.csv"\nsplit = "train"\n', encoding="utf-8",
    )  # fmt: skip
    words = ["--task-file", tmp_path / "nli.toml", "--backbone", folder / "backbone"]
    code, out, err = command_line("contrast", *words, "--epochs", 1, "--encoder-dropout", 0,
                                  "--out", tmp_path / "run", "--device", "cpu")  # fmt: skip
    assert code == 0, err
    assert "neighbours  uniformity" in out and "accuracy" in out
    record = Run.open(tmp_path / "run").record()
    assert record["rows"]["neighbours"] == {"train": 32, "dev": 8}
    code, out, err = command_line("train", *words)
    assert code == 2 and "nli has pairs without labels; train on them with minbert contrast" in (
        " ".join((out + err).replace("│", "").split())
    )


REFUSED = [
    ({"tasks": ()}, "there is nothing to train on; name tasks of pairs"),
    ({"tasks": ("sst",)}, "sst has one text a row, and objective mnr compares two"),
    ({"tasks": ("rte",)}, "rte has classes entailment, not_entailment, and positive_class is None"),
    ({"tasks": (), "text": ("a.txt",)}, "objective mnr needs pairs, and text files have none"),
    ({"score_on": ("cola",)}, "cola has one text a row"),
    ({"objective": "simcse", "encoder_dropout": 0.0}, "encoder_dropout is 0, and dropout is all"),
    ({"objective": "margin", "temperature": 0.1}, "temperature is 0.1 and has no effect"),
    ({"margin": 0.3}, "margin is 0.3 and has no effect: it is for objective margin"),
    ({"temperature": 0.0}, "temperature must be finite and more than 0"),
    ({"positive_above": 4.0}, "positive_above is a share of the label's range, from 0 to 1"),
    ({"tasks": ("cosines",)}, "cosines is no task with labels; train it with minbert contrast"),
    ({"extensions": (Sampling(),)}, "sampling changes how the losses of tasks come about"),
    ({"extensions": (Unfreeze(),)}, "unfreeze changes how the losses of tasks come about"),
]


@pytest.mark.parametrize("changes, message", REFUSED, ids=[m[:40] for _, m in REFUSED])
def test_what_does_not_go_together_is_refused(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ContrastConfig(**{"tasks": ("sts",), **changes})


def test_rows_that_leave_nothing_are_refused(folder):
    with pytest.raises(ValueError, match="has no dropout, which is all that tells the two"):
        make_contraster(contrast_config(folder, objective="simcse", encoder_dropout=None,
                                        backbone=str(folder / "modernbert")))  # fmt: skip
    few = contrast_config(folder, tasks=(), text=(folder / "text.txt",), hold_out=39,
                          objective="simcse")  # fmt: skip
    with pytest.raises(ValueError, match="there are 1 development rows to compare; give more"):
        make_contraster(few)
