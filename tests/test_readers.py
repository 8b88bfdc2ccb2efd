"""Readers: the oddities of the real files, the errors, and the task records."""

import csv
import math
import os
import re
from dataclasses import replace

import pytest
from helpers import write_table

from data.readers import SAMPLES, Example, has_split, read_split, spread
from data.sources import SOURCES
from data.tasks import SPLITS, TASKS, get_task
from multitask.metrics import METRICS

SST = ["", "id", "sentence", "sentiment"]
PARA = ["", "id", "sentence1", "sentence2", "is_duplicate"]
STS = ["", "id", "sentence1", "sentence2", "similarity"]


def read(folder, task, rows, split="train", *, quoted=True, **options):
    """What `read_split` makes of a file with these rows."""
    record = get_task(task)
    write_table(folder / record.tables[split].path, rows, quoted=quoted)
    return read_split(record, split, folder, **options)


def read_text(folder, task, text, split="train", **options):
    """What `read_split` makes of a file with this text, or these bytes."""
    path = folder / get_task(task).tables[split].path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_split(get_task(task), split, folder, **options)


# Every task


def test_every_task_is_complete():
    assert len(TASKS) > 13
    for name, task in TASKS.items():
        assert name == task.name and task.title and SOURCES[name].licence
        assert set(task.tables) == ({"test"} if name == "ax" else set(SPLITS)) | (
            {"dev_mismatched", "test_mismatched"} if name == "mnli" else set()
        )
        assert task.metrics and set(task.metrics) <= METRICS.keys()
        assert {len(table.texts) for table in task.tables.values()} == {1 + task.is_pair}
        labelled = {split for split, table in task.tables.items() if table.label}
        assert labelled == {split for split in task.tables if not split.startswith("test")}
        kinds = {"classes": len(task.classes) > 2, "binary": len(task.classes) == 2}
        low, high = task.label_range
        assert kinds.get(task.kind, not task.classes and low < high), name
        assert task.num_outputs == (len(task.classes) if task.kind == "classes" else 1)
    stems = [task.predictions.stem for task in TASKS.values()]
    paths = [table.path for task in TASKS.values() for table in task.tables.values()]
    assert len(set(stems)) == len(stems) and len(set(paths)) == len(paths)


def test_the_samples_hold_every_split_of_the_four_tasks():
    found = [n for n, task in TASKS.items() if all(has_split(task, s, SAMPLES) for s in SPLITS)]
    assert found[:4] == ["sst", "para", "sts", "cola"]
    for name in found:
        for split in SPLITS:
            rows = read_split(TASKS[name], split)
            labelled = TASKS[name].tables[split].label is not None
            assert len(rows.examples) >= 100 and not rows.skipped
            assert all((example.label is not None) == labelled for example in rows.examples)


def test_an_unknown_task_lists_the_known_ones():
    with pytest.raises(ValueError, match="'sts2'; known are sst, para, sts, cola, cfimdb"):
        get_task("sts2")


# What real files hold

NASTY = [
    ' a "quoted" word ',
    '"a "b" c"',
    '"""',
    "tab\there",
    "line\u2028separator, next\x85line, form\x0cfeed, unit\x1cseparator",
    "naïve 東京 🎬",
    "'single'",
    "\\ and \\n",
]


def test_quoted_fields_are_read_as_csv_reads_them(tmp_path):
    rows = read(tmp_path, "sst", [SST, *([n, f"i{n}", t, 3] for n, t in enumerate(NASTY))])
    with rows.path.open(encoding="utf-8", newline="") as file:
        expected = list(csv.DictReader(file, delimiter="\t"))
    assert [e.texts[0] for e in rows.examples] == [row["sentence"].strip() for row in expected]
    assert [e.id for e in rows.examples] == [row["id"] for row in expected]
    assert rows.examples[1].texts == ('"a "b" c"',)


@pytest.mark.parametrize("text", ['"""a ""b"" c"""', '"a, b ""c"""', '" leading"', "it's `` x ''"])
def test_doubled_quotes_as_they_stand_in_the_files(tmp_path, text):
    line = f"7\tid1\t{text}\tWhat is it?\t1.0"
    example = read_text(tmp_path, "para", "\t".join(PARA) + f"\n{line}\n").examples[0]
    (expected,) = csv.DictReader(["\t".join(PARA), line], delimiter="\t")
    assert example.texts == (expected["sentence1"].strip(), "What is it?")
    assert example.label == 1.0


@pytest.mark.parametrize("text", ['"quoted', 'a "b" c', '""', "a\rb", "a\u2028b", "a\x85b"])
def test_in_glue_files_a_quote_is_a_character_and_only_newline_ends_a_line(tmp_path, text):
    rows = [["gj04", 1, "", text], ["gj04", 0, "*", "second"]]
    found = read(tmp_path, "cola", rows, quoted=False).examples
    assert [(e.id, e.texts, e.label) for e in found] == [("0", (text,), 1.0), ("1", ("second",), 0)]


@pytest.mark.parametrize("text", ["a\rb", '"a\rb"'])
def test_a_lone_carriage_return_does_not_end_a_quoted_row(tmp_path, text):
    found = read_text(tmp_path, "sst", "\t".join(SST) + f"\n0\tx\t{text}\t4\n").examples
    assert [(e.id, e.texts[0].split(), e.label) for e in found] == [("x", ["a", "b"], 4.0)]


@pytest.mark.parametrize("on_bad_row", ["stop", "skip"])
def test_a_text_may_be_long(tmp_path, on_bad_row):
    text = "word " * 40_000  # the csv module's own limit is 131,072 characters
    found = read(tmp_path, "sst", [SST, [0, "x", text, 1]], on_bad_row=on_bad_row)
    assert [example.texts for example in found.examples] == [(text.strip(),)]
    assert not found.skipped
    assert csv.field_size_limit() == 131_072  # that of the process is as it was


def test_the_data_directory_may_be_text_and_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = read(tmp_path / "data", "sst", [SST, [0, "x", "a", 1]]).path
    for folder in (str(tmp_path / "data"), "~/data", "~"):
        assert has_split(TASKS["sst"], "train", folder)
        assert read_split(TASKS["sst"], "train", folder).path == path


def test_unlabelled_rows_come_from_a_header_with_one_column_too_many(tmp_path):
    rows = [["0", "", "id", "sentence"], ["1", "0.0", "b75", " Effective biopic "]]
    (example,) = read(tmp_path, "sst", rows, "test").examples
    assert (example.id, example.texts, example.label) == ("b75", ("Effective biopic",), None)
    (example,) = read(
        tmp_path, "cola", [["index", "sentence"], ["5", "Bill."]], "test", quoted=False
    ).examples
    assert (example.id, example.texts, example.label) == ("5", ("Bill.",), None)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "BOM"])
@pytest.mark.parametrize("last", [True, False], ids=["end", "no-end"])
def test_byte_order_mark_and_line_ends(tmp_path, start, end, last):
    lines = ["id\tsentence\tsentiment", "a\t one \t0", "", "b\ttwo\t4"]
    text = start + end.join(lines) + end * last
    found = read_text(tmp_path, "sst", text).examples
    assert [(e.id, e.texts[0], e.label) for e in found] == [("a", "one", 0.0), ("b", "two", 4.0)]


# Bad rows

BAD = [
    ("para", PARA, [0, "x", "a?", "b?", ""], "column 'is_duplicate' is ''"),
    ("para", PARA, [0, "x", "a?", " ", 1.0], "column 'sentence2' is empty"),
    ("sst", SST, [0, "x", "", 1], "column 'sentence' is empty"),
    ("sst", SST, [0, " ", "a", 1], "column 'id' is empty"),
    ("sst", SST, [0, "x", "a", 7], "label of sst is a whole number from 0 to 4"),
    ("sst", SST, [0, "x", "a", -1], "'-1'; a label of sst is a whole number from 0 to 4"),
    ("sst", SST, [0, "x", "a", 1.5], "'1.5'; a label of sst is a whole number from 0 to 4"),
    ("sst", SST, [0, "x", "a", "nan"], "'nan'; a label"),
    ("sst", SST, [0, "x", "a", "inf"], "'inf'; a label"),
    ("sst", SST, [0, "x", "a", "good"], "'good'; a label"),
    ("para", PARA, [0, "x", "a", "b", 2], "label of para is a whole number from 0 to 1"),
    ("sts", STS, [0, "x", "a", "b", 5.1], "label of sts is a number from 0 to 5"),
    ("sts", STS, [0, "x", "a", "b", "nan"], "'nan'; a label of sts is a number from 0 to 5"),
    ("sst", SST, [0, "x", "a"], "3 columns where 4 are due"),
    ("sst", SST, [0, "x", "a", 1, 2], "5 columns where 4 are due"),
    ("sst", SST, [9, "good1", "a", 1], "id 'good1' stands in an earlier row too"),
]


@pytest.mark.parametrize("task, header, bad, reason", BAD, ids=[f"{b[0]}-{b[3]}" for b in BAD])
def test_a_bad_row_stops_with_its_place_or_is_listed(tmp_path, task, header, bad, reason):
    good = [[n, f"good{n}", *["text"] * (len(header) - 3), 1] for n in range(3)]
    rows = [header, *good[:2], bad, good[2]]
    with pytest.raises(ValueError, match=re.escape(reason)) as error:
        read(tmp_path, task, rows)
    message = str(error.value)
    path = tmp_path / TASKS[task].tables["train"].path
    assert message.startswith(f"{path}:4: ")
    assert repr("\t".join(map(str, bad))) in message
    assert "mend the row, or leave such rows out with --on-bad-row skip" in message

    found = read(tmp_path, task, rows, on_bad_row="skip")
    assert [e.id for e in found.examples] == ["good0", "good1", "good2"]
    assert [(row.path, row.line) for row in found.skipped] == [(path, 4)]
    assert reason in found.skipped[0].reason and reason in str(found.skipped[0])


@pytest.mark.parametrize("text", ['"open', '"a" b'])
def test_broken_quoting_is_a_bad_row(tmp_path, text):
    lines = ["\t".join(SST), f"0\tx\t{text}\t1", "1\ty\tfine\t2"]
    with pytest.raises(ValueError, match=r"ids-sst-train.csv:2: broken quoting \("):
        read_text(tmp_path, "sst", "\n".join(lines))
    found = read_text(tmp_path, "sst", "\n".join(lines), on_bad_row="skip")
    assert [e.id for e in found.examples] == ["y"] and len(found.skipped) == 1


def test_rows_without_an_id_keep_their_number_when_others_are_left_out(tmp_path):
    rows = [["s", 1, "", "a"], ["s", 5, "", "b"], ["s", 0, "", "c"]]
    found = read(tmp_path, "cola", rows, quoted=False, on_bad_row="skip")
    assert [(e.id, e.texts[0]) for e in found.examples] == [("0", "a"), ("2", "c")]


def test_a_long_bad_row_is_shown_in_part(tmp_path):
    with pytest.raises(ValueError, match="a label of sst") as error:
        read(tmp_path, "sst", [SST, [0, "x", "word " * 500, 9]])
    assert len(str(error.value)) < 600 and "..." in str(error.value)


# Bad files

HEAD = ("\t".join(SST) + "\n").encode()


@pytest.mark.parametrize(
    "text, message",
    [
        (b"", "has no usable row for task 'sst'"),
        ("\t".join(SST) + "\n", "has no usable row for task 'sst'"),
        ("a,b,c\n1,2,3\n", r":1: the header \['a,b,c'\] lacks .*must be named.*separated by tabs"),
        ("\tid\tsentence\n0\tx\ty\n", r"lacks the columns \['sentiment'\]"),
        (
            "id\tsentence\tsentence\tsentiment\n0\tx\ty\t1\n",
            r":1: the header .* names the columns \['sentence'\] more than once; rename those",
        ),
        (HEAD + b"0\tx\tcaf\xe9\t1\n", ":2: byte 0xe9 in column 8, at offset 30, is not UTF-8"),
        (HEAD[:9] + b"\xff" + HEAD[9:], ":1: byte 0xff in column 10, at offset 9, is not UTF-8"),
        (HEAD + b"0\tx\t\0\t1\n", ":2: byte 0x00 in column 5, at offset 27, .*damaged, or UTF-16"),
        (HEAD.decode().encode("utf-16"), "is UTF-16 text; convert it: iconv -f UTF-16 -t UTF-8$"),
        (HEAD.decode().encode("utf-16-le"), ":1: byte 0x00 in column 2.*damaged, or UTF-16"),
        (
            HEAD.replace(b"\n", b"\r") + b"0\tx\ty\t1\r" * 9**5,
            r"has one line, of 472,415 characters: its rows end in \\r alone.*tr '\\r' '\\n'$",
        ),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer in.*pull$"),
        (b"\xef\xbb\xbf <!DOCTYPE html><html>", "is a web page.* download the file again$"),
    ],
    ids=["empty", "header only", "commas", "no label column", "column twice", "latin-1", "header",
         "NUL", "UTF-16", "UTF-16 without BOM", "old Mac", "Git LFS", "HTML"],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"ids-sst-train\.csv.*{message}"):
        read_text(tmp_path, "sst", text)


@pytest.mark.slow
def test_a_bad_byte_costs_its_row_alone(tmp_path):
    rows = [b"%d\ti%d\tna\xc3\xafve\t1\n" % (n, n) for n in range(50_000)]
    rows[44_000] = rows[44_000].replace(b"\xaf", b"X")
    offset = len(HEAD) + sum(map(len, rows[:44_000])) + 15
    place = rf":44002: byte 0xc3 in column 16, at offset {offset:,}"
    with pytest.raises(ValueError, match=place):
        read_text(tmp_path, "sst", HEAD + b"".join(rows))
    found = read_text(tmp_path, "sst", HEAD + b"".join(rows), on_bad_row="skip")
    assert len(found.examples) == 49_999 and found.skipped[0].line == 44_002
    assert "na\\xc3Xve" in found.skipped[0].content


def test_only_regular_files_are_read(tmp_path):
    path = tmp_path / "ids-sst-train.csv"
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"ids-sst-train\.csv is a pipe or a device"):
        read_split(TASKS["sst"], "train", tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=r"ids-sst-train\.csv is a folder"):
        read_split(TASKS["sst"], "train", tmp_path)


@pytest.mark.parametrize(
    "text, value",
    [("1", 1), ("1.0", 1), (" 1 ", 1), ("1e0", 1), ("+1", 1), ("01", 1), (".5", 0.5), ("5.", 5),
     ("25e-1", 2.5), *((text, None) for text in ("0_1", "\uff11", "\u0663", "nan", "inf", "-inf",
     "infinity", "1e999", "0x1", "1,0", "True", "1 0", "--1", "e1", "", ".", "1" * 5000))],
)  # fmt: skip
def test_a_number_is_written_in_digits(tmp_path, text, value):
    content = "\t".join(STS) + f"\n0\tx\ta\tb\t{text}\n"
    if value is not None:
        assert read_text(tmp_path, "sts", content).examples[0].label == value
        return
    with pytest.raises(
        ValueError, match=r"column 'similarity' is .* a number from 0 to 5"
    ) as error:
        read_text(tmp_path, "sts", content)
    assert len(str(error.value)) - len(str(tmp_path)) < 300


def test_missing_directory_missing_file_and_a_file_in_two_places(tmp_path):
    task = get_task("sst")
    with pytest.raises(ValueError, match=r"data directory .*nowhere does not exist.*--data-dir"):
        read_split(task, "train", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"wants ids-sst-train.csv for its train split.*none"):
        read_split(task, "train", tmp_path)
    assert not has_split(task, "train", tmp_path)

    rows = [SST, [0, "x", "a", 1]]
    path = read(tmp_path / "one", "sst", rows).path
    assert has_split(task, "train", tmp_path) and read_split(task, "train", tmp_path).path == path
    read(tmp_path / "two", "sst", rows)
    with pytest.raises(ValueError, match=r"found \[.*one/ids-sst-train.*two/ids-sst-train"):
        read_split(task, "train", tmp_path)
    path = read(tmp_path, "sst", rows).path
    assert read_split(task, "train", tmp_path).path == path


@pytest.mark.parametrize("number", [0, 0.5, 4.999, 5])
def test_labels_of_a_regression_are_kept_as_numbers(tmp_path, number):
    (example,) = read(tmp_path, "sts", [STS, [0, "x", "a", "b", number]]).examples
    assert math.isclose(example.label, number)


def test_a_new_task_is_one_record(tmp_path):
    table = replace(
        TASKS["cola"].tables["train"], path="new.tsv", header=("label", "text"), texts=("text",)
    )
    task = replace(TASKS["cola"], name="new", tables={"train": table})
    write_table(tmp_path / "new.tsv", [[1, "a"], [0, "b"]], quoted=False)
    found = read_split(task, "train", tmp_path).examples
    assert [(e.texts, e.label) for e in found] == [(("a",), 1.0), (("b",), 0.0)]


@pytest.mark.parametrize(("count", "expected"), [(3, [0, 3, 6]), (1, [0]), (10, [*range(10)])])
def test_rows_are_taken_at_equal_distances(count, expected):
    rows = [Example(str(n), ("text",), None) for n in range(10)]
    assert [int(row.id) for row in spread(rows, count)] == expected
    assert spread(rows, None) == spread(rows, 99) == rows
