"""The course's prediction files: whether they are in the exact format, and how good they are.

predictions/{stem}-{split}-output.csv begins with `id \\t {column} ` and has for every id a row
`{id} , {answer} `, spaces included, as multitask/evaluate.py writes them.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from data.tasks import TASKS, Label, PredictionFile, Split, Task
from lab.diagnose import shown
from lab.submission import Submission

LARGEST = 2**25
"""Bytes of a file that is read; QQP's 390,965 rows make 12 million."""
SPLITS: tuple[Split, ...] = ("dev", "test")


def file_name(task: Task, split: Split) -> str:
    return f"{form(task).stem}-{split}-output.csv"


def form(task: Task) -> PredictionFile:
    """How a task's predictions are written; the course's and GLUE's tasks have it."""
    assert task.predictions is not None
    return task.predictions


Labels = Mapping[tuple[str, Split], Mapping[str, Label | None]]
"""(Task, split) -> id -> label."""


def read_labels(data_dir: Path) -> Labels:
    """The labels of all splits that are in a folder."""
    from data.readers import has_split, read_split

    return {
        (task.name, split): {
            example.id: example.label
            for example in read_split(task, split, data_dir, on_bad_row="skip").examples
        }
        for task in TASKS.values()
        for split in SPLITS
        if has_split(task, split, data_dir)
    }


def names_of() -> dict[str, tuple[Task, Split]]:
    """The name of each prediction file, and what it answers."""
    return {
        file_name(task, split): (task, split)
        for task in TASKS.values() if task.predictions is not None
        for split in SPLITS
    }  # fmt: skip


def inspect(
    submission: Submission, labels: Labels, wanted: Collection[str] = ()
) -> tuple[list[str], dict[str, float]]:
    """Problems of a submission's predictions, and scores for the leaderboard.

    Args:
        submission: its files stand in predictions/.
        labels: where a split has none, formats alone are looked at.
        wanted: tasks whose files must be there, for both splits.
    """
    problems = misplaced(submission.places)
    scores: dict[str, float] = {}
    for name, (task, split) in names_of().items():
        path = f"predictions/{name}"
        if path not in submission.places:
            if task.name in wanted:
                problems.append(f"{path} is missing")
            continue
        try:
            text = submission.read(path, LARGEST) or ""
        except ValueError as error:
            problems.append(str(error))
            continue
        if "\r\n" in text:
            problems.append(f"{path}: the file has Windows line ends (CRLF); it was read with LF")
            text = text.replace("\r\n", "\n")
        right = labels.get((task.name, split))
        found, answers = lint(text, task, right)
        problems += [f"{path}: {problem}" for problem in found]
        if not found and right and None not in right.values():
            value = score(task, right, answers)
            if math.isfinite(value):
                scores[f"{task.name} {split}"] = value
            else:
                problems.append(f"{path}: the numbers are too large for a score")
    return problems, scores


def misplaced(names: Iterable[str]) -> list[str]:
    """Files that look like predictions, and have another name or lie in another folder."""
    problems = []
    known = names_of()
    spellings = {spelling: name for name, (task, split) in known.items() for spelling in (
        name, f"{task.name}-{split}-output.csv", f"{task.name}-{split}.csv")}  # fmt: skip
    for path in sorted(names):
        folder, _, name = path.rpartition("/")
        if name in known:
            if folder != "predictions":
                where = f"{shown(folder, 80)}/" if folder else "the top folder"
                problems.append(f"{name} lies in {where}; it belongs into predictions/")
        elif folder == "predictions" and not name.startswith("."):
            plain = re.sub(r"( \(\d+\))?(\.csv|\.txt)+$", ".csv", name.lower().replace("_", "-"))
            near = difflib.get_close_matches(plain, spellings, 1, 0.75)
            meant = f"; is it {spellings[near[0]]}?" if near else ""
            problems.append(f"{shown(path, 100)} is no prediction file's name{meant}")
    return problems[:10]


def lint(
    text: str, task: Task, labels: Mapping[str, Label | None] | None = None
) -> tuple[list[str], dict[str, float]]:
    """What is wrong with a file, at most ten lines, and the answers of the rows that are right."""
    problems: list[str] = []
    more = 0
    answers: dict[str, float] = {}
    header, *rows = text.split("\n")
    wanted = f"id \t {form(task).column} "
    if header != wanted:
        problems.append(f"line 1 is '{shown(header, 80)}'; it must be '{shown(wanted)}'")
    if rows[-1:] != [""]:
        problems.append("the last line does not end")
    else:
        rows.pop()
    for number, row in enumerate(rows, start=2):
        match = re.fullmatch(r"(\S+) , (\S+) ", row)
        if match is None:
            problem = f"line {number} is '{shown(row, 80)}'; it must be 'ID , ANSWER ', with spaces"
        else:
            name, written = match.groups()
            problem = wrong_answer(written, task)
            if name in answers:
                problem = f"id {shown(name, 80)} stands above already"
            elif labels is not None and name not in labels:
                problem = f"id {shown(name, 80)} is not one of this split"
            if problem is None:
                answers[name] = float(written)
                continue
            problem = f"line {number}: {problem}"
        if len(problems) < 10:
            problems.append(problem)
        else:
            more += 1
    if labels is not None and not problems and labels.keys() - answers.keys():
        missing = sorted(labels.keys() - answers.keys())
        problems.append(f"{len(missing)} ids have no answer, such as {missing[0]}")
    return [*problems, f"and {more} more"] if more else problems, answers


NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def wrong_answer(written: str, task: Task) -> str | None:
    """What is wrong with one answer."""
    if re.fullmatch("[+-]?(nan|inf|infinity)", written, re.ASCII | re.IGNORECASE):
        return f"{written} is not finite"
    if len(written) > 40 or not NUMBER.fullmatch(written):
        return f"'{shown(written, 40)}' is not a number"
    value = float(written)
    if not math.isfinite(value):
        return f"{written} is not finite"
    if form(task).whole and not re.fullmatch(r"\d+", written):
        return f"{written!r} must be a whole number, such as 3"
    if task.kind != "regression" and value not in range(len(task.classes)):
        return f"{written} is no class; they are 0 to {len(task.classes) - 1}"
    return None


def score(task: Task, labels: Mapping[str, Label | None], answers: Mapping[str, float]) -> float:
    """The task's first metric."""
    import numpy as np

    from multitask.metrics import METRICS

    right = np.array([labels[name] for name in labels], dtype=float)
    given = np.array([answers[name] for name in labels], dtype=float)
    with np.errstate(all="ignore"):  # numbers such as 1e308
        return METRICS[task.metrics[0]](right, given)
