"""Part 3, texts and tasks: right answers, and mistakes."""

from __future__ import annotations

import random

from lab.answers import mistake, right

# Pairs


def encoded(
    self, texts, pairs=None, *, max_length=None, strategy="longest_first", reset=True, rows_cut=None
):
    """Tokenizer.encode with its parts open to change."""
    from minbert.tokenization import Encodings

    rows = list(texts) if pairs is None else list(zip(texts, pairs))
    whole = [self.fast.encode(*row) if pairs is not None else self.fast.encode(row) for row in rows]
    lengths = [len(each.ids) for each in whole]
    cut = tuple(n for n, length in enumerate(lengths) if max_length and length > max_length)
    if max_length is not None:
        self.fast.enable_truncation(max_length, strategy=strategy)
        whole = [self.fast.encode(*r) if pairs is not None else self.fast.encode(r) for r in rows]
        if reset:
            self.fast.no_truncation()
    ids, types = [each.ids for each in whole], [each.type_ids for each in whole]
    return Encodings(ids, types, cut if rows_cut is None else rows_cut)


@right("pair")
def encode(self, texts, pairs=None, *, max_length=None):
    return encoded(self, texts, pairs, max_length=max_length)


@mistake("pair", "segment ids are all 0: the second text's tokens should have 1")
def types_all_zero(self, texts, pairs=None, *, max_length=None):
    from minbert.tokenization import Encodings

    found = encoded(self, texts, pairs, max_length=max_length)
    types = [[0] * len(ids) for ids in found.input_ids]
    return Encodings(found.input_ids, types, found.cut)


@mistake("pair", "the second texts are left out")
def second_left_out(self, texts, pairs=None, *, max_length=None):
    return encoded(self, texts, max_length=max_length)


@mistake("pair", "the two texts are joined into one, without [SEP] between them")
def joined(self, texts, pairs=None, *, max_length=None):
    both = texts if pairs is None else [f"{a} {b}" for a, b in zip(texts, pairs)]
    return encoded(self, both, max_length=max_length)


@mistake("pair", "first and second text have changed places")
def texts_swapped(self, texts, pairs=None, *, max_length=None):
    first, second = (texts, None) if pairs is None else (pairs, texts)
    return encoded(self, first, second, max_length=max_length)


@mistake("pair", "rows are not cut to max_length")
def never_cut(self, texts, pairs=None, *, max_length=None):
    return encoded(self, texts, pairs)


@mistake("pair", "the truncation stays on after the call: call `no_truncation()` when done")
def truncation_left_on(self, texts, pairs=None, *, max_length=None):
    return encoded(self, texts, pairs, max_length=max_length, reset=False)


@mistake("pair", "rows that were cut are not listed in `cut`")
def cut_not_counted(self, texts, pairs=None, *, max_length=None):
    return encoded(self, texts, pairs, max_length=max_length, rows_cut=())


# Sampling


@right("sampling")
def uniform_task(tasks, *, seed, step):
    return random.Random(f"{seed} {step}").choice(tasks)


@mistake("sampling", "tasks come in turn and are not drawn")
def round_robin(tasks, *, seed, step):
    return tasks[(seed + step) % len(tasks)]


@mistake("sampling", "the step is left out, so every step draws the same task")
def same_every_step(tasks, *, seed, step):
    return uniform_task(tasks, seed=seed, step=0)


@mistake("sampling", "the seed is left out: another seed should draw other tasks")
def seed_left_out(tasks, *, seed, step):
    return uniform_task(tasks, seed=0, step=step)


@mistake(
    "sampling",
    "the draw does not follow from seed and step alone: a resumed run would draw other tasks",
)
def global_generator(tasks, *, seed, step):
    return random.choice(tasks)


@mistake("sampling", "the last task is never drawn: the upper end of `integers` is out already")
def last_left_out(tasks, *, seed, step):
    return uniform_task(tasks[:-1] or tasks, seed=seed, step=step)


@mistake(
    "sampling",
    "seeds share their draws (seed + step?): seed 1 draws what seed 0 draws at another step",
)
def seed_plus_step(tasks, *, seed, step):
    return uniform_task(tasks, seed=seed + step, step=0)
