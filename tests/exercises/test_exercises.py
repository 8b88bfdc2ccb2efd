"""The checks of the exercises under pytest: `pytest tests/exercises -k attention`."""

import json
from pathlib import Path

import pytest

from lab.check import assigned
from lab.diagnose import judge
from lab.exercises import EXERCISES
from lab.harness import cases
from lab.runner import describe
from lab.upstream import supplied

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def golden(tmp_path_factory):
    """The folder with the expected numbers: the copy's, or in the project itself new ones.

    Those are of the right answers alone: its code makes no mistake that has to be told from others.
    """
    if assigned(ROOT):
        return ROOT / "lab" / "golden"
    from lab import golden

    folder = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(golden, "mistakes_of", lambda exercise: [])
        golden.write(folder, EXERCISES, seed=1)
    return folder


@pytest.mark.parametrize("exercise", assigned(ROOT) or EXERCISES, ids=lambda e: e.name)
def test_exercise(exercise, golden):
    numbers = json.loads(
        (golden / "expected" / f"{exercise.name}.json").read_text(encoding="utf-8")
    )
    calls = json.loads((golden / "supplied" / f"{exercise.name}.json").read_text(encoding="utf-8"))
    found = {"cases": [], "error": None}
    try:
        with supplied(exercise, calls):
            for case in cases(exercise, seed=0 if assigned(ROOT) else 1):
                found["cases"].append(case)
    except Exception as error:
        found["error"] = describe(error)
    verdict = judge(found, numbers)
    if verdict.status != "done":
        pytest.fail(f"{exercise} is {verdict.status}. {verdict.message}", pytrace=False)
