"""The task file of a guess, with a comment on each part, as `minbert task new` writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from data.guess import SPEAKING, Guess
from data.shape import shape_of
from data.task_files import METRICS


def toml_of(found: Guess, *, folder: Path, dev: Path | None, test: Path | None) -> str:
    """The task file of a guess, with a comment on each part.

    Args:
        found: the guess.
        folder: where the file will be, from which paths are taken.
        dev, test: files of these splits.
    """
    shape = found.shape
    q = _quoted
    one = q(found.texts[0]) if len(found.texts) == 1 else _list(found.texts)
    label = q(found.labels[0]) if len(found.labels) == 1 else _list(found.labels)
    lines = [
        f"# A task for minbert: minbert train --task-file {found.name}.toml",
        "# docs/tasks.md explains every key.",
        f"name = {q(found.name)}",
        f"kind = {q(found.kind)}  # classes: one of several; number; labels: any of several",
    ]
    if found.classes:
        lines.append(f"classes = {_list(found.classes)}")
    if found.range:
        lines.append(f"range = [{found.range[0]:g}, {found.range[1]:g}]  # of all labels")
    metrics = METRICS[found.kind]
    lines += [
        f"metrics = {_list(metrics)}  # the first one chooses the best epoch",
        f'text = {one}  # the column of the text, or ["first", "second"] of a pair',
        f"label = {label}",
    ]
    if len(found.texts) == 2:
        lines.append("symmetric = false  # true where the two texts may change places")
    if found.separator:
        lines.append(f"separator = {q(found.separator)}  # between several labels in a cell")
    if found.id:
        lines.append(f"id = {q(found.id)}  # without it a row is known by its line")
    if found.kind != "number" and len(found.labels) == 1:
        lines += [
            "",
            "# What is written otherwise in the files than in classes, such as",
            "# [names]",
            f"# {q('another spelling')} = {q(found.classes[0])}",
        ]
    needs_dev = dev is None and "dev" not in found.splits
    if needs_dev:
        share = 0.2 if shape.rows < SPEAKING else 0.1
        lines += [
            "",
            "[hold_out]  # of the training rows; equal texts stay together",
            f"dev = {share}",
            "seed = 1",
        ]
    entries = [(shape.path, "train"), (dev, "dev"), (test, "test")]
    for path, split in entries:
        if path is None:
            continue
        shown = _relative(path, folder)
        lines += ["", "[[files]]", f"path = {q(shown)}"]
        if split == "train" and found.split_column:
            lines.append(f"split_column = {q(found.split_column)}")
        else:
            lines.append(f"split = {q(split)}")
        this = shape if split == "train" else shape_of(path, None)
        if this.delimiter and this.format != "tsv":
            lines.append(f"delimiter = {q(this.delimiter)}")
        if this.encoding != "utf-8":
            lines.append(f"encoding = {q(this.encoding)}")
        if split == "test" and not set(found.labels) <= this.columns.keys():
            lines.append('label = ""  # this file has none')
    return "\n".join(lines) + "\n"


def _relative(path: Path, folder: Path) -> str:
    path, folder = path.resolve(), folder.resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(names: Sequence[str]) -> str:
    return f"[{', '.join(map(_quoted, names))}]"
