"""From rows to stages: what is to be trained, each thing once.

A stage is known by a hash of its settings and of the stage that it starts from. So rows that need
the same stage have it in common, in whatever order and by whomever they are run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from minbert.backbones import find_backbone
from minbert.checks import changed_fields
from minbert.loading import empty_encoder
from multitask.config import PLACES, AnyConfig, RunConfig
from multitask.extensions.base import Extension
from multitask.study.deviations import Deviation, apply
from multitask.study.table_rows import TASKS, Row, Scale

FIRST_SEED = 11711
NOT_HASHED = PLACES | {"data_dir", "backbone", "revision"}
"""No part of a stage's hash: where it runs, and what all stages of a study have in common."""


@dataclass(frozen=True)
class Stage:
    """One run of the training loop."""

    kind: str
    """mlm, multitask or finetune."""
    config: AnyConfig
    start: Stage | None = None
    """The stage whose weights this one starts from; without one, the study's backbone."""

    @cached_property
    def name(self) -> str:
        """The stage's folder: kind, task and hash."""
        tasks = self.config.tasks
        what = tasks[0] if len(tasks) == 1 else "all"
        start = self.start.name if self.start else None
        key = json.dumps([settings_of(self.config), start], sort_keys=True)
        return f"{self.kind}-{what}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"

    @property
    def chain(self) -> list[Stage]:
        """The stages up to this one, the first one first."""
        return [*(self.start.chain if self.start else []), self]


@dataclass(frozen=True)
class Result:
    """One cell of a table: a row's score on a task with one seed, and the stages that give it."""

    row: str
    task: str
    seed: int
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Plan:
    """What is to be run."""

    scale: Scale
    variant: str
    """corrected, as-published, or corrected+NAME with deviations by name."""
    results: tuple[Result, ...]

    @cached_property
    def stages(self) -> list[Stage]:
        """Each stage once, those that others start from before them."""
        by_name = {stage.name: stage for result in self.results for stage in result.stages}
        return list(by_name.values())

    def users(self) -> dict[str, list[str]]:
        """Stage -> rows that need it."""
        rows: dict[str, list[str]] = {stage.name: [] for stage in self.stages}
        for result in self.results:
            for stage in result.stages:
                if result.row not in rows[stage.name]:
                    rows[stage.name].append(result.row)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Which stages make which score, as JSON values: what a report needs of a plan."""
        return {
            "variant": self.variant,
            "scale": self.scale.name,
            "results": [
                {"row": r.row, "task": r.task, "seed": r.seed, "stages": [s.name for s in r.stages]}
                for r in self.results
            ],
        }


def make_plan(
    rows: Iterable[Row],
    scale: Scale,
    *,
    variant: str = "corrected",
    deviations: Sequence[Deviation] = (),
    seeds: int = 1,
) -> Plan:
    """The stages of these rows, for seeds 11711, 11712, ...; a stage is there once."""
    results = []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for row in rows:
            for task in row.tasks:
                stages = _stages(row, task, scale, deviations, seed)
                results.append(Result(row.id, task, seed, tuple(stages)))
    return Plan(scale, variant, tuple(results))


def _stages(
    row: Row, task: str, scale: Scale, deviations: Sequence[Deviation], seed: int
) -> list[Stage]:
    """A row's stages for one task, each starting from the one before."""
    stages: list[Stage] = []
    for template in row.stages:
        for config in template.configs(scale, task):
            # A config's own seed counts legs, which must not repeat each other's masks.
            leg = config.seed if template.kind == "mlm" else 0
            config = replace(config, seed=seed + 1000 * leg)
            config = apply(deviations, config, row=row.id, task=task)
            stages.append(Stage(template.kind, config, stages[-1] if stages else None))
    return stages


def settings_of(config: RunConfig) -> dict[str, Any]:
    """A config's settings that differ from the defaults, as JSON values.

    So a setting that is added to the program later does not change the names of finished stages.
    """
    values = config.to_dict()
    settings = {name: values[name] for name in changed_fields(config) if name not in NOT_HASHED}
    settings["extensions"] = [_settings_of_extension(extension) for extension in config.extensions]
    return {"config": type(config).__name__, **settings}


def _settings_of_extension(extension: Extension) -> dict[str, Any]:
    return {"name": extension.name, **changed_fields(extension)}


def select_rows(known: dict[str, Row], ids: Sequence[str], tasks: Sequence[str] = ()) -> list[Row]:
    """The rows of these ids, on these tasks; all of them where none is named.

    Raises:
        ValueError: an id or a task is unknown, or a row that is named has none of the tasks.
    """
    for what, names, right in (("row", ids, known), ("task of the study", tasks, TASKS)):
        if unknown := [name for name in names if name not in right]:
            raise ValueError(f"no {what} is called {unknown[0]!r}; known are {', '.join(right)}")
    rows = [known[name] for name in dict.fromkeys(ids)] if ids else list(known.values())
    if not tasks:
        return rows
    found = []
    for row in rows:
        if own := tuple(task for task in row.tasks if task in tasks):
            found.append(replace(row, tasks=own))
        elif ids:
            raise ValueError(f"row {row.id} is about {', '.join(row.tasks)} alone; add it to tasks")
    return found


def parts_of(backbone: str) -> list[str]:
    """The names of an encoder's parts, from input to output."""
    return [part for part, _ in empty_encoder(find_backbone(backbone)).depths()]
