"""Masked language modelling: which tokens are hidden, and what the model sees in their place.

Devlin et al. (2019), arXiv:1810.04805, section 3.1: 15 % of the tokens are chosen, and of those
80 % become [MASK], 10 % a random token, and 10 % stay as they are. The model has to say what stood
at every chosen place. Masking is dynamic (Liu et al., 2019, arXiv:1907.11692): a row is masked anew
each time it comes, by a function of the seed, the draw and the row, so a run that is resumed masks
what it would have masked.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import overload

import numpy as np
from tokenizers.models import WordPiece

from data.batching import Batch, BatchLayout, Ragged, Rows, lay_out, layout_of
from minbert.tokenization import Tokenizer


class Masker:
    """Chooses and replaces tokens of a row."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        rate: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        whole_words: bool = False,
    ) -> None:
        """Describe the corruption.

        Args:
            tokenizer: says which tokens are special, and which begin a word.
            rate: probability of each token, or with `whole_words` of each word, to be chosen.
            mask_share: probability of a chosen token to become [MASK].
            random_share: of becoming a token drawn evenly from all that are not special; else the
                token stays.
            whole_words: choose all tokens of a word together.
        """
        self.rate, self.mask_share, self.random_share = rate, mask_share, random_share
        self.whole_words = whole_words
        self.mask_id = tokenizer.mask_id
        self.is_special = np.zeros(len(tokenizer), dtype=bool)
        self.is_special[_special_ids(tokenizer)] = True
        self.ordinary = np.flatnonzero(~self.is_special)
        self.begins_word = _begins_word(tokenizer)

    def __call__(
        self, input_ids: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the model sees of a row (S,), and which tokens were chosen (S,) bool."""
        units = self.words(input_ids) if self.whole_words else np.arange(len(input_ids))
        # The draw that chooses and the draw that decides what becomes of a token are two.
        choice, fate = generator.random((2, len(input_ids)))
        chosen = (choice[units] < self.rate) & ~self.is_special[input_ids]
        masked = chosen & (fate < self.mask_share)
        replaced = chosen & ~masked & (fate < self.mask_share + self.random_share)
        seen = np.where(masked, self.mask_id, input_ids)
        seen[replaced] = generator.choice(self.ordinary, size=replaced.sum())
        return seen, chosen

    def words(self, input_ids: np.ndarray) -> np.ndarray:
        """The number of each token's word in its row, from 0; a special token is its own word."""
        special = self.is_special[input_ids]
        begins = self.begins_word[input_ids] | special
        begins[1:] |= special[:-1]
        begins[:1] = True
        return begins.cumsum() - 1


class MaskedRows:
    """Rows of tokens as batches for the masked language model."""

    def __init__(
        self,
        tokens: Ragged,
        masker: Masker,
        *,
        seed: Sequence[int],
        pad_id: int,
        layout: BatchLayout = "packed",
    ) -> None:
        """Describe the rows; `seed` are numbers that fix all masks."""
        self.ids: Sequence[str] = _Numbers(len(tokens.lengths))
        self.labels = None  # they come with the masks
        self.lengths = tokens.lengths
        self.checksum = zlib.crc32(tokens.input_ids.data, zlib.crc32(tokens.lengths.data))
        self._tokens, self._masker, self._seed = tokens, masker, tuple(seed)
        self._pad_id, self._layout = pad_id, layout

    def batch(self, rows: Rows, draw: int = 0) -> Batch:
        originals = self._tokens.rows(self._tokens.input_ids, rows)
        types = self._tokens.rows(self._tokens.token_type_ids, rows)
        pairs = [
            self._masker(ids, np.random.default_rng((*self._seed, draw, row)))
            for ids, row in zip(originals, rows, strict=True)
        ]
        seen, chosen = zip(*pairs, strict=True)
        masked = lay_out(chosen, self._layout, fill=0).flatten().nonzero().squeeze(1)  # (M,)
        labels = lay_out(originals, self._layout, fill=self._pad_id).flatten()
        return Batch(
            ids=tuple(self.ids[row] for row in rows),
            labels=labels[masked],
            input_ids=lay_out(seen, self._layout, fill=self._pad_id),
            token_type_ids=lay_out(types, self._layout, fill=0),
            layout=layout_of(np.array([len(ids) for ids in originals]), self._layout),
            masked=masked,
        )


class _Numbers(Sequence[str]):
    """The names 0, 1, ...: rows of a text have no others, and there may be very many."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        found = range(self._count)[index]
        return str(found) if isinstance(found, int) else [str(number) for number in found]


def _special_ids(tokenizer: Tokenizer) -> list[int]:
    """BERT's own, and those that were added as special, such as a marker of entities."""
    added = tokenizer.fast.get_added_tokens_decoder()
    return [
        tokenizer.pad_id,
        tokenizer.unk_id,
        tokenizer.cls_id,
        tokenizer.sep_id,
        tokenizer.mask_id,
        *(n for n, token in added.items() if token.special),
    ]


def _begins_word(tokenizer: Tokenizer) -> np.ndarray:
    """(V,) bool. WordPiece marks what continues a word, with ##; byte-level BPE marks the space
    before a word, as Ġ, so that a word without a space before it continues the one before."""
    tokens = tokenizer.tokens(range(len(tokenizer)))
    model = tokenizer.fast.model
    if isinstance(model, WordPiece):
        continuing = model.continuing_subword_prefix
        return np.array([not token.startswith(continuing) for token in tokens])
    return np.array([token.startswith("Ġ") for token in tokens])
