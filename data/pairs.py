"""Rows for contrastive stages: an anchor, its positive, and perhaps a negative, each a text.

Texts that mean the same form a group: those of equal tokens, and those that rows link. Quora's
questions come several times, each time with another duplicate; all of these are one group, and
within it no text may be another's negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from data.batching import Batch, BatchLayout, EncodedRows, Ragged, Rows
from data.schema import Example
from minbert.tokenization import Tokenizer


class PairRows(EncodedRows):
    """Rows of one text, which comes twice, of two, or of three; labels from 0 to 1, if any."""

    def __init__(
        self,
        examples: Sequence[Example],
        tokenizer: Tokenizer,
        *,
        max_length: int,
        layout: BatchLayout = "packed",
        alike: Sequence[bool] | None = None,
        tasks: Sequence[str] = (),
    ) -> None:
        """Tokenize examples; texts longer than `max_length` tokens are cut and counted.

        Args:
            examples: of as many texts each.
            tokenizer: for the texts.
            max_length: most tokens of a text.
            layout: of batches.
            alike: whether the first two texts of each row mean the same; by default all do.
            tasks: the task that each row comes from.
        """
        super().__init__(examples, tokenizer, pair="concat", max_length=max_length, layout=layout)
        self.is_twice = len(self._parts) == 1
        if self.is_twice:
            self._parts *= 2
            self.lengths = 2 * self.lengths
        self.alike = np.ones(len(examples), bool) if alike is None else np.asarray(alike, bool)
        self.tasks = np.asarray(tasks)
        self.texts = numbered(self._parts)  # (rows, C), C texts of a row
        self.groups = groups_of(self.texts, self.alike)  # (rows, C)

    def batch(self, rows: Rows, draw: int = 0) -> Batch:
        groups = torch.from_numpy(self.groups[np.asarray(rows)])  # (B, C)
        return replace(super().batch(rows, draw), groups=groups)


def numbered(parts: Sequence[Ragged]) -> np.ndarray:
    """A number for each text (rows, parts), the same for texts of equal tokens."""
    numbers: dict[bytes, int] = {}
    columns = [part.rows(part.input_ids, range(len(part.lengths))) for part in parts]
    return np.array(
        [[numbers.setdefault(ids.tobytes(), len(numbers)) for ids in column] for column in columns]
    ).T


def groups_of(texts: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """The number of each text's group, (rows, C).

    Args:
        texts: (rows, C) a number for each text.
        alike: (rows,) whether a row's first two texts are of one group.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second, size = texts[alike, 0], texts[alike, 1], texts.max() + 1
    links = coo_array((np.ones(len(first)), (first, second)), shape=(size, size))
    return connected_components(links, directed=False)[1].astype(np.int64)[texts]
