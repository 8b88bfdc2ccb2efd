"""Which rows of a training file are held out for development and test: a rule that depends on the
rows' texts and labels and on a seed, not on their order.

Rows with equal texts, whatever their case and spaces, stay in one part: otherwise a model is scored
on what it has learnt by heart. Each label has its share of each part.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from data.schema import Example, Split, Task

BANDS = 10
"""Into so many bands of equal width the range of a regression is cut, to be held out evenly."""


def parts_of(examples: Sequence[Example], task: Task) -> list[Split]:
    """The part of each row: train, dev or test.

    Raises:
        ValueError: a part would have no row.
    """
    wanted: dict[Split, float] = {split: task.held_out(split) for split in ("dev", "test")}
    seed = task.hold_out.seed if task.hold_out else 0
    together: dict[tuple[str, ...], list[int]] = {}
    for row, example in enumerate(examples):
        together.setdefault(same_text(example.texts), []).append(row)
    strata: dict[int, list[tuple[bytes, list[int]]]] = {}
    frequency = Counter(kind for example in examples for kind in _kinds(example, task))
    for key, rows in together.items():
        # Of several labels the rarest counts, which would else be missing somewhere.
        kinds = [kind for row in rows for kind in _kinds(examples[row], task)]
        kind = min(kinds, key=lambda kind: (frequency[kind], kind))
        digest = hashlib.sha256("\0".join((str(seed), *key)).encode()).digest()
        strata.setdefault(kind, []).append((digest, rows))

    parts: list[Split] = ["train"] * len(examples)
    due = dict.fromkeys(wanted, 0.0)  # rows still to take, so that roundings even out
    for kind in sorted(strata):
        groups = [rows for _, rows in sorted(strata[kind])]
        size = sum(map(len, groups))
        for split in wanted:
            due[split] += wanted[split] * size
            least = 1 if wanted[split] and len(groups) > 2 else 0  # a label is missing nowhere
            taken = 0
            while (
                wanted[split]
                and len(groups) > 1
                and (taken < least or due[split] >= len(groups[-1]) / 2)
            ):
                rows = groups.pop()
                for row in rows:
                    parts[row] = split
                due[split] -= len(rows)
                taken += 1
    for split in ("train", *(name for name, share in wanted.items() if share)):
        if split not in parts:
            raise ValueError(
                f"{len(examples)} rows with {len(together)} different texts are too few to hold "
                f"some out: none is left for {split}; give more rows, or files of their own"
            )
    return parts


def same_text(texts: tuple[str, ...]) -> tuple[str, ...]:
    """What rows of equal texts have in common: no case, no spaces more than one, and no order."""
    return tuple(sorted(" ".join(text.casefold().split()) for text in texts))


def _kinds(example: Example, task: Task) -> list[int]:
    """What a row counts as: its class, its labels, -1 for none of them, or the band of a number."""
    label = example.label
    if label is None:  # of kind pairs
        return [0]
    if isinstance(label, tuple):
        return [number for number, holds in enumerate(label) if holds] or [-1]
    if task.kind != "regression":
        return [int(label)]
    low, high = task.label_range
    return [min(int((label - low) / (high - low or 1) * BANDS), BANDS - 1)]
