"""What is in a task's files, split by split, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.held_out import same_text
from data.readers import SAMPLES, Example, has_split, read_split
from data.schema import Task

SHOWN = 20
"""Most bad rows that are listed."""


def inspect_task(task: Task, data_dir: Path | None = None) -> tuple[list[str], list[str]]:
    """A task's rows and labels, and all that is wrong, a line each.

    Returns:
        What is there and what is worth a look; and why the task cannot be trained, if so.
    """
    lines, wrong = [], []
    splits: dict[str, list[Example]] = {}
    for split in task.splits:
        if not has_split(task, split, data_dir or SAMPLES) and split == "test":
            lines.append(f"{task.name} test: no file is there; it is left out")
            continue
        try:
            rows = read_split(task, split, data_dir or SAMPLES, on_bad_row="skip")
        except ValueError as error:
            wrong.append(str(error))
            continue
        splits[split] = rows.examples
        lines.append(
            f"{task.name} {split}: {len(rows.examples)} rows{_labels(rows.examples, task)}"
        )
        lines += [f"  {note}" for note in rows.notes]
        lines += [f"  bad row {bad}" for bad in rows.skipped[:SHOWN]]
        if rows.skipped:
            wrong.append(
                f"{task.name} {split}: {len(rows.skipped)} bad rows, as listed above; mend them, "
                "or leave them out: --on-bad-row skip"
            )
    if not wrong:
        lines += worth_a_look(task, splits)
    return lines, wrong


def _labels(examples: Sequence[Example], task: Task) -> str:
    """How often each label is there, or what a number's are."""
    labels = [example.label for example in examples if example.label is not None]
    if not labels:
        return ", without labels"
    if task.kind == "regression":
        values = [label for label in labels if not isinstance(label, tuple)]
        return f", from {min(values):g} to {max(values):g}, mean {sum(values) / len(values):.3g}"
    counts = _counts(labels)
    named = [f"{name} {counts[number]}" for number, name in enumerate(task.classes)]
    return f": {', '.join(named[:10])}" + (", ..." if len(named) > 10 else "")


def _counts(labels: Sequence[float | tuple[float, ...]]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for label in labels:
        if isinstance(label, tuple):
            counts.update(number for number, holds in enumerate(label) if holds)
        else:
            counts[int(label)] += 1
    return counts


def worth_a_look(task: Task, splits: Mapping[str, Sequence[Example]]) -> list[str]:
    """What makes scores mislead, though the rows can be read."""
    lines = []
    train = splits.get("train", [])
    seen = {same_text(example.texts) for example in train}
    for split, examples in splits.items():
        again = sum(same_text(example.texts) in seen for example in examples)
        if split != "train" and again:
            lines.append(
                f"{task.name}: {again} of the {len(examples)} {split} rows have the texts of "
                "training rows, so that their scores say less"
            )
    if train and task.classes:
        counts = _counts([e.label for e in train if e.label is not None])
        if rare := [name for n, name in enumerate(task.classes) if not counts[n]]:
            lines.append(
                f"{task.name}: no training row is {', '.join(rare)}, so that it is never learnt"
            )
    answers: dict[tuple[str, ...], set[object]] = {}
    for example in train:
        answers.setdefault(same_text(example.texts), set()).add(example.label)
    if torn := sum(len(found) > 1 for found in answers.values()):
        lines.append(f"{task.name}: {torn} texts stand there with different labels")
    return lines
