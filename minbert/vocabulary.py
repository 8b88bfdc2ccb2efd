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

from minbert.tokenization import SPECIAL_TOKENS, Tokenizer

Texts = Callable[[], Iterable[str]]
"""Called for each pass over the text, which may be larger than memory."""


def learn_tokenizer(
    kind: Literal["wordpiece", "bpe"], texts: Texts, *, vocab_size: int
) -> Tokenizer:
    """A tokenizer of at most `vocab_size` tokens; a short text gives fewer.

    Raises:
        ValueError: the characters of the text alone are more tokens than that.
    """
    tokenizer = {"wordpiece": _wordpiece, "bpe": _bpe}[kind](texts, vocab_size)
    if len(tokenizer) > vocab_size:
        raise ValueError(
            f"special tokens and single characters are {len(tokenizer)} tokens already, and "
            f"vocab_size is {vocab_size}; allow more"
        )
    return tokenizer


def _wordpiece(texts: Texts, vocab_size: int) -> Tokenizer:
    """Lower-cased WordPiece, `##` before what continues a word."""
    learner = BertWordPieceTokenizer(lowercase=True)
    # The library numbers characters in the order of a hash table, which changes from process to
    # process, and breaks ties between pairs by these numbers. Given as special tokens they stand
    # in our order: the commonest first.
    counts: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for text in texts():
        parts = learner.pre_tokenizer.pre_tokenize_str(learner.normalizer.normalize_str(text))
        words.update(word for word, _ in parts)
    for word, count in words.items():
        for place, letter in enumerate(word):
            counts[f"##{letter}" if place else letter] += count
    letters = sorted(counts, key=lambda letter: (-counts[letter], letter))
    learner.train_from_iterator(
        texts(),
        vocab_size=vocab_size,
        limit_alphabet=len(letters),  # by default some are left out, and ties go by the hash table
        special_tokens=[*SPECIAL_TOKENS, *letters],
        show_progress=False,
    )
    vocabulary = learner.get_vocab()
    return Tokenizer.from_tokens(sorted(vocabulary, key=vocabulary.__getitem__))


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
