"""The folder of a study: its settings, its plans, and a run folder for each stage.

study.json          scale, backbone and data of all that is in the folder
plans/              which stages make which score: what reports read
stages/NAME/        a run folder; whoever runs the stage has claimed it
stages/NAME.failed.txt  why it failed
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minbert.claim import claimed
from minbert.files import read_json, write_json
from multitask.experiments.jobs import Job
from multitask.runs.file_types import PlanFile, StudySettings, read_checked
from multitask.runs.run import Run
from multitask.study.plan import Plan, Stage


@dataclass(frozen=True)
class StudyFolder:
    """Where a study is, and what all of its stages have in common."""

    folder: Path
    scale: str
    backbone: str
    data_dir: Path

    @classmethod
    def open(cls, folder: Path) -> StudyFolder:
        """The study in a folder.

        Raises:
            ValueError: there is none.
        """
        if not (folder / "study.json").exists():
            raise ValueError(
                f"{folder} holds no study (no study.json); name the folder of a study, or put the "
                "records of other runs into Report.md with minbert report --keep"
            )
        settings = read_json(folder / "study.json", StudySettings)
        return cls(folder, settings.scale, settings.backbone, Path(settings.data_dir))

    def create(self) -> None:
        """Make the folder; one that holds a study of another scale, backbone or data is refused."""
        path = self.folder / "study.json"
        mine = {"scale": self.scale, "backbone": self.backbone, "data_dir": str(self.data_dir)}
        with claimed(self.folder, wait=10):
            if not path.exists():
                write_json(path, mine)
            theirs = read_checked(path, StudySettings)
        changed = [name for name, value in mine.items() if theirs[name] != value]
        if changed:
            raise ValueError(
                f"{self.folder} holds a study with another {' and '.join(changed)}: {theirs}; "
                "choose another --out"
            )

    def add_plan(self, plan: Plan) -> None:
        """Keep a plan, under a name of its own, so that several processes can do so at once."""
        values = plan.to_dict()
        key = hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]
        write_json(self.folder / "plans" / f"{plan.variant}-{key}.json", values)

    def plans(self) -> list[dict[str, Any]]:
        """The plans that were run here, the latest last, which says how a row is made now."""
        paths = (self.folder / "plans").glob("*.json")
        ordered = sorted(paths, key=lambda p: (p.stat().st_mtime_ns, p.name))
        return [read_checked(path, PlanFile) for path in ordered]

    def run_of(self, name: str) -> Run:
        """The run folder of a stage."""
        return Run(self.folder / "stages" / name)

    def job_of(self, stage: Stage, **places: Any) -> Job:
        """A stage as a job, with all that says where it runs."""
        start = self.job_of(stage.start, **places) if stage.start is not None else None
        settings: dict[str, Any] = {
            "out": self.run_of(stage.name).folder,
            "data_dir": self.data_dir,
            "backbone": self.backbone if start is None else str(start.run.folder),
            "save_every": 500,
            **places,
        }
        # What was trained on the task goes on with its heads, which MLM does not have.
        if stage.start is not None and stage.start.kind == "multitask":
            settings["keep_heads"] = True
        return Job(replace(stage.config, **settings), start)

    def jobs_of(self, plan: Plan, **places: Any) -> list[Job]:
        """The stages that a plan's results end with, as jobs."""
        last = {result.stages[-1].name: result.stages[-1] for result in plan.results}
        return [self.job_of(stage, **places) for stage in last.values()]


def merged(plans: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One plan for each variant, corrected first, with the results of all of its plans; of a
    result that two have, the later plan's."""
    by_variant: dict[str, dict[tuple, dict[str, Any]]] = defaultdict(dict)
    for plan in plans:
        for result in plan["results"]:
            by_variant[plan["variant"]][result["row"], result["task"], result["seed"]] = result
    order = sorted(by_variant, key=lambda variant: (variant != "corrected", variant))
    return [
        {"variant": v, "results": [by_variant[v][key] for key in sorted(by_variant[v])]}
        for v in order
    ]
