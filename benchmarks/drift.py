"""How far bfloat16 takes the answers of trained runs from float32's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minbert.files import sha256_of
from multitask.evaluate import Evaluation
from multitask.predictor import Predictor

HEADER = ("task", "metric", "float32", "bfloat16", "rows", "answers that change", "furthest")


def drift_of(folder: Path, data_dir: Path | None = None) -> list[dict[str, Any]]:
    """A run's answers to the development rows in both precisions, a record for each task.

    Args:
        folder: a finished run.
        data_dir: folder with the tasks' files; by default the one that the run was trained on.
    """
    exact, low = (
        Predictor(folder, precision=precision).evaluate("dev", data_dir=data_dir)
        for precision in ("fp32", "bf16")
    )
    weights = sha256_of(folder / "best.safetensors")
    return [
        {"run": folder.name, "weights": weights, "task": task, **_compared(exact[task], low[task])}
        for task in exact
    ]


def _compared(exact: Evaluation, low: Evaluation) -> dict[str, Any]:
    """Scores, and how the answers differ: probabilities of classes, or the numbers themselves."""
    metric = next(iter(exact.metrics))
    if exact.probabilities is None:
        changed, apart = None, np.abs(exact.answers - low.answers)
    else:
        changed = int((exact.answers != low.answers).sum())
        apart = np.abs(exact.probabilities - low.probabilities).max(axis=1)
    return {
        "metric": metric,
        "fp32": exact.metrics[metric],
        "bf16": low.metrics[metric],
        "rows": len(exact.ids),
        "changed": changed,
        "furthest": float(apart.max()),
    }


def rows(found: Sequence[dict[str, Any]]) -> list[list[str]]:
    """HEADER's cells for each record."""
    return [
        [
            one["task"],
            one["metric"],
            f"{one['fp32']:.4f}",
            f"{one['bf16']:.4f}",
            f"{one['rows']:,}",
            "" if one["changed"] is None else f"{one['changed']}",
            f"{one['furthest']:.3f}",
        ]
        for one in found
    ]
