"""A run of version 0.1.0 goes on, evaluates and answers as it did there.

tests/old_run was made by that version: `stopped` after nine of its twelve steps, `finished` by the
version itself. Dropout is drawn in the way that gives the same numbers on every machine.
"""

import re
import shutil
from pathlib import Path

import pytest
from helpers import contents, without_seconds

from data.readers import read_split
from data.tasks import get_task
from minbert.files import read_json
from multitask import Predictor, resume
from multitask.runs.checkpoint import load_checkpoint
from multitask.runs.run import Run

OLD = Path(__file__).parent / "old_run"


@pytest.fixture
def folder(tmp_path):
    """A copy, whose configs name its own backbone and data."""
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("*/*.json"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("FOLDER", tmp_path.as_posix()), encoding="utf-8")
    return tmp_path


def answers(path):
    """Id -> answer of a prediction file."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return {
        i: float(value) for i, value in (re.fullmatch(r"(\S+) , (\S+) ", x).groups() for x in lines)
    }


@pytest.mark.usefixtures("no_figure")
def test_a_stopped_run_goes_on_to_the_same_end(folder):
    before = (folder / "stopped" / "metrics.jsonl").read_text(encoding="utf-8")
    run, expected = resume(folder / "stopped", progress=False), Run(folder / "finished")
    assert run.metrics_path.read_text(encoding="utf-8").startswith(before)
    lines = without_seconds(run.metrics()), without_seconds(expected.metrics())
    assert len(lines[0]) == len(lines[1]) == 14  # twelve steps and two epochs
    for line, wanted in zip(*lines, strict=True):
        assert line.keys() == wanted.keys()
        assert line.get("loss", 0) == pytest.approx(wanted.get("loss", 0), rel=1e-5)
    tensors, wanted = (load_checkpoint(each.best)[0] for each in (run, expected))
    assert tensors.keys() == wanted.keys()
    for name, tensor in tensors.items():
        assert (tensor - wanted[name]).abs().max() < 1e-5, name
    names = contents(expected.predictions).keys()
    assert contents(run.predictions).keys() == names and len(names) == 4
    for name in names:
        assert answers(run.predictions / name) == pytest.approx(
            answers(expected.predictions / name), abs=1e-4
        )
    record, wanted = (read_json(each.record_path) for each in (run, expected))
    assert record["best_epoch"] == wanted["best_epoch"]
    for task, scores in wanted["dev"].items():
        assert record["dev"][task] == pytest.approx(scores, abs=1e-4), task


def test_a_finished_run_answers_as_it_did(folder):
    predictor, run = Predictor(folder / "finished"), Run(folder / "finished")
    evaluations = predictor.evaluate("dev")
    for task, scores in run.record()["dev"].items():
        assert evaluations[task].metrics == pytest.approx(scores, abs=1e-4), task
    rows = read_split(get_task("sts"), "dev", folder / "data").examples
    values = [each.value for each in predictor.predict("sts", [row.texts for row in rows])]
    expected = answers(run.predictions / "sts-dev-output.csv")
    assert dict(zip([row.id for row in rows], values)) == pytest.approx(expected, abs=1e-4)
