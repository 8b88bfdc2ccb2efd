"""The command for data sets: fetch, check, convert."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, get_args

from tyro.conf import Positional

from data.readers import SAMPLES
from data.sources import COURSE
from data.tasks import TASKS, Split
from multitask.commands import Group


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Download the real data sets from their public homes, with checksums; resumes."""

    target: Path = Path("real-data")
    """Folder to put them in; give it to train as --data-dir."""
    names: tuple[str, ...] = COURSE
    """Data sets to fetch: those of the course's tasks, and sst2, mrpc, stsb, qqp, qnli, rte, wnli,
    mnli, ax of GLUE."""
    time_limit: float = 3600.0
    """Seconds that one download may take, all tries together; a rerun resumes it."""

    def run(self) -> None:
        from data.fetch import fetch

        for path in fetch(self.target, self.names, time_limit=self.time_limit):
            print(path)


@dataclass(frozen=True, kw_only=True)
class Check:
    """Read every task's files, count their rows, and list all that are bad."""

    data_dir: Path | None = None
    """Folder with the tasks' files; by default the project's small data."""

    def run(self) -> None:
        from data.readers import has_split, read_split
        from multitask.console import table

        data_dir = self.data_dir or SAMPLES
        splits = get_args(Split)
        rows, bad, unusable = [], [], []
        for task in TASKS.values():
            counts = []
            for split in splits:
                if not has_split(task, split, data_dir):
                    counts.append("-")
                    continue
                try:
                    read = read_split(task, split, data_dir, on_bad_row="skip")
                except ValueError as error:
                    counts.append("unusable")
                    unusable.append(str(error))
                else:
                    counts.append(f"{len(read.examples)}")
                    bad += read.skipped
            rows.append([task.name, *counts])
        print(table(["task", *splits], rows))
        for row in bad:
            print(row)
        print(f"{len(bad)} bad rows" + ("; train with --on-bad-row skip to leave them out"
                                        if bad else ""))  # fmt: skip
        if unusable:
            raise ValueError("files that cannot be used:\n" + "\n".join(unusable))


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Write the hub's parquet files of GLUE as GLUE's own tables; needs minbert[parquet]."""

    source: Positional[Path]
    """Folder with mrpc/train-00000-of-00001.parquet and the like."""
    target: Path = Path("real-data/glue")
    """Folder of the tables."""

    def run(self) -> None:
        from data.hub import convert

        for path in convert(self.source, self.target):
            print(path)


class Data(Group):
    """Fetch, check or convert data sets."""

    commands: ClassVar = {"fetch": Fetch, "check": Check, "convert": Convert}
