"""Runs of a user's own tasks: trained, kept, answered, resumed, on another machine too."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import own_data
import pytest
import torch
import transformers
from helpers import config, without_seconds
from own_data import SIGNS, TAGS, forget_own_tasks, task_file
from sklearn.metrics import f1_score

from data.readers import read_split
from data.tasks import TASKS, HeldOut, Table, Task, get_task, register_task
from multitask import Predictor, TrainConfig, resume, train
from multitask.analysis import analyse, constant_scores
from multitask.commands.words import mistakes
from multitask.config import config_from_dict
from multitask.evaluate import Evaluation, prediction_path, read_label_sets
from multitask.experiments.compare_runs import compare_runs
from multitask.experiments.ensemble import combine
from multitask.export.folders import export_run
from multitask.extensions import base
from multitask.report.document import RESULTS, report_on_records
from multitask.report.keeping import keep
from multitask.runs.run import Run

REVIEWS = {"text": '"review"', "label": '"verdict"', "classes": '["bad", "fine", "great"]'}
TICKETS = {
    "kind": '"labels"', "text": '"ticket"', "label": '"tags"',
    "classes": '["billing", "delivery", "login"]',
    "files": [{"path": '"tickets.csv"', "split": '"train"'}],
}  # fmt: skip
PAIRS = {
    "kind": '"number"', "text": '["text_1", "text_2"]', "label": '"closeness"',
    "range": "[0, 2000]",
    "files": [{"path": '"pairs.csv"', "split": '"train"'}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def registry(no_figure):
    """Every test begins with the tasks that come along."""
    yield
    forget_own_tasks()


@pytest.fixture
def own(tmp_path):
    """A folder with own data and its task files."""
    own_data.reviews(tmp_path)
    own_data.pairs(tmp_path)
    own_data.tickets(tmp_path)
    task_file(tmp_path, "reviews", **REVIEWS, hold_out=0.2)
    task_file(tmp_path, "pairs", **PAIRS, hold_out=0.2)
    task_file(tmp_path, "tickets", **TICKETS, hold_out=0.2)
    return tmp_path


def own_config(folder, own, *names, **changes):
    """A short run of own tasks on the tiny backbone."""
    files = tuple(own / f"{name}.toml" for name in names)
    made = config(folder, own / "run", tasks=("sst",), data_dir=None)
    settings = {f: getattr(made, f) for f in ("backbone", "out", "head_size", "head_dropout", "lr",
                "encoder_dropout", "epochs", "batch_size", "log_every", "device")}  # fmt: skip
    return TrainConfig(**{**settings, "task_files": files, **changes})


def test_own_tasks_are_trained_alone_or_beside_others(folder, own):
    settings = own_config(folder, own, "reviews", "pairs")
    assert settings.tasks == ("reviews", "pairs")
    assert own_config(folder, own, "reviews", tasks=("sst",)).tasks == ("sst", "reviews")
    named = ("sst", "para", "sts", "cola")
    assert own_config(folder, own, "reviews", tasks=(*named,)).tasks == (*named, "reviews")
    assert replace(settings, epochs=1).tasks == settings.tasks
    assert TrainConfig().tasks == named
    beside = own_config(folder, own, "reviews", tasks=("sst",), data_dir=folder / "data", epochs=1)
    assert train(beside, progress=False).record()["dev"].keys() == {"sst", "reviews"}


def test_all_kinds_are_learnt_and_answered_by_name(folder, own):
    own_data.tickets(own, count=200)
    run = train(own_config(folder, own, "reviews", "pairs", "tickets", epochs=15), progress=False)
    record = run.record()
    assert record["dev"]["reviews"]["accuracy"] > 0.8
    assert record["dev"]["pairs"]["pearson"] > 0.5
    assert record["dev"]["tickets"]["micro_f1"] > 0.7  # all yes has .67
    assert record["rows"]["tickets"] == {"train": 160, "dev": 40}
    predictor = Predictor(run.folder)
    assert predictor.predict("reviews", ["superb", "awful"])[1].label == "bad"
    assert predictor.predict("pairs", [("a", "b")])[0].label is None
    found = predictor.predict("tickets", ["zero one"])[0]
    assert found.label == ", ".join(list(TAGS)[number] for number in found.value)
    assert [n for n, c in enumerate(found.probability.values()) if c > 0.5] == found.value
    # The files of predictions have the same answers
    for name in ("reviews", "tickets"):
        evaluation = predictor.evaluate("dev")[name]
        path = run.predictions / f"{name}-dev-output.csv"
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["id"] for row in rows] == list(evaluation.ids)
        classes = get_task(name).classes
        chances = [[float(row[name]) for name in classes] for row in rows]
        np.testing.assert_allclose(chances, evaluation.probabilities, atol=6e-5)
        if name == "reviews":
            assert [row["answer"] for row in rows] == [classes[n] for n in evaluation.answers]
        else:
            held = [row["answer"].replace("none", "").split(", ") for row in rows]
            held = [[float(name in each) for name in classes] for each in held]
            np.testing.assert_array_equal(held, evaluation.answers)
            expected = f1_score(evaluation.labels, held, average="micro")
            assert record["dev"]["tickets"]["micro_f1"] == pytest.approx(expected)


def test_a_run_needs_nothing_but_itself_and_the_rows(folder, own, tmp_path):
    settings = own_config(folder, own, "reviews", "tickets")
    run = train(settings, progress=False)
    whole = without_seconds(run.metrics())
    before = run.best.read_bytes()
    forget_own_tasks()
    moved = tmp_path / "elsewhere/run"
    shutil.copytree(run.folder, moved)
    (moved / "last.safetensors").unlink()
    (moved / "record.json").unlink()
    (tmp_path / "rows").mkdir()
    for path in own.glob("*.csv"):
        path.rename(tmp_path / "rows" / path.name)
    for path in own.glob("*.toml"):
        path.unlink()
    with pytest.raises(ValueError, match=r"wants reviews\.csv .*--data-dir"):
        resume(moved, progress=False)
    again = resume(moved, data_dir=tmp_path / "rows", progress=False)
    assert again.best.read_bytes() == before
    assert without_seconds(again.metrics()) == whole
    forget_own_tasks()
    evaluation = Predictor(moved).evaluate("dev")["tickets"]
    assert evaluation.metrics == again.record()["dev"]["tickets"]


def test_a_run_keeps_what_the_task_file_said_when_it_began(folder, own):
    run = train(own_config(folder, own, "reviews", epochs=1), progress=False)
    values = json.loads(run.config_path.read_text(encoding="utf-8"))
    assert (values["tasks"], values["task_files"]) == (["reviews"], [])
    forget_own_tasks()
    task_file(own, "reviews", **{**REVIEWS, "classes": '["great", "bad", "fine"]'}, hold_out=0.3)
    assert Predictor(run.folder).model.tasks["reviews"].classes == ("bad", "fine", "great")
    # A run that starts from it may not take the name for other answers
    again = own_config(folder, own, "reviews", backbone=str(run.folder), out=own / "next")
    with pytest.raises(ValueError, match=r"has a task 'reviews' whose classes is .* another name"):
        train(again, progress=False)
    forget_own_tasks()
    task_file(own, "reviews", **REVIEWS, hold_out=0.3)
    again = own_config(
        folder, own, "reviews", backbone=str(run.folder), keep_heads=True, out=own / "next"
    )
    rows = train(again, progress=False).record()["rows"]["reviews"]
    assert rows == {"train": 42, "dev": 18}


def test_a_task_from_python_trains_without_prediction_files(folder, own):
    table = Table(path="reviews.csv", texts=("review",), label="verdict", format="csv",
                  label_names=tuple(SIGNS))  # fmt: skip
    register_task(
        Task(name="python", title="own", kind="classes", classes=tuple(SIGNS),
             tables={"train": table}, hold_out=HeldOut(dev=0.2), metrics=("accuracy",))
    )  # fmt: skip
    settings = own_config(folder, own, tasks=("python",), data_dir=own, epochs=1)
    run = train(settings, progress=False)
    forget_own_tasks()
    assert Predictor(run.folder).evaluate("dev")["python"].metrics == run.record()["dev"]["python"]


def test_the_mistakes_of_several_labels_are_found():
    task = replace(TASKS["sst"], kind="labels", classes=("a", "b"))
    evaluation = Evaluation(
        ids=["x", "y", "z"],
        answers=np.array([[1, 0], [0, 1], [0, 0]]),
        probabilities=np.array([[0.9, 0.2], [0.1, 0.8], [0.4, 0.3]], dtype=np.float32),
        labels=np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=np.float32),
        metrics={},
    )
    found = analyse(task, evaluation)
    assert found["decisions"] == [[[1, 0], [1, 1]], [[1, 0], [1, 1]]]
    assert [(row["id"], row["label"], row["answer"]) for row in found["worst"]] == [
        ("y", [0, 1], [1]),
        ("z", [1], []),
    ]
    assert [row["probability"] for row in found["worst"]] == [0.9, 0.7]
    texts = {name: (f"text {name}",) for name in "xyz"}
    assert "a, b\tb\t0.900\ty\ttext y" in mistakes(task, evaluation, texts, 1)


# The command line


@pytest.fixture
def minbert(monkeypatch, command_line, own):
    monkeypatch.chdir(own)

    def call(*words):
        forget_own_tasks()  # as in another process
        return command_line(*words)

    return call


def flags(folder):
    return ("--backbone", folder / "backbone", "--epochs", 2, "--batch-size", 8, "--lr", 1e-2)


def test_the_walk_of_a_new_user(minbert, folder, own):
    code, out, err = minbert("task", "new", "tickets.csv", "--out", "new.toml", "--name", "mine")
    assert (code, err) == (0, "")
    assert "kind: several labels at once, with ';' between them" in out and "mine dev: 16" in out
    assert minbert("task", "new", "tickets.csv", "--out", "new.toml")[0] != 0
    assert minbert("task", "check", "new.toml") == minbert(
        "data", "check", "--task-file", "new.toml"
    )
    code, out, _ = minbert("info", "--task-file", "new.toml")
    assert code == 0 and "mine" in out and "train dev" in out
    code, out, err = minbert("train", "--task-file", "new.toml", "--out", "r", *flags(folder))
    assert code == 0 and "mine: of 80 rows 64 for train, 16 for dev" in err
    assert "--task mine" in out and "data fetch" not in out
    code, out, _ = minbert("predict", "zero one", "--run", "r")
    assert code == 0 and out.endswith("\tzero one\n")
    code, out, _ = minbert("predict", "zero one", "--run", "r", "--json")
    assert json.loads(out)["probability"].keys() == TAGS.keys()
    (own / "new.csv").write_text('n;ticket\n1;"zero\none"\n2;two\n', encoding="utf-8")
    code, out, _ = minbert("predict", "--run", "r", "--file", "new.csv")
    assert code == 0 and [line.split("\t")[-1] for line in out.splitlines()] == ["zero one", "two"]
    (own / "new.csv").write_text("ticket,n\none,2,3\n", encoding="utf-8")
    code, _, err = minbert("predict", "--run", "r", "--file", "new.csv")
    assert code != 0 and "new.csv:2: 3 columns where 2 are due" in err
    code, out, _ = minbert("evaluate", "r", "--mistakes", 2)
    assert code == 0 and "micro_f1" in out and "mine-dev-output.csv" in out
    shutil.copy("tickets.csv", "more.csv")
    task_file(own, "more", **{**TICKETS, "name": '"mine"',
              "files": [{"path": '"more.csv"', "split": '"test"'}]})  # fmt: skip
    code, out, err = minbert("evaluate", "r", "--task-file", "more.toml", "--split", "test")
    assert code == 0 and "no predictions are written with --task-file" in out, err
    code, out, err = minbert("evaluate", "r", "--task-file", "reviews.toml")
    assert "r was not trained on task 'reviews'; it knows mine" in err
    code, out, _ = minbert("info", "r")
    assert code == 0 and "mine  " in out
    code, _, err = minbert("export", "r", "exported")
    assert code == 0, err


def test_pretraining_reads_the_texts_of_own_tasks(minbert, folder):
    words = ("--backbone", folder / "backbone", "--epochs", 1, "--out", "p", "--batch-size", 8)
    code, _, err = minbert("pretrain", "--task-file", "reviews.toml", "pairs.toml", *words)
    assert code == 0, err
    assert Run.open("p").config().tasks == ("reviews", "pairs")


def test_an_error_in_a_task_file_is_a_message(minbert, own):
    (own / "reviews.toml").write_text('name = "a"\nkid = "b"\n', encoding="utf-8")
    code, _, err = minbert("train", "--task-file", "reviews.toml")
    assert code != 0 and "reviews.toml:2: unknown key 'kid'" in " ".join(
        err.replace("│", "").split()
    )
    code, _, err = minbert("task", "check", "gone.toml")
    assert "gone.toml does not exist" in err and "Traceback" not in err


# Extensions of others

LOUDER = '''
from dataclasses import dataclass
from multitask.extensions.base import Extension, register

@register("louder")
@dataclass(frozen=True, kw_only=True)
class Louder(Extension):
    """Multiply the loss."""

    by: float = 1.0
    """Factor."""

    def weigh(self, loss, share, task, model):
        return self.by * loss

class Unnamed(Extension):
    pass

@dataclass(frozen=True, kw_only=True)
class Other:
    pass
'''


@pytest.fixture
def louder(own, monkeypatch):
    """A module in the working folder, which nobody has imported."""
    monkeypatch.setattr(base, "EXTENSIONS", dict(base.load_extensions()))
    monkeypatch.setattr(sys, "path", [p for p in sys.path if Path(p).resolve() != own])
    (own / "louder_here.py").write_text(LOUDER, encoding="utf-8")
    yield "louder_here.py:Louder"
    sys.modules.pop("louder_here", None)


def test_an_extension_in_the_working_folder_is_used_and_kept_by_name(
    minbert, folder, louder, monkeypatch
):
    words = ("--task-file", "reviews.toml", "--out", "r", *flags(folder))
    code, _, err = minbert("train", "--use", louder, "--louder.by", 3, *words)
    assert code == 0, err
    values = json.loads(Path("r/config.json").read_text(encoding="utf-8"))
    assert values["extensions"] == [{"name": "louder", "by": 3.0, "from": "louder_here:Louder"}]
    assert config_from_dict(values).extensions[0].by == 3.0
    # In another process, where the working folder is not on the path, only --use finds it
    sys.modules.pop("louder_here")
    base.EXTENSIONS.pop("louder")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(Path.cwd())])
    code, _, err = minbert("info", "r")
    assert code != 0 and "louder_here:Louder cannot be imported" in err and "PYTHONPATH" in err
    code, _, err = minbert("train", "--resume", "r", "--use", louder)
    assert code == 0, err
    code, _, err = minbert("train", "--resume", "r", "--use", "lora")
    assert code != 0 and "leave out --use" in " ".join(err.replace("│", "").split())


@pytest.mark.parametrize(
    "use, said",
    [
        ("nowhere.py:A", "nowhere.py does not exist"),
        ("no_such_module:A", "no_such_module:A cannot be imported"),
        ("louder_here:Nothing", "louder_here:Nothing cannot be imported"),
        ("louder_here:Other", "and no class of extensions"),
        ("os:path", "and no class of extensions"),
    ],
)
def test_what_is_no_extension_is_refused(minbert, louder, use, said):
    code, _, err = minbert("train", "--task-file", "reviews.toml", "--use", use)
    assert code != 0 and said in " ".join(err.split())


def test_no_extension_takes_the_name_of_another():
    with pytest.raises(ValueError, match=r"is called 'lora', as that of multitask\.extensions"):

        @base.register("lora")
        class Mine(base.Extension):
            pass


def test_task_commands_start_without_torch_where_they_only_show_help():
    words = "from multitask.commands.main import parse; import sys\n"
    words += "try: parse(['task', 'new', '--help'])\nexcept SystemExit: pass\n"
    words += "assert 'torch' not in sys.modules"
    found = subprocess.run([sys.executable, "-c", words], capture_output=True, encoding="utf-8")
    assert found.returncode == 0, found.stderr


# What stands on runs


def test_linear_heads_of_own_tasks_are_transformers_own(folder, own):
    names = ("reviews", "pairs", "tickets")
    settings = own_config(folder, own, *names, head="linear", head_size=256, epochs=2)
    run = train(settings, progress=False)
    predictor = Predictor(run.folder)
    dev = predictor.evaluate("dev")
    for name in names:
        task, evaluation = get_task(name), dev[name]
        handed = export_run(run.folder, own / f"handed-{name}", task=name)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(handed).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(handed)
        rows = {row.id: row.texts for row in read_split(task, "dev", own).examples}
        texts = [list(column) for column in zip(*(rows[i] for i in evaluation.ids))]
        batch = tokenizer(*texts, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**batch).logits
        if name == "pairs":
            np.testing.assert_allclose(logits[:, 0], evaluation.answers, rtol=1e-4)
        elif name == "tickets":
            assert model.config.problem_type == "multi_label_classification"
            np.testing.assert_allclose(logits.sigmoid(), evaluation.probabilities, atol=1e-5)
        else:
            np.testing.assert_allclose(logits.softmax(-1), evaluation.probabilities, atol=1e-5)
        assert list(model.config.id2label.values()) == list(task.classes or ("pairs",))
        # and come back
        again = own_config(
            folder, own, name, head="linear", head_size=256, backbone=str(handed), keep_heads=True,
            out=own / f"again-{name}", epochs=1, lr=0.0,
        )  # fmt: skip
        back = Predictor(train(again, progress=False).folder).evaluate("dev")[name]
        np.testing.assert_allclose(back.answers, evaluation.answers, rtol=1e-4)


def test_runs_of_own_tasks_are_compared_and_answer_together(folder, own):
    names = ("reviews", "pairs", "tickets")
    runs = [
        train(
            own_config(folder, own, *names, out=own / f"r{seed}", seed=seed, epochs=1),
            progress=False,
        ).folder
        for seed in (1, 2)
    ]
    found = compare_runs(*runs)
    assert found.tasks.keys() == set(names)
    both = [Predictor(folder).evaluate("dev") for folder in runs]
    for how in ("mean", "vote"):
        together = combine(get_task("tickets"), [each["tickets"] for each in both], how)
        mean = np.mean([each["tickets"].probabilities for each in both], axis=0)
        votes = np.sum([each["tickets"].answers for each in both], axis=0)
        expected = mean > 0.5 if how == "mean" else (votes == 2) | ((votes == 1) & (mean > 0.5))
        np.testing.assert_array_equal(together.answers, expected)


def test_the_constant_answer_to_several_labels_and_to_a_wide_range():
    labels = np.array([[1, 0], [1, 0], [1, 1], [0, 0]])
    task = replace(TASKS["sst"], kind="labels", classes=("a", "b"), metrics=("micro_f1",))
    found = constant_scores(task, labels)
    assert found["micro_f1"] == pytest.approx(f1_score(labels, [[1, 0]] * 4, average="micro"))
    assert found["loss"] == pytest.approx(-np.mean([np.log([0.75, 0.25]) @ [0.75, 0.25]] * 2))
    wide = replace(TASKS["sts"], label_range=(0.0, 100.0), unit=20.0)
    numbers = np.array([0.0, 50.0, 100.0])
    assert constant_scores(wide, numbers)["loss"] == pytest.approx((numbers / 20).var())


def test_kept_records_of_own_tasks_are_drawn_where_nothing_else_is_known(folder, own, tmp_path):
    settings = own_config(folder, own, "reviews", out=tmp_path / "mine-11711", epochs=1)
    run = train(settings, progress=False)
    path = keep(run.folder, tmp_path / "records")
    assert str(own) not in path.read_text(encoding="utf-8")
    forget_own_tasks()
    document = tmp_path / "Report.md"
    document.write_text("".join(RESULTS), encoding="utf-8")
    report_on_records([document], tmp_path / "records")
    header, _, mine, one, _ = document.read_text(encoding="utf-8").splitlines()[1:]
    assert "REVIEWS accuracy" in header
    record = run.record()
    assert f"| mine | {record['dev']['reviews']['accuracy']:.3f} |" in mine
    constant = record["constant"]["reviews"]["accuracy"]
    assert one.startswith(f"| one answer to all rows | {constant:.3f} |")

    forget_own_tasks()
    other = get_task("sst")
    register_task(replace(other, name="reviews"))
    with pytest.raises(
        ValueError, match=r"mine-11711\.json: .* 'reviews' .*; give this task another"
    ):
        report_on_records([document], tmp_path / "records")


def test_runs_of_several_labels_at_once_are_compared(folder, own, tmp_path):
    runs = [
        train(
            own_config(folder, own, "tickets", out=tmp_path / f"{seed}", seed=seed), progress=False
        )
        for seed in (1, 2)
    ]
    found = compare_runs(*(run.folder for run in runs)).tasks["tickets"]
    task = get_task("tickets")
    rows = read_split(task, "dev", own).examples
    labels = np.array([row.label for row in rows])
    answers = [read_label_sets(prediction_path(run.predictions, task, "dev"), task) for run in runs]
    one, other = (np.array([each[row.id] for row in rows]) for each in answers)
    for name, given in found.differences.items():
        average = name.removesuffix("_f1")
        for actual, made in ((given.first, one), (given.second, other)):
            expected = (
                np.mean((labels == made).all(1))
                if name == "subset_accuracy"
                else f1_score(labels, made, average=average, zero_division=0)
            )
            assert actual == pytest.approx(expected)
        assert 0 <= given.p <= 1 and given.low <= given.difference <= given.high
    wrong = np.abs(one - labels).sum(1), np.abs(other - labels).sum(1)
    assert found.lost == np.sum(wrong[1] > wrong[0]) and found.gained == np.sum(wrong[1] < wrong[0])
    worst = found.flips[0]
    assert answers[1][worst.id] == tuple(int(n in worst.second) for n in range(3))


def test_answers_of_several_labels_are_read_as_they_were_written(tmp_path):
    task = replace(
        get_task("sst"), name="t", kind="labels", classes=("a", "b, c", "c"), predictions=None
    )
    path = tmp_path / "t.csv"
    path.write_text('id,answer\n1,none\n2,"a, b, c"\n3,"a, b, c, c"\n4,c\n', encoding="utf-8")
    read = read_label_sets(path, task)
    assert read == {"1": (0, 0, 0), "2": (1, 1, 0), "3": (1, 1, 1), "4": (0, 0, 1)}
    assert all(task.named(np.flatnonzero(s).tolist()) for s in read.values())
    for wrong in ("d", "", "a, ", "c, a"):
        path.write_text(f'id,answer\n1,"{wrong}"\n', encoding="utf-8")
        with pytest.raises(ValueError, match=r"t.csv:2: an answer must be labels with commas"):
            read_label_sets(path, task)
