"""Examples to token ids, and token ids to batches.

Example -> EncodedRows (token ids of a split) -> Batch (what the model takes)
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from data.schema import Example
from minbert.layouts import Layout, Packed, Padded
from minbert.tokenization import Encodings, Tokenizer
from minbert.transfer import to_device

PairMode = Literal["cross", "concat", "cosine"]
"""cross: [CLS] a [SEP] b [SEP] in one sequence, which compares the texts word by word.
concat, cosine: each text in a sequence of its own, and their two embeddings are compared."""

BatchLayout = Literal["packed", "padded"]

Rows = Sequence[int] | np.ndarray
"""Numbers of rows."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows for the model: their tokens, or their features where the encoder is frozen."""

    ids: tuple[str, ...]
    labels: Tensor | None
    """(B,) float, or (B, K) of 0 and 1 where several may hold; None for rows without labels; ids
    (M,) of the tokens that were masked."""
    input_ids: Tensor | None = None
    token_type_ids: Tensor | None = None
    layout: Layout | None = None
    """Sequences of the batch: B of them, or for two embeddings 2 B, all first texts first."""
    features: Tensor | None = None
    """(B, F), in place of tokens."""
    masked: Tensor | None = None
    """(M,) for the masked language model: indices of the masked tokens among all of the batch."""
    groups: Tensor | None = None
    """(B, C) for contrastive stages: numbers of groups of texts that mean the same."""
    rows: Rows | None = None
    """(B,) the numbers of the rows in their split, where labels are the rows' own."""

    @property
    def weight(self) -> int:
        """What the batch's summed loss is divided by to give its mean: its rows, or its masked
        tokens."""
        return len(self.ids) if self.masked is None else len(self.masked)

    def to(self, device: torch.device) -> Batch:
        """This batch with its tensors on `device`."""
        values = {
            name: getattr(self, name)
            for name in ("labels", "input_ids", "token_type_ids", "features", "masked", "groups")
        }
        moved: dict[str, Any] = {
            name: to_device(x, device) for name, x in values.items() if x is not None
        }
        if self.layout is not None:
            moved["layout"] = self.layout.to(device)
        return replace(self, **moved)


class BatchSource(Protocol):
    """A split whose rows can be had as batches."""

    ids: Sequence[str]
    lengths: np.ndarray
    """Cost of each row, in tokens."""
    checksum: int
    """Of the rows: a run goes on with those it began with."""

    @property
    def labels(self) -> Tensor | None:
        """(rows,) or (rows, K), where they are the rows' own."""

    def batch(self, rows: Rows, draw: int = 0) -> Batch:
        """The batch of these rows.

        Where a row is drawn anew each time it comes (masking), it is a function of the row and of
        `draw`, the number of the optimizer step's draw.
        """


class EncodedRows:
    """The token ids of a split, row by row."""

    def __init__(
        self,
        examples: Sequence[Example],
        tokenizer: Tokenizer,
        *,
        pair: PairMode,
        max_length: int,
        layout: BatchLayout = "packed",
    ) -> None:
        """Tokenize examples; rows longer than `max_length` tokens are cut and counted."""
        self.ids: Sequence[str] = tuple(example.id for example in examples)
        labels = [example.label for example in examples]
        self.labels = None if None in labels else torch.tensor(labels, dtype=torch.float32)
        firsts, *seconds = (list(texts) for texts in zip(*(e.texts for e in examples), strict=True))
        if seconds and pair == "cross":
            parts = [tokenizer.encode(firsts, seconds[0], max_length=max_length)]
        else:
            parts = [tokenizer.encode(t, max_length=max_length) for t in (firsts, *seconds)]
        self.truncated = sum(part.truncated for part in parts)
        self.cut = sorted({row for part in parts for row in part.cut})
        self._parts = [Ragged.of(part) for part in parts]
        self.lengths = np.sum([part.lengths for part in self._parts], axis=0)
        self.checksum = self._checksum()
        self._layout = layout
        self._pad_id = tokenizer.pad_id

    def batch(self, rows: Rows, draw: int = 0) -> Batch:
        lengths = np.concatenate([part.lengths[rows] for part in self._parts])
        input_ids = [ids for part in self._parts for ids in part.rows(part.input_ids, rows)]
        types = [ids for part in self._parts for ids in part.rows(part.token_type_ids, rows)]
        return Batch(
            ids=tuple(self.ids[row] for row in rows),
            labels=None if self.labels is None else self.labels[torch.as_tensor(rows)],
            input_ids=lay_out(input_ids, self._layout, fill=self._pad_id),
            token_type_ids=lay_out(types, self._layout, fill=0),
            layout=layout_of(lengths, self._layout),
            rows=rows,
        )

    def _checksum(self) -> int:
        checksum = zlib.crc32("\n".join(self.ids).encode())
        for part in self._parts:
            for array in (part.lengths, part.input_ids, part.token_type_ids):
                checksum = zlib.crc32(array.data, checksum)
        return checksum if self.labels is None else zlib.crc32(self.labels.numpy().data, checksum)


class FeatureRows:
    """The pooled features of a split, computed once: what a frozen encoder's heads train on."""

    def __init__(self, rows: EncodedRows, features: Tensor) -> None:
        self.ids, self.labels, self.checksum = rows.ids, rows.labels, rows.checksum
        self.features = features  # (rows, F)
        self.lengths = np.ones(len(rows.ids), dtype=np.int64)

    def batch(self, rows: Rows, draw: int = 0) -> Batch:
        index = torch.as_tensor(rows)
        return Batch(
            ids=tuple(self.ids[row] for row in rows),
            labels=None if self.labels is None else self.labels[index],
            features=self.features[index],
            rows=rows,
        )


class Ragged:
    """Rows of different lengths in flat arrays, which may lie on disk."""

    def __init__(
        self, lengths: np.ndarray, input_ids: np.ndarray, token_type_ids: np.ndarray
    ) -> None:
        """Take rows that stand one after another.

        Args:
            lengths: (rows,) tokens of each row.
            input_ids, token_type_ids: (T,) of all rows, T the sum of lengths.
        """
        self.lengths = lengths
        self.ends = lengths.cumsum(dtype=np.int64)
        self.input_ids = input_ids
        self.token_type_ids = token_type_ids

    @classmethod
    def of(cls, encodings: Encodings) -> Ragged:
        """The rows that a tokenizer gave."""
        return cls(
            np.array([len(ids) for ids in encodings.input_ids], dtype=np.int64),
            np.concatenate(encodings.input_ids).astype(np.int64),
            np.concatenate(encodings.token_type_ids).astype(np.int64),
        )

    def rows(self, flat: np.ndarray, rows: Rows) -> list[np.ndarray]:
        """Some rows of one of the flat arrays."""
        return [flat[self.ends[row] - self.lengths[row] : self.ends[row]] for row in rows]


def layout_of(lengths: np.ndarray, kind: BatchLayout) -> Layout:
    """The layout of sequences of these lengths (B,), each at least 1; if padded, its mask (B, S) is
    1 at a row's own tokens, the first ones, and S is the longest row's length."""
    if kind == "packed":
        return Packed(lengths.tolist())
    return Padded(torch.arange(lengths.max()) < torch.from_numpy(lengths).unsqueeze(1))


def lay_out(rows: Sequence[np.ndarray], kind: BatchLayout, *, fill: int) -> Tensor:
    """Integers of each token of each row: (T,) packed, one row after another, or (B, S) padded with
    `fill` behind each row up to the longest; int64."""
    if kind == "packed":
        return torch.from_numpy(np.concatenate(rows).astype(np.int64))
    padded = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(padded)
