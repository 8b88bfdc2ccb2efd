"""Runs GLUE: a run folder for each task and seed, under one folder.

OUT/mrpc-11711/, OUT/mrpc-11712/, OUT/mnli-11711/, ...

A run of MNLI answers its mismatched sets and the diagnostic set too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.readers import SAMPLES, has_split
from data.tasks import TASKS
from minbert.files import read_json, write_json
from multitask.config import TrainConfig
from multitask.evaluate import write_predictions
from multitask.experiments.jobs import jobs_of
from multitask.experiments.queue import finish
from multitask.predictor import Predictor
from multitask.runs.file_types import MISMATCHED, check_scores
from multitask.runs.run import Run


@dataclass(frozen=True)
class GlueRun:
    """A finished run of one task."""

    run: Run
    task: str
    record: dict[str, Any]
    scores: dict[str, dict[str, float]]
    """Set -> metric -> development score; MNLI's run has two sets."""

    @classmethod
    def read(cls, run: Run) -> GlueRun:
        """The run in a folder; it has one task."""
        record = run.record()
        tasks = record["config"]["tasks"]
        if len(tasks) != 1:
            raise ValueError(f"{run.folder} trained on {tasks}; a run of GLUE has one task")
        return cls(run, tasks[0], record, scores_of(run, record))

    @property
    def score(self) -> float:
        """The first metric of the run's task."""
        return self.scores[self.task][TASKS[self.task].metrics[0]]


def scores_of(run: Run, record: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Set -> metric -> development score; a run of MNLI has a second set."""
    second = _mismatched(run)
    if second.exists() and (found := read_json(second, dict[str, float])):
        scores = record["dev"] | {MISMATCHED: found}
        check_scores(scores, second)
        return scores
    return record["dev"]


def finish_glue(configs: Sequence[TrainConfig], *, progress: bool = True) -> list[GlueRun]:
    """The finished runs of configs, of one task each; those of MNLI answer its other sets too.

    Raises:
        ValueError: a folder holds a run with other settings, or training fails.
    """
    for job in jobs_of(configs):
        if not job.is_done:
            _mismatched(job.run).unlink(missing_ok=True)  # of an earlier model
    runs = finish(configs, progress=progress)
    for run, config in zip(runs, configs, strict=True):
        if config.tasks == ("mnli",):
            _answer_other_sets(run, config, progress=progress)
    return [GlueRun.read(run) for run in runs]


def _mismatched(run: Run) -> Path:
    """Where a run of MNLI keeps its scores on the second development set."""
    return run.folder / f"{MISMATCHED}.json"


def _answer_other_sets(run: Run, config: TrainConfig, *, progress: bool) -> None:
    """Answer MNLI's mismatched sets and the diagnostic set; the scores are written last."""
    scores = _mismatched(run)
    if scores.exists():
        return
    data_dir, mnli, ax = config.data_dir or SAMPLES, TASKS["mnli"], TASKS["ax"]
    predictor = Predictor(run.folder, device=config.device, precision=config.precision)
    if has_split(ax, "test", data_dir):
        evaluation = predictor.answer_with("mnli", ax, data_dir, progress=progress)
        write_predictions(run.predictions, ax, "test", evaluation)
    metrics = {}
    for split in ("test_mismatched", "dev_mismatched"):
        for evaluation in predictor.evaluate(split).values():
            write_predictions(run.predictions, mnli, split, evaluation)
            metrics = evaluation.metrics
    write_json(scores, metrics)


def read_runs(folder: Path) -> list[GlueRun]:
    """The finished runs in a folder, in the order of GLUE's tasks and of their seeds.

    Raises:
        ValueError: there is none.
    """
    folders = [folder] if (folder / "record.json").exists() else sorted(folder.glob("*"))
    runs = [GlueRun.read(Run(f)) for f in folders if (f / "record.json").exists()]
    if not runs:
        raise ValueError(f"{folder} holds no finished run; make some: minbert glue run --out DIR")
    order = list(TASKS)
    return sorted(runs, key=lambda run: (order.index(run.task), run.record["config"]["seed"]))
