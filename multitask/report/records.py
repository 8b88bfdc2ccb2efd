"""Records: what is kept of a run when its folder is gone, in a few kilobytes.

records/NAME.json                  a run: `minbert report --keep runs/NAME`
records/NAME/                      a study, kept in the same way:
    study.json  plans/*.json       its settings; which stages make which score
    stages/STAGE.json              a record for each stage
records/NAME/RUN.json              the runs of a folder: see run_set.py

Tables and figures are drawn from these files and from nothing else. They hold no text of a data
set, and no path of the machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from data.task_files import task_from_dict, task_to_dict
from data.tasks import (
    TASKS,
    Table,
    Task,
    check_same_answers,
    get_task,
    is_built_in,
    register_task_of_run,
)
from minbert.files import read_json
from multitask.extensions.base import extension_from_dict
from multitask.extensions.distill import split
from multitask.runs.file_types import Kept, KeptTasks, PlanFile, StudySettings, read_checked
from multitask.runs.run import Run
from multitask.study.folder import StudyFolder, merged

RECORDS = Path("records")
POINTS = 40
"""Most points of a curve that a record keeps."""
Record = dict[str, Any]


def record_of(run: Run) -> Record:
    """A run's record with its curves, without what only that machine knows."""
    record = run.record()
    record["skipped"] = len(record["skipped"])
    config = record["config"]
    for name in ("out", "data_dir", "backbone", "encoder_config"):
        if config.get(name):
            config[name] = _without_folders(config[name])
    for name in ("text", "dev_text"):
        if config.get(name):
            config[name] = [_without_folders(path) for path in config[name]]
    for extension in config["extensions"]:
        if "teachers" in extension:
            pairs = [split(teacher) for teacher in extension["teachers"]]
            extension["teachers"] = [task + _without_folders(folder) for task, folder in pairs]
    record["backbone"]["source"] = _without_folders(record["backbone"]["source"])
    lines = run.metrics()
    own = {name: _without_places(get_task(name)) for name in run_tasks(config)}
    if own:
        record["tasks"] = own
    record["curves"] = {"loss": _losses(lines), "dev": _scores(lines)}
    cosines = _cosines(lines)
    if cosines:
        record["cosines"] = cosines
    return record


def run_tasks(config: Record) -> list[str]:
    """The tasks of a run that are the user's own."""
    return [name for name in config["tasks"] if not is_built_in(name)]


def _without_places(task: Task) -> Record:
    """A task of the user's own, as what its answers mean: nothing of its files but the columns."""
    table = Table(path="kept.csv", texts=next(iter(task.tables.values())).texts)
    bare = replace(
        task,
        tables={"train": table, "dev": table},
        more={},
        hold_out=None,
        folder=None,
        source=None,
    )
    return task_to_dict(bare)


def read_kept(path: Path) -> Record:
    """A file of records/, whose own tasks become known.

    Raises:
        ValueError: it is no such file, or another task of the name is known.
    """
    for values in read_json(path, KeptTasks).tasks.values():
        task = task_from_dict(values, path)
        try:
            if task.name in TASKS:
                check_same_answers(task, TASKS[task.name])
            else:
                register_task_of_run(task)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return read_checked(path, Kept)


def _without_folders(path: str) -> str:
    """The end of a path that begins at a root: such a path says nothing elsewhere."""
    return Path(path).name if Path(path).is_absolute() else path


def _losses(lines: Sequence[Record]) -> dict[str, list[list[float]]]:
    """Task -> [step, mean loss] of equal parts of the run."""
    steps = [line for line in lines if line["kind"] == "step"]
    width = max(1, -(-(steps[-1]["step"] + 1) // POINTS)) if steps else 1
    parts: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in steps:
        parts[line["task"]][line["step"] // width].append(line["loss"])
    return {
        task: [[(number + 1) * width, round(mean(found), 4)] for number, found in bins.items()]
        for task, bins in parts.items()
    }


def _scores(lines: Sequence[Record]) -> dict[str, list[list[float]]]:
    """Task -> [epoch, score], the score being the task's first metric."""
    points: dict[str, list[list[float]]] = defaultdict(list)
    for line in lines:
        if line["kind"] == "epoch":
            for task, scores in line["scores"].items():
                value = scores[get_task(task).metrics[0]]
                points[task].append([line["epoch"], round(value, 5)])
    return dict(points)


def _cosines(lines: Sequence[Record]) -> Record | None:
    """Between tasks' gradients: the cosines' mean over steps, and the share of them below 0."""
    steps = [line for line in lines if line["kind"] == "cosines"]
    if not steps:
        return None
    cosines = np.array([line["cosines"] for line in steps])  # (steps, tasks, tasks)
    return {
        "tasks": steps[0]["tasks"],
        "steps": len(steps),
        "mean": cosines.mean(axis=0).round(4).tolist(),
        "below_0": (cosines < 0).mean(axis=0).round(4).tolist(),
    }


def passes(record: Record) -> float:
    """How often a run saw its training rows: an epoch may be a part of a pass, or several."""
    config, rows = record["config"], sum(count["train"] for count in record["rows"].values())
    together = any(extension_from_dict(e).combines for e in config["extensions"])
    tasks = len(record["rows"]) if together else 1  # in each step
    return round(record["steps"] * tasks * config["batch_size"] * config["accumulate"] / rows, 1)


def read_records(records: Path = RECORDS) -> dict[str, Record]:
    """The records of single runs that are kept, by name."""
    return {path.stem: read_kept(path) for path in sorted(records.glob("*.json"))}


def published_metric(task: str) -> str:
    """The metric of the published tables."""
    return "pearson" if task == "sts" else "accuracy"


@dataclass(frozen=True)
class Study:
    """The records of a study: what tables and figures are drawn from."""

    name: str
    settings: Record
    plans: list[Record]
    """One for each variant."""
    stages: dict[str, Record]
    where: str
    """Where a reader of the report finds the record of a stage."""
    data_dir: Path | None = None
    """Where the data sets are: known where the study was run, unless they have gone since."""

    @classmethod
    def of_runs(cls, study: StudyFolder) -> Study:
        """Those of the runs of a study's folder that are finished."""
        plans = merged(study.plans())
        names = {name for plan in plans for result in plan["results"] for name in result["stages"]}
        found = {name: study.run_of(name) for name in sorted(names)}
        settings = {
            "scale": study.scale,
            "backbone": _without_folders(study.backbone),
            "data_dir": _without_folders(str(study.data_dir)),
        }
        stages = {name: record_of(run) for name, run in found.items() if run.record_path.exists()}
        name = study.folder.resolve().name
        data_dir = study.data_dir if study.data_dir.expanduser().is_dir() else None
        return cls(name, settings, plans, stages, "stages/{}/record.json", data_dir)

    @classmethod
    def of_records(cls, folder: Path) -> Study:
        """Those that `keep` wrote; of a folder that is not there, a study without any."""
        path = folder / "study.json"
        if not path.exists() and any(folder.rglob("*.json")):
            raise ValueError(f"{folder} holds the records of single runs, not of a study")
        settings = read_checked(path, StudySettings) if path.exists() else {}
        plans = [read_checked(p, PlanFile) for p in sorted((folder / "plans").glob("*.json"))]
        stages = {p.stem: read_kept(p) for p in sorted((folder / "stages").glob("*.json"))}
        where = f"records/{folder.name}/stages/{{}}.json"
        return cls(folder.name, settings, merged(plans), stages, where)

    def link(self, stage: str) -> str:
        """The path of a stage's record, as seen from the report."""
        return self.where.format(stage)

    @property
    def variants(self) -> list[str]:
        """The variants that were run, corrected first."""
        return [plan["variant"] for plan in self.plans]

    def results(self, variant: str, row: str, task: str) -> list[list[Record]]:
        """The records of the stages of a row, for each seed of which the last stage is there."""
        chains = []
        for plan in self.plans:
            for result in plan["results"]:
                matches = (result["row"], result["task"]) == (row, task)
                if plan["variant"] == variant and matches and result["stages"][-1] in self.stages:
                    chains.append([self.stages[n] for n in result["stages"] if n in self.stages])
        return chains

    def scores(self, variant: str, row: str, task: str) -> list[float]:
        """A row's scores on a task, one a seed, in the published metric."""
        metric = published_metric(task)
        return [stages[-1]["dev"][task][metric] for stages in self.results(variant, row, task)]

    def names(self, variant: str, rows: Sequence[str]) -> list[str]:
        """The stages behind rows, those alone that there are records of."""
        return sorted(
            {
                name
                for plan in self.plans
                for result in plan["results"]
                if plan["variant"] == variant and result["row"] in rows
                for name in result["stages"]
                if name in self.stages
            }
        )
