"""WordPiece and BPE by hand against the `tokenizers` library, on real words and on random ones."""

import random
from collections import Counter

import pytest
from helpers import write_backbone
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.trainers import BpeTrainer

from data.readers import SAMPLES, read_split
from data.tasks import get_task
from minbert import Bert, ModernBert
from minbert.subwords import apply_merges, cut_by_hand, learn_merges, merge_pair, word_pieces
from minbert.tokenization import Tokenizer
from minbert.vocabulary import learn_tokenizer
from multitask.commands.describe import describe_cut

LETTERS = "abcé中🙂"


def random_words(seed, letters, count, longest=14):
    source = random.Random(seed)
    return ["".join(source.choices(letters, k=source.randint(1, longest))) for _ in range(count)]


@pytest.fixture(scope="module")
def texts():
    tasks = [get_task(name) for name in ("sst", "para", "sts", "cola")]
    rows = [row for task in tasks for row in read_split(task, "dev", SAMPLES).examples]
    return [text for row in rows for text in row.texts]


@pytest.mark.parametrize("seed", range(20))
def test_random_words_are_cut_as_the_library_cuts_them(seed):
    """Vocabularies of few pieces, so that some words have no way, and some are dead ends."""
    starts, insides = random_words(seed, LETTERS, 30, 4), random_words(-seed - 1, LETTERS, 30, 4)
    letters = [f"##{letter}" for letter in LETTERS[:-1]]
    tokens = dict.fromkeys(["[UNK]", *starts, *letters, *(f"##{piece}" for piece in insides)])
    vocabulary = {token: number for number, token in enumerate(tokens)}
    model = WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=9)
    found = Counter()
    for word in random_words(seed, LETTERS, 200):
        expected = [token.value for token in model.tokenize(word)]
        assert word_pieces(word, vocabulary, longest=9) == expected
        found[len(expected) > 1, "[UNK]" in expected] += 1
    assert all(found[kind] for kind in [(True, False), (False, True)])
    assert (True, True) not in found and word_pieces("", vocabulary) == []


@pytest.mark.parametrize("letters", ["a", "ab", "abcdé🙂"])
@pytest.mark.parametrize("seed", range(8))
def test_merges_are_learnt_and_applied_as_the_library_does(seed, letters):
    """Words of one letter have nothing but overlaps, and those of few have many ties."""
    words = Counter(random_words(seed, letters, 60))
    fast = FastTokenizer(BPE())
    trainer = BpeTrainer(vocab_size=60, show_progress=False)
    fast.train_from_iterator(words.elements(), trainer)
    expected = fast.get_vocab_size() - len({letter for word in words for letter in word})
    merges = learn_merges(words, expected)
    model = BPE(vocab=fast.get_vocab(), merges=merges)
    assert len(merges) == expected and ["".join(pair) for pair in merges] == [
        fast.id_to_token(fast.get_vocab_size() - expected + n) for n in range(expected)
    ]
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    for word in random_words(seed + 100, letters, 100, 30):
        cut = [token.value for token in model.tokenize(word)]
        if set(word) <= set("".join(words)):
            assert apply_merges(word, ranks) == cut
    assert apply_merges("", ranks) == []


def test_few_words_have_few_merges_and_overlaps_are_merged_from_the_left():
    assert learn_merges({"a": 7, "": 3}, 5) == []
    assert learn_merges({"aaa": 1}, 9) == [("a", "a"), ("aa", "a")]
    assert merge_pair(["a", "a", "a"], ("a", "a")) == ["aa", "a"]
    # Sennrich et al. (2016), algorithm 1: "est·" and "low" are the paper's first whole symbols
    words = {"low·": 5, "lower·": 2, "newest·": 6, "widest·": 3}
    merges = learn_merges(words, 5)
    assert merges[0] == ("e", "s") and {"".join(pair) for pair in merges} >= {"est·", "low"}


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_texts_are_cut_as_the_tokenizer_cuts_them(kind, texts):
    """A vocabulary too small for its text cuts most words, and leaves some unknown."""
    tokenizer = learn_tokenizer(kind, lambda: texts[::2], vocab_size=400)
    for text in [*texts[::4], "Café, naïve 東京 🙂", "x" * 101, "  two  spaces ", ""]:
        pieces = [piece for _, cut in cut_by_hand(tokenizer, text) for piece in cut]
        assert pieces == tokenizer.tokens(tokenizer.encode([text]).input_ids[0])[1:-1], text


def test_another_kind_of_tokenizer_is_named():
    tokenizer = learn_tokenizer("bpe", lambda: 9 * ["me me"], vocab_size=262)
    assert cut_by_hand(tokenizer, "me") == [("me", ["me"])]
    tokenizer.fast.model.ignore_merges = True
    with pytest.raises(ValueError, match=r"another kind of BPE; use tokenizer\.encode"):
        cut_by_hand(tokenizer, "me")


@pytest.mark.parametrize("encoder", [Bert, ModernBert])
def test_info_shows_words_pieces_and_ids(encoder, tmp_path):
    write_backbone(tmp_path, encoder=encoder)
    tokenizer = Tokenizer.from_folder(tmp_path)
    lines = describe_cut(str(tmp_path), "The unlikely cat").splitlines()
    cells = [line.split() for line in lines[2:-1]]
    (ids,) = tokenizer.encode(["The unlikely cat"]).input_ids
    numbers = [int(cell) for row in cells for cell in row if cell.isdecimal()]
    assert numbers == ids[1:-1] and lines[-1] == f"3 words, {len(numbers)} tokens"
    assert [row[0] for row in cells] == [
        word for word, _ in cut_by_hand(tokenizer, "The unlikely cat")
    ]
