"""What the constant answer scores, and when a run is said to have learnt nothing."""

import numpy as np
import pytest
import torch
from helpers import config
from torch.nn import functional as F

from data.tasks import TASKS
from multitask import train
from multitask.analysis import constant_scores, learnt_nothing
from multitask.commands.words import finished
from multitask.evaluate import Evaluation
from multitask.report.study_tables import constant_cells

pytestmark = pytest.mark.usefixtures("no_figure")


def test_of_classes_it_is_the_most_frequent_label():
    labels = np.array([1, 1, 1, 0, 0], dtype=np.float32)
    found = constant_scores(TASKS["mrpc"], labels)
    assert found["accuracy"] == 0.6 and found["f1"] == pytest.approx(2 * 3 / (2 * 3 + 2))
    assert constant_scores(TASKS["cola"], labels)["matthews"] == 0
    found = constant_scores(TASKS["sst"], np.array([4, 2, 2, 4, 0]))  # 2, the first of equals
    assert found["accuracy"] == 0.4 and found["macro_f1"] == pytest.approx(4 / 7 / 3)
    assert found.keys() == {"accuracy", "macro_f1", "loss"}


def test_of_numbers_it_is_their_mean_which_has_no_correlation():
    found = constant_scores(TASKS["sts"], np.array([0.0, 1.0, 5.0]))
    assert found == {"pearson": 0, "spearman": 0, "loss": pytest.approx(14 / 3)}


@pytest.mark.parametrize("task", ["cola", "sst", "sts"])
def test_its_loss_is_the_least_that_one_answer_can_have(task):
    """Found by descent over the one answer, by torch's own losses."""
    draw = np.random.default_rng(0)
    labels = {"cola": draw.random(40) < 0.7, "sst": draw.integers(0, 5, 40),
              "sts": 5 * draw.random(40)}[task].astype(np.float64)  # fmt: skip
    y, x = torch.tensor(labels), torch.zeros(5 if task == "sst" else 1).double().requires_grad_()
    descent = torch.optim.LBFGS([x], max_iter=200)

    def loss():
        descent.zero_grad()
        if task == "sst":
            value = F.cross_entropy(x.expand(40, 5), y.long())
        elif task == "cola":
            value = F.binary_cross_entropy_with_logits(x.expand(40), y)
        else:
            value = F.mse_loss(x.expand(40), y)
        value.backward()
        return value

    descent.step(loss)
    assert constant_scores(TASKS[task], labels)["loss"] == pytest.approx(loss().item(), abs=1e-6)


def evaluation(answers, labels, **metrics):
    probabilities = np.full((len(answers), 2), 0.5)
    return Evaluation(
        ids=[str(n) for n in range(len(answers))], answers=np.array(answers),
        probabilities=probabilities, labels=np.array(labels), metrics=metrics,
    )  # fmt: skip


def epoch(number, task, **metrics):
    return {"kind": "epoch", "epoch": number, "scores": {task: metrics}}


def losses(*values, task="cola"):
    return [{"kind": "step", "task": task, "loss": value} for value in values]


LABELS = [0, 1, 1, 1]
ENTROPY = 0.5623351446188083


@pytest.mark.parametrize(
    "answers, score, lines, expected",
    [
        ([0, 1, 1, 0], 0.6, [], []),
        ([1, 1, 1, 1], 0.0, [], ["it answers acceptable to every row", "matthews is 0.000 at"]),
        ([0, 1, 1, 0], 0.0, [], ["its matthews is 0.000 at best, and that of one answer to all"]),
        ([0, 1, 1, 0], 0.0, [epoch(1, "cola", matthews=0.1)], []),  # an epoch was better
        ([0, 1, 1, 0], 0.0, [epoch(0, "cola", matthews=0.1)], ["its matthews is 0.000 at best"]),
        ([0, 1, 1, 0], 0.6, losses(2, 2, 2, 0.5), []),
        ([0, 1, 1, 0], 0.6, losses(0.1, 0.1, 0.1, 0.56), ["last steps is 0.560, and that of one"]),
        ([0, 1, 1, 0], 0.6, losses(9, 9, 9, 9, task="sst"), []),
    ],
)
def test_learnt_nothing(answers, score, lines, expected):
    found = learnt_nothing(TASKS["cola"], evaluation(answers, LABELS, matthews=score), lines)
    assert bool(found) == bool(expected)
    assert len(found.split("; ")) == max(1, len(expected))
    for part, wanted in zip(found.split("; "), expected):
        assert wanted in part
    assert constant_scores(TASKS["cola"], np.array(LABELS))["loss"] == pytest.approx(ENTROPY)


def test_rows_of_one_label_are_no_reason_for_doubt():
    assert not learnt_nothing(TASKS["cola"], evaluation([1, 1], [1, 1], matthews=0.0))


def test_a_regression_that_answers_nearly_the_same_is_told():
    rows = evaluation([2.01, 2.02, 2.03], [0.0, 2.0, 5.0], pearson=0.9)
    assert learnt_nothing(TASKS["sts"], rows) == "it answers 2.0 to every row"
    assert not learnt_nothing(TASKS["sts"], evaluation([2, 2.5, 3], [0, 2, 5], pearson=0.9))


def test_a_run_that_learns_nothing_says_so_everywhere(folder, command_line, tmp_path):
    run = train(config(folder, tasks=("sst", "cola"), lr=0.0, epochs=2), progress=False)
    record = run.record()
    assert record["constant"]["sst"]["accuracy"] == 0.2
    assert record["constant"]["cola"]["matthews"] == 0
    assert record["doubts"].keys() == {"sst", "cola"}
    text = finished(run)
    assert "warning: sst seems not to be learnt: it answers" in text
    assert text.count("what usually helps: a lower --lr") == 1
    score = f"{record['dev']['sst']['accuracy']:.3f}"
    assert ["sst", "accuracy", score, "0.200"] in [line.split() for line in text.splitlines()]
    for words in (["evaluate", run.folder, "--out", tmp_path], ["info", run.folder]):
        code, out, err = command_line(*words)
        assert code == 0
        assert ["sst", "accuracy", score, "0.200"] in [line.split() for line in out.splitlines()]
        assert "warning: cola seems not to be learnt: it answers" in out + err


def test_a_record_of_an_older_version_has_no_column_for_it(folder):
    import json

    run = train(config(folder, tasks=("sst",), epochs=1), progress=False)
    record = json.loads(run.record_path.read_text(encoding="utf-8"))
    del record["constant"], record["doubts"]
    run.record_path.write_text(json.dumps(record), encoding="utf-8")
    assert "constant" not in finished(run) and "warning" not in finished(run)
    record["constant"] = {"sst": {"accuracy": 0.5}}
    run.record_path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ValueError, match="the scores of sst lack macro_f1"):
        run.record()


def test_a_report_has_a_row_of_it_where_it_says_something():
    constant = {"sst": {"accuracy": 0.262}, "sts": {"pearson": 0.0}}
    records = [{"constant": constant}, {"constant": {"sst": {"accuracy": 0.25}}}, {}]
    found = constant_cells(records, ["sst", "para", "sts"], ["accuracy", "accuracy", "pearson"])
    assert found == ["0.250, 0.262", "", "0.000"]
    assert constant_cells(records, ["sts"], ["pearson"]) == []
