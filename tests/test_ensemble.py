"""Several runs together: their answers, and the mean of their weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import config, write_backbone, write_data
from sklearn.base import BaseEstimator
from sklearn.ensemble import VotingClassifier
from sklearn.preprocessing import LabelEncoder

from data.tasks import get_task
from minbert.files import checked, read_json
from multitask import Predictor, resume, train
from multitask.evaluate import Evaluation
from multitask.experiments.averaging import average, mean_weights
from multitask.experiments.compare_runs import compare_runs
from multitask.experiments.differences import points_of, write_points
from multitask.experiments.ensemble import combine, ensemble
from multitask.experiments.groups import group_of
from multitask.extensions.lora import LoRA
from multitask.runs.checkpoint import load_checkpoint
from multitask.runs.file_types import ComparedGroup
from multitask.runs.run import Run

pytestmark = pytest.mark.usefixtures("no_figure")


def evaluation(answers, probabilities=None, labels=None, ids=None):
    return Evaluation(
        ids=ids or [str(n) for n in range(len(answers))],
        answers=np.array(answers),
        probabilities=None if probabilities is None else np.array(probabilities),
        labels=None if labels is None else np.array(labels),
        metrics={},
    )


class Fixed(BaseEstimator):
    """A classifier of scikit-learn's that gives the probabilities that it was told."""

    def __init__(self, table):
        self.table = table

    def predict_proba(self, rows):
        return self.table[np.asarray(rows)[:, 0]]

    def predict(self, rows):
        return self.predict_proba(rows).argmax(axis=1)


@pytest.mark.parametrize("how, voting", [("mean", "soft"), ("vote", "hard")])
@pytest.mark.parametrize("count", [3, 5])
def test_answers_together_are_those_of_scikit_learns_voting(how, voting, count):
    draw = np.random.default_rng(4)
    tables = [draw.dirichlet(np.ones(5), 200) for _ in range(count)]
    reference = VotingClassifier([(str(n), Fixed(t)) for n, t in enumerate(tables)], voting=voting)
    reference.estimators_ = [Fixed(table) for table in tables]
    reference.le_ = LabelEncoder().fit(range(5))
    rows = np.arange(200)[:, None]
    task, labels = get_task("sst"), draw.integers(0, 5, 200)
    given = [evaluation(t.argmax(1), t, labels) for t in tables]
    found = combine(task, given, how)
    votes = np.stack([each.answers for each in given])
    most = np.stack([(votes == k).sum(0) for k in range(5)])
    clear = (most == most.max(0)).sum(0) == 1 if how == "vote" else np.ones(200, bool)
    assert clear.sum() > 50
    assert (found.answers == reference.predict(rows))[clear].all()
    assert found.metrics["accuracy"] == np.mean(found.answers == labels)
    mean = np.mean(tables, axis=0)
    if how == "mean":
        assert found.metrics["loss"] == pytest.approx(-np.log(mean[rows[:, 0], labels]).mean())
        np.testing.assert_allclose(found.probabilities, mean)
    else:  # of those with equal votes, the one with the highest mean probability
        for row in np.flatnonzero(~clear):
            tied = np.flatnonzero(most[:, row] == most[:, row].max())
            assert found.answers[row] == max(tied, key=lambda k: mean[row, k])
        np.testing.assert_allclose(found.probabilities, most.T / count)
        assert "loss" not in found.metrics


def test_numbers_together_are_their_mean_or_median():
    task = get_task("sts")
    given = [evaluation([x, 2.0], labels=[1.0, 3.0]) for x in (0.0, 1.0, 5.0)]
    assert combine(task, given, "mean").answers.tolist() == [2.0, 2.0]
    assert combine(task, given, "vote").answers.tolist() == [1.0, 2.0]
    assert combine(task, given, "mean").metrics["loss"] == 1.0


def test_rows_must_be_the_same():
    given = [evaluation([1.0]), evaluation([1.0], ids=["other"])]
    with pytest.raises(ValueError, match="did not answer the same rows of sts; give a folder"):
        combine(get_task("sts"), given)


# Runs


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A backbone, data, and three runs that differ in their rates."""
    folder = tmp_path_factory.mktemp("runs")
    write_backbone(folder / "backbone")
    write_data(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multitask.training.draw_run", lambda run: None)
        for name, lr in (("a", 1e-2), ("b", 5e-3), ("c", 2e-3)):
            train(config(folder, out=name, lr=lr), progress=False)
    return folder


def runs_of(home):
    return [home / name for name in "abc"]


def test_runs_together_answer_as_their_probabilities_say(home):
    found = ensemble(runs_of(home), "dev")
    own = [Predictor(run, device="cpu").evaluate("dev") for run in runs_of(home)]
    mean = np.mean([each["sst"].probabilities for each in own], axis=0)
    np.testing.assert_allclose(found.evaluations["sst"].probabilities, mean, atol=1e-6)
    numbers = np.mean([each["sts"].answers for each in own], axis=0)
    np.testing.assert_allclose(found.evaluations["sts"].answers, numbers, atol=1e-5)
    assert found.tasks.keys() == {"sst", "sts"} and len(found.single) == 3


def test_runs_together_are_compared_with_each(home, tmp_path):
    names = ",".join(map(str, runs_of(home)))
    for how in ("mean", "vote"):
        group = group_of(f"{how}:{names}")
        assert (group.name, group.together) == (f"{how} of a,b,c", how)
        made = ensemble(runs_of(home), "dev", how).evaluations
        compared = compare_runs(names, group).tasks
        for task, evaluation in made.items():
            for metric, difference in compared[task].differences.items():
                assert difference.second == pytest.approx(evaluation.metrics[metric], abs=1e-4)
                own = [Run(run).record()["dev"][task][metric] for run in runs_of(home)]
                assert difference.first == pytest.approx(np.mean(own), abs=1e-3)
    points = points_of([compare_runs(names, group)])
    kept = write_points(tmp_path, points)
    assert checked(read_json(kept), list[ComparedGroup]) == points
    assert [point.together for point in points] == [None, "vote"]
    assert points[0].scores["sst"]["accuracy"].difference is None
    with pytest.raises(ValueError, match="one run has nobody to agree with"):
        group_of(f"mean:{home / 'a'}")


def test_the_mean_of_weights_is_a_run(home, tmp_path):
    made = average(runs_of(home), tmp_path / "mean")
    tensors = [load_checkpoint(Run(run).best)[0] for run in runs_of(home)]
    own, state = load_checkpoint(made.best)
    for name, tensor in own.items():
        expected = torch.stack([each[name] for each in tensors]).double().mean(0).float()
        torch.testing.assert_close(tensor, expected)
    record = made.record()
    assert record["dev"] == state["scores"]
    predictor = Predictor(made.folder, device="cpu")
    found = predictor.evaluate("dev")
    assert {name: each.metrics for name, each in found.items()} == record["dev"]
    scores = [Run(run).record()["score"] for run in runs_of(home)]
    assert list(record["averaged"]["runs"].values()) == scores
    assert len(record["averaged"]["kept"]) == 3 and record["steps"] == 3 * 12
    assert {path.name for path in made.predictions.iterdir()} == {
        f"{task}-{split}-output.csv" for task in ("sst", "sts") for split in ("dev", "test")
    }
    with pytest.raises(ValueError, match=r"is finished, and its last.safetensors"):
        resume(made.folder, progress=False)
    again = train(
        config(home, out=tmp_path / "next", backbone=str(made.folder), epochs=1), progress=False
    )
    assert again.record()["backbone"]["source"] == str(made.folder)


def test_a_greedy_mean_takes_what_does_not_harm(home, tmp_path):
    made = average(runs_of(home), tmp_path / "greedy", greedy=True)
    record = made.record()
    scores = {run: Run(run).record()["score"] for run in runs_of(home)}
    ordered = sorted(scores, key=lambda run: -scores[run])
    kept, best = [], -1.0
    for run in ordered:  # the recipe of the paper, by hand
        trial = mean_weights([Run(each) for each in [*kept, run]])
        predictor = Predictor(run, device="cpu")
        with torch.no_grad():
            for name, parameter in predictor.model.named_parameters():
                parameter.copy_(trial[name])
        metrics = {name: e.metrics for name, e in predictor.evaluate("dev").items()}
        score = (metrics["sst"]["accuracy"] + metrics["sts"]["pearson"]) / 2
        if not kept or score >= best:
            kept, best = [*kept, run], score
    assert record["averaged"]["kept"] == [str(run) for run in kept]
    assert record["score"] == pytest.approx(best, abs=1e-6) and best >= max(scores.values()) - 1e-6


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"tasks": ("sst",)}, r"has tasks \('sst', 'sts'\) and .* \('sst',\); only weights of one"),
        ({"pooling": "mean"}, "has pooling pooler and .* mean; only weights of one model"),
        ({"frozen": True, "lr": 1e-3}, "did not train the same parameters: encoder.*is in one of"),
        ({"extensions": (LoRA(rank=2),)}, "trained lora, whose factors multiply"),
    ],
)
def test_weights_of_other_models_have_no_mean(home, tmp_path, changes, message):
    other = train(config(home, out=tmp_path / "other", epochs=1, **changes), progress=False)
    with pytest.raises(ValueError, match=message):
        average([home / "a", other.folder], tmp_path / "mean")
    assert not (tmp_path / "mean" / "config.json").exists()


def test_another_backbone_is_named(home, tmp_path):
    write_backbone(tmp_path / "other", seed=9)
    settings = replace(config(home, out=tmp_path / "run"), backbone=str(tmp_path / "other"))
    other = train(settings, progress=False)
    with pytest.raises(ValueError, match="started from other weights than"):
        average([home / "a", other.folder], tmp_path / "mean")


@pytest.mark.parametrize(
    "words, message",
    [
        ("evaluate {a} {b}", "2 runs are named; answer with them together with --ensemble mean"),
        ("evaluate {a} --ensemble vote", "one run has nobody to agree with"),
        ("evaluate {a} {a} --ensemble vote", "is named twice; name each run once"),
        ("evaluate {a} {b} --ensemble vote --adapter x", "adapter is .* has no effect"),
        ("average {a} {b}", "name two runs or more, and then the folder to write"),
        ("average {a} {b} {c}", "holds a run already; choose another folder"),
    ],
)
def test_a_mistake_is_explained(home, command_line, words, message):
    import re

    line = words.format(**{name: home / name for name in "abc"})
    code, _, err = command_line(*line.split())
    assert code == 2 and re.search(message, err)


def test_the_commands(home, tmp_path, command_line):
    def minbert(*words):
        code, out, err = command_line(*words)
        assert code == 0, err
        return out

    runs = runs_of(home)
    out = minbert("evaluate", *runs, "--ensemble", "mean", "--mistakes", "2")
    header = next(line for line in out.splitlines() if line.startswith("task"))
    assert header.split() == ["task", "metric", "a", "b", "c", "mean"]
    assert "what is most wrong" in out and "name a folder: --out" in out
    out = minbert("evaluate", *runs, "--ensemble=vote", "--split", "test", "--out", tmp_path / "p")
    assert sorted(path.name for path in (tmp_path / "p").glob("*.csv")) == [
        "sst-test-output.csv", "sts-test-output.csv",
    ]  # fmt: skip
    out = minbert("average", *runs, tmp_path / "soup", "--greedy")
    assert "their mean" in out and str(tmp_path / "soup") in out
    assert "sst" in minbert("info", tmp_path / "soup")
    assert minbert("predict", "bat", "--task", "sst", "--run", tmp_path / "soup")
