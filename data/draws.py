"""Which rows and which task come next: pure functions of the seed and a count.

Because nothing here has a state, a run that is resumed at step t draws what it would have drawn.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np


class BatchStream:
    """The endless sequence of one task's training batches, pass after pass over its rows.

    Every pass visits each row once, in a new order; its last batch may be smaller.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        *,
        seed: int,
        name: str,
        bucketed: bool,
    ) -> None:
        """Describe the stream.

        Args:
            lengths: tokens of each row.
            batch_size: rows in a batch.
            seed, name: the run's seed and the task's name; other names give other orders.
            bucketed: put rows of similar length into a batch, and shuffle the batches.
        """
        if batch_size < 1:
            raise ValueError(f"batch size must be at least 1, it is {batch_size}")
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._seed = (seed, zlib.crc32(name.encode()))
        self._bucketed = bucketed
        self._pass = -1
        self._batches: list[np.ndarray] = []

    @property
    def batches_per_pass(self) -> int:
        """Batches in one pass over the rows."""
        return -(-len(self._lengths) // self._batch_size)

    def __getitem__(self, index: int) -> np.ndarray:
        """Row numbers of batch `index`, counted from the first pass on."""
        number, offset = divmod(index, self.batches_per_pass)
        if number != self._pass:
            self._pass, self._batches = number, self._order(number)
        return self._batches[offset]

    def _order(self, number: int) -> list[np.ndarray]:
        """The batches of a pass, row numbers each, as a function of seed, name and `number` alone.

        Rows are shuffled and cut into batches. If bucketed, rows are sorted by length within each
        pool of 50 batches before they are cut, and then the batches are shuffled.
        """
        generator = np.random.default_rng((*self._seed, number))
        rows = generator.permutation(len(self._lengths))
        if not self._bucketed:
            return self._cut(rows)
        # In pools and not all at once, so that batches differ from pass to pass.
        pool = 50 * self._batch_size
        batches = []
        for start in range(0, len(rows), pool):
            part = rows[start : start + pool]
            part = part[np.argsort(self._lengths[part], kind="stable")]
            batches += self._cut(part)
        generator.shuffle(batches)
        return batches

    def _cut(self, rows: np.ndarray) -> list[np.ndarray]:
        """Rows in batches, in their order; the last may be smaller."""
        return [rows[i : i + self._batch_size] for i in range(0, len(rows), self._batch_size)]


def uniform_task(tasks: Sequence[str], *, seed: int, step: int) -> str:
    """The task of a step: each of them with probability 1 / len(tasks), drawn anew every step."""
    if len(tasks) == 1:
        return tasks[0]
    return tasks[int(np.random.default_rng((seed, 1, step)).integers(len(tasks)))]


def weighted_task(weights: Mapping[str, float], *, seed: int, step: int) -> str:
    """The task of a step: each of them with probability weight / sum of all, drawn anew."""
    names, shares = list(weights), np.asarray(list(weights.values()), dtype=float)
    generator = np.random.default_rng((seed, 1, step))
    return names[generator.choice(len(names), p=shares / shares.sum())]
