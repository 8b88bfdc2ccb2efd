"""The leaderboard's zip: what is written is what runs answered, and whatever is wrong is named."""

import re
import shutil
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from glue_files import HEADERS, write
from helpers import MADE_UP_CONFIG, MADE_UP_RECORD, write_table

from data.tasks import TASKS
from minbert.files import write_json
from multitask.commands.glue_commands import CheckGlue, SubmitGlue
from multitask.evaluate import Evaluation, write_predictions
from multitask.glue import leaderboard
from multitask.glue.glue_run import read_runs
from multitask.glue.leaderboard import FILES, best_runs, check_submission, write_submission

ROWS = 7
WORDS = {"MNLI-m", "MNLI-mm", "AX", "QNLI", "RTE"}
NAMES = ["CoLA", "SST-2", "MRPC", "STS-B", "MNLI-m", "MNLI-mm", "QNLI", "RTE", "WNLI", "QQP", "AX"]


def write_run(folder, task, score=0.5, seed=1, rows=ROWS, first=0):
    """A finished run with answers to its test sets, so far as submissions read it."""
    config = MADE_UP_CONFIG | {"tasks": [task], "seed": seed}
    scores = dict.fromkeys(TASKS[task].metrics, score)
    record = MADE_UP_RECORD | {"dev": {task: scores}, "config": config}
    path = folder / f"{task}-{seed}"
    sets = [(task, "test")]
    if task == "mnli":
        sets += [(task, "test_mismatched"), ("ax", "test")]
    for name, split in sets:
        kind = TASKS[name].kind
        answers = np.arange(rows) * 0.7123 if kind == "regression" else np.arange(rows) % 2
        ids = tuple(str(first + n) for n in range(rows))
        answered = Evaluation(ids=ids, answers=answers, probabilities=None, labels=None, metrics={})
        write_predictions(path / "predictions", TASKS[name], split, answered)
    write_json(path / "record.json", record)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Test files of all tasks."""
    folder = tmp_path_factory.mktemp("data")
    for name, splits in HEADERS.items():
        for split in splits:
            write(folder, name, split, count=ROWS)
    rows = [["index", "sentence"], *([n, "a text"] for n in range(ROWS))]
    write_table(folder / "CoLA" / "test.tsv", rows, quoted=False)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory, data):
    """A submission of runs of all tasks."""
    folder = tmp_path_factory.mktemp("written")
    for task in ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"):
        write_run(folder / "runs", task)
    path = folder / "submission.zip"
    assert write_submission(path, best_runs(read_runs(folder / "runs")), data_dir=data) == []
    return path


@pytest.fixture
def made(tmp_path, written):
    """A copy of it, to be changed."""
    return Path(shutil.copy(written, tmp_path))


def rewrite(path, changes, extra=()):
    """A copy of a zip with some files changed, left out (None) or added."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    for name, change in changes.items():
        files[name] = change(files[name]) if callable(change) else change
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in [*files.items(), *extra]:
            if text is not None:
                archive.writestr(name, text)
    return path


def line(number, text):
    """Put a text in the place of a line, counted from 1."""

    def change(content):
        lines = content.split("\n")
        lines[number - 1] = text
        return "\n".join(lines)

    return change


def test_a_submission_holds_what_the_runs_answered(made, data):
    with zipfile.ZipFile(made) as archive:
        assert archive.namelist() == [f"{name}.tsv" for name in NAMES]
        tables = {n: archive.read(f"{n}.tsv").decode().splitlines() for n in NAMES}
    for name, (header, *rows) in tables.items():
        assert header == "index\tprediction"
        if name == "STS-B":
            wanted = [f"{n}\t{n * 0.7123:.4f}" for n in range(ROWS)]
        elif name in WORDS:
            second = "neutral" if name in ("MNLI-m", "MNLI-mm", "AX") else "not_entailment"
            wanted = [f"{n}\t{second if n % 2 else 'entailment'}" for n in range(ROWS)]
        else:
            wanted = [f"{n}\t{n % 2}" for n in range(ROWS)]
        assert rows == wanted, name
    assert check_submission(made, data_dir=data) == []
    assert check_submission(made)[0].what == "7 rows where CoLA/test.tsv has 1063"


def test_row_counts_of_glue():
    """Sizes of GLUE's test sets, as its paper's table 1 and its files have them."""
    rows = dict(zip(NAMES, [1063, 1821, 1725, 1379, 9796, 9847, 5463, 3000, 146, 390965, 1104]))
    assert {name: file.rows for name, file in FILES.items()} == rows


def test_windows_line_ends_and_no_last_one_are_fine(made, data):
    rewrite(made, {"RTE.tsv": lambda t: t.replace("\n", "\r\n"), "QQP.tsv": str.rstrip})
    assert check_submission(made, data_dir=data) == []


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"RTE.tsv": None}, "RTE.tsv: is missing"),
        ({"RTE.tsv": line(1, "id\tlabel")}, r"RTE.tsv:1: the header is 'id\tlabel', not 'index\t"),
        ({"RTE.tsv": line(1, "")}, "RTE.tsv:1: the header is ''"),
        ({"RTE.tsv": ""}, "RTE.tsv: 0 rows where RTE/test.tsv has 7"),
        ({"RTE.tsv": line(3, "1\tEntailment")}, "RTE.tsv:3: prediction 'Entailment' where one of"),
        ({"MNLI-mm.tsv": line(2, "0\t0")}, "MNLI-mm.tsv:2: prediction '0' where one of entail"),
        ({"AX.tsv": line(2, "0\tnot_entailment")}, "AX.tsv:2: prediction 'not_entailment' where"),
        ({"WNLI.tsv": line(8, "6\t1.0")}, "WNLI.tsv:8: prediction '1.0' where one of 0, 1 is due"),
        ({"CoLA.tsv": line(4, "2\t2")}, "CoLA.tsv:4: prediction '2' where one of 0, 1 is due"),
        ({"STS-B.tsv": line(4, "2\tnan")}, "STS-B.tsv:4: prediction 'nan' where a finite number"),
        ({"STS-B.tsv": line(4, "2\thigh")}, "STS-B.tsv:4: prediction 'high' where a finite number"),
        ({"QQP.tsv": line(4, "3\t0")}, "QQP.tsv:4: index '3' where 2 is due: rows go from 0 up"),
        ({"QQP.tsv": line(4, "2 0")}, "QQP.tsv:4: 1 columns where 2 are due, with a tab"),
        ({"QQP.tsv": line(4, "2\t0\t")}, "QQP.tsv:4: 3 columns where 2 are due"),
        ({"MRPC.tsv": lambda t: t + "7\t1\n"}, "MRPC.tsv: 8 rows where MRPC/test.tsv has 7"),
        ({"QNLI.tsv": lambda t: t[: t.index("6\t")]}, "QNLI.tsv: 6 rows where QNLI/test.tsv has 7"),
        ({"extra.txt": "x"}, "extra.txt: is no file of a submission; take it out"),
        ({"sub/RTE.tsv": "x"}, "sub/RTE.tsv: the files must lie at the top of the zip"),
        ({"../../RTE.tsv": "x"}, "../../RTE.tsv: the files must lie at the top of the zip"),
        ({"/etc/passwd": "x"}, "/etc/passwd: is no file of a submission"),
        ({"\x1b[31mred": "x"}, r"\x1b[31mred: is no file of a submission"),
    ],
)  # fmt: skip
def test_each_problem_is_named_by_file_and_line(made, data, changes, problem):
    problems = [str(p) for p in check_submission(rewrite(made, changes), data_dir=data)]
    assert any(p.startswith(problem) for p in problems), problems
    assert len(problems) <= 2


def test_a_file_that_stands_in_the_zip_twice(made, data):
    with pytest.warns(UserWarning, match="Duplicate name"):
        rewrite(made, {}, extra=[("RTE.tsv", "index\tprediction\n")])
    assert "RTE.tsv: stands in the zip 2 times" in map(str, check_submission(made, data_dir=data))


def test_many_problems_are_counted(made, data):
    bad = "index\tprediction\n" + "x\ty\n" * 1000
    problems = [str(p) for p in check_submission(rewrite(made, {"RTE.tsv": bad}), data_dir=data)]
    assert len(problems) == 22
    assert problems[20:] == ["RTE.tsv: and 980 more problems",
                             "RTE.tsv: 1000 rows where RTE/test.tsv has 7"]  # fmt: skip


def test_a_file_that_unpacks_to_too_much_is_not_read(made, data, monkeypatch):
    monkeypatch.setattr(leaderboard, "MOST_BYTES", 1 << 20)
    rewrite(made, {"RTE.tsv": "0" * (64 << 20)})
    assert made.stat().st_size < 1 << 18
    tracemalloc.start()
    problems = check_submission(made, data_dir=data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [str(p) for p in problems] == ["RTE.tsv: is larger than 1 MB unpacked"]
    assert most < 8 << 20


def test_files_that_are_no_zip_or_a_damaged_one(tmp_path, made, data):
    other = tmp_path / "other.zip"
    other.write_text("index\tprediction\n", encoding="utf-8")
    assert [str(p) for p in check_submission(other)] == [
        "other.zip: no zip file: File is not a zip file"
    ]
    content = made.read_bytes()
    start = content.index(b"RTE.tsv") + len(b"RTE.tsv")
    made.write_bytes(content[:start] + b"\xff\xff" + content[start + 2 :])
    (problem,) = check_submission(made, data_dir=data)
    assert str(problem).startswith("RTE.tsv: cannot be read: ")
    flags = content.rindex(b"PK\x01\x02") + 8  # of the last file in the list, AX.tsv
    made.write_bytes(content[:flags] + struct.pack("<H", 1) + content[flags + 2 :])
    (problem,) = check_submission(made, data_dir=data)
    assert re.match("AX.tsv: cannot be read: .*encrypted", str(problem))


def test_what_is_missing_is_named_or_filled_with_a_constant(tmp_path, data, capsys):
    write_run(tmp_path / "runs", "rte")
    write_run(tmp_path / "runs", "mnli")
    (tmp_path / "runs/mnli-1/predictions/ax-test-output.csv").unlink()
    out = tmp_path / "s.zip"
    command = {"folder": tmp_path / "runs", "out": out, "data_dir": data}
    with pytest.raises(ValueError, match=r"CoLA.tsv: there is no finished run of cola") as error:
        SubmitGlue(**command).run()
    assert "diagnostic/diagnostic.tsv, which was not there" in str(error.value)
    assert "--fill-missing" in str(error.value) and not out.exists()
    SubmitGlue(**command, fill_missing=True).run()
    lines = capsys.readouterr().out.splitlines()
    assert "CoLA.tsv: all 1, for want of answers" in lines
    assert "AX.tsv: all entailment, for want of answers" in lines
    assert f"RTE.tsv: {tmp_path}/runs/rte-1" in lines and lines[-1] == str(out)
    CheckGlue(zip=out, data_dir=data).run()
    with zipfile.ZipFile(out) as archive:
        assert archive.read("STS-B.tsv").decode().splitlines()[1:] == [
            f"{n}\t2.7000" for n in range(ROWS)
        ]


def test_check_ends_with_an_error_that_names_the_zip(made, capsys):
    with pytest.raises(ValueError, match=r"submission.zip would be refused"):
        CheckGlue(zip=made).run()
    assert "WNLI.tsv: 7 rows where WNLI/test.tsv has 146" in capsys.readouterr().out


def test_the_best_run_of_several_seeds_answers(tmp_path):
    for seed, score in enumerate([0.5, 0.7, 0.6], start=1):
        write_run(tmp_path, "rte", score, seed)
    assert best_runs(read_runs(tmp_path))["rte"].run.folder.name == "rte-2"


@pytest.mark.parametrize("rows, first", [(6, 0), (8, 0), (7, 1)])
def test_answers_to_other_rows_are_refused(tmp_path, data, rows, first):
    write_run(tmp_path, "rte", rows=rows, first=first)
    runs = best_runs(read_runs(tmp_path))
    with pytest.raises(ValueError, match=r"which are not rows 0 to 6 of RTE/test.tsv"):
        write_submission(tmp_path / "s.zip", runs, data_dir=data, fill_missing=True)
    assert not (tmp_path / "s.zip").exists()
