"""The commands `minbert study` and `minbert report`; like cli.py, no torch until one runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from tyro.conf import Positional

from data.readers import SAMPLES
from minbert.checks import check_counts
from multitask.commands import Group

if TYPE_CHECKING:
    from multitask.study.folder import StudyFolder
    from multitask.study.plan import Plan


@dataclass(frozen=True, kw_only=True)
class PlanStudy:
    """Print the stages of rows, shared ones once, and about how long they take; run nothing."""

    rows: Positional[tuple[str, ...]] = ()
    """Rows to run, such as ft+pll lora-4; by default all of them."""
    tasks: tuple[str, ...] = ()
    """Tasks to run them on, of sst, para, sts and cola; by default all of a row."""
    scale: Literal["full", "medium", "small", "tiny"] = "tiny"
    """Published settings (for a GPU), a quarter of the rows (a day on a CPU), fewer epochs too
    (hours), or a first look (minutes)."""
    preset: Literal["corrected", "as-published"] = "corrected"
    """What the published text says, or what the published code did."""
    deviations: tuple[str, ...] = ()
    """Mistakes of the published code to make on top of corrected, by name: see docs/study.md."""
    data_dir: Path = SAMPLES
    """Folder with the tasks' files; by default the project's small data."""
    backbone: str = "minilm"
    """minilm, a folder, or a hub name such as bert-base-uncased."""
    seeds: int = 1
    """Run every row with so many seeds: 11711, 11712, ..."""
    out: Path | None = None
    """Folder of the study, of one scale, backbone and data; by default runs/study-SCALE."""

    def study(self) -> StudyFolder:
        """Where the study is."""
        from multitask.study.folder import StudyFolder

        folder = self.out or Path("runs") / f"study-{self.scale}"
        return StudyFolder(folder, self.scale, self.backbone, self.data_dir)

    def plan(self) -> Plan:
        """What is to be run."""
        from multitask.study import deviations
        from multitask.study.plan import make_plan, parts_of, select_rows
        from multitask.study.table_rows import SCALES, rows

        check_counts(self, "seeds")
        scale = SCALES[self.scale]
        known = rows(scale, parts_of(self.backbone))
        variant, chosen = deviations.chosen(self.preset, self.deviations)
        return make_plan(
            select_rows(known, self.rows, self.tasks),
            scale,
            variant=variant,
            deviations=chosen,
            seeds=self.seeds,
        )

    def run(self) -> None:
        _print_plan(self.study(), self.plan())


@dataclass(frozen=True, kw_only=True)
class RunStudy(PlanStudy):
    """Run rows of the study: what is finished is skipped, what was killed goes on.

    Start the same command several times, in one shell or on several hosts that share the folder,
    and they divide the stages among themselves.
    """

    keep_weights: Literal["all", "starts", "none"] = "starts"
    """Weights to keep of finished stages: all; those that other stages start from; or these too
    only until no row needs them."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, ..."""

    def run(self) -> None:
        from multitask.experiments.jobs import missing
        from multitask.experiments.queue import Queue

        study, plan = self.study(), self.plan()
        study.create()
        study.add_plan(plan)
        _print_plan(study, plan)
        reasons = {name: ", ".join(rows) for name, rows in plan.users().items()}
        jobs = study.jobs_of(plan, device=self.device)
        queue = Queue(jobs, keep_weights=self.keep_weights, reasons=reasons)
        if queue.work():
            print(
                f"\nfinished: {study.folder}; draw tables and figures: "
                f"minbert report {study.folder}"
            )
            return
        for name, reason in queue.failed.items():
            print(f"failed: {name}: {reason}", file=sys.stderr)
        left = len(missing(jobs))
        raise ValueError(f"{left} stages are not finished; the same command tries them again")


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """Show what a study has finished, what runs now, and what failed."""

    folder: Positional[Path]
    """Folder of the study."""

    def run(self) -> None:
        from multitask.study.status import describe_study

        print(describe_study(self.folder))


@dataclass(frozen=True, kw_only=True)
class CompareRows:
    """Say whether rows of a study are better than the first of them, task by task.

    Each difference comes with an interval that has it with 95%, and with p, how often chance alone
    makes one as large: docs/comparing.md says how. Three seeds a row are the least to rely on.
    """

    folder: Positional[Path]
    """Folder of the study."""
    rows: Positional[tuple[str, ...]]
    """Two rows or more, such as ft lora-4; the first is what the others are compared with."""
    variant: str = "corrected"
    """The variant of all of them: corrected, as-published, or with deviations as study status
    names it."""

    def run(self) -> None:
        from multitask.study.folder import StudyFolder
        from multitask.study.row_differences import HEADER, row_differences
        from multitask.text_table import table

        if len(self.rows) < 2:
            raise ValueError("study compare takes at least two rows, such as ft lora-4")
        print(
            table(HEADER, row_differences(StudyFolder.open(self.folder), self.variant, self.rows))
        )


class StudyGroup(Group):
    """Reproduce the study: rows of stages, shared, resumable, on several processes."""

    commands: ClassVar[Mapping[str, type]] = {
        "run": RunStudy,
        "plan": PlanStudy,
        "status": StudyStatus,
        "compare": CompareRows,
    }


@dataclass(frozen=True, kw_only=True)
class Report:
    """Draw the tables and figures of documents anew, from records; their prose stays."""

    documents: Positional[tuple[Path, ...]] = (Path("Report.md"),)
    """Markdown files with markers (docs/study.md), drawn from the records that are kept, or folders
    of studies, each of which has a Report.md of its own, drawn from its runs."""
    records: Path = Path("records")
    """Folder of the records that are kept."""
    keep: tuple[Path, ...] = ()
    """First copy the records of these runs, folders of runs, or studies there."""
    latex: bool = False
    """Write each document as LaTeX too, NAME.tex beside it, with its figures as PDF."""

    def run(self) -> None:
        from multitask.report.document import report_on, report_on_records
        from multitask.report.keeping import keep

        for folder in self.keep:
            print(keep(folder, self.records))
        for path in self.documents:
            if path.is_dir():
                written = report_on(path, latex=self.latex)
            else:
                written = report_on_records([path], self.records, latex=self.latex)
            print(*written, sep="\n")


def _print_plan(study: StudyFolder, plan: Plan) -> None:
    from multitask.experiments.estimate import seconds_of
    from multitask.experiments.jobs import missing
    from multitask.text_table import table, words_of

    every = [study.job_of(stage) for stage in plan.stages]
    left = missing(study.jobs_of(plan))
    users = plan.users()
    seconds = seconds_of(every) if left else {}
    rows = [
        [
            job.name,
            words_of(seconds[job.name]),
            job.start.name if job.start else "-",
            _few(users[job.name]),
        ]
        for job in left
    ]
    if rows:
        print(table(["stage", "about", "starts from", "for"], rows))
    print(
        f"{plan.variant}, scale {plan.scale.name}: {len(plan.results)} results from "
        f"{len(every)} stages, {len(every) - len(left)} of them finished; about "
        f"{words_of(sum(seconds[job.name] for job in left))} left for one process"
    )
    print(f"scale {plan.scale.name}: {plan.scale.note}")


def _few(names: list[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
