"""Tokenizers learnt from text: the same from the same text, and transformers agrees with them."""

import subprocess
import sys

import pytest
from transformers import AutoTokenizer

from minbert.checks import InputWarning
from minbert.tokenization import SPECIAL_TOKENS, Tokenizer
from minbert.vocabulary import learn_tokenizer

TEXTS = [
    "The café's waiter waited, and waited; the waiting guests were unwaited-for.",
    "Waiters wait. Guests guess! Café guests, waiting for café waiters?",
    "unguessed guesses guessed",
] * 3

SCRIPT = [f"{chr(n)}{chr(n + 1)}" for n in range(0x17000, 0x17000 + 1499)]
"""1,500 characters of Tangut, 2,999 tokens: all but one begin a word and continue another."""


def texts():
    return iter(TEXTS)


@pytest.mark.parametrize("kind, size", [("wordpiece", 70), ("bpe", 300)])
def test_a_learnt_tokenizer_knows_its_text_and_comes_back_from_its_folder(kind, size, tmp_path):
    tokenizer = learn_tokenizer(kind, texts, vocab_size=size)
    assert len(tokenizer) == size
    assert tokenizer.tokens(range(5)) == list(SPECIAL_TOKENS)
    assert (tokenizer.pad_id, tokenizer.mask_id) == (0, 4)
    single = tokenizer.encode(TEXTS).input_ids
    assert all(ids[0] == tokenizer.cls_id and ids[-1] == tokenizer.sep_id for ids in single)
    assert not any(tokenizer.unk_id in ids for ids in single)
    pieces = tokenizer.tokens(single[0])
    assert len(pieces) < len(TEXTS[0]) and any(len(piece) > 3 for piece in pieces[1:-1])
    pair = tokenizer.encode(["guest"], ["waiter"]).input_ids[0]
    assert pair.count(tokenizer.sep_id) == 2

    tokenizer.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    assert again.encode(TEXTS).input_ids == reference(TEXTS)["input_ids"] == single
    assert reference("guest", "waiter")["input_ids"] == pair


def test_byte_level_bpe_gives_back_any_text():
    tokenizer = learn_tokenizer("bpe", texts, vocab_size=300)
    for text in ("Café guests  wait", "日本 never seen \U0001f600", " [x] "):
        assert tokenizer.decode(tokenizer.encode([text]).input_ids[0]) == text


LEARNT = {
    "wordpiece": ("wordpiece", 70, TEXTS),
    "bpe": ("bpe", 300, TEXTS),
    "many characters": ("wordpiece", 3010, SCRIPT),
}


@pytest.fixture(scope="module")
def elsewhere():
    """The tokens of each, from three processes: a line for each, three times."""
    code = (
        "from minbert.vocabulary import learn_tokenizer\n"
        f"for kind, size, texts in {[*LEARNT.values()]!a}:\n"
        "    tokenizer = learn_tokenizer(kind, lambda: texts, vocab_size=size)\n"
        "    print(ascii(tokenizer.tokens(range(len(tokenizer)))))"
    )
    run = [subprocess.check_output([sys.executable, "-c", code]) for _ in range(3)]
    return dict(zip(LEARNT, zip(*(each.splitlines() for each in run), strict=True), strict=True))


@pytest.mark.parametrize("name", LEARNT)
def test_the_same_text_gives_the_same_tokenizer_in_every_process(elsewhere, name):
    """The library's own WordPiece learner differs from process to process."""
    kind, size, texts = LEARNT[name]
    tokenizer = learn_tokenizer(kind, lambda: texts, vocab_size=size)
    assert {*elsewhere[name]} == {ascii(tokenizer.tokens(range(len(tokenizer)))).encode()}


def test_every_character_of_the_text_is_known_however_many_there_are():
    tokenizer = learn_tokenizer("wordpiece", lambda: SCRIPT, vocab_size=4000)
    assert not any(tokenizer.unk_id in ids for ids in tokenizer.encode(SCRIPT).input_ids)
    with pytest.warns(InputWarning, match="has no room for the 3 rarest .* of its .* become"):
        learn_tokenizer("wordpiece", lambda: SCRIPT, vocab_size=3000)


def test_the_rarest_characters_become_unknown_where_there_is_no_room_for_all():
    lines = ["abba abc bac cab", "abba z", "xq cab"] * 3
    with pytest.warns(InputWarning, match=r"3 rarest characters of the text: 6 of its 24 words"):
        tokenizer = learn_tokenizer("wordpiece", lambda: lines, vocab_size=12)
    assert len(tokenizer) == 12
    for line in lines:
        for word in line.split():
            ids = tokenizer.encode([word]).input_ids[0]
            assert (tokenizer.unk_id in ids) == (not set("zxq").isdisjoint(word)), word


@pytest.mark.parametrize("kind, least", [("wordpiece", 6), ("bpe", 261)])
def test_a_vocabulary_that_cannot_hold_a_character_or_all_bytes_is_refused(kind, least):
    with pytest.raises(ValueError, match=rf"are {least} tokens already, and vocab_size is 5; "):
        learn_tokenizer(kind, texts, vocab_size=5)
