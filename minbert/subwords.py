"""What a tokenizer does to a word, by hand: WordPiece, and byte-pair encoding (BPE).

`minbert/tokenization.py` leaves this to the `tokenizers` library, which is quicker; here it is to
be read, and `minbert info --backbone minilm --text "..."` shows how a text is cut. Both have a
fixed vocabulary, and cut a word that is not in it into pieces that are:

    WordPiece   Wu et al. (2016), arXiv:1609.08144, section 4.1; BERT. Greedy: at each place the
                longest piece of the vocabulary. What continues a word is written with ## before it.
    BPE         Sennrich et al. (2016), arXiv:1508.07909, section 3.2; ModernBERT, on bytes. From
                single characters on, neighbours are merged in the order in which that was learnt.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Mapping
from itertools import pairwise

from tokenizers.models import BPE, WordPiece

from minbert.tokenization import Tokenizer

Pair = tuple[str, str]
"""Two symbols that stand side by side."""


def word_pieces(
    word: str, vocabulary: Container[str], *, unknown: str = "[UNK]", longest: int = 100
) -> list[str]:
    """The pieces of a word by WordPiece's greedy longest match, from left to right.

    Args:
        word: without white space; an empty one has no pieces.
        vocabulary: all pieces, those inside of a word with `##` before them.
        unknown: stands for the whole word where a part of it is in no piece.
        longest: a word of more characters is unknown.
    """
    if len(word) > longest:
        return [unknown]
    pieces: list[str] = []
    start = 0
    while start < len(word):
        prefix = "##" if start else ""
        ends = range(len(word), start, -1)  # the longest piece first
        end = next((end for end in ends if prefix + word[start:end] in vocabulary), None)
        if end is None:
            return [unknown]
        pieces.append(prefix + word[start:end])
        start = end
    return pieces


def pair_counts(words: Mapping[tuple[str, ...], int]) -> Counter[Pair]:
    """How often each pair of neighbours stands in a text; none spans two words.

    Args:
        words: the symbols of a word -> how often it stands in the text.
    """
    counts: Counter[Pair] = Counter()
    for symbols, count in words.items():
        for pair in pairwise(symbols):
            counts[pair] += count
    return counts


def merge_pair(symbols: list[str], pair: Pair) -> list[str]:
    """The symbols of a word with every occurrence of a pair made one symbol, from left to right.

    Where occurrences overlap the left one counts: a a a with the pair (a, a) is aa a.
    """
    merged: list[str] = []
    place = 0
    while place < len(symbols):
        width = 2 if tuple(symbols[place : place + 2]) == pair else 1
        merged.append("".join(symbols[place : place + width]))
        place += width
    return merged


def apply_merges(word: str, ranks: Mapping[Pair, int]) -> list[str]:
    """The symbols of a word by BPE: from its characters on, again and again that pair of neighbours
    is merged which was learnt first, until none of them was learnt.

    Args:
        word: its characters are all symbols.
        ranks: pair -> when it was learnt, from 0.
    """
    symbols = list(word)
    while learnt := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = merge_pair(symbols, min(learnt, key=ranks.__getitem__))
    return symbols


def learn_merges(words: Mapping[str, int], count: int) -> list[Pair]:
    """The merges that BPE learns from a text: each time the commonest pair of neighbours.

    Of several that are as common, it is the one whose symbols were there first, characters being in
    the order of their numbers, as in the `tokenizers` library.

    Args:
        words: word -> how often it stands in the text.
        count: how many merges; a short text gives fewer.
    """
    split = {tuple(word): number for word, number in words.items()}
    made = {letter: n for n, letter in enumerate(sorted({c for word in words for c in word}))}
    merges: list[Pair] = []
    while len(merges) < count and (counts := pair_counts(split)):
        pair = min(counts, key=lambda p: (-counts[p], made[p[0]], made[p[1]]))
        made.setdefault("".join(pair), len(made))
        merges.append(pair)
        split = {tuple(merge_pair([*symbols], pair)): n for symbols, n in split.items()}
    return merges


def cut_by_hand(tokenizer: Tokenizer, text: str) -> list[tuple[str, list[str]]]:
    """Each word of a text, and the pieces that it is cut into, without special tokens.

    The library normalises the text (in BERT: lower case, no accents) and splits it into words; a
    special token that is written in the text is text here.

    Raises:
        ValueError: the tokenizer is neither WordPiece nor BPE on bytes.
    """
    fast = tokenizer.fast
    normal = fast.normalizer.normalize_str(text) if fast.normalizer else text
    words = [word for word, _ in fast.pre_tokenizer.pre_tokenize_str(normal)]
    model = fast.model
    if isinstance(model, WordPiece):
        vocabulary = fast.get_vocab(with_added_tokens=False)
        limits = {"unknown": model.unk_token, "longest": model.max_input_chars_per_word}
        return [(word, word_pieces(word, vocabulary, **limits)) for word in words]
    if isinstance(model, BPE) and not (model.unk_token or model.ignore_merges):
        merges = json.loads(fast.to_str())["model"]["merges"]
        ranks = {(first, second): rank for rank, (first, second) in enumerate(merges)}
        return [(word, apply_merges(word, ranks)) for word in words]
    raise ValueError(
        f"by hand there are WordPiece and BPE on bytes, and this tokenizer is another kind of "
        f"{type(model).__name__}; use tokenizer.encode"
    )
