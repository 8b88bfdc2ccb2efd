"""Text on disk: no token of it is lost, whatever its length and however it is chunked."""

import itertools
import math

import numpy as np
import pytest
from helpers import write_backbone

from data.text import held_out, lines_of, path_of, read_tokens, write_tokens
from minbert import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    write_backbone(folder)
    return Tokenizer.from_folder(folder)


def rows_of(ragged):
    count = range(len(ragged.lengths))
    ids, types = (ragged.rows(flat, count) for flat in (ragged.input_ids, ragged.token_type_ids))
    return [(i.tolist(), t.tolist()) for i, t in zip(ids, types, strict=True)]


def test_short_texts_and_pairs_are_what_the_tokenizer_gives(tokenizer, tmp_path):
    ragged = write_tokens(
        tmp_path / "a", [("ban bet",), ("fan", "get ban"), ("good",)], tokenizer, max_length=10
    )
    single = tokenizer.encode(["ban bet", "good"])
    pair = tokenizer.encode(["fan"], ["get ban"])
    expected = [*zip(single.input_ids, single.token_type_ids, strict=True),
                *zip(pair.input_ids, pair.token_type_ids, strict=True)]  # fmt: skip
    assert sorted(rows_of(ragged)) == sorted(expected)
    assert [0, 0, 0, 1, 1, 1] in [types for _, types in rows_of(ragged)]
    assert rows_of(read_tokens(tmp_path / "a")) == rows_of(ragged)


@pytest.mark.parametrize("max_length", [3, 4, 7, 12, 40])
def test_long_texts_are_cut_into_pieces_and_nothing_is_lost(tokenizer, tmp_path, max_length):
    words = list(itertools.islice(itertools.cycle(["ban", "bet", "fit", "got", "kun"]), 37))
    texts = [" ".join(words[:n]) for n in range(1, 38)]
    ragged = write_tokens(
        tmp_path / "a", [(text,) for text in texts], tokenizer, max_length=max_length
    )
    rows = [ids for ids, _ in rows_of(ragged)]
    assert max(map(len, rows)) <= max_length
    body = []
    for ids in rows:
        assert (ids[0], ids[-1]) == (tokenizer.cls_id, tokenizer.sep_id) and len(ids) > 2
        body += ids[1:-1]
    assert body == [i for ids in tokenizer.encode(texts).input_ids for i in ids[1:-1]]
    assert ragged.lengths.min() >= min(3, max_length)
    last = math.ceil(37 / (max_length - 2))
    pieces = [len(ids) for ids in rows[-last:]]
    assert sum(pieces) == 37 + 2 * last and max(pieces) - min(pieces) <= 1


def test_a_pair_that_is_too_long_becomes_two_texts(tokenizer, tmp_path):
    ragged = write_tokens(
        tmp_path / "a", [("ban bet fit", "got kun got kun")], tokenizer, max_length=6
    )
    found = [(tokenizer.decode(ids), set(types)) for ids, types in rows_of(ragged)]
    assert found == [("ban bet fit", {0}), ("got kun got kun", {0})]


def test_text_is_read_in_chunks_and_stays_on_disk(tokenizer, tmp_path, monkeypatch):
    sizes = []
    encode = Tokenizer.encode

    def counting(self, texts, *args, **options):
        sizes.append(len(texts))
        return encode(self, texts, *args, **options)

    monkeypatch.setattr(Tokenizer, "encode", counting)
    ragged = write_tokens(tmp_path / "a", (("ban bet",) for _ in range(2300)), tokenizer,
                          max_length=8)  # fmt: skip
    assert sizes == [1000, 1000, 300]
    assert len(ragged.lengths) == 2300
    assert isinstance(ragged.input_ids, np.memmap) and isinstance(ragged.token_type_ids, np.memmap)


def test_lines_and_what_is_held_out(tmp_path):
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_bytes("\ufeffa b\r\n\n  c\u2028d \n".encode())
    two.write_bytes(b"e\n\t\rf")
    lines = list(lines_of([one, two]))
    assert lines == [("a b",), ("c\u2028d",), ("e",), ("f",)]
    numbers = [(str(n),) for n in range(1, 12)]
    assert list(held_out(numbers, 5, kept=False)) == [("5",), ("10",)]
    assert sorted([*held_out(numbers, 5, kept=True), ("5",), ("10",)]) == sorted(numbers)


def test_text_that_cannot_be_used_is_refused(tokenizer, tmp_path):
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match=r"latin:1: byte 0xe9 in column 4, at offset 3, is not"):
        list(lines_of([tmp_path / "latin"]))
    with pytest.raises(ValueError, match="nowhere does not exist"):
        list(lines_of([tmp_path / "nowhere"]))
    for texts in ([], [("\u200b",)]):
        with pytest.raises(ValueError, match="there is no a text: give more text"):
            write_tokens(tmp_path / "a", texts, tokenizer, max_length=8)
    assert not path_of(tmp_path / "a", "lengths").exists()
    with pytest.raises(ValueError, match="max_length 2 leaves no room for a word"):
        write_tokens(tmp_path / "a", [("ban",)], tokenizer, max_length=2)


def test_files_that_do_not_fit_together_are_refused(tokenizer, tmp_path):
    write_tokens(tmp_path / "a", [("ban bet",)], tokenizer, max_length=8)
    write_tokens(tmp_path / "b", [("ban",)], tokenizer, max_length=8)
    path_of(tmp_path / "b", "tokens").replace(path_of(tmp_path / "a", "tokens"))
    with pytest.raises(ValueError, match=r"a\.\* do not fit together; delete them"):
        read_tokens(tmp_path / "a")
