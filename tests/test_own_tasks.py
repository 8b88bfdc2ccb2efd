"""Tasks of a user's own: their files, what is guessed of them, the rule that holds rows out."""

import csv
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import own_data
import pytest
from own_data import SIGNS, TAGS, task_file, write_csv

from data.guess import guess
from data.held_out import parts_of, same_text
from data.inspect_task import inspect_task
from data.readers import Example, has_split, read_split
from data.shape import shape_of
from data.task_files import read_task_file, register_task_file, task_from_dict, task_to_dict
from data.task_toml import toml_of
from data.tasks import TASKS, HeldOut, Table, Task, get_task, register_task

COLUMNS = {"text": '"review"', "label": '"verdict"', "classes": '["bad", "fine", "great"]'}


@pytest.fixture(autouse=True)
def registry():
    """Every test begins with the tasks that come along."""
    yield
    own_data.forget_own_tasks()


@pytest.fixture
def made(tmp_path):
    """Reviews and their task."""
    own_data.reviews(tmp_path)
    return read_task_file(task_file(tmp_path, **COLUMNS, hold_out=0.2))


# Formats


def written(folder, form):
    """The same reviews in a format: the path, and the keys of the task file that it needs."""
    path = own_data.reviews(folder)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    if form == "csv":
        return path, {}
    if form in ("semicolons", "bars"):
        sign = {"semicolons": ";", "bars": "|"}[form]
        return write_csv(folder / "other.csv", rows, delimiter=sign), {}
    if form == "bom":
        return write_csv(folder / "other.csv", rows, encoding="utf-8-sig"), {}
    if form == "utf-16":
        return write_csv(folder / "other.csv", rows, encoding="utf-16"), {"encoding": '"utf-16"'}
    if form == "tsv":
        return write_csv(folder / "other.tsv", rows, delimiter="\t"), {}
    records = [dict(zip(rows[0], row)) for row in rows[1:]]
    if form == "jsonl":
        path = folder / "other.jsonl"
        path.write_text("".join(f"{json.dumps(r)}\n\n" for r in records), encoding="utf-8")
        return path, {}
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(records), folder / "other.parquet")
    return folder / "other.parquet", {}


FORMS = ["csv", "semicolons", "bars", "bom", "utf-16", "tsv", "jsonl", "parquet"]


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_same_rows(made, tmp_path, form):
    path, keys = written(tmp_path, form)
    files = [
        {"path": f'"{path.name}"', "split": '"train"'},
        {"path": '"reviews.csv"', "split": '"dev"'},
    ]
    task = read_task_file(
        task_file(tmp_path, "other", files=[{**files[0], **keys}, files[1]], **COLUMNS)
    )
    rows = read_split(task, "train").examples
    with (tmp_path / "reviews.csv").open(encoding="utf-8", newline="") as file:
        expected = [
            (r["review"].strip(), list(SIGNS).index(r["verdict"])) for r in csv.DictReader(file)
        ]
    assert [(row.texts[0], row.label) for row in rows] == expected
    assert any("\n" in text and '"' in text for text, _ in expected)


@pytest.mark.parametrize("form", FORMS)
def test_new_finds_out_format_delimiter_and_encoding(tmp_path, form):
    path, _ = written(tmp_path, form)
    found = guess(shape_of(path), name="mine")
    out = tmp_path / "mine.toml"
    out.write_text(toml_of(found, folder=tmp_path, dev=None, test=None), encoding="utf-8")
    task = read_task_file(out)
    assert (task.kind, task.classes) == ("classes", ("bad", "fine", "great"))
    both = [read_split(task, split).examples for split in ("train", "dev")]
    assert [len(part) for part in both] == [48, 12]


def test_an_id_is_the_line_where_the_row_begins(made, tmp_path):
    lines = (tmp_path / "reviews.csv").read_text(encoding="utf-8").split("\n")
    for row in read_split(made, "train").examples:
        assert row.texts[0].split("\n")[0].split('"')[0] in lines[int(row.id) - 1]


def csv_task(folder, text, **keys):
    (folder / "reviews.csv").write_text(text, encoding="utf-8", newline="")
    return read_task_file(task_file(folder, **{**COLUMNS, "hold_out": 0.2, **keys}))


GOOD = "review,verdict\na b,bad\n"


@pytest.mark.parametrize(
    "text, said",
    [
        (GOOD + "c,great,1\n", r":3: 3 columns where 2 are due"),
        (GOOD + "c,awful\n", r":3: column 'verdict' is 'awful', and not one of bad, fine, great"),
        (GOOD + " ,fine\n", r":3: column 'review' is empty"),
        (GOOD + '"c\nd,fine\ne,bad\n', r":3: a quote is opened that nothing closes"),
        (GOOD + '"c"d,fine\n', r":3: broken quoting"),
        (GOOD + "c\0,fine\n", r":3: byte 0x00 in column 2"),
        ("reviews,verdict\na,bad\n", r":1: the header .* lacks the columns \['review'\]"),
        ("review;verdict;review\na;bad;b\n", r":1: .*'review'\] more than once"),
        ("review,verdict\ra,bad\r", r"rows end in \\r alone"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, text, said):
    task = csv_task(tmp_path, text)
    with pytest.raises(ValueError, match=rf"reviews\.csv{said}" if said[0] == ":" else said):
        read_split(task, "train")


def test_bad_rows_are_left_out_and_listed_when_asked(tmp_path):
    rows = "".join(f"a {word},{label}\n" for word in "bcdefgh" for label in SIGNS)
    task = csv_task(tmp_path, GOOD + "x,no label\n" + rows)
    found = read_split(task, "train", on_bad_row="skip")
    assert [bad.line for bad in found.skipped] == [3]
    assert "22 rows" in found.notes[0]
    lines, wrong = inspect_task(task)
    assert any("reviews.csv:3:" in line for line in lines) and "1 bad rows" in wrong[0]


@pytest.mark.parametrize(
    "line, said",
    [
        ('{"review": "a", "verdict": "bad"', "is not a JSON file"),
        ('{"review": "a"}', r"it lacks \['verdict'\]"),
        ('{"review": 3, "verdict": "bad"}', "column 'review' is 3, and no text"),
        ('{"review": null, "verdict": "bad"}', "column 'review' is empty"),
        ('["a"]', "give names with values"),
    ],
)
def test_a_bad_line_of_json_is_named(tmp_path, line, said):
    good = '{"review": "a b", "verdict": "bad"}\n'
    (tmp_path / "rows.jsonl").write_text(good + line + "\n", encoding="utf-8")
    files = [{"path": '"rows.jsonl"', "split": '"test"'}]
    task = read_task_file(task_file(tmp_path, files=files, **COLUMNS))
    with pytest.raises(ValueError, match=rf"rows\.jsonl:2: .*{said}"):
        read_split(task, "test")


# Kinds of labels


def test_several_labels_are_read_from_a_cell_from_columns_and_from_lists(tmp_path):
    path = own_data.tickets(tmp_path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            (r["ticket"], r["tags"].split(";") if r["tags"] else []) for r in csv.DictReader(file)
        ]
    expected = [tuple(float(tag in held) for tag in TAGS) for _, held in rows]
    marked = [[text, *("yes" if tag in held else "0" for tag in TAGS)] for text, held in rows]
    write_csv(tmp_path / "columns.csv", [["ticket", *TAGS], *marked])
    (tmp_path / "lists.jsonl").write_text(
        "".join(json.dumps({"ticket": text, "tags": held}) + "\n" for text, held in rows),
        encoding="utf-8",
    )
    for name, label in (
        ("tickets.csv", '"tags"'),
        ("columns.csv", '["billing", "delivery", "login"]'),
        ("lists.jsonl", '"tags"'),
    ):
        task = read_task_file(
            task_file(
                tmp_path,
                kind='"labels"',
                text='"ticket"',
                classes='["billing", "delivery", "login"]',
                files=[{"path": f'"{name}"', "split": '"test"', "label": label}],
            )
        )
        assert [row.label for row in read_split(task, "test").examples] == expected
        found = guess(shape_of(tmp_path / name), name="mine")
        assert (found.kind, found.classes) == ("labels", ("billing", "delivery", "login"))


def test_files_of_a_task_have_columns_names_and_ranges_of_their_own(tmp_path):
    write_csv(tmp_path / "a.csv", [["x", "y", "close"], ["a", "b", 2.5]])
    write_csv(tmp_path / "b.csv", [["one", "two", "r"], ["c", "d", 1], ["e", "f", 5]])
    files = [
        {"path": '"a.csv"', "split": '"train"', "text": '["x", "y"]', "label": '"close"'},
        {"path": '"b.csv"', "split": '"train"', "text": '["one", "two"]', "label": '"r"',
         "from_range": "[1, 5]"},
        {"path": '"a.csv"', "split": '"dev"', "text": '["x", "y"]', "label": '"close"'},
    ]  # fmt: skip
    task = read_task_file(task_file(tmp_path, kind='"number"', range="[-5, 5]", files=files))
    rows = read_split(task, "train").examples
    assert [(row.id, row.texts, row.label) for row in rows] == [
        ("1:2", ("a", "b"), 2.5),
        ("2:2", ("c", "d"), -5.0),
        ("2:3", ("e", "f"), 5.0),
    ]
    write_csv(tmp_path / "stars.csv", [["t", "stars"], ["a", 1], ["b", 5], ["c", "fine"]])
    names = {"names": '{ 1 = "bad", 2 = "bad", 5 = "great" }'}
    entry = {"path": '"stars.csv"', "split": '"test"', "text": '"t"', "label": '"stars"', **names}
    task = read_task_file(task_file(tmp_path, files=[entry], classes=COLUMNS["classes"]))
    assert [row.label for row in read_split(task, "test").examples] == [0.0, 2.0, 1.0]


def test_a_column_can_say_the_split(tmp_path):
    rows = [[f"w {n}", "bad", s] for n, s in enumerate(["train", "train", "Valid", "test"])]
    write_csv(tmp_path / "all.csv", [["review", "verdict", "split"], *rows])
    files = [{"path": '"all.csv"', "split_column": '"split"'}]
    task = read_task_file(task_file(tmp_path, files=files, **COLUMNS))
    counts = {split: len(read_split(task, split).examples) for split in task.splits}
    assert counts == {"train": 2, "dev": 1, "test": 1}
    write_csv(tmp_path / "all.csv", [["review", "verdict", "split"], *rows, ["x", "bad", "hm"]])
    with pytest.raises(
        ValueError, match=r"all\.csv:6: column 'split' is 'hm', and not train, dev or"
    ):
        read_split(task, "train")


# Holding out


def test_rows_are_held_out_evenly_whatever_their_order(made):
    parts = {split: read_split(made, split).examples for split in ("train", "dev")}
    assert not {row.id for row in parts["train"]} & {row.id for row in parts["dev"]}
    assert Counter(row.label for row in parts["dev"]) == {0.0: 4, 1.0: 4, 2.0: 4}
    rows = [*parts["train"], *parts["dev"]]
    random.Random(0).shuffle(rows)
    again = {row for row, part in zip(rows, parts_of(rows, made)) if part == "dev"}
    assert again == set(parts["dev"])
    other = replace(made, hold_out=HeldOut(dev=0.2, seed=2))
    assert {row for row, part in zip(rows, parts_of(rows, other)) if part == "dev"} != again


def test_equal_texts_stay_in_one_part(made):
    texts = [f"text {n}" for n in range(40)]
    rows = [Example(str(n), (text,), float(n % 3)) for n, text in enumerate(texts)]
    copies = [Example(f"c{n}", (f" {t.upper()}  ",), float(n % 2)) for n, t in enumerate(texts)]
    task = replace(made, hold_out=HeldOut(dev=0.3, test=0.2))
    parts = parts_of([*rows, *copies], task)
    assert parts[:40] == parts[40:] and 14 <= parts.count("test") <= 18
    assert 22 <= parts.count("dev") <= 26 and parts.count("train") > 30
    assert same_text(("B a", "c")) == same_text(("c", "b  A"))


def test_the_rarest_label_is_in_both_parts(tmp_path):
    labels = [(1.0, 1.0, 0.0)] * 40 + [(1.0, 0.0, 1.0)] * 4 + [(0.0, 0.0, 0.0)] * 16
    rows = [Example(str(n), (f"t {n}",), label) for n, label in enumerate(labels)]
    task = replace(TASKS["sst"], kind="labels", classes=("a", "b", "c"), hold_out=HeldOut(dev=0.2))
    task = replace(task, tables={"train": TASKS["sst"].tables["train"]})
    parts = parts_of(rows, task)
    held = Counter(row.label for row, part in zip(rows, parts) if part == "dev")
    assert held == {(1.0, 1.0, 0.0): 8, (1.0, 0.0, 1.0): 1, (0.0, 0.0, 0.0): 3}
    parts = parts_of(rows, replace(task, hold_out=HeldOut(dev=0.05)))  # a fifth of a row
    assert {row.label for row, part in zip(rows, parts) if part == "dev"} == set(labels)


def test_too_few_rows_to_hold_out_are_refused(tmp_path):
    task = csv_task(tmp_path, GOOD + "A  B,fine\n")
    with pytest.raises(ValueError, match=r"2 rows with 1 different texts are too few .* for dev"):
        read_split(task, "train")


# Task files


@pytest.mark.parametrize(
    "change, said",
    [
        ({"lable": '"x"'}, r"mine\.toml:6: unknown key 'lable'; known are text, label"),
        ({"kind": '"class"'}, "kind is 'class'; choose one of classes, number, labels"),
        ({"classes": '["bad"]'}, r"classes \('bad',\); name at least two"),
        ({"classes": '["bad", "bad"]'}, "names a class twice"),
        ({"range": "[0, 1]"}, "range is for kind number, and this task is of kind classes"),
        ({"name": '"sst"'}, "the name 'sst' is taken by the library"),
        ({"name": '"type"'}, "the name 'type' is taken by the library"),
        ({"name": '"../x"'}, "a name is of letters"),
        ({"metrics": '["pearson"]'}, "metrics has 'pearson'; those of kind classes are"),
        ({"delimiter": '"::"'}, "delimiter is '::'; it is one character"),
        ({"names": '{ a = "b" }'}, "names leads to 'b', which is none of the classes"),
        ({"text": '["a", "b", "c"]'}, r"tables with \[3\] columns of text"),
        ({"text": "[]"}, r"tables with \[0\] columns of text"),
        ({"hold_out": 1.5}, "hold_out has dev 1.5 and test 0: they are shares"),
        ({"hold_out": None}, "has training rows and no development rows"),
        ({"text": None}, "file 1, reviews.csv: text names no column"),
        ({"label": None}, "file 1, reviews.csv: label names no column, which train rows need"),
        ({"name": "mine"}, "is not a TOML file: .*line 1"),
        (
            {"files": [{"path": '"a.csv"', "splits": '"dev"'}]},
            ":10: unknown key 'splits' of file 1",
        ),
        ({"files": [{"path": '"a.csv"'}]}, "file 1, a.csv, must say of which split"),
        ({"files": [{"path": '"a.xls"', "split": '"dev"'}]}, "the ending '.xls' tells no format"),
    ],
)
def test_a_wrong_task_file_is_explained(tmp_path, change, said):
    keys = {**COLUMNS, "hold_out": 0.2, **change}
    if keys["hold_out"] is None:
        del keys["hold_out"]
    path = task_file(tmp_path, **{k: v for k, v in keys.items() if v is not None})
    with pytest.raises(ValueError, match=said) as error:
        read_task_file(path)
    assert str(path) in str(error.value)


def test_a_missing_file_says_where_it_was_looked_for(tmp_path, made):
    (tmp_path / "reviews.csv").rename(tmp_path / "elsewhere.csv")
    with pytest.raises(ValueError, match=rf"wants reviews.csv .* neither in {tmp_path} nor"):
        read_split(made, "train")
    (tmp_path / "new").mkdir()
    (tmp_path / "elsewhere.csv").rename(tmp_path / "new/reviews.csv")
    assert has_split(made, "dev", tmp_path / "new") and not has_split(made, "dev", tmp_path)
    assert len(read_split(made, "dev", tmp_path / "new").examples) == 12


def test_a_task_comes_back_from_json(made):
    values = json.loads(json.dumps(task_to_dict(made)))
    assert task_from_dict(values, "x") == made
    for name in ("sst", "mnli", "sts"):
        kept = task_from_dict(json.loads(json.dumps(task_to_dict(TASKS[name]))), "x")
        assert kept == TASKS[name]


# Registry


def test_a_name_means_one_task(made, tmp_path):
    register_task(made)
    assert register_task(made) is get_task("mine")
    other = replace(made, title="other")
    with pytest.raises(ValueError, match="another task is called 'mine', with other title"):
        register_task(other)
    assert register_task(other, replace=True) is get_task("mine")
    with pytest.raises(ValueError, match="the name 'sst' is taken by the library"):
        register_task(replace(made, name="sst"))
    with pytest.raises(ValueError, match=r"no task is called 'yours'.*--task-file"):
        get_task("yours")


def test_a_task_file_that_was_edited_is_read_again(made, tmp_path):
    assert register_task_file(made.source) == made
    task_file(tmp_path, **COLUMNS, hold_out=0.4)
    assert register_task_file(made.source).hold_out.dev == 0.4
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match=r"b/mine\.toml: another task is called 'mine'"):
        register_task_file(task_file(tmp_path / "b", **COLUMNS, hold_out=0.4))


def test_a_task_from_python_needs_no_file_but_its_table(tmp_path):
    own_data.reviews(tmp_path)
    table = Table(path="reviews.csv", texts=("review",), label="verdict", format="csv",
                  label_names=("bad", "fine", "great"))  # fmt: skip
    task = register_task(
        Task(name="own", title="own", kind="classes", classes=("bad", "fine", "great"),
             tables={"train": table}, hold_out=HeldOut(dev=0.1), metrics=("accuracy",))
    )  # fmt: skip
    assert len(read_split(task, "dev", tmp_path).examples) == 6


# Guesses


def shape(folder, rows):
    return shape_of(write_csv(folder / "rows.csv", rows))


@pytest.mark.parametrize(
    "header, row, texts, labels",
    [
        (["id", "text", "label"], lambda n: [n, f"word {n}", n % 2], ("text",), ("label",)),
        (["label", "text"], lambda n: [n % 2, f"word {n}"], ("text",), ("label",)),
        (["q1", "q2", "same"], lambda n: [f"a b {n}", f"c d {n}", n % 2], ("q1", "q2"), ("same",)),
        (
            ["premise", "hypothesis", "gold_label"],
            lambda n: [f"a {n}", f"a b c d e f g h {n}", "ab"[n % 2]],
            ("premise", "hypothesis"),
            ("gold_label",),
        ),
        (
            ["title", "body", "topic"],
            lambda n: [f"a {n}", "b " * 9, "xy"[n % 2]],
            ("body",),
            ("topic",),
        ),
        (["comment", "v"], lambda n: [f"a b {n}", n / 7], ("comment",), ("v",)),
    ],
)
def test_columns_are_guessed(tmp_path, header, row, texts, labels):
    found = guess(shape(tmp_path, [header, *(row(n) for n in range(30))]), name="x")
    assert (found.texts, found.labels) == (texts, labels)
    assert len(found.why) >= 3


@pytest.mark.parametrize(
    "cells, kind",
    [
        ([1, 2, 3, 4, 5] * 6, "classes"),
        ([n / 2 for n in range(30)], "number"),
        (list(range(30)), "number"),
        (["a", "b", "a,b"] * 10, "labels"),
        (["a", "b", ""] * 10, "classes"),
        (["New York, NY", "Rome", "Oslo"] * 10, "classes"),
    ],
)
def test_the_kind_is_guessed_and_can_be_said(tmp_path, cells, kind):
    rows = [["text", "label"], *([f"word {n}", cell] for n, cell in enumerate(cells))]
    found = guess(shape(tmp_path, rows), name="x")
    assert found.kind == kind
    said = guess(shape(tmp_path, rows), name="x", kind="labels", separator="|")
    assert said.kind == "labels"


@pytest.mark.parametrize(
    "rows, said",
    [
        (
            [["a text that is as long as a sentence is", "1"], ["b", "2"]],
            "first line must name the",
        ),
        ([["text", "text"], ["a b", "c"]], "two columns are called 'text'"),
        ([["text", "label"]], "has a header, and no rows"),
        ([["text", "label"], ["a b", "x", "y"]], ":2: 3 columns where 2 are due"),
        ([["text", "label"], ["a b", "x"], ["c d", "x"]], "'x' in every row"),
        ([["text", "label"], *([f"a {n}", f"n{n}"] for n in range(90))], "too many for classes"),
        (
            [["text", "other"], *([f"a {n}", f"b {n}"] for n in range(9))],
            "looks like a label; name",
        ),
    ],
)
def test_what_cannot_be_guessed_is_explained(tmp_path, rows, said):
    with pytest.raises(ValueError, match=said):
        guess(shape(tmp_path, rows), name="x")


def test_what_makes_scores_mislead_is_said(tmp_path):
    rows = [["review", "verdict"], ["a b", "bad"], ["c d", "bad"], ["A  b", "fine"]]
    write_csv(tmp_path / "reviews.csv", rows)
    write_csv(tmp_path / "dev.csv", [rows[0], ["a B", "bad"], ["x", "fine"]])
    files = [
        {"path": f'"{p}"', "split": f'"{s}"'}
        for p, s in (("reviews.csv", "train"), ("dev.csv", "dev"))
    ]
    lines, wrong = inspect_task(read_task_file(task_file(tmp_path, files=files, **COLUMNS)))
    text = "\n".join(lines)
    assert not wrong and "1 of the 2 dev rows have the texts of training rows" in text
    assert "no training row is great" in text and "1 texts stand there with different" in text


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"needs pyarrow; install it: pip install 'minbert\[parq"):
        shape_of(Path(tmp_path / "a.parquet"))
