"""Tokenizers learnt from text, for an encoder that is made from scratch.

WordPiece (Wu et al., 2016, arXiv:1609.08144) as BERT has it, and byte-level BPE (Radford et al.,
2019) as ModernBERT has it. The same text gives the same tokenizer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal

from tokenizers import Tokenizer as FastTokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.implementations import BertWordPieceTokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from minbert.checks import warn
from minbert.tokenization import SPECIAL_TOKENS, Tokenizer

Texts = Callable[[], Iterable[str]]
"""Called for each pass over the text, which may be larger than memory."""


def learn_tokenizer(
    kind: Literal["wordpiece", "bpe"], texts: Texts, *, vocab_size: int
) -> Tokenizer:
    """A tokenizer of at most `vocab_size` tokens; a short text gives fewer.

    Where a text has more characters than WordPiece may have tokens, the rarest are left out, and
    words with them become [UNK]; a warning says how many. Bytes are all kept.

    Raises:
        ValueError: vocab_size has no room for a single character, or for the 256 bytes of BPE.
    """
    least = len(SPECIAL_TOKENS) + {"wordpiece": 1, "bpe": len(ByteLevel.alphabet())}[kind]
    if vocab_size < least:
        raise ValueError(
            f"special tokens and the fewest single characters are {least} tokens already, and "
            f"vocab_size is {vocab_size}; allow more"
        )
    return {"wordpiece": _wordpiece, "bpe": _bpe}[kind](texts, vocab_size)


def _wordpiece(texts: Texts, vocab_size: int) -> Tokenizer:
    """Lower-cased WordPiece, `##` before what continues a word."""
    learner, splitter = (BertWordPieceTokenizer(lowercase=True) for _ in range(2))
    # The library numbers characters in the order of a hash table, which changes from process to
    # process, and breaks ties between pairs by these numbers. Given as special tokens they stand
    # in our order: the commonest first.
    counts: Counter[str] = Counter()
    words: Counter[str] = Counter()

    def words_of(text: str) -> list[str]:
        # The learner itself is locked while it learns.
        parts = splitter.pre_tokenizer.pre_tokenize_str(splitter.normalizer.normalize_str(text))
        return [word for word, _ in parts]

    for text in texts():
        words.update(words_of(text))
    for word, count in words.items():
        for place, letter in enumerate(word):
            counts[f"##{letter}" if place else letter] += count
    letters = sorted(counts, key=lambda letter: (-counts[letter], letter))
    left_out = _left_out(counts, vocab_size - len(SPECIAL_TOKENS))
    read = texts()
    if left_out:
        letters = [letter for letter in letters if letter[-1] not in left_out]
        unknown = {word for word in words if not left_out.isdisjoint(word)}
        count, total = sum(words[word] for word in unknown), words.total()
        warn(
            f"vocab_size {vocab_size} has no room for the {len(left_out)} rarest characters of the "
            f"text: {count} of its {total} words ({count / total:.2%}) become [UNK]"
        )
        read = (" ".join(w for w in words_of(text) if w not in unknown) for text in texts())
    learner.train_from_iterator(
        iter(read),
        vocab_size=vocab_size,
        limit_alphabet=len(letters),  # by default some are left out, and ties go by the hash table
        special_tokens=[*SPECIAL_TOKENS, *letters],
        show_progress=False,
    )
    vocabulary = learner.get_vocab()
    return Tokenizer.from_tokens(sorted(vocabulary, key=vocabulary.__getitem__))


def _left_out(counts: Counter[str], room: int) -> set[str]:
    """The rarest characters, for which so many tokens have no room.

    Args:
        counts: of characters at the beginning of a word, and with `##` of those inside. The library
            makes two tokens of the latter, with `##` and without.
    """
    total: Counter[str] = Counter()
    for letter, count in counts.items():
        total[letter[-1]] += count
    characters = sorted(total, key=lambda character: (-total[character], character))
    for place, character in enumerate(characters):
        room -= 1 + (f"##{character}" in counts)
        if room < 0:
            return set(characters[place:])
    return set()


def _bpe(texts: Texts, vocab_size: int) -> Tokenizer:
    """Byte-level BPE, which writes a space before a word as `Ġ` and knows every character."""
    fast = FastTokenizer(BPE())
    fast.normalizer = NFC()
    fast.pre_tokenizer = ByteLevel(add_prefix_space=False)
    fast.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator(texts(), trainer)
    fast.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(name, fast.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return Tokenizer(fast, {"tokenizer_class": "PreTrainedTokenizerFast"})
