"""The student's copy: what it holds and what it does not, and the commands in it."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from student_mistakes import EDITS

import minbert
from lab import commands, handin, handout, progress, source, whose
from lab.answers import MISTAKES, load_answers
from lab.bundle import bundle
from lab.check import assigned, stamp_of
from lab.commands import lab
from lab.diagnose import Verdict
from lab.exercises import BY_NAME, EXERCISES, PARTS, numbered, parse_numbers, reading
from lab.outcomes import Launch, Output, outcomes
from lab.progress import beside, write_references
from lab.source import body_of, find, replace_body
from lab.stamp import PLACE, UNKNOWN, Stamp
from lab.watch import CopyWatch, Spare, affected
from minbert.version import commit
from multitask.report.document import with_results

ROOT = Path(__file__).parent.parent
POINTS = sum(exercise.points for exercise in EXERCISES)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A copy with all exercises blank."""
    return handout.start(tmp_path_factory.mktemp("lab") / "my-work")


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "my-work")


def in_copy(copy, *words):
    """Call the copy's own code, as an installed `minbert` would."""
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONIOENCODING": "utf-8"}
    code = (
        f"import sys; sys.argv = ['minbert', *{list(words)}]; from lab.__main__ import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=copy,
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )


def in_python(folder, code):
    """What a program prints that imports the packages of this folder, without MINBERT_ROUTE."""
    environment = {key: value for key, value in os.environ.items() if key != "MINBERT_ROUTE"}
    return subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(folder)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout


def edit(copy, path, name, lines):
    file = copy / path
    file.write_text(replace_body(file.read_text(encoding="utf-8"), name, lines), encoding="utf-8")


def test_blanks_earn_nothing_and_the_librarys_bodies_all_points(copy):
    done = in_copy(copy, "lab", "check")
    assert done.stderr == "" and done.returncode == 1
    assert f"0 of {len(EXERCISES)} done, 0 of {POINTS} points. Next is exercise 1:" in done.stdout
    assert done.stdout.count("not started") == len(EXERCISES)
    for exercise in EXERCISES:
        handout.solve(copy, exercise)
    for exercise in EXERCISES:
        for place in exercise.places:  # what was taken out is back, word for word
            assert body_of((copy / place.path).read_text(encoding="utf-8"), place.name) == body_of(
                (ROOT / place.path).read_text(encoding="utf-8"), place.name
            )
    done = in_copy(copy, "lab", "check")
    assert done.stderr == "" and done.returncode == 0
    assert f"{POINTS} of {POINTS} points. Well done!" in done.stdout


def flat(text):
    """Text without white space."""
    return "".join(text.split())


def statements(function):
    """The simple statements of a function's body, and the body as a whole, each without space."""
    body = function.body[ast.get_docstring(function) is not None :]
    nodes = [node for part in body for node in ast.walk(part)]
    simple = [n for n in nodes if isinstance(n, ast.stmt) and not hasattr(n, "body")]
    found = {flat(ast.unparse(node)) for node in simple}
    # A short statement, such as `return x`, may stand elsewhere by chance.
    return {s for s in found if len(s) >= 25} | {flat("\n".join(map(ast.unparse, body)))}


ELSEWHERE = {
    "check_schedule(step,total,warmup)": {"optim/schedules.py"},
    "torch.manual_seed(config.seed)": {"multitask/runs/origin.py", "lab/exercises/heads.py"},
    "self.scaler.scale(loss*distributed.count()).backward()": {"lab/exercises/loop.py"},
    "output=self.encoder(batch.input_ids,token_type_ids=batch.token_type_ids,"
    "layout=batch.layout)": {"multitask/model.py"},
}
"""Statements of solutions that other code needs too, or that a hint gives, and where they are."""


def test_a_copy_holds_no_solution(made):
    files = [path for path in made.rglob("*") if path.is_file()]
    assert len(files) > 60
    names = {path.relative_to(made).as_posix() for path in files}
    assert not [n for n in names if n.startswith((".git/", "lab/answers", "records"))]
    assert {n.rpartition("/")[0] for n in names if n.startswith("docs")} == {"docs/extensions"}
    assert {n for n in names if n.startswith("tests/")} == {"tests/exercises/test_exercises.py"}
    kinds = {".py", ".typed", ".json", ".md", ".toml", ".txt", ".yml", ".sh", ".csv", ".tsv", ""}
    kinds |= {".js", ".css"}  # the page of minbert show
    assert {path.suffix for path in files} <= kinds  # no cache, no wheel, nothing packed
    assert not names & {
        "lab/golden.py",
        "lab/handout.py",
        "lab/grade.py",
        "lab/marking.py",
        "lab/guard.py",
    }
    texts = {path.relative_to(made).as_posix(): path.read_text(encoding="utf-8") for path in files}
    for name, text in texts.items():  # Python in one form, whatever its line breaks and quotes
        texts[name] = flat(ast.unparse(ast.parse(text)) if name.endswith(".py") else text)
    count = 0
    for exercise in EXERCISES:
        for place in exercise.places:
            function = find(ast.parse((ROOT / place.path).read_text(encoding="utf-8")), place.name)
            for statement in statements(function):
                found = {name for name, text in texts.items() if statement in text}
                assert found == ELSEWHERE.get(statement, set()), f"{place}: {statement}"
                count += 1
    answers = [*(ROOT / "lab/answers").glob("*.py"), *(ROOT / "tests/solutions").glob("*.py")]
    for path in answers:
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                whole = max(statements(function), key=len)
                found = {name for name, text in texts.items() if len(whole) >= 25 and whole in text}
                assert not found, f"{path}: {function.name}"
                count += 1
    assert count > 500


def test_signatures_and_docstrings_stay(made):
    for exercise in EXERCISES:
        for place in exercise.places:
            ours = find(ast.parse((ROOT / place.path).read_text(encoding="utf-8")), place.name)
            theirs = find(ast.parse((made / place.path).read_text(encoding="utf-8")), place.name)
            assert ast.unparse(ours.args) == ast.unparse(theirs.args)
            assert ast.get_docstring(ours) == ast.get_docstring(theirs)
            assert ast.unparse(theirs.body[-1]) == f"raise NotImplementedError({str(exercise)!r})"
            text = (made / place.path).read_text(encoding="utf-8")
            assert f"README.md#{exercise.name}" in text


def test_training_in_a_copy_goes_through_the_students_functions(made, tmp_path):
    code = """
from minbert import quick
from multitask import PretrainConfig, TrainConfig
print(quick.current_route())
for made in (TrainConfig(tasks=("sst",)), PretrainConfig(tasks=("sst",))):
    print(made.route, made.layout, made.optimizer)
"""
    plain = ["plain", *2 * ["plain padded plain"]]
    assert in_python(made, code).splitlines() == plain != in_python(ROOT, code).splitlines()
    done = in_copy(made, "train", "--tasks", "sst", "--limit", "4", "--out", str(tmp_path / "run"))
    assert done.returncode == 2
    first = next(e for e in EXERCISES if e.name == "loading")  # what a run needs first
    assert f"error: {first} is still to be written" in done.stderr


def test_a_copy_is_a_students_own_project(made):
    assert "For teachers" not in (made / "README.md").read_text(encoding="utf-8")
    assert "minbert lab check" in (made / "setup.sh").read_text(encoding="utf-8")
    requirements = (made / "pyproject.toml").read_text(encoding="utf-8")
    assert "transformers" not in requirements and "pytest>=8" in requirements
    assert "ModernBert" not in (made / "minbert" / "__init__.py").read_text(encoding="utf-8")
    records = {"plain-1": json.loads((ROOT / "records" / "sst-1.json").read_text(encoding="utf-8"))}
    assert "| plain | 0.487 |" in with_results(
        (made / "Report.md").read_text(encoding="utf-8"), records
    )


def test_a_copy_has_the_encoders_and_names_that_are_in_it(made):
    code = """
import minbert, minbert.encoders
from minbert import *
from minbert.encoder import ENCODERS
print(sorted(ENCODERS), all(globals()[name] for name in minbert.__all__), len(minbert.__all__))
"""
    names = len(minbert.__all__)
    assert in_python(ROOT, code) == f"['bert', 'convbert', 'modernbert'] True {names}\n"
    assert in_python(made, code) == f"['bert'] True {names - 4}\n"


def test_a_copy_differs_from_the_library_in_whole_files_alone(made):
    """All others are the library's, but for the bodies."""
    places = {place.path.as_posix() for exercise in EXERCISES for place in exercise.places}
    own = {"README.md", "Report.md", "pyproject.toml", ".gitignore"}
    own |= {"minbert/edition.py", "minbert/other_encoders.py"}
    for path in (path for path in made.rglob("*") if path.is_file()):
        name = path.relative_to(made).as_posix()
        if name not in places | own and not name.startswith("lab/golden/"):
            assert path.read_bytes() == (ROOT / name).read_bytes(), name


def test_a_copys_requirements_are_the_librarys_and_pytest():
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ours, theirs = tomllib.loads(text), tomllib.loads(handout.students_project(text))
    tests = ours["project"]["optional-dependencies"].pop("test")
    large = "transformers|sentence-transformers|peft|nb|ipykernel|captum|playwright"
    left = [want for want in tests if not re.match(large, want)]
    assert theirs["project"]["optional-dependencies"].pop("test") == left != tests
    more = [want for want in tests if re.match(r"pytest(-timeout)?[^-\w]", want)]
    wanted = ours["project"].pop("dependencies") + more
    assert len(more) == 2 and theirs["project"].pop("dependencies") == wanted
    assert theirs["project"]["optional-dependencies"].keys() == {"onnx", "tensorboard", "parquet"}
    assert theirs["tool"]["pytest"]["ini_options"].pop("timeout") == 20
    ours["tool"]["pytest"]["ini_options"].pop("timeout")
    for each in (ours, theirs):
        each["project"].pop("optional-dependencies")
    assert ours == theirs


def test_a_copy_says_what_it_was_made_from(made, copy):
    stamp = stamp_of(made)
    assert stamp == Stamp(minbert.__version__, commit() or "")
    words = f"minbert {stamp.version}" + (f", commit {stamp.commit}" if stamp.commit else "")
    assert in_copy(made, "--version").stdout == f"a student's copy of {words}\n"
    assert in_copy(made, "info").stdout.startswith(f"a student's copy of {words} (python ")
    edition = copy / "minbert" / "edition.py"
    edition.write_text(
        edition.read_text(encoding="utf-8").replace(stamp.version, "9.8.7"), encoding="utf-8"
    )
    (copy / "minbert" / "__init__.py").write_text("1 / 0\n", encoding="utf-8")
    assert "\nThis copy was made from minbert 9.8.7" in in_copy(copy, "lab", "check", "1").stdout
    edition.unlink()  # as in a copy of a version that did not say
    assert "made from" not in in_copy(copy, "lab", "check", "1").stdout


@pytest.mark.parametrize(
    "text, stamp",
    [
        ('VERSION = "1.2.0"\n"""Doc."""\nCOMMIT = "abc+"\n', Stamp("1.2.0", "abc+")),
        ('VERSION = "1.2.0"\nCOMMIT = ""\n', Stamp("1.2.0")),
        (f'VERSION = "1.2.0"\nCOMMIT = "{UNKNOWN}"\n', Stamp("1.2.0")),
        ('COMMIT = "abc"\n', None),
        (f'VERSION = "{"1" * 65}"\n', None),
        ('VERSION = "1\x1b[31m"\n', None),
        ("", None),
    ],
)
def test_a_stamp_is_read_from_text(text, stamp):
    assert Stamp.read(text) == stamp


def test_stamps_differ_as_far_as_they_say():
    one = Stamp("1.2.0", "abc")
    assert not one.differs(one) and not one.differs(Stamp("1.2.0"))
    assert one.differs(Stamp("1.2.0", "abc+")) and one.differs(Stamp("1.2.1", "abc"))
    assert UNKNOWN in (ROOT / PLACE).read_text(encoding="utf-8")
    attributes = (ROOT / ".gitattributes").read_text(encoding="utf-8")
    assert f"{PLACE} export-subst" in attributes.splitlines()


def test_every_exercise_has_a_page(made):
    text = (made / "README.md").read_text(encoding="utf-8")
    for exercise in EXERCISES:
        page = text.partition(f'<a id="{exercise.name}"></a>')[2].partition("<a id=")[0]
        assert f"\n\n*{exercise.effort}.*\n" in page, f"put *{exercise.effort}.* under the heading"
        assert f'<a id="{exercise.name}"></a>' in text
        assert f"{exercise.number}. {exercise.title[0].upper()}{exercise.title[1:]}" in text


def test_each_part_begins_with_what_to_read(made, monkeypatch, capsys):
    page = (made / "README.md").read_text(encoding="utf-8")
    for number, part in enumerate(PARTS, start=1):
        begins = page.partition(f"\n## Part {number}: ")[2].partition("\n\n")[2]
        said = "print it with python -m lab.exercises.reading"
        assert begins.startswith(f"{reading.table(part)}\n\n"), said
        paths = [each.path for each in reading.READINGS[part] if each.path]
        assert paths and all((made / path).is_file() for path in paths)
    verdicts = [
        (each, Verdict("done" if each.part == "bert" else "not started")) for each in EXERCISES
    ]
    monkeypatch.setattr(progress, "verdicts", lambda *_: verdicts)
    progress.show_next(made)
    said = capsys.readouterr().out
    assert said.startswith("Part 2 begins. Read before it, about 80 minutes:\n  Kingma & Ba")
    assert "\n\nExercise 12: " in said
    verdicts[11] = (EXERCISES[11], Verdict("wrong", "no."))
    progress.show_next(made)
    assert capsys.readouterr().out.startswith("Exercise 12: ")


def test_a_part_alone_and_solutions_to_start_from(tmp_path):
    optim = [e for e in EXERCISES if e.part == "optim"]
    copy = handout.start(tmp_path / "copy", exercises=optim, solved=optim[:-1])
    assert assigned(copy) == tuple(optim)
    blank = [e for e in EXERCISES if f'"{e}"' in "".join(
        (copy / place.path).read_text(encoding="utf-8") for place in e.places)]  # fmt: skip
    assert blank == [optim[-1]]


def test_mistakes_are_named_where_to_look_is_said_and_the_check_stops(copy, capsys, monkeypatch):
    edit(copy, "minbert/encoders/bert.py", "Embeddings.forward", [
        "x = self.word(input_ids) + self.position(positions) + self.token_type(token_type_ids)",
        "return self.norm(self.dropout(x))",
    ])  # fmt: skip
    edit(copy, "minbert/attention.py", "key_mask", ["print('hello from key_mask')", "return 7"])
    monkeypatch.chdir(copy)
    assert lab(["check"]) == 1
    out = capsys.readouterr().out
    assert "✗  1  embeddings" in out and "exercise 2" not in out
    assert "dropout comes before LayerNorm; the paper has it after." in out
    assert "minbert/encoders/bert.py: Embeddings.forward" in out
    assert lab(["check", "2"]) == 1
    out = capsys.readouterr().out
    assert "the result is 7; it should be a bool tensor of shape (2, 1, 1, 5)." in out
    assert "Your code printed:\n  hello from key_mask" in out
    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", "-q", "tests/exercises", "-k", "embeddings"],
        cwd=copy, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 1 and "dropout comes before LayerNorm" in done.stdout


def test_broken_code_fails_its_own_exercises_and_is_named(copy):
    """A syntax error, an exit, and an endless loop; time in which nothing is computed is given."""
    (copy / "data" / "draws.py").write_text("def uniform_task(:\n", encoding="utf-8")
    edit(copy, "optim/schedules.py", "linear", ["import sys", "sys.exit('bye')"])
    edit(copy, "optim/groups.py", "is_bias_or_norm", ["while True:", "    pass"])
    (place,) = numbered(13).places
    slow = ["import time", "time.sleep(0.3)", *handout.body(place)]  # six times
    edit(copy, "optim/adamw.py", place.name, slow)
    names = ("bias_correction", "no_decay", "warmup", "sampling")
    exercises = [e for e in EXERCISES if e.name in names]
    launch = Launch(copy, copy / "lab/golden/supplied", seconds=0.5)
    errors = {e.name: found["error"] for e, found in outcomes(launch, exercises, Output())}
    assert errors["bias_correction"] is None
    assert "no answer in 0.5 seconds of computing" in errors["no_decay"]["message"]
    assert errors["warmup"]["type"] == "SystemExit"
    assert errors["warmup"]["where"].startswith("optim/schedules.py:")
    assert errors["sampling"]["type"] == "SyntaxError"
    assert errors["sampling"]["where"] == "data/draws.py:1"


@pytest.mark.parametrize("code", [152, -24])  # a sandbox gives 128 + the number of SIGXCPU
def test_what_computes_for_too_long_is_told_from_what_waits(code, tmp_path):
    begin = """if 1:
        import os, sys, time
        os.write(int(sys.argv[sys.argv.index("--results") + 1]), b'["begin", "warmup"]\\n')
    """
    end = f"sys.exit({code})" if code > 0 else f"os.kill(os.getpid(), {-code})"
    for how, said in (
        (end, "no answer in 10 seconds of computing; is there an endless loop?"),
        ("time.sleep(60)", "no answer within 0.2 seconds; what does it wait for?"),
    ):
        command = (sys.executable, "-S", "-c", f"{begin}    {how}")
        launch = Launch(tmp_path, tmp_path, wait=0.2 if "sleep" in how else 60, command=command)
        ((_, found),) = outcomes(launch, [BY_NAME["warmup"]], Output())
        assert found["error"] == {"type": "timeout", "message": said, "where": None}


def test_threads_and_memory_of_an_exercise_cost_no_other(copy):
    """Neither threads that go on, nor what the frames of an error hold."""
    edit(copy, "optim/adamw.py", "bias_corrections", [
        "import threading, time",
        "threading.Thread(target=time.sleep, args=(60,)).start()",
        "raise ValueError('with a thread')",
    ])  # fmt: skip
    edit(copy, "optim/groups.py", "is_bias_or_norm", [
        "import threading",
        "raise ValueError(str(threading.active_count()))",
    ])  # fmt: skip
    launch = Launch(copy, copy / "lab/golden/supplied")
    exercises = [e for e in EXERCISES if e.name in ("bias_correction", "no_decay")]
    found = [outcome["error"]["message"] for _, outcome in outcomes(launch, exercises, Output())]
    assert found == ["with a thread", "1"]


def test_the_check_works_where_no_package_imports(copy):
    for name in ("minbert", "multitask", "optim", "data"):
        (copy / name / "__init__.py").write_text("1 / 0\n", encoding="utf-8")
    done = in_copy(copy, "lab", "check", "3")
    assert done.returncode == 1 and done.stderr == ""
    assert "ZeroDivisionError at minbert/__init__.py:1: division by zero." in done.stdout


def test_what_is_not_installed_is_said(made):
    launch = Launch(
        made, made / "lab/golden/supplied", command=(sys.executable, "-S", "-B", "-m", "lab.runner")
    )
    with pytest.raises(ValueError, match=r"could not start: .*torch.*bash setup\.sh"):
        next(outcomes(launch, EXERCISES, Output()))


def test_hints_grow_stronger(capsys):
    for level in (1, 2, 3):
        assert lab(["hint", "3", str(level)]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"Exercise 3: scaled dot-product attention, hint {level} of 3\n")
        assert numbered(3).hints[level - 1] in out


@pytest.mark.parametrize(
    "words, message",
    [
        (["hint", "99"], "there is no exercise 99; they are 1 to"),
        (["check"], "is in no student's copy; go into yours, or make one"),
        (["start", "full"], "full is there already; choose a new folder"),
        (["start", "new", "--with-solutions", "one"], "'one' is no list of exercises"),
        (["start", "new", "--with-solutions", "4-1"], "names no exercise"),
    ],
)
def test_mistakes_on_the_command_line(words, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert lab(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_copy_makes_no_copies_and_grades_nobody(copy):
    for words in (["start", "more"], ["grade", "."], ["bundle", "x.zip"]):
        done = in_copy(copy, "lab", *words)
        assert done.returncode == 2 and "this is a student's copy" in done.stderr


def test_an_installed_package_says_where_copies_are_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands, "__file__", str(tmp_path / "lab" / "commands.py"))
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "handout.py").touch()
    for words in (["start", "more"], ["grade", "."], ["bundle", str(tmp_path / "x.zip")]):
        assert lab(words) == 2
        assert "in a clone: bash setup.sh minbert lab" in capsys.readouterr().err


def test_a_bundle_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("lab.bundle.project_files", lambda: [tmp_path / "gone"])
    with pytest.raises((OSError, ValueError)):
        bundle(tmp_path / "x.zip")
    assert not list(tmp_path.iterdir())


def test_numbers_of_exercises():
    assert [e.number for e in parse_numbers("1-3,7")] == [1, 2, 3, 7]


def test_bodies_are_replaced_and_nothing_else():
    text = 'class A:\n    @staticmethod\n    def f(x):\n        """Doc."""\n        # why\n        y = x\n\n        return y\n\n    def g(self): return 1\n'  # noqa: E501
    assert body_of(text, "A.f") == ["y = x", "", "return y"]
    blank = replace_body(text, "A.f", ["pass"])
    assert blank == text.replace(
        "        # why\n        y = x\n\n        return y\n", "        pass\n"
    )
    for wrong in ("B", "A.h"):
        with pytest.raises(ValueError, match="there is no"):
            source.find(ast.parse(text), wrong)


def test_expected_numbers_are_small_and_plain(made):
    folder = made / "lab" / "golden"
    sizes = [path.stat().st_size for path in folder.rglob("*.json")]
    assert len(sizes) == 2 * len(EXERCISES) + 4  # and of the whole, with a trace and without
    assert sum(sizes) < 8_000_000
    numbers = json.loads((folder / "expected" / "heads.json").read_text(encoding="utf-8"))
    assert set(numbers) == {"right", "mistakes"}


def test_a_students_mistakes_are_named_in_a_copy(copy):
    """One in each exercise, all at once, in code that is otherwise the library's own."""
    load_answers()
    says = {(m.exercise, m.name): m.says for m in MISTAKES}
    assert [edit.exercise for edit in EDITS] == [exercise.name for exercise in EXERCISES]
    for edit, exercise in zip(EDITS, EXERCISES, strict=True):
        handout.solve(copy, exercise)
        (place,) = (p for p in exercise.places if edit.of in ("", p.name))
        text = (copy / place.path).read_text(encoding="utf-8")
        body = "\n".join(body_of(text, place.name))
        assert edit.old in body, f"{place} has changed; change tests/student_mistakes.py too"
        lines = body.replace(edit.old, edit.new).split("\n")
        (copy / place.path).write_text(replace_body(text, place.name, lines), encoding="utf-8")
    done = in_copy(copy, "lab", "check", "--all")
    assert done.stderr == "" and done.returncode == 1
    assert f"0 of {len(EXERCISES)} done, 0 of {POINTS} points" in done.stdout
    lines = done.stdout.split("\n")
    rows = [n for n, line in enumerate(lines) if line.startswith("✗ ")]
    found = [lines[row + 1].strip().rstrip(".") for row in rows]
    assert found == [says[edit.exercise, edit.mistake].rstrip(".") for edit in EDITS]


# The days of a student


def test_other_commands_refuse_a_copy_that_they_would_not_run(copy, monkeypatch, capsys):
    """`minbert train` of the library, in the folder of a copy."""
    monkeypatch.chdir(copy / "optim")
    with pytest.raises(ValueError, match="whose code would run in its place"):
        whose.say(["train", "--tasks", "sst"], copy / "optim")
    for words in ([], ["--version"], ["train", "--help"]):
        whose.say(words, copy)
    whose.say(["train"], copy.parent)
    assert capsys.readouterr() == ("", "")
    assert lab(["check", "1"]) == 1  # checks the copy all the same, and says whose lab this is
    out = capsys.readouterr().out
    assert f"checking the code in {copy}\n`minbert` is that of the library, {ROOT}" in out
    done = in_copy(copy, "data", "list")
    assert "this runs the code of your copy" in done.stderr


def test_paths_with_spaces_are_shown_as_a_shell_reads_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(handout, "start", lambda *args, **options: None)
    assert lab(["start", str(tmp_path / "my work")]) == 0
    assert f"  cd '{tmp_path}/my work'\n" in capsys.readouterr().out


def test_what_comes_next_and_the_librarys_way(copy, monkeypatch, capsys):
    for exercise in EXERCISES:
        if exercise.number != 16:
            handout.solve(copy, exercise)
    monkeypatch.chdir(copy)
    assert lab(["next"]) == 0
    out = capsys.readouterr().out
    line = find(
        ast.parse((copy / "optim/adamw.py").read_text(encoding="utf-8")), "AdamW.step"
    ).lineno
    for said in (
        "Exercise 16: AdamW: the step (5 points)\n  Level 3 of 3, about 60 minutes\n",
        f"optim/adamw.py:{line}: AdamW.step", "README.md#adamw_step", "calls     12 AdamW",
        f"{len(EXERCISES) - 1} of {len(EXERCISES)} done; about 1.0 hours are left.",
    ):  # fmt: skip
        assert said in out
    assert lab(["diff", "12"]) == 2
    assert "has no solutions to show" in capsys.readouterr().err
    places = [place for number in (12, 16) for place in numbered(number).places]
    write_references(copy, {str(place): handout.body(place) for place in places})
    assert lab(["diff", "12"]) == 0
    out = capsys.readouterr().out
    monkeypatch.setattr(progress, "verdicts", lambda *_: [(numbered(16), Verdict("not started"))])
    assert lab(["diff", "16"]) == 2
    assert "is not started; its solution is shown when yours is right" in capsys.readouterr().err
    assert "update_moments" in out and out.count(handout.body(places[0])[0]) == 2
    assert beside(["a"], ["b", "c"], 80).splitlines()[2:] == ["a     | b", "      | c"]


def test_a_zip_is_made_and_checked(copy, monkeypatch, capsys):
    handout.solve(copy, numbered(1))
    (copy / "minbert" / "mine.py").write_text("x = 1\n", encoding="utf-8")
    with (copy / "minbert" / "quick.py").open("a", encoding="utf-8") as file:
        file.write("x = 1\n")
    for name in ("runs/x/weights.bin", ".venv/lib/x.py", "predictions/sst.csv", "figure.png"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).touch()
    os.symlink("/etc/passwd", copy / "link.txt")
    monkeypatch.chdir(copy / "optim")
    assert lab(["hand-in"]) == 1
    out = capsys.readouterr().out
    for said in (
        f"1 of {len(EXERCISES)} exercises are done in it, 3 of {POINTS} points",
        f"not started: 2-{len(EXERCISES)}\n", "which are taken along: minbert/mine.py\n",
        "without effect on the grade: minbert/quick.py\n",
        "problem: left out: 'link.txt' is a link, a pipe or a device\n",
        "problem: predictions/sst.csv is no prediction file's name",
    ):  # fmt: skip
        assert said in out
    with zipfile.ZipFile(copy / "hand-in.zip") as archive:
        names = archive.namelist()
    assert {"minbert/mine.py", "figure.png", "README.md"} <= set(names)
    assert not [n for n in names if n.startswith((".venv", "runs", "hand-in", "link"))]
    os.unlink(copy / "link.txt")
    shutil.rmtree(copy / "predictions")
    monkeypatch.setattr(handin, "say_what_is_done", lambda *args: None)
    assert lab(["hand-in"]) == 0
    assert lab(["hand-in", str(copy / "README.md")]) == 2


def test_a_saved_file_has_its_exercises_checked_again(copy, capsys):
    watch = CopyWatch(copy, EXERCISES)
    assert watch.look() == ()
    edit(copy, "optim/adamw.py", "bias_corrections", ["return 1 - betas[0] ** step, 1.0"])
    watch._spare = Spare(watch.launch, watch.WARM)
    checked = [exercise.number for exercise in watch.look()]
    assert checked == [12, 13, 14, 15, 16]
    out = capsys.readouterr().out
    assert "optim/adamw.py" in out and "✗ 13" in out and "12" not in out.split("✗ 13")[1][:60]
    assert watch.statuses["bias_correction"] == "wrong" and watch._spare is None
    assert affected({"optim/adamw.py"}, EXERCISES[:11]) == EXERCISES[:11]  # it may serve any
    spare = Spare(watch.launch, watch.WARM)
    spare.close()
    assert spare._process.returncode is not None
