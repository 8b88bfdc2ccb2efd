"""The training loop: there is one, for one task or many, and for every extension.

A step draws a task, takes the task's next batch, and moves the parameters by the gradient of the
mean loss over the batch's rows. Everything random is a function of the seed and the step, so a
run that was killed and resumed makes the same numbers as one that was left alone. On several
processes each takes a share of the batch's rows, and all of them come to the same weights.

A GPU computes while the host goes on, and nothing in a step waits for it: the next batches are made
and sent meanwhile, and losses are read when the step after theirs is under way.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from data.batching import Batch
from data.sampling import BatchStream, uniform_task
from multitask import distributed
from multitask.checkpoint import trainable
from multitask.config import RunConfig
from multitask.dataset import TaskData
from multitask.environment import autocast, random_numbers_of
from multitask.evaluate import Evaluation, evaluate, summary
from multitask.extensions.base import Step, TaskGradients
from multitask.groups import make_groups
from multitask.heads import loss_sum
from multitask.interrupts import interrupts
from multitask.log import MetricsLog
from multitask.model import MaskedLanguageModel, MultitaskModel
from multitask.run import Run
from multitask.state import Progress, load_state, save_state, save_weights
from multitask.steps import StepLog
from optim import SCHEDULES, AdamW, set_lr


@dataclass(frozen=True)
class Share:
    """This process's part of a batch of rows."""

    batch: Batch
    counted: bool
    """Whether its rows count: see `share_of_batch`."""


class Trainer:
    """Trains a model on its tasks' data and writes a run folder."""

    def __init__(
        self,
        config: RunConfig,
        model: MultitaskModel | MaskedLanguageModel,
        data: dict[str, TaskData],
        run: Run,
        *,
        progress_bar: bool = True,
    ) -> None:
        self.config, self.model, self.data, self.run = config, model, data, run
        if config.compile:
            model.encoder.compile_layers()
        self._parallel = self._make_parallel()
        self.progress = Progress(draws=dict.fromkeys(data, 0))
        self.parameters = trainable(model)
        self.optimizer = AdamW(
            make_groups(config, model),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            correct_bias=config.correct_bias,
            fused=config.optimizer == "fused",
        )
        self.scaler = torch.amp.GradScaler("cuda", enabled=config.precision == "fp16")
        rows, bucketed = config.batch_size * config.accumulate, config.batches == "bucketed"
        self.streams = {}
        for name, task_data in data.items():
            lengths = task_data.train.lengths
            if config.frozen:  # features come in the place of tokens, and have one length
                lengths = np.ones_like(lengths)
            self.streams[name] = BatchStream(
                lengths, rows, seed=config.seed, name=name, bucketed=bucketed
            )
        one_pass = sum(stream.batches_per_pass for stream in self.streams.values())
        self.steps_per_epoch = config.steps_per_epoch or one_pass
        self.total_steps = self.steps_per_epoch * config.epochs
        self.warmup_steps = round(config.warmup * self.total_steps)
        self._runs_ahead = model.device.type == "cuda"  # the host does, while the device computes
        self._next: dict[str, tuple[int, list[Share]]] = {}  # task -> its next draw, made ahead
        self._bar_shown = progress_bar and distributed.is_writer()
        self.log = MetricsLog(run, tensorboard=config.tensorboard)
        self.steps = StepLog(self.log)

    def _make_parallel(self) -> nn.Module:
        """The model as several processes train it; with one process, the model itself."""
        config, model = self.config, self.model
        if config.shard:
            distributed.shard(model, model.parts())
            return model
        pooler_idle = not config.uses_pooler and any(
            name.startswith("encoder.pooler.") for name in trainable(model)
        )
        all_used = len(self.data) == 1 and not pooler_idle and not config.extensions
        return distributed.data_parallel(model, all_used=all_used)

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
        finally:
            self._parallel = self.model  # lets go of DDP: see `data_parallel`
        return progress

    def _finished(self) -> bool:
        progress, patience = self.progress, self.config.patience
        tired = patience is not None and progress.evaluated - progress.best_epoch >= patience
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
                    loss = self._write()  # of an earlier step, while the device is at this one
                    if progress.step % config.log_every == 0 or progress.step == end:
                        self._read()
                        if not self._runs_ahead or progress.step == end:
                            loss = self._write()
                    if loss is not None:
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
                save_weights(self.run.best, self.parameters, {"epoch": epoch, "scores": scores})
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
                parameters=self.parameters,
                memory=self.progress.memory,
                log=self.steps.note,
            )
            for extension in config.extensions:
                extension.begin_step(self.model, moment)
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
        self.steps.finish(len(tasks), config.lr * multiplier, norm)

    def _choose_tasks(self, step: Step) -> list[str]:
        for extension in self.config.extensions:
            chosen = extension.choose_tasks(step)
            if chosen is not None:
                return chosen
        return [uniform_task(list(self.data), seed=step.seed, step=step.number)]

    def _backward(self, name: str, *, reduce: bool = True) -> None:
        """Add the gradient of the mean loss over the task's next rows to each parameter's .grad.

        The rows go through in batches of batch_size. Each batch's summed loss is divided by the
        weight of all of them, so that their gradients add up to that of one large batch. With
        several processes, the last batch adds up the gradients of all, if `reduce`.
        """
        device, draw = self.model.device, self.progress.draws[name]
        made_for, shares = self._next.pop(name, (None, []))
        if made_for != draw:
            shares = self._shares(name, draw)
        self.progress.draws[name] += 1
        weight = sum(share.batch.weight * share.counted for share in shares)
        weight = distributed.sum_over_processes(torch.full((), float(weight), device=device))
        weight.clamp_(min=1)  # short texts may come without a masked token
        total = torch.zeros((), device=device)
        for number, share in enumerate(shares, start=1):
            with self._reduction(reduce and number == len(shares)):
                loss, mean = self._loss(share.batch, name, weight, share.counted)
                # Over processes, gradients are averaged, and what is wanted is their sum.
                self.scaler.scale(loss * distributed.count()).backward()
            total += mean
        rows = tuple(self.data[name].train.ids[row] for row in self.streams[name][draw])
        line = {"kind": "step", "step": self.progress.step, "task": name, "rows": len(rows)}
        self.steps.add(line, total, rows)
        if self._runs_ahead:
            self._next[name] = draw + 1, self._shares(name, draw + 1)

    def _shares(self, name: str, draw: int) -> list[Share]:
        """This process's batches of a task's draw, on their way to the device."""
        size, source = self.config.batch_size, self.data[name].train
        rows = self.streams[name][draw]
        shares = []
        for start in range(0, len(rows), size):
            own, counted = distributed.share_of_batch(rows[start : start + size])
            shares.append(Share(source.batch(own, draw).to(self.model.device), counted))
        return shares

    def _reduction(self, wanted: bool) -> AbstractContextManager[None]:
        if distributed.is_sharded(self.model):
            self.model.set_requires_gradient_sync(wanted)
        if wanted or self._parallel is self.model:
            return nullcontext()
        return self._parallel.no_sync()

    def _loss(
        self, batch: Batch, name: str, weight: Tensor, counted: bool
    ) -> tuple[Tensor, Tensor]:
        """The batch's part of the step's mean loss: as extensions weigh it, and as it is."""

        def weighed(outputs: Tensor) -> tuple[Tensor, Tensor]:
            mean = counted * loss_sum(self.model.tasks[name], outputs, batch.labels) / weight
            loss, share = mean, counted * batch.weight / weight
            for extension in self.config.extensions:
                loss = extension.weigh(loss, share, name, self.model)
            return loss, mean.detach()

        with autocast(self.model.device, self.config.precision):
            return self._parallel(batch, name, weighed)

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
        scores = {name: found.metrics for name, found in self.evaluate("dev").items()}
        self.log.write_epoch(epoch, scores, self.progress, self.model.tasks)
        return scores

    def evaluate(self, split: str) -> dict[str, Evaluation]:
        """Evaluations of every task that has this split."""
        return {
            name: evaluate(
                self.model,
                task_data.task,
                task_data.sources[split],
                precision=self.config.precision,
                progress=self._bar_shown,
            )
            for name, task_data in self.data.items()
            if split in task_data.sources
        }

    def _flush(self) -> None:
        """Log all steps up to now; stop at a loss that is not finite."""
        self._write()
        self._read()
        self._write()

    def _read(self) -> None:
        """Ask for the numbers of the steps since the last time."""
        self.steps.read(asked=distributed.count() > 1 and self._interrupts.asked)

    def _write(self) -> float | None:
        """Log what was asked for, and return the last loss."""
        loss, stop = self.steps.write(self.progress)
        if stop:
            self._interrupts.agree(stop)
        return loss

    # Saving and resuming

    def save(self) -> None:
        """Write last.safetensors: weights, optimizer and progress."""
        if distributed.is_writer():
            self.run.sync_log()
        save_state(
            self.run.last, self.progress, self.parameters, self.optimizer, self.scaler, self.data
        )

    def restore(self) -> None:
        """Continue from last.safetensors; a run that was killed before its first starts anew."""
        if self.run.last.exists():
            self.progress = load_state(
                self.run.last, self.parameters, self.optimizer, self.scaler, self.data
            )
        progress = self.progress
        distributed.by_writer(lambda: self.run.rewind(progress.has, progress.check_log))
