"""Answers and scores of a model on a split, and the course's prediction files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data.batching import BatchSource, batches_by_length
from data.tasks import Task
from minbert.files import write_text
from multitask.heads import answers, loss_sum
from multitask.metrics import METRICS, overall
from multitask.model import MultitaskModel


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A task's answers on a split."""

    ids: tuple[str, ...]
    answers: np.ndarray
    """(rows,) class or number."""
    probabilities: np.ndarray | None
    """(rows, classes), or None for a regression."""
    labels: np.ndarray | None
    metrics: dict[str, float]
    """The task's metrics and its mean loss; empty without labels."""


@torch.inference_mode()
def evaluate(
    model: MultitaskModel, task: Task, source: BatchSource, *, progress: bool = True
) -> Evaluation:
    """Answer every row of a split, and score the answers where there are labels."""
    was_training = model.training
    model.eval()
    rows, found, chances, labels, loss = [], [], [], [], 0.0
    bar = tqdm(
        total=len(source.ids), desc=f"evaluate {task.name}", unit="row", leave=False,
        disable=None if progress else True,
    )  # fmt: skip
    for indices in batches_by_length(source):
        batch = source.batch(indices).to(model.device)
        outputs = model(batch, task.name)
        answer, probabilities = answers(task, outputs)
        rows.append(indices)
        found.append(answer)
        chances += [] if probabilities is None else [probabilities]
        if batch.labels is not None:
            labels.append(batch.labels)
            loss += float(loss_sum(task, outputs, batch.labels))
        bar.update(len(indices))
    bar.close()
    model.train(was_training)

    order = np.argsort(np.concatenate(rows))
    predicted = torch.cat(found).cpu().numpy()[order]
    truth = torch.cat(labels).cpu().numpy()[order] if labels else None
    metrics = {}
    if truth is not None:
        metrics = {name: METRICS[name](truth, predicted) for name in task.metrics}
        metrics["loss"] = loss / len(truth)
    return Evaluation(
        ids=source.ids,
        answers=predicted,
        probabilities=torch.cat(chances).cpu().numpy()[order] if chances else None,
        labels=truth,
        metrics=metrics,
    )


def summary(scores: Mapping[str, Mapping[str, float]], tasks: Mapping[str, Task]) -> dict:
    """The figures that sum a model up: the mean of its tasks' scores, and the course's overall.

    A task's score is the first of its metrics.
    """
    primary = {name: metrics[tasks[name].metrics[0]] for name, metrics in scores.items()}
    return {"score": float(np.mean(list(primary.values()))), "overall": overall(primary)}


def prediction_path(folder: Path, task: Task, split: str) -> Path:
    """Where the course looks for a task's predictions."""
    return folder / f"{task.predictions.stem}-{split}-output.csv"


def write_predictions(folder: Path, task: Task, split: str, evaluation: Evaluation) -> Path:
    """Write answers as the course's graders read them, a line for every id.

    The header is `id \\t Predicted_Sentiment `, a row `{id} , {prediction} `, spaces included.
    """
    values = evaluation.answers
    if task.predictions.number is int:
        written = [str(int(value)) for value in values]
    else:
        written = [str(np.float32(value)) for value in values]
    lines = [f"id \t {task.predictions.column} \n"]
    lines += [f"{i} , {value} \n" for i, value in zip(evaluation.ids, written, strict=True)]
    path = prediction_path(folder, task, split)
    write_text(path, "".join(lines))
    return path
