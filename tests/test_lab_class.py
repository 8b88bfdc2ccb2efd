"""A class as teachers have it: names of Moodle and Canvas, every archive, who looks alike."""

import csv
import io
import json
import os
import tarfile
import zipfile
from itertools import pairwise

import pytest

from benchmarks.grade import make_class, write_class
from lab import golden, grade, handout, sandbox
from lab.collect import collect, student_of
from lab.commands import lab
from lab.copies import Copies
from lab.exercises import BY_NAME, EXERCISES
from lab.helpers import new_files
from lab.parallel import in_parallel
from lab.similar import alike, bodies_of, rough_body
from lab.submission import LARGEST_TAR, open_submission

ONE, TWO = "minbert/attention.py", "optim/adamw.py"


def archive(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def packed(files):
    made = io.BytesIO()
    archive(made, files)
    return made.getvalue()


def tarred(path, entries, mode="w:gz"):
    with tarfile.open(path, mode) as made:
        for name, kind, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd"
            made.addfile(info, io.BytesIO(content))
    return path


# One submission in many forms


def test_tar_files_are_read_and_hostile_ones_refused_by_name(tmp_path):
    file, link, device = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE
    path = tarred(tmp_path / "a.tar.gz", [
        ("my-work/", tarfile.DIRTYPE, b""), (f"my-work/{ONE}", file, b"x = 1"),
        (f"my-work/{TWO}", link, b""), ("my-work/optim/groups.py", device, b""),
    ])  # fmt: skip
    found = open_submission(path, [ONE, TWO])
    assert found.read(ONE) == "x = 1"
    for name in (TWO, "optim/groups.py"):
        with pytest.raises(ValueError, match=f"{name} is a link, a pipe or a device"):
            found.read(name)
    for name in ("/etc/evil.py", "../evil.py", "C:/evil.py"):
        path = tarred(tmp_path / "evil.tar", [(ONE, file, b""), (name, file, b"")], "w")
        with pytest.raises(ValueError, match=r"evil\.tar names a file outside of itself"):
            open_submission(path, [ONE])
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="cannot be read"):
        open_submission(path, [ONE])


def test_a_tar_file_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("lab.submission.LARGEST_TAR", 2**20)
    assert LARGEST_TAR == 2**28
    path = tarred(tmp_path / "bomb.tgz", [(ONE, tarfile.REGTYPE, bytes(2**21))])
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match="unpacks to more than 1,048,576 bytes"):
        open_submission(path, [ONE])
    sparse = tarfile.TarInfo(TWO)
    sparse.pax_headers = {"GNU.sparse.size": str(2**40), "GNU.sparse.map": f"{2**40},0"}
    with tarfile.open(tmp_path / "sparse.tar", "w", format=tarfile.PAX_FORMAT) as made:
        made.addfile(tarfile.TarInfo(ONE))
        made.addfile(sparse)
    with pytest.raises(ValueError, match="is a link, a pipe or a device"):
        open_submission(tmp_path / "sparse.tar", [ONE]).read(TWO)


@pytest.mark.parametrize(
    "files, note",
    [
        ({"upload.zip": packed({f"w/{ONE}": "x = 1"})}, "upload.zip was looked into"),
        ({"attention.py": "x = 1"}, "files without their folders"),
        ({"attention-1.py": "x = 1", "notes.txt": ""}, "files without their folders"),
        ({f"old/{ONE}": "", f"new/{ONE}": "x = 1", f"new/{TWO}": ""},
         "holds several projects: new/ was taken, not old/"),
        ({f"w/{ONE}": "x = 1", f"__MACOSX/w/{ONE}": "no"}, None),
    ],
)  # fmt: skip
def test_nested_flat_and_twofold_projects_are_read_with_a_note(files, note, tmp_path):
    found = open_submission(archive(tmp_path / "a.zip", files), [ONE, TWO])
    assert found.read(ONE) == "x = 1"
    assert found.notes == [] if note is None else note in found.notes[0]


def test_what_is_not_clear_is_refused(tmp_path):
    inner = packed({ONE: ""})
    path = archive(tmp_path / "a.zip", {"1.zip": inner, "2.zip": inner})
    with pytest.raises(ValueError, match=r"a.zip holds several archives: 1.zip, 2.zip"):
        open_submission(path, [ONE])
    path = archive(tmp_path / "b.zip", {"attention.py": "", "attention-1.py": ""})
    with pytest.raises(ValueError, match="was handed in twice"):
        open_submission(path, [ONE]).read(ONE)


def test_new_files_are_taken_along_where_nothing_is_called_so():
    known = [ONE, TWO, "lab/check.py"]
    names = ["minbert/mine.py", "helpers.py", "mine/a/b.py", "optim/conftest.py", "conftest.py",
             "lab/mine.py", "tests/test_mine.py", "json.py", "torch/nn.py", "numpy.py",
             ".venv/x.py", "minbert/attention/__init__.py", "my-notes/x.py", "notes.txt",
             ONE]  # fmt: skip
    assert new_files(names, known) == ["helpers.py", "minbert/mine.py", "mine/a/b.py"]


# A class


def test_names_of_moodle_and_canvas_are_known():
    for path, student in {
        "Ada Lovelace_12_assignsubmission_file_/work.zip": ("Ada Lovelace_12", "work.zip"),
        "Ada Lovelace_12_assignsubmission_file_work.zip": ("Ada Lovelace_12", "work.zip"),
        "lovelaceada_34_567_my_work-1.zip": ("lovelaceada_34", "my_work-1.zip"),
        "lovelaceada_LATE_34_567_bert.py": ("lovelaceada_34", "bert.py"),
    }.items():
        assert student_of(path) == student
    assert student_of("my_work_2.zip") is None and student_of("minbert/attention.py") is None


def test_a_class_comes_out_of_one_archive_a_folder_or_single_files(tmp_path):
    inner = packed({f"w/{ONE}": "x = 1"})
    moodle = {"Ada Lovelace_1_assignsubmission_file_/w.zip": inner,
              f"Bo Ek_2_assignsubmission_file_/w/{ONE}": "x = 1",
              "../Eve_3_assignsubmission_file_/x.zip": inner}  # fmt: skip
    canvas = {
        "adal_1_7_attention.py": "x = 1",
        "adal_1_8_adamw-1.py": "",
        "boek_LATE_2_9_w.zip": inner,
    }
    (tmp_path / "work").mkdir()
    with pytest.raises(ValueError, match="outside of itself"):  # as one submission, that is
        open_submission(archive(tmp_path / "m.zip", moodle), [ONE])
    moodle.popitem()
    (tmp_path / "folder").mkdir()
    for name, content in canvas.items():
        (tmp_path / "folder" / name).write_bytes(content if name.endswith("zip") else b"x = 1")
    for number, paths, names in (
        (1, [archive(tmp_path / "m.zip", moodle)], {"Ada Lovelace_1", "Bo Ek_2"}),
        (2, [archive(tmp_path / "c.zip", canvas)], {"adal_1", "boek_2"}),
        (3, [tmp_path / "folder"], {"adal_1", "boek_2"}),
        (4, sorted((tmp_path / "folder").iterdir()), {"adal_1", "boek_2"}),
    ):
        (place := tmp_path / "work" / str(number)).mkdir()
        found = collect(paths, place)
        assert {each.name for each in found} == names
        for each in found:
            assert (
                each.problem == "" and open_submission(each.path, [ONE, TWO]).read(ONE) == "x = 1"
            )


def test_work_in_parallel_comes_in_order_and_an_error_is_raised():
    assert list(in_parallel(lambda n: n * n, range(20), 4)) == [n * n for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(lambda n: 1 // n, [2, 0], 2))


@pytest.fixture
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox, "choose", lambda **_: "none")
    monkeypatch.setattr(golden, "expected_of", lambda exercises, *_: [({}, [])] * len(exercises))
    return str(tmp_path / "results")


def test_nothing_there_is_an_error(quick, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert lab(["grade", str(tmp_path / "empty"), "--out", quick, "--only", "optim"]) == 1
    assert "nothing was there to grade" in capsys.readouterr().err
    assert lab(["grade", str(tmp_path / "gone"), "--out", quick, "--only", "optim"]) == 1
    assert f"not there: {tmp_path / 'gone'}" in capsys.readouterr().err
    for words, said in (
        (["-j", "0"], "-j 0"),
        (["--only", "optim", "--exclude", "12-18"], "no exer"),
    ):
        assert lab(["grade", str(tmp_path), "--out", quick, *words]) == 2
        assert said in capsys.readouterr().err


def test_excluded_exercises_have_no_points(quick, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(grade, "grade_one", lambda path, marking, name, **_: grade.Grade(
        name, {}, texts={ONE: ""}))  # fmt: skip
    words = ["grade", str(tmp_path), "--out", quick, "--only", "optim", "--exclude", "12-17"]
    assert lab([*words, "-j", "2"]) == 0
    with open(f"{quick}/class.csv", encoding="utf-8") as table:
        (row,) = csv.DictReader(table)
    assert (row["of"], "warmup" in row, "moments" in row) == ("3", True, False)


# Who looks alike

OWN = """
total = 0
for place, value in enumerate(values):
    if value > {low} and place % {step} == 0:
        total = total + value * {low} - place
    elif place {sign} {step}:
        total = total - (value + {low}) / 2
return total {sign2} {step}
"""


def test_a_renamed_copy_is_listed_and_independent_work_is_not():
    texts = {
        "ada": OWN.format(low=3, step=2, sign=">", sign2="*"),
        "bo": OWN.format(low=3, step=2, sign=">", sign2="*").replace("total", "s").replace(
            "value", "v").replace("    ", "  # mine\n    ", 1),
        "cy": "return sum(v * 3 - p if v > 3 else v / 2 for p, v in enumerate(values) if p % 2)",
        "di": "import torch\nx = torch.tensor(values)\nreturn (x[x > 3] * 3).sum() - x.mean() / 2",
    }  # fmt: skip
    bodies = {name: {"warmup": text} for name, text in texts.items()}
    ((share, _, same, a, b, where),) = alike(bodies, {})
    assert (a, b, where, same) == ("ada", "bo", ["warmup"], 0) and share > 0.9
    assert alike(bodies, {"warmup": texts["ada"]}) == []  # the library's own way says nothing
    many = {f"s{n}": {"warmup": texts["ada"]} for n in range(8)}
    assert alike(many, {}) == []  # nor does what so many have


def test_blanks_and_broken_files_have_no_bodies():
    (place,) = BY_NAME["warmup"].places
    path = place.path.as_posix()
    for text in ("def linear(:", "x = 1", 'def linear():\n    raise NotImplementedError("e")\n'):
        assert bodies_of({path: text}, [BY_NAME["warmup"]]) == {}
    text = f"def {place.name}():\n    return 1\n"
    assert bodies_of({path: text}, [BY_NAME["warmup"]]) == {"warmup": "return 1"}


def test_bodies_by_indentation_are_those_of_the_parser():
    places = [place for exercise in EXERCISES for place in exercise.places]
    for place in places:
        text = (handout.ROOT / place.path).read_text(encoding="utf-8")
        assert rough_body(text, place.name) == "\n".join(handout.body(place)).strip("\n")
    twice = "class B:\n    def f(self):\n        return 1\n\n    def f(\n        self,\n    ):\n"
    last = '        """It."""\n\n        return 2\n\n\nx = 3\n'
    assert rough_body(twice + last, "B.f") == "return 2"
    for other in ((twice + last).replace("\n", "\r\n"), (twice + last).replace("    ", "\t")):
        assert rough_body(other, "B.f") == "return 2"
    assert rough_body(twice, "A.f") == rough_body("class A:\n    x = 1\n" + twice, "A.f") == ""


# Prediction files


def test_predictions_that_are_misnamed_or_missing_are_named(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "predictions"
    folder.mkdir()
    good = "id \t Predicted_Sentiment \na , 3 \n"
    for name in ("sst-dev-output.csv", "sst_test_output.csv", "cola-dev-output.csv", "x.pdf"):
        (folder / name).write_text(good, encoding="utf-8", newline="")
    (tmp_path / "para-dev-output.csv").touch()
    monkeypatch.chdir(tmp_path)
    assert lab(["predictions"]) == 1
    out = capsys.readouterr().out
    assert "1 prediction files: sst-dev-output.csv" in out
    for said in (
        "cola-dev-output.csv is no prediction file's name; is it lin-dev-output.csv?",
        "sst_test_output.csv is no prediction file's name; is it sst-test-output.csv?",
        "x.pdf is no prediction file's name\n", "predictions/sst-test-output.csv is missing",
    ):  # fmt: skip
        assert said in out
    for name in ("cola-dev-output.csv", "x.pdf"):
        os.unlink(folder / name)
    (folder / "sst_test_output.csv").rename(folder / "sst-test-output.csv")
    assert lab(["predictions"]) == 0
    (folder / "sst-test-output.csv").write_text(good.replace("\n", "\r\n"), encoding="utf-8",
                                                newline="")  # fmt: skip
    assert lab(["predictions"]) == 1 and "(CRLF)" in capsys.readouterr().out
    from lab.predictions import inspect

    (tmp_path / ONE).parent.mkdir()
    (tmp_path / ONE).touch()
    problems, _ = inspect(open_submission(tmp_path, [ONE]), {}, ["sts"])
    assert "para-dev-output.csv lies in the top folder; it belongs into predictions/" in problems
    assert "predictions/sts-dev-output.csv is missing" in problems
    assert json.dumps(problems).isascii()


@pytest.mark.parametrize("walls", [True, False])
def test_a_copy_is_clean_for_each_submission(tmp_path, walls):
    """Behind walls it is the same one again; the clean copy, whose files it shares, stays."""
    clean = tmp_path / "clean"
    (clean / "part").mkdir(parents=True)
    for name in ("own.py", "part/other.py"):
        (clean / name).write_text("clean", encoding="utf-8")

    def files(root):
        paths = (path for path in root.rglob("*") if path.is_file())
        return {p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in paths}

    copies, unchanged, places = Copies(clean, tmp_path, walls=walls), files(clean), []
    for written in ({"own.py": "a"}, {"part/other.py": "b"}, {"new/more.py": "c"}, {}):
        with copies.one() as copy:
            assert files(copy.root) == unchanged and not (copy.root / "new").exists()
            for name, text in written.items():
                copy.write(name, text)
            assert files(copy.root) == unchanged | written
            places.append(copy.place)
        assert files(clean) == unchanged
    again = [one == other for one, other in pairwise(places)]
    assert again == ([True, True, False] if walls else [False] * 3)
    with pytest.raises(ZeroDivisionError), copies.one() as copy:
        _ = 1 / 0
    with copies.one() as other, copies.one() as third:
        assert len({copy.place, other.place, third.place}) == 3


def test_the_benchmarks_class_is_read_in_every_form(tmp_path):
    class_ = make_class(40)
    found = collect(write_class(class_, tmp_path), tmp_path)
    assert len(found) == 40 and not any(each.problem for each in found)
    place = BY_NAME["moments"].places[0].path.as_posix()
    blanks = 0
    for each in found[::3]:
        text = open_submission(each.path, [place]).read(place)
        assert any(files[place] == text for files in class_.values())
        blanks += "raise NotImplementedError" in text
    assert 0 < blanks < len(found[::3])
