"""How good a model's embeddings are, on the development rows of a contrastive stage."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.batching import BatchSource
from data.pairs import PairRows
from data.tasks import COSINES, Task
from minbert.inference import autocast, batches_by_length
from multitask import distributed
from multitask.contrastive import alignment, uniformity
from multitask.environment import random_numbers_of
from multitask.evaluate import Evaluation, rows_bar
from multitask.metrics import pearson, spearman
from multitask.model import EmbeddingModel
from multitask.trained_model import TrainedModel

COMPARED = 4096
"""Most texts that uniformity and accuracy compare with one another, at equal distances."""


@torch.no_grad()  # and not inference_mode: see evaluate
def evaluate_pairs(
    model: TrainedModel,
    task: Task,
    source: BatchSource,
    *,
    precision: str = "fp32",
    progress: bool = True,
) -> Evaluation:
    """Embed every row of a split, and measure the embeddings; several processes share the rows.

    spearman and pearson are of cosines and labels, the mean over the tasks that rows come from;
    accuracy is the share of anchors whose positive is the nearest of all positives. Alignment is of
    positive pairs, uniformity of all different texts. The loss is the mean of that of steps' rows.

    A text that comes twice is embedded with dropout, which alone tells the two apart.
    """
    assert isinstance(model, EmbeddingModel) and isinstance(source, PairRows)
    was_training = model.training
    model.train(source.is_twice)
    made: list[tuple[np.ndarray, Tensor]] = []
    bar = rows_bar(task, source, shown=progress)
    with random_numbers_of(0, 0, model.device):
        for rows, counted in distributed.rounds(list(batches_by_length(source.lengths))):
            with autocast(model.device, precision):
                vectors = model(source.batch(rows).to(model.device), task.name)
            if counted:
                made.append((rows, vectors.float()))
                bar.update(len(rows) * distributed.count())
    bar.close()
    model.train(was_training)
    done = distributed.gather([(rows, vectors.cpu()) for rows, vectors in made])
    order = np.argsort(np.concatenate([rows for rows, _ in done]))
    vectors = torch.cat([x for _, x in done])[torch.from_numpy(order)]  # (rows, C, H)
    cosines = F.cosine_similarity(vectors[:, 0], vectors[:, 1], dim=-1).numpy()
    return Evaluation(
        ids=source.ids,
        answers=cosines,
        probabilities=None,
        labels=None if source.labels is None else source.labels.numpy(),
        metrics=_metrics(task, model, source, vectors, cosines),
    )


def _metrics(
    task: Task, model: EmbeddingModel, source: PairRows, vectors: Tensor, cosines: np.ndarray
) -> dict[str, float]:
    alike = torch.from_numpy(source.alike)
    groups = torch.from_numpy(source.groups)
    _, first = np.unique(source.texts, return_index=True)
    texts = vectors.flatten(0, 1)[torch.from_numpy(_spread(first))]
    metrics = {
        "alignment": float(alignment(vectors[alike, 0], vectors[alike, 1])),
        "uniformity": float(uniformity(texts)),
        "loss": _mean_loss(model, vectors, groups, source.labels, alike),
    }
    if task is COSINES:
        assert source.labels is not None
        labels, names = source.labels.numpy(), sorted(set(source.tasks))
        for name, metric in (("spearman", spearman), ("pearson", pearson)):
            of_tasks = [source.tasks == each for each in names]
            metrics[name] = float(np.mean([metric(labels[m], cosines[m]) for m in of_tasks]))
    else:
        some = torch.from_numpy(_spread(np.arange(len(vectors))))
        metrics["accuracy"] = nearest_accuracy(vectors[some, 0], vectors[some, 1], groups[some])
    return metrics


def nearest_accuracy(anchors: Tensor, positives: Tensor, groups: Tensor) -> float:
    """The share of anchors (N, H) whose own positive, or one of its group, is the nearest of all.

    Args:
        anchors, positives: (N, H).
        groups: (N, C) numbers of groups; an anchor's is its positive's.
    """
    nearest = (F.normalize(anchors, dim=-1) @ F.normalize(positives, dim=-1).T).argmax(dim=-1)
    return float((groups[nearest, 1] == groups[:, 0]).float().mean())


def _mean_loss(
    model: EmbeddingModel, vectors: Tensor, groups: Tensor, labels: Tensor | None, alike: Tensor
) -> float:
    """The mean over rows of the loss of as many rows as a step has, of positives where the
    objective trains on those."""
    if model.loss.objective in ("mnr", "simcse"):
        vectors, groups, labels = vectors[alike], groups[alike], None
    total = 0.0
    for rows in torch.arange(len(vectors)).split(model.loss.rows):
        own = None if labels is None else labels[rows]
        total += float(model.loss(vectors[rows], groups[rows], own)) * len(rows)
    return total / len(vectors)


def _spread(numbers: np.ndarray) -> np.ndarray:
    """At most COMPARED of them, at equal distances."""
    if len(numbers) <= COMPARED:
        return numbers
    return numbers[np.arange(COMPARED) * len(numbers) // COMPARED]
