"""Embeddings equal those of sentence-transformers, in the texts' order."""

import pytest
import torch

from minbert import embed, load_backbone
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


@pytest.mark.parametrize("tokens", [1, 40, 4096])
def test_embeddings_equal_sentence_transformers(backbone, minilm_folder, tokens):
    from sentence_transformers import SentenceTransformer  # here, for it takes seconds to import

    reference = SentenceTransformer(str(minilm_folder), device="cpu")
    reference.max_seq_length = 256
    want = torch.from_numpy(reference.encode(TEXTS))
    found = embed(backbone, TEXTS, max_length=256, tokens=tokens)
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
    with pytest.raises(ValueError, match=r"a sequence of texts, not one; pass \['No.'\]"):
        embed(backbone, "No.")
    with pytest.raises(
        ValueError, match="no pooling is called 'sum'; choose one of cls, mean, max"
    ):
        embed(backbone, ["No."], pooling="sum")
    for length in (0, 2):
        with pytest.raises(ValueError, match=f"max_length {length} leaves no room .* at least 3"):
            embed(backbone, ["No."], max_length=length)
