"""Part 5, batches: right answers row by row, and mistakes."""

from __future__ import annotations

import numpy as np
import torch

from lab.answers import mistake, right

# Layout


def laid(lengths, kind, real=lambda place, length: place < length):
    from minbert.layouts import Packed, Padded

    if kind == "packed":
        return Packed([int(length) for length in lengths])
    longest = int(max(lengths))
    return Padded(torch.tensor([[real(n, int(m)) for n in range(longest)] for m in lengths]))


@right("batch", of="layout_of")
def layout_of(lengths, kind):
    return laid(lengths, kind)


@mistake("batch", "padding is marked as real: the mask is 1 at a row's own tokens", of="layout_of")
def all_real(lengths, kind):
    return laid(lengths, kind, lambda place, length: True)


@mistake("batch", "the mask has one token too many in each row: places begin at 0", of="layout_of")
def one_too_many(lengths, kind):
    return laid(lengths, kind, lambda place, length: place <= length)


@mistake("batch", "the mask has its tokens at the end of a row; padding is behind", of="layout_of")
def mask_at_the_end(lengths, kind):
    longest = int(max(lengths))
    return laid(lengths, kind, lambda place, length: place >= longest - length)


@mistake("batch", "`kind` is not looked at: the layout is always padded", of="layout_of")
def always_padded(lengths, kind):
    return laid(lengths, "padded")


@mistake("batch", "`kind` is not looked at: the layout is always packed", of="layout_of")
def always_packed(lengths, kind):
    return laid(lengths, "packed")


# Tokens


def lines(rows, kind, fill, *, longest=max, front=False, dtype=torch.int64):
    if kind == "packed":
        return torch.tensor([int(token) for row in rows for token in row], dtype=dtype)
    size = longest(len(row) for row in rows)
    made = []
    for row in rows:
        own = [int(token) for token in row][:size]
        more = [fill] * (size - len(own))
        made.append(more + own if front else own + more)
    return torch.tensor(made, dtype=dtype)


@right("batch", of="lay_out")
def lay_out(rows, kind, *, fill):
    return lines(rows, kind, fill)


@mistake("batch", "padding stands before the tokens; it should be behind them", of="lay_out")
def padding_in_front(rows, kind, *, fill):
    return lines(rows, kind, fill, front=True)


@mistake("batch", "padding is always 0; it should be `fill`", of="lay_out")
def filled_with_zero(rows, kind, *, fill):
    return lines(rows, kind, 0)


@mistake("batch", "rows are cut to the shortest; they are filled up to the longest", of="lay_out")
def cut_to_the_shortest(rows, kind, *, fill):
    return lines(rows, kind, fill, longest=min)


@mistake("batch", "ids are int32; it should be int64", of="lay_out")
def in_int32(rows, kind, *, fill):
    return lines(rows, kind, fill, dtype=torch.int32)


@mistake("batch", "ids are floating point numbers; they should be int64", of="lay_out")
def in_float(rows, kind, *, fill):
    return lines(rows, kind, fill, dtype=torch.float32)


@mistake("batch", "packed rows are padded too; they stand one after another, (T,)", of="lay_out")
def packed_with_padding(rows, kind, *, fill):
    return lines(rows, "padded", fill).flatten() if kind == "packed" else lines(rows, kind, fill)


# Buckets


def ordered(
    self, number, *, bucketed=None, pool=50, shuffled=True, permuted=True, last=True, seed=None,
    inner=False,
):  # fmt: skip
    """BatchStream._order with its parts open to change."""
    generator = np.random.default_rng((*self._seed, number) if seed is None else seed)
    size, count = self._batch_size, len(self._lengths)
    rows = generator.permutation(count) if permuted else np.arange(count)
    batches = []
    pooled = (self._bucketed if bucketed is None else bucketed) and pool
    step = (pool * size if pool else count) if pooled else count
    for start in range(0, count, step):
        part = rows[start : start + step]
        if pooled:
            places = sorted(range(len(part)), key=lambda n: self._lengths[part[n]])
            part = np.array(places) if inner else part[places]
        batches += [part[n : n + size] for n in range(0, len(part), size)]
    if not last:
        batches = [each for each in batches if len(each) == size]
    if pooled and shuffled:
        generator.shuffle(batches)
    return batches


@right("batch", of="BatchStream._order")
def order(self, number):
    return ordered(self, number)


@mistake(
    "batch",
    "all rows are sorted at once, so each pass has the same batches; sort within pools",
    of="BatchStream._order",
)
def sorted_at_once(self, number):
    return ordered(self, number, pool=10**9)


@mistake("batch", "a pool has 50 rows; it should have 50 batches", of="BatchStream._order")
def pool_of_rows(self, number):
    return ordered(self, number, pool=max(1, 50 // self._batch_size))


@mistake("batch", "batches go from short to long; shuffle them at the end", of="BatchStream._order")
def batches_not_shuffled(self, number):
    return ordered(self, number, shuffled=False)


@mistake("batch", "rows are not shuffled before they are put into pools", of="BatchStream._order")
def rows_not_shuffled(self, number):
    return ordered(self, number, permuted=False)


@mistake("batch", "the last, smaller batch is left out", of="BatchStream._order")
def last_left_out(self, number):
    return ordered(self, number, last=False)


@mistake("batch", "lengths are not looked at where batches are bucketed", of="BatchStream._order")
def never_bucketed(self, number):
    return ordered(self, number, bucketed=False)


@mistake("batch", "rows are sorted by length where they are not bucketed", of="BatchStream._order")
def always_bucketed(self, number):
    return ordered(self, number, bucketed=True)


@mistake(
    "batch", "each pass has the same order; `number` belongs to the seed", of="BatchStream._order"
)
def same_each_pass(self, number):
    return ordered(self, 0)


@mistake(
    "batch", "the order does not depend on the stream's seed, `self._seed`", of="BatchStream._order"
)
def seed_ignored(self, number):
    return ordered(self, number, seed=(number,))


@mistake(
    "batch",
    "argsort gives places in the pool; the row numbers are those of the pool at these places",
    of="BatchStream._order",
)
def places_for_rows(self, number):
    return ordered(self, number, inner=True)
