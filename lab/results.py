"""What grading writes: results.json of each submission, and the table of the class."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.diagnose import Verdict
from lab.exercises import EXERCISES, Exercise


@dataclass
class Grade:
    """What a submission reached."""

    name: str
    """Of its folder in the results."""
    verdicts: dict[str, Verdict]
    """By exercise."""
    notes: list[str] = field(default_factory=list)
    """For the student too: what was not read, had no effect, or is wrong with predictions."""
    private: list[str] = field(default_factory=list)
    """For the teacher alone: how it was handed in, and what it printed."""
    seconds: float = 0.0
    leaderboard: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    """The files with exercises, by path; none where nothing could be read."""

    @property
    def score(self) -> int:
        return sum(points_of(e, self.verdicts.get(e.name)) for e in EXERCISES)


def points_of(exercise: Exercise, verdict: Verdict | None) -> int:
    return exercise.points if verdict is not None and verdict.status == "done" else 0


def write_results(path: Path, found: Grade, exercises: Sequence[Exercise], seed: int) -> None:
    """Write results.json as Gradescope reads it."""
    from minbert.files import write_json

    tests = []
    for exercise in exercises:
        verdict = found.verdicts.get(exercise.name, Verdict("wrong", "It was not run."))
        tests.append(
            {
                "name": exercise.heading,
                "number": str(exercise.number),
                "score": points_of(exercise, verdict),
                "max_score": exercise.points,
                "output": f"{verdict.status}. {verdict.message}".strip(),
                "visibility": "visible",
            }
        )
    for name, notes, visibility in (
        ("Notes", found.notes, "visible"),
        ("Notes for the teacher", found.private, "hidden"),
    ):
        if notes:
            tests.append(
                {
                    "name": name,
                    "output": "\n".join(notes),
                    "visibility": visibility,
                    "score": 0,
                    "max_score": 0,
                }
            )
    results: dict[str, Any] = {
        "score": found.score,
        "execution_time": round(found.seconds),
        "output": f"Graded on hidden inputs, seed {seed}.",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }
    if found.leaderboard:
        results["leaderboard"] = [
            {"name": name, "value": round(value, 4)} for name, value in found.leaderboard.items()
        ]
    write_json(path, results)


def write_class(path: Path, grades: Sequence[Grade], exercises: Sequence[Exercise]) -> None:
    """Write the table of the class."""
    total = sum(e.points for e in exercises)
    rows: list[list[Any]] = [["name", "score", "of", *(e.name for e in exercises), "notes"]]
    for each in grades:
        points = [points_of(e, each.verdicts.get(e.name)) for e in exercises]
        notes = "; ".join([*each.notes, *each.private])
        rows.append([cell(each.name), each.score, total, *points, cell(notes)])
    write_table(path, rows)


def write_table(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    from minbert.files import write_text

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def cell(text: str) -> str:
    """Text that a spreadsheet takes for text: what would begin a formula gets an apostrophe."""
    return re.sub(r"(^|[;,\t])(\s*)([=+@-])", r"\1\2'\3", text)
