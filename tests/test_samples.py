"""The sample data: reproducible, in the form of the real files, and neither trivial nor noise."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from data.readers import SAMPLES, Example, read_split
from data.samples.make_samples import SIZES, write_samples
from data.tasks import SPLITS, TASKS, Split

NAMES = tuple(SIZES)

# The first lines and the first rows of the real files have these forms.
TEXT, ID, INDEX = r"[^\t]+", r"[0-9a-f]{25}", r"\d+"
SCORE, BINARY = r"[0-5]\.\d+", r"[01]\.0"
COLA_ROW = r"\w{4}\t(1\t|0\t\*)\t[^\t]+"
FORMS = {
    "ids-sst-train.csv": ("\tid\tsentence\tsentiment", rf"{INDEX}\t{ID}\t {TEXT} \.\t[0-4]"),
    "ids-sst-dev.csv": ("\tid\tsentence\tsentiment", rf"{INDEX}\t{ID}\t {TEXT} \.\t[0-4]"),
    "ids-sst-test-student.csv": ("0\t\tid\tsentence", rf"{INDEX}\t{INDEX}\.0\t{ID}\t {TEXT} \."),
    "quora-train.csv": (
        "\tid\tsentence1\tsentence2\tis_duplicate",
        rf"{INDEX}\t{ID}\t{TEXT}\t{TEXT}\t{BINARY}",
    ),
    "quora-dev.csv": (
        "\tid\tsentence1\tsentence2\tis_duplicate",
        rf"{INDEX}\t{ID}\t{TEXT}\t{TEXT}\t{BINARY}",
    ),
    "quora-test-student.csv": ("\tid\tsentence1\tsentence2", rf"{INDEX}\t{ID}\t{TEXT}\t{TEXT}"),
    "sts-train.csv": (
        "\tid\tsentence1\tsentence2\tsimilarity",
        rf"{INDEX}\t{ID}\t{TEXT}\t{TEXT}\t{SCORE}",
    ),
    "sts-dev.csv": (
        "\tid\tsentence1\tsentence2\tsimilarity",
        rf"{INDEX}\t{ID}\t{TEXT}\t{TEXT}\t{SCORE}",
    ),
    "sts-test-student.csv": ("\tid\tsentence1\tsentence2", rf"{INDEX}\t{ID}\t{TEXT}\t{TEXT}"),
    "CoLA/train.tsv": (None, COLA_ROW),
    "CoLA/dev.tsv": (None, COLA_ROW),
    "CoLA/test.tsv": ("index\tsentence", rf"{INDEX}\t{TEXT}"),
}


def rows(name: str, split: Split) -> list[Example]:
    return read_split(TASKS[name], split, SAMPLES).examples


def labels(examples: list[Example]) -> np.ndarray:
    return np.array([example.label for example in examples], dtype=float)


def test_the_program_writes_these_files(tmp_path: Path):
    written = write_samples(tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in written) == sorted(FORMS)
    for path in written:
        there = SAMPLES / path.relative_to(tmp_path)
        assert path.read_bytes() == there.read_bytes(), (
            f"{there.name} is not what the program writes; run python -m data.samples.make_samples"
        )


def test_another_seed_writes_other_files(tmp_path: Path):
    for path in write_samples(tmp_path, seed=1):
        assert path.read_bytes() != (SAMPLES / path.relative_to(tmp_path)).read_bytes()


@pytest.mark.parametrize("name", FORMS)
def test_form_is_that_of_the_real_file(name: str):
    header, form = FORMS[name]
    content = (SAMPLES / name).read_bytes().decode("utf-8")
    assert content.endswith("\n") and "\r" not in content
    lines = content.removesuffix("\n").split("\n")
    if header is not None:
        assert lines.pop(0) == header
    for line in lines:
        assert re.fullmatch(form, line), f"{line!r} is not of the form {form}"


@pytest.mark.parametrize("name", NAMES)
def test_reads_without_a_bad_row(name: str):
    sizes = tuple(len(rows(name, split)) for split in SPLITS)
    assert sizes == SIZES[name]
    assert all(example.label is None for example in rows(name, "test"))


@pytest.mark.parametrize("name", NAMES)
def test_no_sentence_stands_twice(name: str):
    texts = [text for split in SPLITS for row in rows(name, split) for text in row.texts]
    assert len(texts) == len(set(texts))
    ids = [f"{split} {row.id}" if name == "cola" else row.id for split in SPLITS
           for row in rows(name, split)]  # fmt: skip
    assert len(ids) == len(set(ids))


def test_quotes_are_written_as_csv():
    """Some fields hold quotes, which the reader must undo."""
    raw = (SAMPLES / "quora-train.csv").read_text(encoding="utf-8")
    assert '""' in raw
    texts = [text for row in rows("para", "train") for text in row.texts]
    assert any('"' in text for text in texts)
    assert not any('""' in text for text in texts)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_labels_are_spread(split: Split):
    sentiment = np.bincount(labels(rows("sst", split)).astype(int), minlength=5)
    assert sentiment.min() > 0.08 * sentiment.sum() and sentiment.max() < 0.35 * sentiment.sum()
    assert 0.3 < labels(rows("para", split)).mean() < 0.5
    assert 0.62 < labels(rows("cola", split)).mean() < 0.78
    similarity = labels(rows("sts", split))
    assert similarity.min() < 0.5 and similarity.max() == 5.0 and similarity.std() > 1.2
    assert np.mean(similarity != similarity.round()) > 0.5, "most similarities are fractions"


def test_cola_has_each_phenomenon_in_both_kinds():
    lines = (SAMPLES / "CoLA/train.tsv").read_text(encoding="utf-8").splitlines()
    kinds = {tuple(line.split("\t")[:2]) for line in lines}
    codes = {code for code, _ in kinds}
    assert len(codes) > 30
    assert len(kinds) == 2 * len(codes)


def bag(example: Example) -> str:
    """The words; of a pair, those in common and those that are not, told apart."""
    words = [set(text.lower().rstrip("?.").split()) for text in example.texts]
    if len(words) == 1:
        return example.texts[0]
    same, other = words[0] & words[1], words[0] ^ words[1]
    return " ".join([f"same_{word}" for word in same] + [f"other_{word}" for word in other])


@pytest.mark.parametrize(
    ("name", "low", "high"), [("sst", 0.4, 0.7), ("para", 0.62, 0.9), ("sts", 0.5, 0.9)]
)
def test_words_alone_tell_something_but_not_all(name: str, low: float, high: float):
    """A bag of words does better than chance (0.31, 0.59 and 0) and is far from right."""
    train, dev = rows(name, "train"), rows(name, "dev")
    count = CountVectorizer(token_pattern=r"\S+")
    seen = count.fit_transform([bag(row) for row in train])
    new = count.transform([bag(row) for row in dev])
    if name == "sts":
        guess = Ridge(alpha=1.0).fit(seen, labels(train)).predict(new)
        score = np.corrcoef(guess, labels(dev))[0, 1]
    else:
        model = LogisticRegression(max_iter=1000).fit(seen, labels(train))
        score = np.mean(model.predict(new) == labels(dev))
    assert low < score < high, score


def test_words_tell_little_about_acceptability():
    train, dev = rows("cola", "train"), rows("cola", "dev")
    count = CountVectorizer(token_pattern=r"\S+", ngram_range=(1, 2))
    seen = count.fit_transform([bag(row) for row in train])
    model = LogisticRegression(max_iter=1000).fit(seen, labels(train))
    guess = model.predict(count.transform([bag(row) for row in dev]))
    matthews = np.corrcoef(guess, labels(dev))[0, 1]
    assert 0.05 < matthews < 0.5, matthews
