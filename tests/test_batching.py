"""Batches, and which rows and tasks come next."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from helpers import FILLERS, write_backbone

from data.batching import EncodedRows, FeatureRows
from data.draws import BatchStream, uniform_task
from data.readers import Example
from minbert import Tokenizer
from minbert.inference import batches_by_length

DRAW = np.random.default_rng(0)
SINGLES = [
    Example(f"s{n}", (" ".join(DRAW.choice(FILLERS, DRAW.integers(1, 12))),), float(n % 3))
    for n in range(20)
]
PAIRS = [
    Example(f"p{n}", (a.texts[0], b.texts[0]), n / 2)
    for n, (a, b) in enumerate(zip(SINGLES[:9], SINGLES[9:18]))
]
ROWS = [4, 0, 7, 3]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer.from_folder(write_backbone(tmp_path_factory.mktemp("tiny") / "backbone"))


def by_hand(tokenizer, *texts):
    """Ids and segments of [CLS] text [SEP] (text [SEP]), word by word."""
    ids, segments = [tokenizer.cls_id], [0]
    for segment, text in enumerate(texts):
        words = [tokenizer.fast.token_to_id(word) for word in text.split()]
        ids += [*words, tokenizer.sep_id]
        segments += [segment] * (len(words) + 1)
    return ids, segments


def sequences(batch):
    """Each sequence's real tokens and segments, from either layout."""
    tokens = torch.stack([batch.input_ids, batch.token_type_ids], dim=-1)
    counts = batch.layout.mean(torch.ones(*batch.input_ids.shape, 1))  # of the layout's own length
    assert torch.equal(counts, torch.ones(batch.layout.batch_size, 1))
    if batch.input_ids.dim() == 1:
        starts = (batch.layout.positions == 0).nonzero().flatten().tolist()
        parts = [tokens[a:b] for a, b in zip(starts, [*starts[1:], len(tokens)])]
    else:
        parts = [row[mask] for row, mask in zip(tokens, batch.layout.mask)]
    return [tuple(map(list, zip(*part.tolist()))) for part in parts]


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("pair", ["cross", "concat", "cosine"])
@pytest.mark.parametrize("examples", [SINGLES, PAIRS], ids=["singles", "pairs"])
def test_a_batch_holds_the_rows_asked_for_in_order(tokenizer, examples, pair, layout):
    source = EncodedRows(examples, tokenizer, pair=pair, max_length=32, layout=layout)
    batch = source.batch(ROWS)
    wanted = [examples[row] for row in ROWS]
    if pair == "cross" or examples is SINGLES:
        expected = [by_hand(tokenizer, *example.texts) for example in wanted]
    else:  # 2 B sequences: all first texts, then all second ones
        firsts, seconds = zip(*(example.texts for example in wanted))
        expected = [by_hand(tokenizer, text) for text in [*firsts, *seconds]]
    assert sequences(batch) == expected
    assert batch.layout.batch_size == len(expected)
    assert batch.ids == tuple(example.id for example in wanted)
    assert batch.labels.tolist() == [example.label for example in wanted]
    assert batch.weight == len(ROWS)
    if layout == "packed":
        assert batch.input_ids.shape == (sum(len(ids) for ids, _ in expected),)
    else:
        assert batch.input_ids.shape == (len(expected), max(len(ids) for ids, _ in expected))
        assert (batch.input_ids[~batch.layout.mask] == tokenizer.pad_id).all()


@pytest.mark.parametrize("pair", ["cross", "concat"])
def test_lengths_are_the_tokens_of_each_row(tokenizer, pair):
    source = EncodedRows(PAIRS, tokenizer, pair=pair, max_length=32)
    specials = 3 if pair == "cross" else 4
    expected = [len(" ".join(example.texts).split()) + specials for example in PAIRS]
    assert list(source.lengths) == expected


@pytest.mark.parametrize(
    "pair, cost", [("cross", lambda a, b: [a + b + 3]), ("concat", lambda a, b: [a + 2, b + 2])]
)
def test_long_rows_are_cut_and_counted(tokenizer, pair, cost):
    lengths = [cost(*(len(text.split()) for text in example.texts)) for example in PAIRS]
    source = EncodedRows(PAIRS, tokenizer, pair=pair, max_length=9)
    expected = sum(length > 9 for row in lengths for length in row)
    assert source.truncated == expected > 0
    assert list(source.lengths) == [sum(min(length, 9) for length in row) for row in lengths]
    assert EncodedRows(PAIRS, tokenizer, pair=pair, max_length=32).truncated == 0


def test_rows_without_labels_and_features_in_place_of_tokens(tokenizer):
    unlabelled = [Example(e.id, e.texts, None) for e in SINGLES]
    source = EncodedRows(unlabelled, tokenizer, pair="cross", max_length=32)
    assert source.batch(ROWS).labels is None
    features = torch.randn(20, 5)
    assert FeatureRows(source, features).batch(ROWS).labels is None
    labelled = EncodedRows(SINGLES, tokenizer, pair="cross", max_length=32)
    batch = FeatureRows(labelled, features).batch(ROWS)
    assert torch.equal(batch.features, features[ROWS])
    assert batch.labels.tolist() == [SINGLES[row].label for row in ROWS]
    assert batch.ids == ("s4", "s0", "s7", "s3") and batch.input_ids is None
    assert FeatureRows(labelled, features).checksum == labelled.checksum != source.checksum


def test_the_checksum_of_rows_is_of_their_ids_texts_and_labels(tokenizer):
    def checksum(*examples):
        return EncodedRows(examples, tokenizer, pair="cross", max_length=32).checksum

    first, second = Example("1", ("bet bon",), 1.0), Example("2", ("dot bon",), 0.0)
    assert checksum(first, second) == checksum(first, second)
    others = [
        (second, first),
        (replace(first, id="3"), second),
        (replace(first, texts=second.texts), replace(second, texts=first.texts)),
        (replace(first, label=0.0), second),
        (first,),
    ]
    assert len({checksum(first, second), *(checksum(*rows) for rows in others)}) == 6


@pytest.mark.parametrize("tokens", [1, 20, 10_000])
def test_batches_by_length_cover_every_row_once_longest_first(tokenizer, tokens):
    source = EncodedRows(SINGLES, tokenizer, pair="cross", max_length=32)
    batches = [list(batch) for batch in batches_by_length(source.lengths, tokens=tokens)]
    rows = list(itertools.chain(*batches))
    assert sorted(rows) == list(range(20))
    lengths = [source.lengths[row] for row in rows]
    assert lengths == sorted(lengths, reverse=True)
    costs = [sum(source.lengths[row] for row in batch) for batch in batches]
    assert all(cost >= tokens for cost in costs[:-1])
    assert all(cost - source.lengths[batch[-1]] < tokens for cost, batch in zip(costs, batches))


# Streams

LENGTHS = np.random.default_rng(1).geometric(0.05, 403) + 2


def stream(bucketed=False, *, seed=5, name="sst", size=4):
    return BatchStream(LENGTHS, size, seed=seed, name=name, bucketed=bucketed)


def one_pass(source, number):
    per_pass = source.batches_per_pass
    return [source[i].tolist() for i in range(number * per_pass, (number + 1) * per_pass)]


BUCKETED = pytest.mark.parametrize("bucketed", [False, True], ids=["random", "bucketed"])


@BUCKETED
def test_a_pass_visits_each_row_once_and_the_last_batch_is_smaller(bucketed):
    source = stream(bucketed)
    assert source.batches_per_pass == 101
    for number in range(3):
        batches = one_pass(source, number)
        assert sorted(itertools.chain(*batches)) == list(range(403))
        assert Counter(map(len, batches)) == {4: 100, 3: 1}


@BUCKETED
def test_passes_seeds_and_names_give_other_batches(bucketed):
    def members(batches):
        return {frozenset(batch) for batch in batches}

    first = one_pass(stream(bucketed), 0)
    others = [
        one_pass(stream(bucketed), 1),
        one_pass(stream(bucketed, seed=6), 0),
        one_pass(stream(bucketed, name="para"), 0),
    ]
    for other in others:  # not the same batches in another order: hardly one is met again
        assert len(members(first) & members(other)) < 5
    lengths = [LENGTHS[batch].mean() for batch in first]
    rises = sum(b > a for a, b in itertools.pairwise(lengths)) / len(lengths)
    assert 0.3 < rises < 0.7  # short and long ones in no order


@BUCKETED
def test_a_batch_is_a_pure_function_of_its_index(bucketed):
    source = stream(bucketed)
    forward = [source[i].tolist() for i in range(250)]
    assert [stream(bucketed)[i].tolist() for i in range(249, -1, -1)] == forward[::-1]
    assert stream(bucketed)[137].tolist() == forward[137]


def test_bucketed_batches_have_far_less_padding():
    def padding(source):
        batches = [LENGTHS[batch] for batch in one_pass(source, 0)]
        return sum(len(b) * b.max() - b.sum() for b in batches)

    assert padding(stream(bucketed=True)) < 0.2 * padding(stream(bucketed=False))


def test_a_batch_needs_a_row():
    with pytest.raises(ValueError, match="batch size must be at least 1, it is 0"):
        stream(size=0)


# Tasks


def test_tasks_are_drawn_uniformly_and_one_by_one():
    tasks = ("sst", "para", "sts", "cola")
    drawn = [uniform_task(tasks, seed=3, step=step) for step in range(4000)]
    counts = Counter(drawn)
    assert counts.keys() == set(tasks)
    assert scipy.stats.chisquare([counts[task] for task in tasks]).pvalue > 0.001
    pairs = Counter(itertools.pairwise(drawn))  # a draw says nothing of the next
    assert len(pairs) == 16 and scipy.stats.chisquare(list(pairs.values())).pvalue > 0.001
    assert drawn[1000:1100] == [uniform_task(tasks, seed=3, step=s) for s in range(1000, 1100)]
    assert drawn[:100] != [uniform_task(tasks, seed=4, step=s) for s in range(100)]
