"""The training loop: there is one, for one task or many, and for every extension.

A step draws a task, takes the task's next batch, and moves the parameters by the gradient of the
mean loss over the batch's rows. Everything random is a function of the seed and the step, so a
run that was killed and resumed makes the same numbers as one that was left alone.

`Trainer.step` is the algorithm. What it stands on: objective.py (losses), engine.py (how gradients
are computed), steps.py (the log), state.py (checkpoints).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from data.draws import uniform_task
from multitask import distributed
from multitask.config import RunConfig
from multitask.dataset import TaskData
from multitask.embedding_scores import evaluate_pairs
from multitask.environment import random_numbers_of
from multitask.evaluate import Evaluation, evaluate
from multitask.extensions.base import Step, Together
from multitask.loop.engine import Draw, Engine
from multitask.loop.epoch_lines import epoch_bar
from multitask.loop.gradient_cache import Embeddings
from multitask.loop.interrupts import Interrupts
from multitask.loop.metrics_log import MetricsLog
from multitask.loop.optimizer import make_optimizer
from multitask.loop.state import Progress, load_state, save_state, save_weights
from multitask.loop.steps import StepLine, StepLog
from multitask.metrics import summary
from multitask.model import EmbeddingModel
from multitask.objective import Objective
from multitask.runs.checkpoint import trainable
from multitask.runs.loggers import Logger
from multitask.runs.run import Run
from multitask.trained_model import TrainedModel
from optim import SCHEDULES, set_lr


class Trainer:
    """Trains a model on its tasks' data and writes a run folder."""

    def __init__(
        self,
        config: RunConfig,
        model: TrainedModel,
        data: dict[str, TaskData],
        run: Run,
        *,
        progress_bar: bool = True,
        loggers: Sequence[Logger] = (),
    ) -> None:
        self.config, self.model, self.data, self.run = config, model, data, run
        if config.compile:
            model.encoder.compile_layers()
        self.extensions = Together(config.extensions)
        objective = Embeddings if isinstance(model, EmbeddingModel) else Objective
        self.engine = Engine(config, objective(model, config.extensions), data)
        self.extensions.start(model, {name: d.train.labels for name, d in data.items()})
        self.parameters = trainable(model)
        self.optimizer = make_optimizer(config, model, self.extensions)
        one_pass = sum(stream.batches_per_pass for stream in self.engine.streams.values())
        self.steps_per_epoch = config.steps_per_epoch or one_pass
        scores, steps = config.scores_per_epoch, self.steps_per_epoch
        if scores > steps:
            raise ValueError(f"scores_per_epoch {scores}: an epoch has {steps} steps; lower it")
        self.total_steps = self.steps_per_epoch * config.epochs
        self.warmup_steps = round(config.warmup * self.total_steps)
        self.progress = Progress(draws=dict.fromkeys(data, 0), scores_per_epoch=scores)
        self.interrupts = Interrupts(shared=distributed.count() > 1)
        self._bar_shown = progress_bar and distributed.is_writer()
        self.metrics = MetricsLog(run, loggers, self.total_steps)
        self.log = StepLog(
            self.metrics, self.interrupts, every=config.log_every, ahead=self.engine.runs_ahead
        )

    def step(self) -> float | None:
        """Take one optimizer step, and return the last loss that is known, if one is new."""
        config, notes = self.config, []
        step = self._next_step(notes)
        rate = SCHEDULES[config.schedule](step.number, self.total_steps, self.warmup_steps)
        set_lr(self.optimizer, rate)
        with random_numbers_of(config.seed, step.number, self.model.device):
            self.extensions.begin_step(self.model, step)
            draws = self._draw(self.extensions.choose_tasks(step) or self._random_task(step))
            if self.extensions.combines:
                losses, gradients = self.engine.backward_apart(draws)
                self.engine.put(self.extensions.combine(gradients, step))
            else:
                losses = self.engine.backward(draws)
        norm = self.engine.clip(self.optimizer, config.clip)
        self.engine.scaler.step(self.optimizer)  # without fp16, the optimizer's own
        self.engine.scaler.update()
        self.progress.step += 1
        return self.log.step(
            StepLine(step.number, config.lr * rate, losses, norm, notes), self.progress
        )

    def _next_step(self, notes: list[dict[str, Any]]) -> Step:
        """What extensions may know of the step that comes; their lines go to `notes`."""
        return Step(
            number=self.progress.step,
            total=self.total_steps,
            per_epoch=self.steps_per_epoch,
            rows={name: len(task_data.train.ids) for name, task_data in self.data.items()},
            seed=self.config.seed,
            parameters=self.parameters,
            groups=self.optimizer.param_groups,
            memory=self.progress.memory,
            log=notes.append,
        )

    def _random_task(self, step: Step) -> list[str]:
        return [uniform_task(list(self.data), seed=step.seed, step=step.number)]

    def _draw(self, tasks: list[str]) -> list[Draw]:
        """The next rows of each task."""
        draws = []
        for task in tasks:
            draws.append(Draw(task, self.progress.draws[task]))
            self.progress.draws[task] += 1
        return draws

    # The loop

    def fit(self) -> Progress:
        """Train to the last epoch, or to the end of patience; resumes where `progress` stands."""
        progress, interrupts = self.progress, self.interrupts
        started = time.monotonic() - progress.seconds
        try:
            with interrupts.handled():
                self.metrics.begin()
                if self.config.evaluate_first and progress.before is None and not progress.step:
                    progress.before = self._score(epoch=0)
                while not self._finished():
                    self._train_to_score(started)
                    self._keep_if_best()
                    progress.seconds = time.monotonic() - started
                    self.save()
        except KeyboardInterrupt:
            if not interrupts.torn:
                progress.seconds = time.monotonic() - started
                self.log.flush(self.progress)
                if interrupts.agreed or not self.config.shard:
                    self.save()
                if interrupts.agreed:
                    distributed.wait()  # until it is saved
            raise
        finally:
            self.engine.close()
            self.metrics.end()
        return progress

    def _finished(self) -> bool:
        progress, patience = self.progress, self.config.patience
        idle = (progress.evaluated - progress.best_epoch) // progress.scores_per_epoch
        epoch, best = progress.epoch_of(progress.evaluated), progress.best_score
        if epoch >= self.config.epochs or (patience is not None and idle >= patience):
            return True
        if not epoch:
            return False
        stops = self.extensions.stops
        return distributed.by_writer(lambda: stops(epoch, best, self.run.scores_beside))

    def _train_to_score(self, started: float) -> None:
        progress, save_every = self.progress, self.config.save_every
        end = (progress.evaluated + 1) * self.steps_per_epoch // progress.scores_per_epoch
        shown = self._bar_shown
        self.model.train()
        with epoch_bar(progress, self.steps_per_epoch, self.config.epochs, shown=shown) as bar:
            while progress.step < end:
                with self.interrupts.held():
                    loss = self.step()
                    progress.seconds = time.monotonic() - started
                    if save_every and progress.step % save_every == 0:
                        self.log.flush(self.progress)
                        self.save()
                if loss is not None:
                    bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
                bar.update()
        with self.interrupts.held():
            self.log.flush(self.progress)

    def _keep_if_best(self) -> None:
        progress = self.progress
        number = progress.evaluated + 1
        epoch = progress.epoch_of(number)
        scores = self._score(epoch)
        score = summary(scores, self.model.tasks)["score"]
        with self.interrupts.held():
            if score > progress.best_score:
                progress.best_score, progress.best_epoch, progress.best = score, number, scores
                save_weights(self.run.best, self.parameters, {"epoch": epoch, "scores": scores})
            progress.evaluated = number
            progress.losses = {}

    def _score(self, epoch: float) -> dict[str, dict[str, float]]:
        """Development scores of every task, logged as a line of metrics.jsonl."""
        scores = {name: found.metrics for name, found in self.evaluate("dev").items()}
        self.metrics.write_epoch(epoch, scores, self.progress, self.model.tasks)
        return scores

    def evaluate(self, split: str) -> dict[str, Evaluation]:
        """Evaluations of every task that has this split."""
        return {
            name: (evaluate_pairs if task_data.task.kind == "pairs" else evaluate)(
                self.model,
                task_data.task,
                task_data.sources[split],
                precision=self.config.precision,
                progress=self._bar_shown,
            )
            for name, task_data in self.data.items()
            if split in task_data.sources
        }

    # Saving and resuming

    def save(self) -> None:
        """Write last.safetensors: weights, optimizer and progress."""
        if distributed.is_writer():
            self.run.sync_log()
        save_state(
            self.run.last,
            self.progress,
            self.parameters,
            self.model.kept,
            self.optimizer,
            self.engine.scaler,
            self.data,
        )

    def begin(self) -> None:
        """Make ready for the first step of a new run."""
        self.extensions.begin(self.model, self.config, progress=self._bar_shown)

    def restore(self) -> None:
        """Continue from last.safetensors; a run that was killed before its first starts anew."""
        if self.run.last.exists():
            self.progress = load_state(
                self.run.last,
                self.parameters,
                self.model.kept,
                self.optimizer,
                self.engine.scaler,
                self.data,
            )
        else:
            self.begin()
        progress = self.progress
        distributed.by_writer(lambda: self.run.rewind(progress.has, progress.check_log))
