"""minbert compare: with answers that were written by hand, in groups, and with wrong input."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import config, pretrain_config

from data.readers import read_split
from data.tasks import TASKS, get_task
from multitask import train
from multitask.evaluate import Evaluation, read_predictions, write_predictions
from multitask.experiments.compare_runs import compare_runs
from multitask.experiments.curves import draw_curves
from multitask.experiments.groups import Group, group_of
from multitask.experiments.significance import compare_answers
from multitask.metrics import METRICS
from multitask.runs.run import Run

pytestmark = pytest.mark.usefixtures("no_figure")


@pytest.fixture(scope="module")
def made(folder):
    """A run, of which others are copies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multitask.training.draw_run", lambda run: None)
        return train(config(folder, "made", tasks=("sst", "sts"), epochs=2), progress=False)


@pytest.fixture
def answered(made, tmp_path):
    """Make a run whose answers are told, and recorded."""

    def make(name, settings=(), **answers):
        run = Run(tmp_path / name)
        shutil.copytree(made.folder, run.folder)
        record = made.record()
        for task, values in answers.items():
            values, ids, labels = np.array(values), *rows_of(made, task)
            write(run, task, ids, values)
            for metric in TASKS[task].metrics:
                record["dev"][task][metric] = METRICS[metric](labels, values)
        run.record_path.write_text(json.dumps(record), encoding="utf-8")
        values = json.loads(run.config_path.read_text(encoding="utf-8")) | dict(settings)
        run.config_path.write_text(json.dumps(values), encoding="utf-8")
        return run.folder

    return make


def write(run, task, ids, answers):
    found = Evaluation(ids=ids, answers=answers, probabilities=None, labels=None, metrics={})
    write_predictions(run.predictions, get_task(task), "dev", found)


def rows_of(run, task):
    rows = read_split(get_task(task), "dev", run.config().data_dir).examples
    return [row.id for row in rows], np.array([row.label for row in rows])


def wrong(labels, *places):
    """Labels of SST with these rows answered wrong."""
    found = labels.copy()
    found[list(places)] = (found[list(places)] + 1) % 5
    return found


@pytest.fixture
def minbert(command_line):
    return partial(command_line, "compare")


def test_predictions_are_read_as_they_were_written(tmp_path):
    for task, answers in (("sst", [3, 0]), ("sts", np.float32([2.4, 1e-7]))):
        found = Evaluation(
            ids=("a , b", "c"), answers=np.array(answers), probabilities=None, labels=None,
            metrics={},
        )  # fmt: skip
        path = write_predictions(tmp_path, TASKS[task], "dev", found)
        read = read_predictions(path, TASKS[task])
        assert read == pytest.approx(dict(zip(("a , b", "c"), answers)))
    path.write_text("id \t x \na , 1 \nb ; 2 \n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"sts-dev-output.csv:3: a line must be `id , answer`"):
        read_predictions(path, TASKS["sts"])
    path.unlink()
    with pytest.raises(ValueError, match=r"output\.csv is missing; minbert evaluate RUN"):
        read_predictions(path, TASKS["sts"])


def test_predictions_of_a_task_without_a_course_are_read_too(tmp_path):
    own = replace(TASKS["sst"], name="own", predictions=None)
    found = Evaluation(
        ids=('a "b", c', "d"), answers=np.array([3, 0]), probabilities=np.full((2, 5), 0.2),
        labels=None, metrics={},
    )  # fmt: skip
    path = write_predictions(tmp_path, own, "dev", found)
    assert "positive" in path.read_text(encoding="utf-8")
    assert read_predictions(path, own) == {'a "b", c': 3.0, "d": 0.0}
    number = replace(TASKS["sts"], name="number", predictions=None)
    found = replace(found, answers=np.float32([2.5, 0.1]), probabilities=None)
    path = write_predictions(tmp_path, number, "dev", found)
    assert read_predictions(path, number) == pytest.approx({'a "b", c': 2.5, "d": 0.1})
    path.write_text("id,answer\nx,good\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r":2: a line must be `id,answer`; its answer is 'good'"):
        read_predictions(path, number)
    with pytest.raises(ValueError, match="own has several labels at once"):
        read_predictions(path, replace(own, kind="labels"))


def test_two_runs_are_compared_row_by_row(made, answered):
    ids, labels = rows_of(made, "sst")
    _, numbers = rows_of(made, "sts")
    first = answered("first", sst=wrong(labels, 0, 1, 2), sts=numbers + 0.25)
    second = answered("second", {"lr": 0.5, "seed": 3}, sst=wrong(labels, 2, 5), sts=numbers[::-1])
    found = compare_runs(first, second)
    sst, sts = found.tasks["sst"], found.tasks["sts"]
    assert (sst.rows, sst.left_out, sst.lost, sst.gained) == (15, 0, 1, 2)
    accuracy = sst.differences["accuracy"]
    assert accuracy == compare_answers(
        "accuracy", labels, wrong(labels, 0, 1, 2)[None], wrong(labels, 2, 5)[None]
    )
    assert (accuracy.first, accuracy.second) == (12 / 15, 13 / 15)
    assert accuracy.p == 1  # two against one of three, in either direction
    assert sst.constant["accuracy"] == 0.2
    assert [(f.id, f.label, f.first, f.second, f.change) for f in sst.flips] == [
        (ids[5], labels[5], labels[5], (labels[5] + 1) % 5, 1.0),
        *((ids[i], labels[i], (labels[i] + 1) % 5, labels[i], -1.0) for i in (0, 1)),
    ]
    rows = read_split(get_task("sst"), "dev", made.config().data_dir).examples
    assert sst.flips[0].texts == rows[5].texts
    assert sts.differences["pearson"].first == pytest.approx(1)
    change = np.abs(numbers[::-1] - numbers) - 0.25
    assert [flip.change for flip in sts.flips][: sts.lost] == pytest.approx(
        sorted(change[change > 0], reverse=True)
    )
    assert sts.gained == sum(change < 0)
    assert found.settings == {"lr": ("0.01", "0.5"), "seed": ("11711", "3")}


def test_groups_are_means_over_runs(made, answered):
    ids, labels = rows_of(made, "sst")
    for seed, places in ((2, (0, 1)), (10, (1,)), (1, (1, 2))):
        answered(f"a-{seed}", {"seed": seed}, sst=wrong(labels, *places))
    answered("a-extra", sst=labels)
    other = answered("b", {"seed": 1}, sst=wrong(labels, 0))
    group = group_of(str(other.parent / "a"))
    assert [run.folder.name for run in group.runs] == ["a-1", "a-2", "a-10"]
    found = compare_runs(other.parent / "a", other).tasks["sst"]
    answers = [wrong(labels, *places) for places in ((1, 2), (1,), (0, 1))]
    assert found.differences["accuracy"] == compare_answers(
        "accuracy", labels, np.stack(answers), wrong(labels, 0)[None]
    )
    assert found.differences["accuracy"].test == "t over seeds and rows"
    assert [(flip.id, round(flip.change, 3)) for flip in found.flips] == [
        (ids[0], 0.667), (ids[1], -1.0), (ids[2], -0.333),
    ]  # fmt: skip
    assert found.flips[1].first == (labels[1] + 1) % 5 and found.flips[2].first == labels[2]


def test_what_names_a_group(answered, tmp_path, monkeypatch):
    a, b, comma = answered("a-1"), answered("a-2"), answered("x,y")
    assert group_of(str(a)) == Group("a-1", (Run(a),))
    assert group_of(f"{a},{b}") == Group("a-1,a-2", (Run(a), Run(b)))
    assert group_of(str(comma)) == Group("x,y", (Run(comma),))
    monkeypatch.chdir(tmp_path)
    assert group_of("a") == Group("a", (Run(Path("a-1")), Run(Path("a-2"))))
    for word, message in {
        "c": "c holds no run, and there are no runs c-SEED; name run folders",
        "a-1,": None,
        "a,a-1": "a,a-1 names a run twice; name each once",
        "a-[0-9]": "holds no run",
    }.items():
        if message is None:
            assert len(group_of(word).runs) == 1
            continue
        with pytest.raises(ValueError, match=message):
            group_of(word)


def test_the_command_prints_what_the_function_finds(made, answered, minbert, tmp_path):
    _, labels = rows_of(made, "sst")
    first = answered("first", sst=wrong(labels, 0, 1, 2))
    second = answered("second", {"lr": 0.5}, sst=wrong(labels, 5))
    code, out, err = minbert(first, second, "--rows", 1, "--figure", tmp_path / "curves.svg")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    d = compare_runs(first, second).tasks["sst"].differences["accuracy"]
    interval = [f"{d.low:+.3f}", "to", f"{d.high:+.3f}"]
    assert ["sst", "accuracy", "0.800", "0.933", "+0.133", *interval, f"{d.p:.2g}", "0.200",
            "McNemar,", "exact"] in lines  # fmt: skip
    assert ["lr", "0.01", "0.5"] in lines
    assert "sst: 15 rows; second is worse on 1 and better on 3\n" in out
    tabbed = [line.split("\t") for line in out.splitlines() if "\t" in line]
    assert [line[0] for line in tabbed] == ["change", "worse", "better"]
    assert tabbed[1][1] == TASKS["sst"].classes[int(labels[5])]
    assert (tmp_path / "curves.svg").read_text(encoding="utf-8").startswith("<?xml")

    third = answered("third")
    code, out, _ = minbert(first, second, third)
    assert code == 0 and out.count("95% interval") == 2


def test_the_curves_are_those_of_every_run(made, answered, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn, marks, plot = [], [], Axes.plot

    def watched(axes, x, y, style, **settings):
        drawn.append((x, y))
        marks.append(style[0])
        return plot(axes, x, y, style, **settings)

    monkeypatch.setattr(Axes, "plot", watched)
    groups = [Group("a", (made,)), Group("b", (Run(answered("b-1")), Run(answered("b-2"))))]
    draw_curves(groups, tmp_path / "x.svg")
    lines = [line for line in made.metrics() if line["kind"] == "epoch"]
    for task, metrics in (("sst", ("accuracy", "macro_f1")), ("sts", ("pearson", "spearman"))):
        for values in (
            [line["train_loss"][task] for line in lines],
            *([line["scores"][task][metric] for line in lines] for metric in ("loss", *metrics)),
        ):
            assert drawn.count(([1, 2], values)) == 3
    assert set(marks) == {"o"}  # a run of one epoch has no line


# What goes wrong


def test_rows_that_not_all_answered_are_left_out_and_counted(made, answered, minbert):
    ids, labels = rows_of(made, "sst")
    first, second = answered("first", sst=labels), answered("second", sst=labels)
    write(Run(second), "sst", ids[3:], labels[3:])
    found = compare_runs(first, second).tasks["sst"]
    assert (found.rows, found.left_out) == (12, 3)
    assert "3 rows are left out, which not all have answered" in minbert(first, second)[1]
    write(Run(second), "sst", ["other"], labels[:1])
    with pytest.raises(ValueError, match="none of the sst rows that all runs answered; name their"):
        compare_runs(first, second)


def test_other_labels_are_refused(made, answered, minbert, tmp_path):
    _, labels = rows_of(made, "sst")
    first, second = answered("first", sst=labels), answered("second", sst=wrong(labels, 1))
    data = shutil.copytree(made.config().data_dir, tmp_path / "data")
    path = data / "ids-sst-dev.csv"
    table = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    for row in table[1:]:
        row[3] = "4"
    path.write_text("".join("\t".join(row) + "\n" for row in table), encoding="utf-8")
    code, _, err = minbert(first, second, "--data-dir", data)
    assert code == 2 and "recorded a accuracy" not in err
    assert "first recorded 1.000 for the accuracy of sst, and its answers have 0." in err
    code, _, err = minbert(first, second, "--data-dir", tmp_path / "nowhere")
    assert code == 2 and "nowhere does not exist" in err


def test_what_cannot_be_compared_is_said(made, answered, minbert, folder):
    first = answered("first")
    assert "compare takes at least two runs" in minbert(first)[2]
    assert "have a run in common; compare others" in minbert(first, first)[2]
    assert "rows must be at least 1, it is 0" in minbert(first, first, "--rows", 0)[2]
    second = answered("second")
    (second / "record.json").unlink()
    assert "second is not finished: minbert train --resume" in minbert(first, second)[2]
    other = train(config(folder, tasks=("para",), epochs=1), progress=False)
    assert "have no task in common" in minbert(first, other.folder)[2]
    mlm = train(pretrain_config(folder, epochs=1), progress=False)
    assert "is a pre-training run and answers no task" in minbert(first, mlm.folder)[2]
