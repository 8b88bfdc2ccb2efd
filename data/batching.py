"""Examples to token ids, and token ids to batches.

Example -> EncodedRows (token ids of a split) -> Batch (what the model takes)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from data.readers import Example
from minbert.attention import Layout, Packed, Padded
from minbert.tokenization import Encodings, Tokenizer

PairMode = Literal["cross", "concat", "cosine"]
"""cross: [CLS] a [SEP] b [SEP] in one sequence, which compares the texts word by word.
concat, cosine: each text in a sequence of its own, and their two embeddings are compared."""

BatchLayout = Literal["packed", "padded"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows for the model: their tokens, or their features where the encoder is frozen."""

    ids: tuple[str, ...]
    labels: Tensor | None
    """(B,) float, or None for rows without labels."""
    input_ids: Tensor | None = None
    token_type_ids: Tensor | None = None
    layout: Layout | None = None
    """Sequences of the batch: B of them, or for two embeddings 2 B, all first texts first."""
    features: Tensor | None = None
    """(B, F), in place of tokens."""

    @property
    def weight(self) -> int:
        """What the batch's summed loss is divided by to give its mean: its rows."""
        return len(self.ids)

    def to(self, device: torch.device) -> Batch:
        """This batch with its tensors on `device`."""
        names = ("labels", "input_ids", "token_type_ids", "layout", "features")
        values = {name: getattr(self, name) for name in names}
        return replace(self, **{k: v.to(device) for k, v in values.items() if v is not None})


class BatchSource(Protocol):
    """A split whose rows can be had as batches."""

    ids: tuple[str, ...]
    lengths: Sequence[int]
    """Cost of each row, in tokens."""

    def batch(self, rows: Sequence[int]) -> Batch:
        """The batch of these rows."""


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
        self.ids = tuple(example.id for example in examples)
        labels = [example.label for example in examples]
        self.labels = None if None in labels else torch.tensor(labels, dtype=torch.float32)
        firsts, *seconds = (list(texts) for texts in zip(*(e.texts for e in examples), strict=True))
        if seconds and pair == "cross":
            parts = [tokenizer.encode(firsts, seconds[0], max_length=max_length)]
        else:
            parts = [tokenizer.encode(t, max_length=max_length) for t in (firsts, *seconds)]
        self.truncated = sum(part.truncated for part in parts)
        self._parts = [_Ragged(part) for part in parts]
        self.lengths = sum(part.lengths for part in self._parts)
        self._layout = layout
        self._pad_id = tokenizer.pad_id

    def batch(self, rows: Sequence[int]) -> Batch:
        lengths = np.concatenate([part.lengths[rows] for part in self._parts])
        input_ids = [ids for part in self._parts for ids in part.rows(part.input_ids, rows)]
        types = [ids for part in self._parts for ids in part.rows(part.token_type_ids, rows)]
        if self._layout == "packed":
            layout: Layout = Packed(lengths.tolist())
            tokens = [torch.from_numpy(np.concatenate(ids)) for ids in (input_ids, types)]
        else:
            layout = Padded(torch.arange(lengths.max()) < torch.from_numpy(lengths).unsqueeze(1))
            tokens = [
                torch.from_numpy(_fill(input_ids, self._pad_id)),
                torch.from_numpy(_fill(types, 0)),
            ]
        return Batch(
            ids=tuple(self.ids[row] for row in rows),
            labels=None if self.labels is None else self.labels[torch.as_tensor(rows)],
            input_ids=tokens[0],
            token_type_ids=tokens[1],
            layout=layout,
        )


class FeatureRows:
    """The pooled features of a split, computed once: what a frozen encoder's heads train on."""

    def __init__(self, ids: tuple[str, ...], labels: Tensor | None, features: Tensor) -> None:
        self.ids = ids
        self.labels = labels
        self.features = features  # (rows, F)
        self.lengths = np.ones(len(ids), dtype=np.int64)

    def batch(self, rows: Sequence[int]) -> Batch:
        index = torch.as_tensor(rows)
        return Batch(
            ids=tuple(self.ids[row] for row in rows),
            labels=None if self.labels is None else self.labels[index],
            features=self.features[index],
        )


class _Ragged:
    """Rows of different lengths in one flat array."""

    def __init__(self, encodings: Encodings) -> None:
        self.lengths = np.array([len(ids) for ids in encodings.input_ids], dtype=np.int64)
        self.ends = self.lengths.cumsum()
        self.input_ids = np.concatenate(encodings.input_ids).astype(np.int64)
        self.token_type_ids = np.concatenate(encodings.token_type_ids).astype(np.int64)

    def rows(self, flat: np.ndarray, rows: Sequence[int]) -> list[np.ndarray]:
        return [flat[self.ends[row] - self.lengths[row] : self.ends[row]] for row in rows]


def _fill(rows: Sequence[np.ndarray], value: int) -> np.ndarray:
    """(B, S) from rows of different lengths."""
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return padded
