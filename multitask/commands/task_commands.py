"""The commands for tasks of one's own: new, check."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tyro.conf import Positional

from minbert.files import write_text
from multitask.commands import Group


@dataclass(frozen=True, kw_only=True)
class New:
    """Look at a file of rows with labels, say what is in it, and write a task file to train from.

    It reads CSV, TSV, JSON lines and Parquet. Read the task file before you train, and mend what
    was guessed wrong; the flags below say it beforehand.
    """

    train: Positional[Path]
    """File with the training rows."""
    dev: Path | None = None
    """File with development rows; without one some of the training rows are held out."""
    test: Path | None = None
    """File with test rows, which need no labels."""
    out: Path | None = None
    """Task file to write; by default beside the training rows, with the same name."""
    overwrite: bool = False
    """Replace a task file that is there already."""
    name: str | None = None
    """Name of the task; by default that of the file."""
    text: tuple[str, ...] = ()
    """Column of the text, or of the two texts of a pair."""
    label: tuple[str, ...] = ()
    """Column of the label; or several of 0 and 1, for several labels at once."""
    kind: Literal["classes", "number", "labels"] | None = None
    """classes: one of several; number; labels: any of several at once."""
    delimiter: str | None = None
    """Between the fields of a CSV file."""
    separator: str | None = None
    """Between several labels in one cell."""

    def run(self) -> None:
        from data.guess import SPEAKING, guess
        from data.shape import shape_of
        from data.task_files import read_task_file
        from data.task_toml import toml_of
        from data.tasks import check_name

        name = self.name or _free_name(self.train)
        check_name(name)
        out = self.out or self.train.with_name(f"{name}.toml")
        if out.exists() and not self.overwrite:
            raise ValueError(f"{out} is there already; replace it with --overwrite, or give --out")
        shape = shape_of(self.train, self.delimiter)
        found = guess(
            shape,
            name=name,
            text=self.text,
            label=self.label,
            kind=self.kind,
            separator=self.separator,
        )
        written = toml_of(found, folder=out.parent, dev=self.dev, test=self.test)
        write_text(out, written)
        between = f", fields divided by {shape.delimiter!r}" if shape.delimiter else ""
        print(f"{self.train}: {shape.rows} rows, {shape.format}, {shape.encoding}{between}")
        for reason in found.why:
            print(f"  {reason}")
        task = read_task_file(out)
        if held := task.held_out("dev"):
            print(f"  splits: no development rows, so {held:.0%} of the rows are held out")
        check_tasks([out], None)
        print(f"\nwritten: {out}; mend what is guessed wrong, and try next:")
        rates = "--lr 1e-4 --epochs 5" if shape.rows < SPEAKING else "--lr 5e-5"
        print(f"    minbert train --task-file {shlex.quote(str(out))} --pooling mean {rates}")


def _free_name(path: Path) -> str:
    """A name for the task of a file: the file's own, if the library does not have it."""
    from data.tasks import check_name

    name = re.sub(r"\W+", "_", path.stem, flags=re.ASCII).strip("_").lower()
    name = name if re.match("[a-z]", name) else f"task_{name}"
    try:
        check_name(name[:50])
    except ValueError:
        return f"my_{name[:40]}"
    return name[:50]


@dataclass(frozen=True, kw_only=True)
class Check:
    """Read a task file and all of its rows, count them, and list what is wrong by file and line."""

    task_files: Positional[tuple[Path, ...]]
    """Task files."""
    data_dir: Path | None = None
    """Folder with the files, if they are not beside the task file."""

    def run(self) -> None:
        check_tasks(self.task_files, self.data_dir)


def check_tasks(task_files: Sequence[Path], data_dir: Path | None) -> None:
    """Print rows and labels of each split, and what is wrong.

    Raises:
        ValueError: a file cannot be used.
    """
    from data.inspect_task import inspect_task
    from data.task_files import register_task_file

    problems: list[str] = []
    for path in task_files:
        lines, wrong = inspect_task(register_task_file(path), data_dir)
        print("\n".join(lines))
        problems += wrong
    if problems:
        raise ValueError("\n".join(problems))


class TaskGroup(Group):
    """Train on data of your own: describe a file of rows as a task, check it."""

    commands: ClassVar[Mapping[str, type]] = {"new": New, "check": Check}
