"""What a run's own files tell, as JSON for the page: scores, curves, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.tasks import Task, get_task
from minbert.checks import changed_fields
from multitask.config import PLACES, AnyConfig
from multitask.evaluate import Evaluation
from multitask.experiments.significance import score_interval
from multitask.runs.run import Run

POINTS = 400
"""Points of a curve of losses; of longer runs each is a mean of several steps."""


def told(run: Run, evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    """A run's name, settings, scores and curves.

    Args:
        run: finished or not.
        evaluations: its answers to development rows, where they are known: they give the intervals,
            and the scores of a run that has no record yet.
    """
    log, config = run.metrics(), run.config()
    record = run.record() if run.record_path.exists() else None
    return {
        "name": run.folder.resolve().name,
        "finished": record is not None,
        "settings": settings(config),
        "facts": facts(record) if record else {},
        "scores": scores(record, evaluations),
        "doubts": (record or {}).get("doubts", {}),
        "curves": curves(log),
    }


def settings(config: AnyConfig) -> list[list[Any]]:
    """[name, value, whether it is the default] of each setting that decides numbers; of a path the
    last part, for a page is shown to others."""
    changed, values = changed_fields(config), config.to_dict()
    found = []
    for name, value in values.items():
        if name in PLACES or name in ("command", "task_files"):
            continue
        if isinstance(getattr(config, name), Path) or (
            isinstance(value, str) and "/" in value and name != "revision"
        ):
            value = Path(str(value)).name
        elif name == "extensions":
            value = [_extension(each) for each in value]
        found.append([name, _written(value), name not in changed])
    return found


def _extension(values: Mapping[str, Any]) -> str:
    named = {k: v for k, v in values.items() if k != "name"}
    inside = ", ".join(f"{k} {_written(v)}" for k, v in named.items())
    return f"{values.get('name')} ({inside})" if inside else str(values.get("name"))


def _written(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_written(each) for each in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_written(each)}" for name, each in value.items()) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of a finished run beside its scores."""
    names = ("best_epoch", "epochs", "steps", "seconds", "peak_memory_mb", "device", "threads",
             "parameters", "rows")  # fmt: skip
    return {name: record[name] for name in names}


def scores(
    record: Mapping[str, Any] | None, evaluations: Mapping[str, Evaluation]
) -> dict[str, list[dict[str, Any]]]:
    """Task -> for each metric its score, interval, the constant answer's and that before training;
    the numbers of record.json as they are."""
    from multitask.analysis import constant_scores

    record = record or {}
    known: Mapping[str, Any] = record.get("dev", {})
    found: dict[str, list[dict[str, Any]]] = {}
    for name in {**known, **evaluations}:
        task, evaluation = get_task(name), evaluations.get(name)
        constant = record.get("constant", {}).get(name)
        labels = None if evaluation is None else evaluation.labels
        if constant is None and labels is not None:
            constant = constant_scores(task, labels)
        before = (record.get("before") or {}).get(name, {})
        found[name] = []
        for metric in dict.fromkeys((*task.metrics, "loss")):
            own = None if evaluation is None else evaluation.metrics.get(metric)
            score = known.get(name, {}).get(metric, own)
            if score is None:
                continue
            line: dict[str, Any] = {"metric": metric, "score": score}
            line |= {"constant": constant.get(metric)} if constant else {}
            line |= {"before": before[metric]} if metric in before else {}
            if evaluation is not None and labels is not None and metric in task.metrics:
                line["interval"] = score_interval(metric, labels, evaluation.answers)
                line["rows"] = len(labels)
            found[name].append(line)
    return found


def curves(log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Task -> [step, loss] of training; [step, rate]; and for each score its epoch and step."""
    steps = [line for line in log if line["kind"] == "step"]
    epochs = [line for line in log if line["kind"] == "epoch"]
    tasks = dict.fromkeys(line["task"] for line in steps)
    of_task = {t: [(x["step"], x["loss"]) for x in steps if x["task"] == t] for t in tasks}
    return {
        "loss": {task: thinned(points) for task, points in of_task.items()},
        "rate": thinned([(line["step"], line["lr"]) for line in steps]),
        "scores": [
            {"epoch": line["epoch"], "step": line["step"], "scores": line["scores"]}
            for line in epochs
        ],
    }


def thinned(points: Sequence[tuple[float, float]]) -> list[list[float]]:
    """At most POINTS points, each the mean of as many that follow one another."""
    if not points:
        return []
    parts = np.array_split(np.array(points, dtype=np.float64), min(len(points), POINTS))
    return [[round(float(x.mean()), 1), float(f"{y.mean():.5g}")] for x, y in (p.T for p in parts)]


def described(task: Task) -> dict[str, Any]:
    """What the page has to know of a task."""
    return {
        "name": task.name,
        "title": task.title,
        "kind": task.kind,
        "classes": list(task.classes),
        "range": list(task.label_range),
        "pair": bool(task.tables) and task.is_pair,
    }
