"""A job is a run to be made: what is done is passed over, what was cut short goes on.

A job is known by its folder, its config's `out`. So one command is repeated until all is done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multitask.config import PLACES, AnyConfig
from multitask.runs.run import Run, located
from multitask.training import resume, train


@dataclass(frozen=True)
class Job:
    """One run of the training loop, and the job whose run it starts from."""

    config: AnyConfig
    start: Job | None = None

    @property
    def run(self) -> Run:
        """Its run, begun or not."""
        assert self.config.out is not None, "a job is known by its folder"
        return Run(self.config.out)

    @property
    def name(self) -> str:
        """The last part of its folder."""
        return self.run.folder.name

    @property
    def chain(self) -> list[Job]:
        """The jobs up to this one, the first one first."""
        return [*(self.start.chain if self.start else []), self]

    @property
    def is_done(self) -> bool:
        """Whether its run is finished."""
        return self.run.record_path.exists()

    @property
    def can_start_others(self) -> bool:
        """Whether its run is finished and has its weights still."""
        return self.is_done and self.run.best.exists()

    def make(self, *, progress: bool = True) -> None:
        """Train, or go on where an earlier process was stopped."""
        if self.run.config_path.exists() and not self.is_done:
            resume(self.run.folder, device=self.config.device, progress=progress)
        else:  # once more, where others need weights that are gone
            overwrite = self.config.overwrite or self.is_done
            train(replace(self.config, overwrite=overwrite), progress=progress)


def failure_of(run: Run) -> Path:
    """Where a job says why it failed."""
    return run.folder.with_name(f"{run.folder.name}.failed.txt")


def jobs_of(configs: Iterable[AnyConfig]) -> list[Job]:
    """A job for each config; one whose backbone is the folder of an earlier one starts from it.

    Raises:
        ValueError: two have one folder, or a folder holds a run with other settings.
    """
    jobs: dict[str, Job] = {}
    by_backbone: dict[str, Job] = {}
    for config in configs:
        job = Job(config, by_backbone.get(os.path.realpath(config.backbone)))
        _check_settings(job)
        if jobs.setdefault(os.path.realpath(job.run.folder), job) is not job:
            raise ValueError(f"two runs are to be written to {job.run.folder}; name another --out")
        for place in (job.run.folder, job.run.backbone):
            by_backbone[os.path.realpath(place)] = job
    return list(jobs.values())


def missing(jobs: Iterable[Job]) -> list[Job]:
    """What is to be run so that these are done, in order: they and, where weights are gone or were
    never made, what they start from."""
    found: dict[Path, Job] = {}
    for job in jobs:
        if job.is_done:
            continue
        needed = [job]
        while needed[0].start is not None and not needed[0].start.can_start_others:
            needed.insert(0, needed[0].start)
        for each in needed:
            found.setdefault(each.run.folder, each)
    return list(found.values())


def _check_settings(job: Job) -> None:
    """Raise ValueError if the folder holds a run with other settings; where it computes may differ
    (`PLACES`)."""
    run = job.run
    if not run.config_path.exists():
        return
    actual, expected = _settings(run.config()), _settings(job.config)
    changed = [
        f"{name} {actual.get(name)!r} (not {value!r})"
        for name, value in expected.items()
        if actual.get(name) != value
    ]
    if changed:
        raise ValueError(
            f"{run.folder} holds a run with {', '.join(changed)}; choose another --out, or "
            "remove that folder"
        )


def _settings(config: AnyConfig) -> dict[str, Any]:
    """What decides the numbers of a run, as config.json has it; paths without links."""
    values = json.loads(json.dumps(located(config).to_dict()))
    for name in ("data_dir", "backbone"):
        if os.path.isabs(values[name] or ""):
            values[name] = os.path.realpath(values[name])
    return {name: value for name, value in values.items() if name not in PLACES}
