"""The course's prediction files: whether they are in the exact format, and how good they are.

predictions/{stem}-{split}-output.csv begins with `id \\t {column} ` and has for every id a row
`{id} , {answer} `, spaces included, as multitask/evaluate.py writes them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from data.tasks import TASKS, Split, Task
from lab.submission import Submission

SPLITS: tuple[Split, ...] = ("dev", "test")


def file_name(task: Task, split: Split) -> str:
    return f"{task.predictions.stem}-{split}-output.csv"


def inspect(submission: Submission, data_dir: Path | None) -> tuple[list[str], dict[str, float]]:
    """Problems of a submission's predictions, and scores for the leaderboard.

    Args:
        submission: its files stand in predictions/.
        data_dir: folder with the tasks' data, for the ids and labels; without it formats alone
            are looked at.
    """
    problems: list[str] = []
    scores: dict[str, float] = {}
    for task in TASKS.values():
        for split in SPLITS:
            path = f"predictions/{file_name(task, split)}"
            try:
                text = submission.read(path)
            except ValueError as error:
                problems.append(str(error))
                continue
            if text is None:
                continue
            labels = labels_of(task, split, data_dir)
            found, answers = lint(text, task, labels)
            problems += [f"{path}: {problem}" for problem in found]
            if not found and labels and None not in labels.values():
                scores[f"{task.name} {split}"] = score(task, labels, answers)
    return problems, scores


def labels_of(task: Task, split: Split, data_dir: Path | None) -> Mapping[str, float | None] | None:
    """Id -> label of a split, or None where there is no file."""
    from data.readers import has_split, read_split

    if data_dir is None or not has_split(task, split, data_dir):
        return None
    rows = read_split(task, split, data_dir, on_bad_row="skip")
    return {example.id: example.label for example in rows.examples}


def lint(
    text: str, task: Task, labels: Mapping[str, float | None] | None = None
) -> tuple[list[str], dict[str, float]]:
    """What is wrong with a file, at most ten lines, and the answers of the rows that are right."""
    problems: list[str] = []
    answers: dict[str, float] = {}
    header, *rows = text.split("\n")
    wanted = f"id \t {task.predictions.column} "
    if header != wanted:
        problems.append(f"line 1 is {header!r}; it must be {wanted!r}")
    if rows[-1:] != [""]:
        problems.append("the last line does not end")
    else:
        rows.pop()
    for number, row in enumerate(rows, start=2):
        match = re.fullmatch(r"(\S+) , (\S+) ", row)
        if match is None:
            problems.append(f"line {number} is {row!r}; it must be 'ID , ANSWER ', with the spaces")
            continue
        name, written = match.groups()
        problem = wrong_answer(written, task)
        if name in answers:
            problem = f"id {name} stands above already"
        elif labels is not None and name not in labels:
            problem = f"id {name} is not one of this split"
        if problem:
            problems.append(f"line {number}: {problem}")
        else:
            answers[name] = float(written)
    if labels is not None and not problems and labels.keys() - answers.keys():
        missing = sorted(labels.keys() - answers.keys())
        problems.append(f"{len(missing)} ids have no answer, such as {missing[0]}")
    more = len(problems) - 10
    return [*problems[:10], f"and {more} more"] if more > 0 else problems, answers


def wrong_answer(written: str, task: Task) -> str | None:
    """What is wrong with one answer."""
    try:
        value = float(written)
    except ValueError:
        return f"{written!r} is not a number"
    if not math.isfinite(value):
        return f"{written} is not finite"
    if task.predictions.number is int and not re.fullmatch(r"\d+", written):
        return f"{written!r} must be a whole number, such as 3"
    if task.kind != "regression" and value not in range(len(task.classes)):
        return f"{written} is no class; they are 0 to {len(task.classes) - 1}"
    return None


def score(task: Task, labels: Mapping[str, float | None], answers: Mapping[str, float]) -> float:
    """The task's first metric."""
    import numpy as np

    from multitask.metrics import METRICS

    right = np.array([labels[name] for name in labels], dtype=float)
    given = np.array([answers[name] for name in labels], dtype=float)
    return METRICS[task.metrics[0]](right, given)
