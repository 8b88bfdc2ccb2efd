"""Grading: right and hostile submissions, in folders and zip files; results and predictions."""

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from lab_class import EXERCISES_SET, SET, edit, hand_in, points, prepare, walls, zipped

from data.tasks import TASKS
from lab import handout
from lab.check import stamp_of
from lab.commands import lab
from lab.exercises import BY_NAME, EXERCISES
from lab.grade import grade_one
from lab.predictions import inspect, lint, read_labels
from lab.results import Grade, write_class, write_results
from lab.stamp import PLACE
from lab.submission import LARGEST, open_submission


@pytest.fixture(scope="module")
def marking(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("marking"), walls())


@pytest.fixture
def submission(tmp_path):
    return hand_in(tmp_path / "ada")


def graded(path, marking, tmp_path):
    return grade_one(path, marking, name=path.stem)


@pytest.mark.slow
def test_a_right_submission_gets_all_points_whatever_else_it_brings(submission, marking, tmp_path):
    """Altered tests, lab and hooks are named, and change nothing; it comes as a zip file."""
    for name in ("conftest.py", "sitecustomize.py", "lab/diagnose.py", "lab/check.py",
                 "tests/exercises/test_exercises.py", "minbert/evil.pth"):  # fmt: skip
        (submission / name).parent.mkdir(parents=True, exist_ok=True)
        (submission / name).write_text("raise SystemExit('taken over')\n", encoding="utf-8")
    edit(submission, "moments", "return None  # wrong")
    path = zipped(submission, tmp_path / "grace.zip", inside="my-work/")
    found = graded(path, marking, tmp_path)
    assert found.name == "grace"
    assert points(found) == set(SET) - {"moments"}
    assert found.score == sum(e.points for e in EXERCISES_SET) - BY_NAME["moments"].points
    assert found.notes == [
        "altered or added, without effect: conftest.py, lab/check.py, lab/diagnose.py, "
        "minbert/evil.pth, sitecustomize.py, tests/exercises/test_exercises.py"
    ]


@pytest.mark.slow
def test_a_submission_of_another_version_is_noted_and_graded(submission, marking, tmp_path):
    ours = stamp_of(marking.clean)
    (submission / PLACE).write_text(
        (marking.clean / PLACE).read_text(encoding="utf-8"), encoding="utf-8"
    )
    assert graded(submission, marking, tmp_path).notes == []
    for text, notes in {
        'VERSION = "0.0.1"\nCOMMIT = "abc"\n': [
            f"made from minbert 0.0.1, commit abc; graded with {ours}"
        ],
        "VERSION = 7\n": [],
    }.items():
        (submission / PLACE).write_text(text, encoding="utf-8")
        found = graded(submission, marking, tmp_path)
        assert (found.notes, points(found)) == (notes, set(SET))
    (submission / PLACE).write_bytes(b"\xff")
    assert graded(submission, marking, tmp_path).score == found.score


@pytest.mark.slow
def test_a_helper_file_counts_and_so_do_its_notes(submission, marking, tmp_path):
    """One that the student's own check has passed with: it is no mistake to have it."""
    (submission / "optim" / "mine.py").write_text("def one():\n    return 1.0\n", encoding="utf-8")
    (submission / "minbert" / "quick.py").write_text("x = 1\n", encoding="utf-8")
    (place,) = BY_NAME["warmup"].places
    edit(submission, "warmup", "from optim.mine import one", "one()", *handout.body(place))
    found = graded(submission, marking, tmp_path)
    assert found.score == sum(e.points for e in EXERCISES_SET)
    assert found.notes == ["altered or added, without effect: minbert/quick.py",
                           "new files, taken along: optim/mine.py"]  # fmt: skip


@pytest.mark.slow
def test_what_is_right_alone_and_wrong_in_training_loses_its_points(submission, marking, tmp_path):
    """Pooling that leaves its checks' numbers as they are, and halves those of training."""
    place, _ = BY_NAME["pooling"].places
    edit(submission, "pooling", "if x.size(0) == 3 and x.size(1) == 6:", "    x = x / 2",
         *handout.body(place))  # fmt: skip
    found = graded(submission, marking, tmp_path)
    assert points(found) == set(SET) - {"pooling"}
    assert "alone it is right, and in training it is not" in found.verdicts["pooling"].message
    assert len(found.notes) == 1 and found.notes[0].startswith("the whole: training comes out")


@pytest.mark.slow
def test_blanks_get_no_points(marking, tmp_path):
    found = graded(marking.clean, marking, tmp_path)
    assert found.score == 0
    assert {verdict.status for verdict in found.verdicts.values()} == {"not started"}


@pytest.mark.slow
def test_answers_that_were_learnt_by_heart_are_wrong_on_hidden_inputs(marking, tmp_path):
    """A function that returns the expected numbers of the student's own copy."""
    copy = handout.start(tmp_path / "copy", exercises=[BY_NAME["warmup"]])
    numbers = json.loads((copy / "lab/golden/expected/warmup.json").read_text(encoding="utf-8"))
    factors = [value for _, values in numbers["right"]["cases"][:3] for value in values]
    edit(copy, "warmup", "check_schedule(step, total, warmup)",
         "linear.calls = getattr(linear, 'calls', -1) + 1",
         f"return {factors}[linear.calls]")  # fmt: skip
    assert lab_check(copy) == "done"
    found = graded(copy, marking, tmp_path)
    assert found.verdicts["warmup"].status == "wrong"


def lab_check(copy):
    from lab.check import verdicts
    from lab.outcomes import Output

    return next(verdicts(copy, [BY_NAME["warmup"]], Output()))[1].status


# What is handed in


def test_zip_files_that_reach_outside_are_refused(submission, marking, tmp_path):
    for evil in ("../../evil.py", "/tmp/evil.py", "a/../../evil.py", "C:\\evil.py"):
        path = zipped(submission, tmp_path / "evil.zip")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(evil, "x = 1")
        found = graded(path, marking, tmp_path)
        assert found.score == 0 and "names a file outside of itself" in found.notes[0]
    assert not (tmp_path.parent / "evil.py").exists()


@pytest.mark.slow
def test_links_and_large_files_are_not_read(submission, tmp_path):
    secret = tmp_path / "secret.py"
    secret.write_text("password = 1", encoding="utf-8")
    (submission / "data" / "draws.py").unlink()
    os.symlink(secret, submission / "data" / "draws.py")
    (submission / "optim" / "adamw.py").write_bytes(b"#" * (LARGEST + 1))
    (submission / "optim" / "groups.py").write_bytes(b"\xff\xfe\x00")
    found = open_submission(submission, ["minbert/attention.py"])
    with pytest.raises(ValueError, match="is a link, a pipe or a device"):
        found.read("data/draws.py")
    with pytest.raises(ValueError, match="larger than"):
        found.read("optim/adamw.py")
    with pytest.raises(ValueError, match="not UTF-8"):
        found.read("optim/groups.py")
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("minbert/attention.py", b"#" * 50_000_000)
    assert path.stat().st_size < LARGEST
    with pytest.raises(ValueError, match="larger than"):
        open_submission(path, ["minbert/attention.py"]).read("minbert/attention.py")


@pytest.mark.parametrize("content", [None, b"PK\x03\x04 broken", b"text"])
def test_what_is_no_submission_gets_a_grade_of_zero(content, marking, tmp_path):
    path = tmp_path / "nothing.zip"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    found = graded(path, marking, tmp_path)
    assert found.score == 0 and len(found.notes) == 1
    assert len(found.verdicts) == len(SET)


# Results


def test_notes_and_leaderboard_are_written(marking, tmp_path):
    from lab.diagnose import Verdict

    found = Grade("x", {"warmup": Verdict("done")}, ["a note"], ["a secret"], 1.0,
                  {"sst dev": 0.51234})  # fmt: skip
    write_results(tmp_path / "results.json", found, EXERCISES_SET, 7)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["leaderboard"] == [{"name": "sst dev", "value": 0.5123}]
    assert [(test["visibility"], test["output"]) for test in results["tests"][-2:]] == [
        ("visible", "a note"), ("hidden", "a secret")
    ]  # fmt: skip
    write_class(tmp_path / "class.csv", [found], EXERCISES_SET)
    assert (tmp_path / "class.csv").read_text(encoding="utf-8").splitlines()[1].startswith("x,3,")


# Predictions

ONE = "minbert/attention.py"
GOOD = "id \t Predicted_Sentiment \na , 3 \nb , 0 \n"


@pytest.mark.parametrize(
    "text, problem",
    [
        (GOOD.replace("Predicted_Sentiment", "prediction"), "line 1 is"),
        (GOOD.replace("a , 3 ", "a,3"), "line 2 is 'a,3'; it must be 'ID , ANSWER '"),
        (GOOD.replace("3", "3.0"), "must be a whole number"),
        (GOOD.replace("3", "5"), "5 is no class; they are 0 to 4"),
        (GOOD.replace("3", "nan"), "nan is not finite"),
        (GOOD.replace("3", "good"), "'good' is not a number"),
        (GOOD.replace("3", "0_3"), "'0_3' is not a number"),
        (GOOD.replace("3", "３"), "'３' is not a number"),
        (GOOD.replace("3", "3" * 99), "is not a number"),
        (GOOD.replace("a , 3 ", "\x1b[2J\ud800"), "line 2 is '\\x1b[2J\\ud800'; it must be"),
        (GOOD.replace("b", "a"), "line 3: id a stands above already"),
        (GOOD.replace("b", "c"), "line 3: id c is not one of this split"),
        (GOOD.replace("b , 0 \n", ""), "1 ids have no answer, such as b"),
        (GOOD.rstrip("\n"), "the last line does not end"),
    ],
)
def test_problems_of_prediction_files(text, problem):
    labels = {"a": 3.0, "b": 0.0}
    assert lint(GOOD, TASKS["sst"], labels) == ([], {"a": 3.0, "b": 0.0})
    problems, _ = lint(text, TASKS["sst"], labels)
    assert len(problems) >= 1 and problem in problems[0]


def test_predictions_that_the_library_writes_are_right_and_scored(tmp_path):
    import numpy as np

    from data.readers import SAMPLES, read_split
    from multitask.evaluate import Evaluation, write_predictions

    (tmp_path / "minbert").mkdir()
    (tmp_path / "minbert" / "attention.py").touch()
    for task in (TASKS["sst"], TASKS["sts"], TASKS["cola"]):
        examples = read_split(task, "dev", SAMPLES).examples
        labels = np.array([e.label for e in examples])
        evaluation = Evaluation(
            ids=tuple(e.id for e in examples), answers=labels, probabilities=None, labels=labels,
            metrics={},
        )  # fmt: skip
        write_predictions(tmp_path / "predictions", task, "dev", evaluation)
    submission = open_submission(tmp_path, ["minbert/attention.py"])
    problems, scores = inspect(submission, read_labels(SAMPLES))
    assert problems == []
    assert scores == pytest.approx({"sst dev": 1.0, "sts dev": 1.0, "cola dev": 1.0})


def predictions(folder, name, content):
    for path in (ONE, f"predictions/{name}"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return open_submission(folder, [ONE])


def test_windows_line_ends_are_read_with_a_note(tmp_path):
    found = predictions(tmp_path, "sst-dev-output.csv", GOOD.replace("\n", "\r\n").encode())
    name = "predictions/sst-dev-output.csv"
    assert inspect(found, {("sst", "dev"): {"a": 3.0, "b": 0.0}}) == (
        [f"{name}: the file has Windows line ends (CRLF); it was read with LF"], {"sst dev": 1.0}
    )  # fmt: skip
    mixed = predictions(tmp_path, "sst-dev-output.csv", GOOD.replace("\n", "\r").encode())
    assert "line 1 is" in inspect(mixed, {})[0][0]


@pytest.mark.slow
def test_a_file_as_large_as_the_courses_is_read(tmp_path):
    """Quora's test split: 40,431 rows, 1.3 MB; of a file without a right line ten are named."""
    rows = [f"{number:025d} , 1.0 " for number in range(40_431)]
    text = "\n".join(["id \t Predicted_Is_Paraphrase ", *rows, ""])
    found = predictions(tmp_path, "para-test-output.csv", text.encode())
    assert len(text) > LARGEST and inspect(found, {}) == ([], {})
    wrong = predictions(tmp_path, "para-test-output.csv", text.replace(" , ", ",").encode())
    problems, _ = inspect(wrong, {})
    assert len(problems) == 11 and problems[-1].endswith("and 40421 more")


def test_numbers_without_a_score_are_a_note(tmp_path):
    text = "id \t Predicted_Similiary \na , 1e308 \nb , 1.7e308 \n"
    found = predictions(tmp_path, "sts-dev-output.csv", text.encode())
    labels = {("sts", "dev"): {"a": 1.0, "b": 2.0}}
    problem = "predictions/sts-dev-output.csv: the numbers are too large for a score"
    assert inspect(found, labels) == ([problem], {})


# The autograder


@pytest.mark.slow
def test_the_bundle_grades_as_gradescope_calls_it(submission, tmp_path):
    """Unpacked, with its own copy of the project; setup.sh is stood for by this environment."""
    edit(submission, "warmup", "return 1.0")
    (submission / "data" / "draws.py").unlink()
    path, home = tmp_path / "autograder.zip", tmp_path / "autograder"
    assert lab(["bundle", str(path), "--only", "optim"]) == 0
    assert lab(["bundle", str(path)]) == 2  # there already
    with zipfile.ZipFile(path) as archive:
        executable = {i.filename: i.external_attr >> 16 & 0o111 for i in archive.infolist()}
        archive.extractall(home / "source")
    assert executable["run_autograder"] == executable["setup.sh"] == 0o111
    assert stamp_of(home / "source" / "project") == handout.stamp()
    for name in ("run_autograder", "setup.sh"):
        subprocess.run(["bash", "-n", home / "source" / name], check=True)
    shutil.copytree(submission, home / "submission")
    setup = home / "source" / "project" / "setup.sh"
    setup.write_text(
        f'shift; exec {sys.executable} -B -m multitask "$@"\n{setup.read_text(encoding="utf-8")}',
        encoding="utf-8",
    )
    script = (home / "source" / "run_autograder").read_text(encoding="utf-8")
    script = script.replace("/autograder/", f"{home}/")
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr

    optim = [e for e in EXERCISES if e.part == "optim"]
    total, right = sum(e.points for e in optim), sum(e.points for e in optim) - 3
    assert f"submission: {right} of {total} points" in done.stdout
    results = json.loads((home / "results" / "results.json").read_text(encoding="utf-8"))
    assert set(results) == {"score", "execution_time", "output", "visibility", "stdout_visibility",
                            "tests"}  # fmt: skip
    assert results["score"] == right == sum(test["score"] for test in results["tests"])
    assert results["visibility"] == "visible" and results["stdout_visibility"] == "hidden"
    assert isinstance(results["execution_time"], int)
    assert len(results["tests"]) == len(optim)
    for test, exercise in zip(results["tests"], optim, strict=True):
        assert set(test) == {"name", "number", "score", "max_score", "output", "visibility"}
        assert test["max_score"] == exercise.points and test["name"] == exercise.heading
    assert results["tests"][-1]["output"].startswith("wrong. ")
    (row,) = csv.DictReader((home / "graded" / "class.csv").open(encoding="utf-8"))
    assert row["name"] == "submission" and row["score"] == str(right) and row["of"] == str(total)
    assert row["warmup"] == "0" and row["moments"] == "3"
