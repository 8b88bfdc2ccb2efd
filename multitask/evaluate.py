"""Answers and scores of a model on a split, and the course's prediction files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.batching import BatchSource
from data.tasks import Task
from minbert.files import brief, read_text, write_text
from minbert.inference import (
    TOKENS,
    answering,
    autocast,
    batches_by_length,
    chosen_precision,
    tokens_at_once,
)
from minbert.quick import give_back_memory
from multitask.distributed import count, gather, rounds
from multitask.heads import answers, row_losses
from multitask.metrics import METRICS, OF_LOSS
from multitask.trained_model import TrainedModel


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A task's answers on a split."""

    ids: Sequence[str]
    answers: np.ndarray
    """(rows,) class or number; of several labels (rows, classes) of 0 and 1; for the masked
    language model, ids of (masked tokens,)."""
    probabilities: np.ndarray | None
    """(rows, classes), or None for a regression."""
    labels: np.ndarray | None
    metrics: dict[str, float]
    """The task's metrics and its mean loss; empty without labels."""


def rows_bar(task: Task, source: BatchSource, *, shown: bool) -> tqdm:
    """A progress bar of a split's rows, on a terminal."""
    return tqdm(
        total=len(source.ids),
        desc=f"evaluate {task.name}",
        unit="row",
        leave=False,
        disable=None if shown else True,
    )


# Tensors made in inference mode may not be changed outside it, and with --shard the memory where
# weights are put together is made once, by the first forward pass.
@torch.no_grad()
def evaluate(
    model: TrainedModel,
    task: Task,
    source: BatchSource,
    *,
    precision: str = "fp32",
    progress: bool = True,
) -> Evaluation:
    """Answer every row of a split, and score the answers where there are labels.

    Several processes share the batches, and each gets all answers.

    Args:
        precision: auto, which is 16 bits on a GPU, fp32, tf32, bf16 or fp16.
    """
    precision = chosen_precision(precision, model.device)
    # A masked token has outputs for a whole vocabulary; several processes need the same batches.
    small = task.kind == "tokens" or count() > 1
    tokens = TOKENS if small else tokens_at_once(model.encoder)
    was_training = model.training
    model.eval()
    give_back_memory()  # what training has freed, and at the end what the answers took
    made: list[tuple[np.ndarray, Tensor, Tensor | None, Tensor | None, Tensor | None]] = []
    bar = rows_bar(task, source, shown=progress)
    batches = list(batches_by_length(source.lengths, tokens=tokens))
    with answering(model.encoder, precision):
        for rows, counted in rounds(batches):
            own = source.batch(rows)
            batch = own.to(model.device)
            with autocast(model.device, precision):
                outputs = model(batch, task.name)
            if not counted:
                continue
            found, chances = answers(task, outputs)
            loss = None if batch.labels is None else row_losses(task, outputs, batch.labels).sum()
            made.append((rows, found, chances, own.labels, loss))
            bar.update(len(rows) * count())
    bar.close()
    model.train(was_training)

    # Read after the last batch, so that a GPU need not wait for the host between two.
    done = [(rows, *(x if x is None else x.cpu() for x in parts)) for rows, *parts in made]
    give_back_memory()
    rows, found, chances, labels, losses = zip(*gather(done), strict=True)
    # Rows come back in their order; a row may have any number of masked tokens, which stay put.
    order = slice(None) if task.kind == "tokens" else np.argsort(np.concatenate(rows))
    predicted = torch.cat(found).numpy()[order]
    labels = None if labels[0] is None else torch.cat(labels).numpy()[order]
    metrics = {}
    if labels is not None:
        loss = sum(map(float, losses)) / len(labels)
        for name in task.metrics:
            of_loss = OF_LOSS.get(name)
            metrics[name] = of_loss(loss) if of_loss else METRICS[name](labels, predicted)
        metrics["loss"] = loss
    return Evaluation(
        ids=source.ids,
        answers=predicted,
        probabilities=None if chances[0] is None else torch.cat(chances).numpy()[order],
        labels=labels,
        metrics=metrics,
    )


def prediction_path(folder: Path, task: Task, split: str) -> Path:
    """Where a task's predictions are; of its own tasks the course looks for them there."""
    stem = task.predictions.stem if task.predictions else task.name
    return folder / f"{stem}-{split}-output.csv"


def write_predictions(folder: Path, task: Task, split: str, evaluation: Evaluation) -> Path:
    """Write answers, a line for every id: as the course's graders read them if it is theirs.

    There a header is `id \\t Predicted_Sentiment `, a row `{id} , {prediction} `, spaces included.
    Of others it is a CSV file with the names of answers, and the probability of each class.
    """
    path = prediction_path(folder, task, split)
    if task.predictions is None:
        write_text(path, _plain_predictions(task, evaluation))
        return path
    values = evaluation.answers
    if task.predictions.whole:
        written = [str(int(value)) for value in values]
    else:
        written = [str(np.float32(value)) for value in values]
    lines = [f"id \t {task.predictions.column} \n"]
    lines += [f"{i} , {value} \n" for i, value in zip(evaluation.ids, written, strict=True)]
    write_text(path, "".join(lines))
    return path


def read_predictions(path: Path, task: Task) -> dict[str, float]:
    """Id -> answer of a file that `write_predictions` wrote.

    Raises:
        ValueError: there is no such file, or it has another form.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing; minbert evaluate RUN writes it")
    if task.kind == "labels":
        raise ValueError(f"{task.name} has several labels at once, whose answers are no numbers")
    found: dict[str, float] = {}
    if task.predictions is None:
        rows = ((row[0], row[1] if len(row) > 1 else "") for row in _csv_rows(path))
        form = "id,answer"
    else:
        lines = read_text(path).split("\n")[1:-1]
        rows = (line.rpartition(" , ")[::2] for line in lines)
        form = "id , answer"
    for number, (row, answer) in enumerate(rows, start=2):
        try:
            named = task.predictions is None and answer in task.classes
            found[row] = float(task.classes.index(answer) if named else answer)
        except ValueError:
            raise ValueError(
                f"{path}:{number}: a line must be `{form}`; its answer is {brief(answer)}"
            ) from None
    return found


def read_label_sets(path: Path, task: Task) -> dict[str, tuple[int, ...]]:
    """Id -> 1 for each label that holds, 0 for the others, of a task of several labels at once.

    Raises:
        ValueError: there is no such file, or it has another form.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing; minbert evaluate RUN writes it")
    # As `Task.named` writes them: in their order, with commas between; a name may have a comma.
    names = re.compile("".join(f"({re.escape(name)}(?:, (?=.)|$))?" for name in task.classes))
    found: dict[str, tuple[int, ...]] = {}
    for number, row in enumerate(_csv_rows(path), start=2):
        answer = row[1] if len(row) > 1 else ""
        match = names.fullmatch("" if answer == "none" and answer not in task.classes else answer)
        if match is None or not answer:
            raise ValueError(
                f"{path}:{number}: an answer must be labels with commas between them, or none; it "
                f"is {brief(answer)}"
            )
        found[row[0]] = tuple(int(part is not None) for part in match.groups())
    return found


def _csv_rows(path: Path) -> list[list[str]]:
    """The rows of a CSV file below its header."""
    return [row for row in csv.reader(io.StringIO(read_text(path))) if row][1:]


def _plain_predictions(task: Task, evaluation: Evaluation) -> str:
    """`id,answer` as CSV, and a column for each class where there are probabilities."""
    chances = evaluation.probabilities
    rows: list[list[str]] = [["id", "answer", *(() if chances is None else task.classes)]]
    for number, (row_id, answer) in enumerate(zip(evaluation.ids, evaluation.answers, strict=True)):
        if chances is None:
            rows.append([row_id, str(np.float32(answer))])
            continue
        named = task.named(np.flatnonzero(answer).tolist() if answer.ndim else float(answer))
        rows.append([row_id, named, *(f"{chance:.4f}" for chance in chances[number])])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
