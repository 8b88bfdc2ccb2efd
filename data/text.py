"""Text without labels, of any size: rows of tasks, or lines of files, as token ids on disk.

Texts -> rows of at most max_length tokens -> three flat files -> Ragged arrays mapped into memory

Text is tokenized once, a thousand texts at a time, and read from disk as it is needed, so it may be
larger than memory; only the length of each row is held there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np

from data.batching import Ragged
from data.lines import numbered_lines, texts_in
from minbert.files import replacing
from minbert.tokenization import Tokenizer

Text = tuple[str, ...]
"""One text, or the two of a pair."""

PARTS = {"tokens": np.int32, "types": np.uint8, "lengths": np.int32}
"""Ending of a file -> its numbers. Files are made in this order: with lengths, all are there."""


def lines_of(paths: Sequence[Path]) -> Iterator[Text]:
    """The lines of UTF-8 text files, a text each, blank ones left out.

    Raises:
        ValueError: a file is none, or a line is no UTF-8 text.
    """
    for path in paths:
        for _, line in texts_in(numbered_lines(path), path):
            # A lone \r ends a line here too: a text is whatever is between line ends of any kind.
            yield from ((text,) for part in line.split("\r") if (text := part.strip()))


def held_out(texts: Iterable[Text], every: int, *, kept: bool) -> Iterator[Text]:
    """Each `every`-th text, or with `kept` all the others."""
    return (text for number, text in enumerate(texts, start=1) if (number % every != 0) == kept)


def write_tokens(
    stem: Path, texts: Iterable[Text], tokenizer: Tokenizer, *, max_length: int
) -> Ragged:
    """Tokenize texts to the files `{stem}.tokens`, `.types` and `.lengths`.

    A text longer than `max_length` tokens becomes several rows of about equal length, each between
    [CLS] and [SEP]; a pair that is longer becomes two texts first. So no token is lost.

    Raises:
        ValueError: there is no token in the texts, or max_length is below 3.
    """
    if max_length < 3:
        raise ValueError(f"max_length {max_length} leaves no room for a word; use at least 3")
    texts = iter(texts)
    with ExitStack() as stack:
        # Renamed into place in the reverse order.
        paths = {
            part: stack.enter_context(replacing(path_of(stem, part))) for part in reversed(PARTS)
        }
        files = {part: stack.enter_context(path.open("wb")) for part, path in paths.items()}
        while chunk := list(islice(texts, 1000)):
            rows = list(_rows(chunk, tokenizer, max_length))
            for ids, types in rows:
                files["tokens"].write(np.asarray(ids, dtype=PARTS["tokens"]).data)
                files["types"].write(np.asarray(types, dtype=PARTS["types"]).data)
            lengths = [len(ids) for ids, _ in rows]
            files["lengths"].write(np.asarray(lengths, dtype=PARTS["lengths"]).data)
        if not files["lengths"].tell():
            raise ValueError(
                f"there is no {stem.name} text: give more text, or for development text hold out "
                "more of it (--hold-out, --dev-text)"
            )
    return read_tokens(stem)


def read_tokens(stem: Path) -> Ragged:
    """What `write_tokens` wrote; token ids stay on disk until they are asked for."""
    lengths = np.fromfile(path_of(stem, "lengths"), dtype=PARTS["lengths"])
    tokens, types = (np.memmap(path_of(stem, p), PARTS[p], "r") for p in ("tokens", "types"))
    if not len(tokens) == len(types) == lengths.sum(dtype=np.int64):
        raise ValueError(f"{stem}.* do not fit together; delete them, and they are made anew")
    return Ragged(lengths, tokens, types)


def path_of(stem: Path, part: str) -> Path:
    """The file of a part of `PARTS`."""
    return stem.with_name(f"{stem.name}.{part}")


def _rows(
    texts: Sequence[Text], tokenizer: Tokenizer, max_length: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids and segment ids of rows."""
    long: list[str] = []
    for size in (1, 2):
        columns = list(zip(*(text for text in texts if len(text) == size), strict=True))
        if not columns:
            continue
        encodings = tokenizer.encode(*(list(column) for column in columns))
        for number, ids in enumerate(encodings.input_ids):
            types = encodings.token_type_ids[number]
            if len(ids) <= size + 1:  # special tokens alone
                continue
            if len(ids) <= max_length:
                yield ids, types
            elif size == 1:
                yield from _pieces(ids, types, max_length)
            else:
                long += [column[number] for column in columns]
    if long:
        yield from _rows([(text,) for text in long], tokenizer, max_length)


def _pieces(
    ids: list[int], types: list[int], max_length: int
) -> Iterator[tuple[list[int], list[int]]]:
    first, *body, last = ids
    count = -(-len(body) // (max_length - 2))
    for part in np.array_split(body, count):
        yield [first, *part.tolist(), last], types[: len(part) + 2]
