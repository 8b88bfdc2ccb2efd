"""Embeddings equal those of sentence-transformers, in the texts' order."""

import json
import os
import shutil

import numpy as np
import pytest
import torch

from minbert import embed, load_backbone
from minbert.checks import InputWarning
from minbert.embedding import POOLINGS

TEXTS = [
    "A joy from start to end.",
    "The dog did not bark, and that was the curious incident, said Holmes.",
    "Ça va?",
    "No.",
    "word " * 300,
    "The dog did not bark.",
]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("minilm")


@pytest.fixture(scope="module")
def want(minilm_folder):
    """What sentence-transformers makes of the texts."""
    from sentence_transformers import SentenceTransformer  # here, for it takes seconds to import

    return torch.from_numpy(SentenceTransformer(str(minilm_folder), device="cpu").encode(TEXTS))


@pytest.mark.parametrize(
    "tokens",
    [pytest.param(1, marks=pytest.mark.slow), 40, pytest.param(4096, marks=pytest.mark.slow)],
)
def test_embeddings_equal_sentence_transformers(backbone, want, tokens):
    with pytest.warns(InputWarning, match="1 of 6 texts is longer than 256 tokens.*first is row 5"):
        found = embed(backbone, np.array(TEXTS), tokens=tokens)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param((None, None), marks=pytest.mark.slow),
        (20, None),
        pytest.param((None, 30), marks=pytest.mark.slow),
        (9000, 60),
        pytest.param((12, 1e30), marks=pytest.mark.slow),
    ],
)
def test_long_texts_are_cut_as_sentence_transformers_cuts_them(tmp_path, minilm_folder, limits):
    from sentence_transformers import SentenceTransformer

    for path in minilm_folder.iterdir():
        if path.is_file() and path.suffix != ".md":
            os.symlink(path, tmp_path / path.name)
    shutil.copytree(minilm_folder / "1_Pooling", tmp_path / "1_Pooling")
    for name, key, limit in zip(
        ("sentence_bert_config", "tokenizer_config"), ("max_seq_length", "model_max_length"), limits
    ):
        file = tmp_path / f"{name}.json"
        settings = json.loads(file.read_text(encoding="utf-8")) | {key: limit}
        file.unlink()
        file.write_text(
            json.dumps({k: v for k, v in settings.items() if v is not None}), encoding="utf-8"
        )
    backbone = load_backbone(tmp_path)
    wanted = {None: 512, 30: 30, 20: 20, 60: 512, 1e30: 12}
    assert (backbone.max_length or 512) == wanted[limits[0] if limits[0] == 20 else limits[1]]
    if limits[0] == 9000:
        return  # more than there are positions: sentence-transformers fails
    reference = SentenceTransformer(str(tmp_path), device="cpu")
    want = torch.from_numpy(reference.encode(["one " * 700, TEXTS[1] * 3, "two"]))
    with pytest.warns(InputWarning, match="3 texts .* longer than .* the first is row 1"):
        found = embed(backbone, ["one " * 700, TEXTS[1] * 3, "two"])
    torch.testing.assert_close(found, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_poolings_are_those_of_the_encoder(backbone, pooling):
    found = embed(backbone, TEXTS[:3], pooling=pooling, normalize=False)
    for text, vector in zip(TEXTS, found, strict=False):
        ids = torch.tensor(backbone.tokenizer.encode([text]).input_ids)
        with torch.no_grad():
            states = backbone.encoder(ids).last_hidden_state[0]  # (S, H)
        want = {"mean": states.mean(0), "cls": states[0], "max": states.amax(0)}[pooling]
        torch.testing.assert_close(vector, want, rtol=0, atol=1e-5)


def test_the_encoder_is_left_in_its_mode(backbone):
    backbone.encoder.train()
    first = embed(backbone, TEXTS[:2])
    assert backbone.encoder.training
    backbone.encoder.eval()
    assert first.equal(embed(backbone, TEXTS[:2])), "dropout was on"
    assert not backbone.encoder.training


def test_a_classifier_may_be_trained_on_embeddings(backbone):
    vectors = embed(backbone, TEXTS[:2])
    assert not vectors.requires_grad
    classifier = torch.nn.Linear(384, 1)
    classifier(vectors).sum().backward()
    torch.testing.assert_close(classifier.weight.grad[0], vectors.sum(0))


def test_the_encoder_is_left_in_its_mode_by_an_error_too(backbone, monkeypatch):
    def broken(output):
        raise RuntimeError("no memory")

    monkeypatch.setitem(POOLINGS, "mean", broken)
    backbone.encoder.train()
    with pytest.raises(RuntimeError, match="no memory"):
        embed(backbone, TEXTS[:1])
    assert backbone.encoder.training
    backbone.encoder.eval()


def test_no_texts_and_wrong_calls(backbone):
    assert embed(backbone, []).shape == (0, 384)
    with pytest.raises(ValueError, match="texts must be a list of texts, not one"):
        embed(backbone, "No.")
    with pytest.raises(ValueError, match="texts: row 2 is nan, and not a text"):
        embed(backbone, ["No.", float("nan")])
    with pytest.raises(
        ValueError, match="no pooling is called 'sum'; choose one of cls, mean, max"
    ):
        embed(backbone, ["No."], pooling="sum")
    for length in (0, 2):
        with pytest.raises(ValueError, match=f"max_length {length} leaves no room .* at least 3"):
            embed(backbone, ["No."], max_length=length)
