"""Writes the sample data: `python -m data.samples.make_samples [FOLDER]`.

Same program, same files, byte for byte. The files have the names and the form of the real ones,
their oddities included: an index in a column without a name, a space before each review, a test
header that is itself numbered, no labels for the test rows. No sentence stands in two of the files
of a task.
"""

from __future__ import annotations

import csv
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from data.samples.acceptability import Linguist
from data.samples.questions import Asker
from data.samples.sentiment import Reviewer, degree
from data.samples.similarity import Describer

HERE = Path(__file__).parent
SIZES: Mapping[str, tuple[int, int, int]] = {
    "sst": (600, 200, 100),
    "para": (600, 200, 100),
    "sts": (600, 200, 100),
    "cola": (700, 250, 100),
}
"""Rows for training, development and test."""

SENTIMENT_SHARES = (0.13, 0.25, 0.20, 0.27, 0.15)
PARAPHRASE_SHARE = 0.4
ACCEPTABLE_SHARE = 0.7

Row = list[str]
Splits = tuple[list[Row], list[Row], list[Row]]


def write_samples(folder: Path = HERE, seed: int = 11711) -> list[Path]:
    """Write all files of all tasks into a folder; returns their paths."""

    def rng(task: str) -> random.Random:
        return random.Random(f"{task} {seed}")

    def save(path: str, rows: Sequence[Row], *, quoted: bool = True) -> Path:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="utf-8", newline="") as out:
            if quoted:
                csv.writer(out, delimiter="\t", lineterminator="\n").writerows(rows)
            else:
                out.writelines("\t".join(row) + "\n" for row in rows)
        return file

    written = []
    train, dev, test = _sentiment(rng("sst"), SIZES["sst"])
    head = ["", "id", "sentence", "sentiment"]
    for name, rows in (("train", train), ("dev", dev)):
        numbered = [[str(index), *row] for index, row in enumerate(rows)]
        written.append(save(f"ids-sst-{name}.csv", [head, *numbered]))
    bare = [[str(i + 1), f"{i}.0", *row[:2]] for i, row in enumerate(test)]
    written.append(save("ids-sst-test-student.csv", [["0", "", "id", "sentence"], *bare]))

    for stem, label, splits in (
        ("quora", "is_duplicate", _paraphrase(rng("para"), SIZES["para"])),
        ("sts", "similarity", _similarity(rng("sts"), SIZES["sts"])),
    ):
        head = ["", "id", "sentence1", "sentence2", label]
        for name, rows in zip(("train", "dev"), splits, strict=False):
            written.append(save(f"{stem}-{name}.csv", [head, *rows]))
        bare = [row[:-1] for row in splits[2]]
        written.append(save(f"{stem}-test-student.csv", [head[:-1], *bare]))

    train, dev, test = _acceptability(rng("cola"), SIZES["cola"])
    written.append(save("CoLA/train.tsv", train, quoted=False))
    written.append(save("CoLA/dev.tsv", dev, quoted=False))
    bare = [[str(index), row[-1]] for index, row in enumerate(test)]
    written.append(save("CoLA/test.tsv", [["index", "sentence"], *bare], quoted=False))
    return written


def _id(rng: random.Random) -> str:
    return f"{rng.getrandbits(100):025x}"


def _cut(rows: list[Row], sizes: tuple[int, int, int], rng: random.Random) -> Splits:
    rng.shuffle(rows)
    train, dev, test = sizes
    return rows[:train], rows[train : train + dev], rows[train + dev : train + dev + test]


def _fresh(write: Callable[[], tuple[str, ...]], texts: int) -> Iterator[tuple[str, ...]]:
    """What `write` returns, unless one of its first `texts` items has been there before."""
    seen: set[str] = set()
    while True:
        row = write()
        if seen.isdisjoint(row[:texts]) and len(set(row[:texts])) == texts:
            seen.update(row[:texts])
            yield row


def _sentiment(rng: random.Random, sizes: tuple[int, int, int]) -> Splits:
    reviewer = Reviewer(rng)
    wanted = Counter(
        {label: round(share * sum(sizes)) for label, share in enumerate(SENTIMENT_SHARES)}
    )
    rows: list[Row] = []

    def write() -> tuple[str, ...]:
        text, score = reviewer.write()
        return text, str(degree(score))

    for text, label in _fresh(write, 1):
        if wanted[int(label)] > 0:
            wanted[int(label)] -= 1
            # Annotators disagree: one sentence in eleven gets a label one step from its own.
            if rng.random() < 1 / 11:
                step = rng.choice([-1, 1])
                label = str(min(4, max(0, int(label) + step)))
            rows.append([_id(rng), f" {text}", label])
        if wanted.total() == 0:
            return _cut(rows, sizes, rng)
    raise AssertionError("an endless iterator ended")


def _paraphrase(rng: random.Random, sizes: tuple[int, int, int]) -> Splits:
    asker = Asker(rng)
    same = _fresh(asker.same, 2)
    different = _fresh(asker.different, 2)
    rows: list[Row] = []
    seen: set[str] = set()
    numbers = rng.sample(range(10_000), sum(sizes))
    labels = [int(index < PARAPHRASE_SHARE * sum(sizes)) for index in range(sum(sizes))]
    for number, label in zip(numbers, labels, strict=True):
        pair = next(pair for pair in (same if label else different) if seen.isdisjoint(pair))
        seen.update(pair)
        rows.append([str(number), _id(rng), *pair, f"{label:.1f}"])
    return _cut(rows, sizes, rng)


def _similarity(rng: random.Random, sizes: tuple[int, int, int]) -> Splits:
    describer = Describer(rng)

    def write() -> tuple[str, ...]:
        one, two, similarity = describer.pair()
        return one, two, str(round(similarity, 2))

    numbers = rng.sample(range(5_000), sum(sizes))
    pairs = _fresh(write, 2)
    rows = [[str(number), _id(rng), *next(pairs)] for number in numbers]
    return _cut(rows, sizes, rng)


def _acceptability(rng: random.Random, sizes: tuple[int, int, int]) -> Splits:
    linguist = Linguist(rng)
    rows: list[Row] = []
    seen: set[str] = set()
    for index in range(sum(sizes)):
        acceptable = index < ACCEPTABLE_SHARE * sum(sizes)
        code, text = linguist.write(acceptable)
        while text in seen:
            code, text = linguist.write(acceptable)
        seen.add(text)
        rows.append([code, str(int(acceptable)), "" if acceptable else "*", text])
    return _cut(rows, sizes, rng)


if __name__ == "__main__":
    for path in write_samples(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE):
        print(path)
