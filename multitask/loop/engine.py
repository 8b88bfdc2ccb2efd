"""How a step is computed: batches that add up, 16 bits, a device, several processes.

The trainer says which tasks' rows; the engine leaves the gradient of their mean loss in each
parameter's .grad. A GPU computes while the host goes on, so the next batches are made and sent
meanwhile.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from data.batching import Batch
from data.draws import BatchStream
from minbert.checks import warn
from minbert.graphs import Recorded
from minbert.inference import autocast
from minbert.low_precision import LOW, LowPrecision, suits
from minbert.transfer import on_gpu
from multitask import distributed
from multitask.config import RunConfig
from multitask.dataset import TaskData
from multitask.extensions.base import TaskGradients
from multitask.loop.gradient_cache import (
    Embeddings,
    loss_and_gradients,
    random_states,
    replayed,
)
from multitask.loop.parallel import Single, spread
from multitask.loop.scaling import Scaler
from multitask.model import EmbeddingModel
from multitask.objective import Objective
from multitask.runs.checkpoint import trainable
from multitask.trained_model import TrainedModel
from optim import clip_gradients


class Draw(NamedTuple):
    """Rows of a task: those of the batch of this number in its stream."""

    task: str
    number: int


@dataclass(frozen=True)
class Share:
    """This process's part of a batch of rows."""

    batch: Batch
    factor: float
    """0 where a batch has fewer rows than there are processes, and this one computes with a row
    that another process counts: see `distributed.share_of_batch`."""


@dataclass(frozen=True)
class TaskLoss:
    """A task's part in a step."""

    task: str
    loss: Tensor
    """() the mean loss over this process's rows; over processes they add up to that of all."""
    ids: tuple[str, ...]
    """Of all rows."""


class Engine:
    """Forward and backward passes of an objective."""

    def __init__(
        self, config: RunConfig, objective: Objective, data: Mapping[str, TaskData]
    ) -> None:
        self.device = objective.model.device
        self.objective = objective
        self.parallel = spread(
            objective, shard=config.shard, all_used=uses_all_parameters(config, objective.model)
        )
        self.parameters = list(trainable(objective.model).values())
        self.low = low_precision(config, objective.model)
        # With weights split over processes, no kernel takes a number that is not split.
        scales = config.precision == "fp16"
        kind = Scaler if scales and not config.shard else torch.amp.GradScaler
        self.scaler = kind(self.device.type, enabled=scales)
        self.runs_ahead = on_gpu(self.device)
        self.data = data
        self.streams = {name: stream_of(config, task_data) for name, task_data in data.items()}
        self._batch_size, self._precision = config.batch_size, config.precision
        self._next: dict[str, tuple[int, list[Share]]] = {}  # task -> its next draw, made ahead

    def backward(self, draws: Sequence[Draw]) -> list[TaskLoss]:
        """Leave the sum of the gradients of several tasks' draws in each parameter's .grad."""
        self._begin()
        return [self._backward(*draw) for draw in draws]

    def backward_apart(self, draws: Sequence[Draw]) -> tuple[list[TaskLoss], TaskGradients]:
        """The gradient of each draw on its own, of all processes together."""
        losses: list[TaskLoss] = []
        gradients: TaskGradients = {}
        self._begin()
        for draw in draws:
            self._clear()
            losses.append(self._backward(*draw, reduce=False))
            found = [parameter.grad for parameter in self.parameters]
            if self.low is not None:  # which uses its tensors again
                found = [None if gradient is None else gradient.clone() for gradient in found]
            gradients[draw.task] = found
            distributed.average_gradients(gradients[draw.task])
        return losses, gradients

    def put(self, gradients: TaskGradients) -> None:
        """Leave the sum of gradients that `backward_apart` gave in each parameter's .grad."""
        for parameter, *parts in zip(self.parameters, *gradients.values(), strict=True):
            present = [part for part in parts if part is not None]
            parameter.grad = sum(present[1:], present[0]) if present else None

    def clip(self, optimizer: Optimizer, norm: float) -> Tensor | None:
        """Clip the gradient to a norm, 0 for no clipping.

        Returns:
            The gradient's norm before, where it is clipped.
        """
        self.scaler.unscale_(optimizer)
        if not norm:
            return None
        return distributed.full(clip_gradients(self.parameters, norm))

    def close(self) -> None:
        """Let go of what may not outlive the process group, nor hide the best weights."""
        self.parallel.close()
        self.parallel = Single(self.objective)

    def _begin(self) -> None:
        """Make ready for the gradients of a step."""
        self._clear()
        if self.low is not None:
            self.low.refresh()

    def _clear(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _backward(self, task: str, number: int, *, reduce: bool = True) -> TaskLoss:
        """Add the gradient of the loss over the rows of a draw to each parameter's .grad.

        The rows go through in batches of batch_size. With several processes, the last batch brings
        the gradients of all together, if `reduce`.
        """
        shares, rows = self._take(task, number), self.streams[task][number]
        if isinstance(self.objective, Embeddings):
            total = self._backward_together(task, shares, len(rows))
        else:
            total = self._backward_each(task, shares, reduce=reduce)
        if self.runs_ahead:
            self._next[task] = number + 1, self._shares(task, number + 1)
        ids = self.data[task].train.ids
        return TaskLoss(task, total, tuple(ids[row] for row in rows))

    def _backward_each(self, task: str, shares: Sequence[Share], *, reduce: bool) -> Tensor:
        """Add the gradient of the mean loss over all rows of the shares to each parameter's .grad.

        Each batch's summed loss is divided by the weight of all of them, and not by its own, so
        that their gradients add up to that of one large batch.

        Args:
            task: whose rows they are.
            shares: batches that make one step together; the last may have fewer rows.
            reduce: whether the last pass brings the gradients of all processes together.

        Returns:
            () the mean loss, without a gradient.
        """
        weight = self._weight(shares)
        total = torch.zeros((), device=self.device)
        for share in shares:
            with self._pass(reduce and share is shares[-1]):
                with autocast(self.device, self._precision):
                    loss, mean = self.parallel(share.batch, task, weight, share.factor)
                # Over processes, gradients are averaged, and what is wanted is their sum.
                self.scaler.scale(loss * distributed.count()).backward()
            total += mean
        return total

    def _backward_together(self, task: str, shares: Sequence[Share], rows: int) -> Tensor:
        """The loss of rows that are compared with one another, (): see gradient_cache.py."""
        assert isinstance(self.objective.model, EmbeddingModel)
        loss, batches = self.objective.model.loss, [share.batch for share in shares]
        sizes = [min(self._batch_size, rows - n) for n in range(0, rows, self._batch_size)]

        def embed(batch: Batch) -> Tensor:
            with autocast(self.device, self._precision):
                vectors = self.parallel(batch, task)
            low = vectors.dtype in LOW.values()
            return vectors.float() if low else vectors

        def back(vectors: Tensor, gradient: Tensor) -> None:
            surrogate = (vectors * gradient).sum() * distributed.count()
            self.scaler.scale(surrogate).backward()

        if len(batches) == 1:
            with self._pass(last=True):
                vectors = embed(batches[0])
                value, (gradient,) = loss_and_gradients(loss, [vectors], batches, sizes)
                back(vectors, gradient)
            return value
        states, cached = [], []
        for batch in batches:
            states.append(random_states(self.device))
            with torch.no_grad(), self._copies():
                cached.append(embed(batch))
        value, gradients = loss_and_gradients(loss, cached, batches, sizes)
        for batch, state, gradient in zip(batches, states, gradients, strict=True):
            with replayed(*state), self._pass(last=batch is batches[-1]):
                back(embed(batch), gradient)
        return value

    def _copies(self) -> AbstractContextManager[None]:
        """A block that computes with copies in 16 bits, where there are any."""
        return nullcontext() if self.low is None else self.low.in_use()

    @contextmanager
    def _pass(self, last: bool) -> Generator[None]:
        """A forward and backward pass; the last one of a step brings gradients together."""
        with self._copies(), self.parallel.reducing(last):
            yield

    def _take(self, task: str, number: int) -> list[Share]:
        """The batches of a draw, made ahead or made now."""
        made_for, shares = self._next.pop(task, (None, []))
        return shares if made_for == number else self._shares(task, number)

    def _shares(self, task: str, number: int) -> list[Share]:
        """This process's batches of a draw, on their way to the device."""
        rows, source, size = self.streams[task][number], self.data[task].train, self._batch_size
        shares = []
        for start in range(0, len(rows), size):
            own, counted = distributed.share_of_batch(rows[start : start + size])
            batch = source.batch(own, number).to(self.device)
            shares.append(Share(batch, 1.0 if counted else 0.0))
        return shares

    def _weight(self, shares: Sequence[Share]) -> Tensor:
        """() what the summed loss of all processes' batches is divided by, float32: the weights of
        all batches that count (factor 1), at least 1."""
        own = sum(share.batch.weight * share.factor for share in shares)
        weight = distributed.sum_over_processes(torch.full((), float(own), device=self.device))
        return weight.clamp_(min=1)  # short texts may come without a masked token


def stream_of(config: RunConfig, task_data: TaskData) -> BatchStream:
    """The order of a task's rows, in groups of those that make one step."""
    lengths = task_data.train.lengths
    return BatchStream(
        # Features come in the place of tokens where the encoder is frozen, and have one length.
        np.ones_like(lengths) if config.caches_features else lengths,
        config.batch_size * config.accumulate,
        seed=config.seed,
        name=task_data.task.name,
        bucketed=config.batches == "bucketed",
    )


def low_precision(config: RunConfig, model: TrainedModel) -> LowPrecision | None:
    """The encoder's copies in 16 bits, on one GPU; elsewhere 16 bits are autocast's."""
    alone = distributed.count() == 1 and not config.caches_features
    ours = on_gpu(model.device) and config.precision in LOW and alone and suits(model.encoder)
    if not ours:
        if config.cuda_graphs:
            warn(
                "cuda_graphs: steps go on without, for they are for one GPU, an encoder that "
                "trains, and adapters other than IA3 and DoRA"
            )
        return None
    kind = Recorded if config.cuda_graphs else LowPrecision
    return kind(model.encoder, LOW[config.precision])


def uses_all_parameters(config: RunConfig, model: TrainedModel) -> bool:
    """Whether every step uses all parameters that train."""
    pooler_idle = not config.uses_pooler and any(
        name.startswith("encoder.pooler.") for name in trainable(model)
    )
    return len(model.tasks) == 1 and not pooler_idle and not config.extensions
