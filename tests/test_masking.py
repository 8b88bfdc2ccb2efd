"""Masking: its statistics over many draws, its words, and that it depends on seed, draw and row."""

import numpy as np
import pytest
from scipy.stats import chisquare
from tokenizers import AddedToken

from data.batching import Ragged
from data.masking import MaskedRows, Masker
from minbert.tokenization import SPECIAL_TOKENS, Tokenizer
from minbert.vocabulary import learn_tokenizer

WORDS = [*SPECIAL_TOKENS, "un", "##break", "##able", "glass", "is", "not", ",", "##s", "vase", "it"]
DRAWS = 1500


@pytest.fixture(scope="module")
def wordpiece():
    return Tokenizer.from_tokens(WORDS)


@pytest.fixture(scope="module")
def bpe():
    def texts():
        return ["the unbreakable glass is not so unbreakable", "glass or not, it breaks"] * 3

    return learn_tokenizer("bpe", texts, vocab_size=290)


def draws(masker, ids, count=DRAWS):
    """What a row becomes over many draws: seen (draws, S) and chosen (draws, S)."""
    pairs = [masker(ids, np.random.default_rng((7, n))) for n in range(count)]
    return (np.stack(part) for part in zip(*pairs, strict=True))


def assert_share(found, expected):
    """A share of yes among independent draws is within 5 standard deviations of its probability."""
    deviation = (expected * (1 - expected) / found.size) ** 0.5
    assert abs(found.mean() - expected) <= 5 * deviation, (found.mean(), expected)


ROW = np.array([2, 8, 9, 10, 3, 5, 6, 7, 11, 1, 8, 4, 13, 3, 0, 0])
"""[CLS] glass is not [SEP] un ##break ##able , [UNK] glass [MASK] vase [SEP] [PAD] [PAD]"""
ORDINARY = np.array([1, 2, 3, 5, 6, 7, 8, 10, 12])


@pytest.mark.parametrize("shares", [(0.8, 0.1), (1.0, 0.0), (0.0, 1.0), (0.3, 0.3)])
@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("rate", [0.15, pytest.param(0.5, marks=pytest.mark.slow)])
def test_shares_over_many_draws(wordpiece, shares, whole_words, rate):
    mask_share, random_share = shares
    masker = Masker(
        wordpiece, rate=rate, mask_share=mask_share, random_share=random_share,
        whole_words=whole_words,
    )  # fmt: skip
    seen, chosen = draws(masker, ROW)
    for place in range(len(ROW)):
        if place in ORDINARY:
            assert_share(chosen[:, place], rate)
    special = np.setdiff1d(np.arange(len(ROW)), ORDINARY)
    assert not chosen[:, special].any()
    assert (seen[~chosen] == np.broadcast_to(ROW, seen.shape)[~chosen]).all()

    became, was = seen[chosen], np.broadcast_to(ROW, seen.shape)[chosen]
    drawn = 1 / (len(WORDS) - 5)  # a random token may be the one that it replaces
    assert_share(became == 4, mask_share)
    assert_share(became == was, 1 - mask_share - random_share + random_share * drawn)
    random = became[(became != 4) & (became != was)]
    assert not np.isin(random, range(5)).any()
    assert (random.size > 0) == (random_share > 0)


def test_random_tokens_are_drawn_evenly_from_those_that_are_not_special(wordpiece):
    masker = Masker(wordpiece, rate=1.0, mask_share=0.0, random_share=1.0)
    seen, _ = draws(masker, ROW)
    found = np.bincount(seen[:, ORDINARY].ravel(), minlength=len(WORDS))
    assert found[:5].sum() == 0
    assert chisquare(found[5:]).pvalue > 1e-4


def test_tokens_that_were_added_as_special_are_special():
    tokenizer = Tokenizer.from_tokens(WORDS)
    tokenizer.fast.add_tokens([AddedToken("[ENT]", special=True), AddedToken("[REL]")])
    ids = np.array(tokenizer.encode(["glass [ENT] is [REL] not"]).input_ids[0])
    assert len(WORDS) in ids and len(WORDS) + 1 in ids
    masker = Masker(tokenizer, rate=1.0, mask_share=0.0, random_share=1.0)
    seen, chosen = draws(masker, ids)
    assert (chosen == ~np.isin(ids, [tokenizer.cls_id, tokenizer.sep_id, len(WORDS)])).all()
    assert set(seen[chosen]) == {*range(5, len(WORDS)), len(WORDS) + 1}


def test_choice_and_fate_are_two_draws(wordpiece):
    """With one draw for both, all chosen tokens become [MASK] at 15 % and 80 %."""
    seen, chosen = draws(Masker(wordpiece), ROW)
    kept = (seen[chosen] != 4).mean()
    assert 0.15 < kept < 0.25


def test_words_of_wordpiece(wordpiece):
    words = Masker(wordpiece).words(ROW)
    assert words.tolist() == [0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 9, 10, 11, 12, 13]


def test_words_of_byte_level_bpe(bpe):
    ids = np.array(bpe.encode(["unbreakable glass, is not"], ["it"]).input_ids[0])
    tokens, words = bpe.tokens(ids.tolist()), Masker(bpe).words(ids)
    texts = {}
    for token, word in zip(tokens, words.tolist(), strict=True):
        texts[word] = texts.get(word, "") + token
    assert len(tokens) > len(texts)
    assert list(texts.values()) == [
        "[CLS]", "unbreakable", "Ġglass,", "Ġis", "Ġnot", "[SEP]", "it", "[SEP]"
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_a_whole_word_is_chosen_or_left(request, kind):
    tokenizer = request.getfixturevalue(kind)
    ids = np.array(tokenizer.encode(["unbreakable glass is unbreakable"]).input_ids[0])
    masker = Masker(tokenizer, whole_words=True)
    words = masker.words(ids)
    assert np.bincount(words).max() > 1
    _, chosen = draws(masker, ids, 500)
    for word in np.unique(words):
        of_word = chosen[:, words == word]
        assert (of_word.all(axis=1) == of_word.any(axis=1)).all()
    _, apart = draws(Masker(tokenizer), ids, 500)
    longest = apart[:, words == np.bincount(words).argmax()]
    assert (longest.all(axis=1) != longest.any(axis=1)).any()


# Rows as batches

ROWS = [ROW[:5], ROW[:14], ROW[[2, 2, 3]], ROW[5:10]]


def masked_rows(tokenizer, layout="packed", seed=(1, 3), **options):
    flat = np.concatenate(ROWS)
    tokens = Ragged(np.array([len(row) for row in ROWS]), flat, np.arange(len(flat)) % 2)
    masker = Masker(tokenizer, **{"rate": 0.5, **options})
    return MaskedRows(tokens, masker, seed=seed, pad_id=0, layout=layout)


def row_of(batch, place, layout):
    """Tokens that the model sees of one row of a batch, and which places are masked -> label."""
    masks = dict(zip(batch.masked.tolist(), batch.labels.tolist(), strict=True))
    if layout == "padded":
        width = batch.input_ids.shape[1]
        start, length = place * width, int(batch.layout.mask[place].sum())
    else:
        start, length = batch.layout.starts[place], int(batch.layout.lengths[place])
    flat = batch.input_ids.flatten()[int(start) : int(start) + length]
    return flat.tolist(), {k - int(start): v for k, v in masks.items() if 0 <= k - start < length}


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_masks_depend_on_seed_draw_and_row_alone(wordpiece, layout):
    source = masked_rows(wordpiece, layout)
    batches = {order: source.batch(list(order), draw=5) for order in [(0, 1, 2, 3), (3, 1), (1,)]}
    for order, batch in batches.items():
        assert batch.weight == len(batch.masked) == len(batch.labels)
        for place, row in enumerate(order):
            seen, labels = row_of(batch, place, layout)
            wanted = row_of(batches[0, 1, 2, 3], row, layout)
            assert (seen, labels) == wanted
            assert len(seen) == len(ROWS[row])
            for at, label in labels.items():
                assert label == ROWS[row][at]
            for at, token in enumerate(seen):
                assert at in labels or token == ROWS[row][at]
    others = [source.batch([1], draw=n).masked.tolist() for n in range(8)]
    assert len({tuple(masked) for masked in others}) > 4
    reseeded = masked_rows(wordpiece, layout, seed=(2, 3))
    assert reseeded.batch([1], draw=5).masked.tolist() != others[5]


def test_packed_and_padded_batches_say_the_same(wordpiece):
    packed, padded = (masked_rows(wordpiece, kind).batch([2, 1, 0], 4) for kind in
                      ("packed", "padded"))  # fmt: skip
    real = padded.layout.mask
    assert padded.input_ids[real].equal(packed.input_ids)
    assert padded.token_type_ids[real].equal(packed.token_type_ids)
    assert padded.labels.equal(packed.labels)
    for place in range(3):
        assert row_of(packed, place, "packed") == row_of(padded, place, "padded")


def test_a_row_may_have_no_masked_token(wordpiece):
    batch = masked_rows(wordpiece, rate=1e-9).batch([0, 1])
    assert batch.weight == 0 and batch.labels.shape == (0,)
