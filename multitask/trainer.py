"""The training loop: there is one, for one task or many, and for every extension.

A step draws a task, takes the task's next batch, and moves the parameters by the gradient of the
mean loss over the batch's rows. Everything random is a function of the seed and the step, so a
run that was killed and resumed makes the same numbers as one that was left alone. On several
processes each takes a share of the batch's rows, and all of them come to the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from data.batching import Batch
from data.sampling import BatchStream, uniform_task
from multitask import distributed
from multitask.checkpoint import trainable
from multitask.config import TrainConfig
from multitask.dataset import TaskData
from multitask.environment import autocast
from multitask.evaluate import Evaluation, evaluate, summary
from multitask.extensions.base import Step, TaskGradients
from multitask.heads import loss_sum
from multitask.interrupts import interrupts
from multitask.log import MetricsLog
from multitask.model import MultitaskModel
from multitask.run import Run
from multitask.state import Progress, load_state, save_state, save_weights
from optim import SCHEDULES, AdamW, parameter_groups, set_lr


class Trainer:
    """Trains a model on its tasks' data and writes a run folder."""

    def __init__(
        self,
        config: TrainConfig,
        model: MultitaskModel,
        data: dict[str, TaskData],
        run: Run,
        *,
        progress_bar: bool = True,
    ) -> None:
        self.config, self.model, self.data, self.run = config, model, data, run
        self._parallel = self._make_parallel()
        self.progress = Progress(draws=dict.fromkeys(config.tasks, 0))
        self.parameters = trainable(model)
        self.optimizer = self._make_optimizer()
        self.scaler = torch.amp.GradScaler("cuda", enabled=config.precision == "fp16")
        rows = config.batch_size * config.accumulate
        self.streams = {
            name: BatchStream(
                task_data.train.lengths,
                rows,
                seed=config.seed,
                name=name,
                bucketed=config.batches == "bucketed",
            )
            for name, task_data in data.items()
        }
        one_pass = sum(stream.batches_per_pass for stream in self.streams.values())
        self.steps_per_epoch = config.steps_per_epoch or one_pass
        self.total_steps = self.steps_per_epoch * config.epochs
        self.warmup_steps = round(config.warmup * self.total_steps)
        self._pending: list[tuple[dict[str, Any], Tensor, tuple[str, ...]]] = []
        self._bar_shown = progress_bar and distributed.is_writer()
        self.log = MetricsLog(run, tensorboard=config.tensorboard)

    def _make_parallel(self) -> nn.Module:
        """The model as several processes train it; with one process, the model itself."""
        config, model = self.config, self.model
        if config.shard:
            distributed.shard(model, [part for _, part in model.encoder.depths()])
            return model
        pooler_used = config.pooling == "pooler" or not model.encoder.has_pooler
        all_used = len(config.tasks) == 1 and (config.frozen or pooler_used)
        return distributed.data_parallel(model, all_used=all_used)

    def _make_optimizer(self) -> AdamW:
        config = self.config
        scales: dict[str, float] = {}
        for extension in config.extensions:
            for name, scale in extension.lr_scale(self.model).items():
                scales[name] = scales.get(name, 1.0) * scale
        groups = parameter_groups(
            self.parameters.items(),
            lr=config.lr,
            weight_decay=config.weight_decay,
            lr_scale=lambda name: scales.get(name, 1.0),
        )
        return AdamW(
            groups,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            correct_bias=config.correct_bias,
            fused=config.optimizer == "fused",
        )

    # The loop

    def fit(self) -> Progress:
        """Train to the last epoch, or to the end of patience; resumes where `progress` stands."""
        progress = self.progress
        started = time.monotonic() - progress.seconds
        try:
            with interrupts(shared=distributed.count() > 1) as self._interrupts:
                if self.config.evaluate_first and progress.before is None and not progress.step:
                    progress.before = self._score(epoch=0)
                while not self._finished():
                    self._train_epoch(started)
                    self._end_epoch()
                    progress.seconds = time.monotonic() - started
                    self.save()
        except KeyboardInterrupt:
            if not self._interrupts.torn:
                progress.seconds = time.monotonic() - started
                self._flush()
                if self._interrupts.agreed or not self.config.shard:
                    self.save()
                if self._interrupts.agreed:
                    distributed.wait()  # until it is saved
            raise
        return progress

    def _finished(self) -> bool:
        progress, patience = self.progress, self.config.patience
        waited = progress.evaluated - progress.best_epoch
        tired = patience is not None and waited >= patience
        return progress.evaluated >= self.config.epochs or tired

    def _train_epoch(self, started: float) -> None:
        progress, config = self.progress, self.config
        end = (progress.evaluated + 1) * self.steps_per_epoch
        bar = tqdm(
            total=self.steps_per_epoch,
            initial=progress.step - (end - self.steps_per_epoch),
            desc=f"epoch {progress.evaluated + 1}/{config.epochs}",
            unit="step",
            disable=None if self._bar_shown else True,
        )
        self.model.train()
        with bar:
            while progress.step < end:
                with self._interrupts.held():
                    self._step()
                    progress.step += 1
                    if progress.step % config.log_every == 0 or progress.step == end:
                        loss = self._flush()
                        bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
                    progress.seconds = time.monotonic() - started
                    if config.save_every and progress.step % config.save_every == 0:
                        self._flush()
                        self.save()
                bar.update()

    def _end_epoch(self) -> None:
        progress = self.progress
        epoch = progress.evaluated + 1
        scores = self._score(epoch)
        score = summary(scores, self.model.tasks)["score"]
        with self._interrupts.held():
            if score > progress.best_score:
                progress.best_score, progress.best_epoch, progress.best = score, epoch, scores
                state = {"epoch": epoch, "scores": scores}
                save_weights(self.run.best, self.parameters, state)
            progress.evaluated = epoch
            progress.losses = {}

    # One step

    def _step(self) -> None:
        """One optimizer step: gradients of one task (or of those an extension chose), update."""
        config, step = self.config, self.progress.step
        multiplier = SCHEDULES[config.schedule](step, self.total_steps, self.warmup_steps)
        set_lr(self.optimizer, multiplier)
        with random_numbers_of(config.seed, step, self.model.device):
            moment = Step(
                number=step,
                total=self.total_steps,
                per_epoch=self.steps_per_epoch,
                rows={name: len(task_data.train.ids) for name, task_data in self.data.items()},
                seed=config.seed,
            )
            tasks = self._choose_tasks(moment)
            if any(extension.combines for extension in config.extensions):
                self._combined_gradients(tasks, moment)
            else:
                self.optimizer.zero_grad(set_to_none=True)
                for name in tasks:
                    self._backward(name)
        self.scaler.unscale_(self.optimizer)
        norm = None
        if config.clip:
            norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), config.clip)
            norm = distributed.full(norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        for line, _, _ in self._pending[-len(tasks) :]:
            line |= {"lr": config.lr * multiplier, "grad_norm": norm}

    def _choose_tasks(self, step: Step) -> list[str]:
        for extension in self.config.extensions:
            chosen = extension.choose_tasks(step)
            if chosen is not None:
                return chosen
        return [uniform_task(self.config.tasks, seed=step.seed, step=step.number)]

    def _backward(self, name: str, *, reduce: bool = True) -> None:
        """Add the gradient of the mean loss over the task's next rows to each parameter's .grad.

        The rows go through in batches of batch_size. Each batch's summed loss is divided by the
        weight of all of them, so that their gradients add up to that of one large batch. With
        several processes, the last batch adds up the gradients of all, if `reduce`.
        """
        size, source, device = self.config.batch_size, self.data[name].train, self.model.device
        rows = self.streams[name][self.progress.draws[name]]
        self.progress.draws[name] += 1
        parts = [rows[i : i + size] for i in range(0, len(rows), size)]
        shares = [distributed.share_of_batch(part) for part in parts]
        batches = [(source.batch(own), counted) for own, counted in shares]
        weight = sum(batch.weight * counted for batch, counted in batches)
        weight = distributed.sum_over_processes(torch.full((), float(weight), device=device))
        total = torch.zeros((), device=device)
        for number, (batch, counted) in enumerate(batches, start=1):
            with self._reduction(reduce and number == len(batches)):
                loss = counted * self._loss(batch.to(device), name) / weight
                # Over processes, gradients are averaged, and what is wanted is their sum.
                self.scaler.scale(loss * distributed.count()).backward()
            total += loss.detach()
        line = {"kind": "step", "step": self.progress.step, "task": name, "rows": len(rows)}
        self._pending.append((line, total, tuple(source.ids[row] for row in rows)))

    def _reduction(self, wanted: bool) -> AbstractContextManager[None]:
        if distributed.is_sharded(self.model):
            self.model.set_requires_gradient_sync(wanted)
        if wanted or self._parallel is self.model:
            return nullcontext()
        return self._parallel.no_sync()

    def _loss(self, batch: Batch, name: str) -> Tensor:
        """Sum of the rows' losses."""
        with autocast(self.model.device, self.config.precision):
            outputs = self._parallel(batch, name)
        return loss_sum(self.model.tasks[name], outputs, batch.labels)

    def _combined_gradients(self, tasks: list[str], step: Step) -> None:
        """Each task's gradient on its own, changed by the extensions, then their sum."""
        gradients: TaskGradients = {}
        for name in tasks:
            self.optimizer.zero_grad(set_to_none=True)
            self._backward(name, reduce=False)
            gradients[name] = [parameter.grad for parameter in self.parameters.values()]
            distributed.average_gradients(gradients[name])
        for extension in self.config.extensions:
            gradients = extension.combine(gradients, step)
        for parameter, *parts in zip(self.parameters.values(), *gradients.values(), strict=True):
            present = [part for part in parts if part is not None]
            parameter.grad = sum(present[1:], present[0]) if present else None

    # Scores and records

    def _score(self, epoch: int) -> dict[str, dict[str, float]]:
        """Development scores of every task, logged as a line of metrics.jsonl."""
        evaluations = self.evaluate("dev")
        scores = {name: evaluation.metrics for name, evaluation in evaluations.items()}
        losses = {name: total / rows for name, (total, rows) in self.progress.losses.items()}
        line = {
            "kind": "epoch",
            "epoch": epoch,
            "step": self.progress.step,
            "scores": scores,
            "train_loss": losses,
            **summary(scores, self.model.tasks),
        }
        self.log.write([line])
        return scores

    def evaluate(self, split: str) -> dict[str, Evaluation]:
        """Evaluations of every task that has this split."""
        sources = {name: task_data.sources.get(split) for name, task_data in self.data.items()}
        return {
            name: evaluate(
                self.model,
                self.model.tasks[name],
                source,
                precision=self.config.precision,
                progress=self._bar_shown,
            )
            for name, source in sources.items()
            if source is not None
        }

    def _flush(self) -> float:
        """Log the steps since the last time; stop at a loss that is not a number."""
        lines, last = [], math.nan
        for (line, _, ids), last in zip(self._pending, self._pending_losses(), strict=True):
            if not math.isfinite(last):
                raise ValueError(
                    f"the loss is {last} at step {line['step']}, task {line['task']}, rows "
                    f"{', '.join(ids)}; look at these rows, lower --lr, or use --precision fp32"
                )
            norm = line["grad_norm"]
            norm = None if norm is None else float(norm)
            seconds = round(self.progress.seconds, 3)
            lines.append({**line, "loss": last, "grad_norm": norm, "seconds": seconds})
            sums = self.progress.losses.setdefault(line["task"], [0.0, 0])
            sums[0] += last * line["rows"]
            sums[1] += line["rows"]
        self._pending.clear()
        self.log.write(lines)
        return last

    def _pending_losses(self) -> list[float]:
        """The losses since the last time; several processes agree here whether to stop."""
        if not self._pending:
            return []
        losses = torch.stack([loss for _, loss, _ in self._pending]).double()
        if distributed.count() == 1:
            return losses.tolist()
        asked = losses.new_tensor([float(self._interrupts.asked)])
        *found, asked_by = distributed.sum_over_processes(torch.cat([losses, asked])).tolist()
        self._interrupts.agree(asked_by > 0)
        return found

    # Saving and resuming

    def save(self) -> None:
        """Write last.safetensors: weights, optimizer and progress."""
        save_state(
            self.run.last, self.progress, self.parameters, self.optimizer, self.scaler, self.data
        )

    def restore(self) -> None:
        """Continue from last.safetensors; a run that was killed before its first starts anew."""
        if self.run.last.exists():
            self.progress = load_state(
                self.run.last, self.parameters, self.optimizer, self.scaler, self.data
            )
        distributed.by_writer(lambda: self.run.rewind(self.progress.has))


@contextmanager
def random_numbers_of(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Dropout draws what (seed, step, process) gives; the caller's random state stays as it was."""
    entropy = (seed, 2, step, distributed.rank())
    number = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(number)  # torch.manual_seed takes a millisecond
        if device.type == "cuda":
            torch.cuda.manual_seed(number)
        yield
