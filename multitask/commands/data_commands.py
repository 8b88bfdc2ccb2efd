"""The command for data sets: fetch, check, convert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, get_args

from tyro.conf import Positional, arg

from data.readers import SAMPLES, Rows
from data.sources import COURSE, FILES, File
from data.tasks import TASKS, Split, is_built_in
from multitask.commands import Group
from multitask.commands.task_commands import check_tasks


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Download the real data sets from their public homes, with checksums; resumes."""

    target: Path = Path("real-data")
    """Folder to put them in; give it to train as --data-dir."""
    names: tuple[str, ...] = COURSE
    """Data sets to fetch: those of the course's tasks, para_large (the course's later and larger
    cut of para), and sst2, mrpc, stsb, qqp, qnli, rte, wnli,
    mnli, ax of GLUE."""
    time_limit: float = 3600.0
    """Seconds that one download may take, all tries together; a rerun resumes it."""

    def run(self) -> None:
        from data.fetch import fetch

        for path in fetch(self.target, self.names, time_limit=self.time_limit):
            print(path)


@dataclass(frozen=True, kw_only=True)
class Check:
    """Read every task's files, count their rows, list all that are bad, and compare with the
    published files: their rows, and their bytes where a checksum is known.

    Fails where a file cannot be used or differs from the published one.
    """

    data_dir: Path | None = None
    """Folder with the tasks' files; by default the project's small data, which is compared with
    nothing."""
    task_files: Annotated[tuple[Path, ...], arg(name="task-file")] = ()
    """Check the rows of these task files in place of the tasks that come along."""

    def run(self) -> None:
        if self.task_files:
            check_tasks(self.task_files, self.data_dir)
            return
        from data.readers import has_split, read_split
        from multitask.text_table import table

        data_dir = self.data_dir or SAMPLES
        splits = get_args(Split)
        rows, bad, unusable = [], [], []
        verdicts: dict[str, list[str]] = {}
        for task in filter(lambda task: is_built_in(task.name), TASKS.values()):
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
                    known = FILES.get(task.tables[split].path, File(""))
                    verdicts.setdefault(_verdict(read, known), []).append(f"{task.name} {split}")
            rows.append([task.name, *counts])
        print(table(["task", *splits], rows))
        for row in bad:
            print(row)
        print(
            f"{len(bad)} bad rows"
            + ("; train with --on-bad-row skip to leave them out" if bad else "")
        )
        if self.data_dir is not None:
            for verdict, names in sorted(verdicts.items()):
                print(f"{verdict}: {', '.join(names)}")
        if unusable:
            raise ValueError("files that cannot be used:\n" + "\n".join(unusable))
        different = sum(len(n) for verdict, n in verdicts.items() if verdict.startswith(DIFFERENT))
        if self.data_dir is not None and different:
            raise ValueError(
                f"{different} files differ from the published ones; if they should not, move them "
                "away and fetch them: minbert data fetch"
            )


EQUAL, DIFFERENT, UNKNOWN = "as published", "differs from what is published", "not compared"


def _verdict(read: Rows, published: File) -> str:
    """How a file compares with the published one."""
    count = len(read.examples) + len(read.skipped)
    if published.rows is not None and published.rows != count:
        more, than = count - published.rows, f"than the {published.rows:,} published"
        return f"{DIFFERENT}, {abs(more):,} rows {'more' if more > 0 else 'fewer'} {than}"
    if not published.is_known:
        what = "nothing of it is" if published.rows is None else "as many rows, but no checksum is"
        return f"{UNKNOWN}, {what} known"
    if published.wrong(read.path):
        rows = "" if published.rows is None else ", with as many rows"
        return f"{DIFFERENT}, in its bytes{rows}"
    return f"{EQUAL}, byte for byte"


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

    commands: ClassVar[Mapping[str, type]] = {"fetch": Fetch, "check": Check, "convert": Convert}
