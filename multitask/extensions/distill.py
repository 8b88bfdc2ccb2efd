"""Distillation: a student learns what its teachers answer, beside the labels (Hinton et al., 2015).

arXiv:1503.02531. With z the student's logits and p the mean of the teachers' probabilities, the
loss of a row is

    (1 - weight) loss  +  weight T² KL(p_T ‖ softmax(z / T))        p_T ∝ p^(1/T)

where `loss` is the task's own, of the label. A temperature T above 1 lets the less likely classes
count more, and T² keeps the gradient's size. In a binary task, and for each of several labels, of
which a row takes the mean, the classes are yes and no. A regression has in the place of the second
part (z - the mean of the teachers' numbers)², in the unit of its own loss.

Teachers answer the training rows once, before the first step, without dropout. Their answers are
kept with the run, which goes on without them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.tasks import Task, check_same_answers, get_task
from minbert.checks import warn_of_cut
from minbert.transfer import to_device
from multitask import distributed
from multitask.config import TrainConfig
from multitask.dataset import training_examples
from multitask.evaluate import evaluate
from multitask.extensions.base import Extension, Step, register
from multitask.heads import row_losses
from multitask.predictor import Predictor
from multitask.runs.run import Run, absolute

if TYPE_CHECKING:
    from data.readers import Example
    from multitask.forward_pass import ForwardPass
    from multitask.settings import Settings
    from multitask.trained_model import TrainedModel


@register("distill")
@dataclass(frozen=True, kw_only=True)
class Distill(Extension):
    """Learn what other runs answer; tasks without a teacher keep their loss."""

    teachers: tuple[str, ...] = ()
    """Folders of the runs that teach: FOLDER teaches all tasks, TASK=FOLDER one. Where a task has
    several, the mean of their probabilities is learnt, or of a regression's numbers."""
    temperature: float = 2.0
    """T, by which logits are divided."""
    weight: float = 0.5
    """How much the teachers count, beside labels that count 1 - weight."""
    anneal: bool = False
    """Let the weight fall to 0 over the run, in a straight line: from the teachers to the labels
    (BAM's teacher annealing, arXiv:1907.04829)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be positive and finite, it is {self.temperature}")
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight must be above 0 and at most 1, it is {self.weight}")
        located = [f"{prefix}{absolute(folder)}" for prefix, folder in map(split, self.teachers)]
        object.__setattr__(self, "teachers", tuple(located))

    def taught(self, tasks: Iterable[str]) -> dict[str, list[str]]:
        """Task -> the folders of its teachers, for tasks that have any."""
        pairs = [split(entry) for entry in self.teachers]
        each = {task: [f for prefix, f in pairs if prefix in ("", f"{task}=")] for task in tasks}
        return {task: folders for task, folders in each.items() if folders}

    def check(self, config: Settings) -> None:
        names = [task.name for task in config.trained_tasks]
        if any(task.kind == "tokens" for task in config.trained_tasks):
            raise ValueError(
                "distill learns answers to the rows of tasks, and pre-training has none; leave it "
                "out"
            )
        if not self.teachers:
            raise ValueError("distill has no teachers; name runs with --distill.teachers")
        for prefix, folder in map(split, self.teachers):
            if prefix.removesuffix("=") not in ("", *names):
                raise ValueError(
                    f"teachers has {prefix}{folder}, and tasks of this run are {', '.join(names)}; "
                    f"name one of them (a folder that is called {prefix}... is ./{prefix}...)"
                )
        for name, folders in self.taught(names).items():
            real = [os.path.realpath(folder) for folder in folders]
            if len(set(real)) < len(real):
                raise ValueError(f"{name} has a teacher twice: {', '.join(folders)}; name it once")
            if config.out is not None and os.path.realpath(absolute(config.out)) in real:
                raise ValueError(f"{config.out} is to teach {name}; write to another --out")

    def start(self, model: TrainedModel, labels: Mapping[str, Tensor | None]) -> None:
        model.kept[f"{self.name}/weight"] = torch.tensor(self.weight, device=model.device)
        for name in self.taught(model.tasks):
            rows = labels[name]
            assert rows is not None
            room = torch.full((len(rows), model.tasks[name].num_outputs), torch.nan)
            model.kept[f"{self.name}/answers/{name}"] = room.to(model.device)

    def begin(self, model: TrainedModel, config: Settings, *, progress: bool) -> None:
        assert isinstance(config, TrainConfig)
        taught = self.taught(model.tasks)
        teaches = {
            folder: [model.tasks[name] for name, folders in taught.items() if folder in folders]
            for folder in dict.fromkeys(each for folders in taught.values() for each in folders)
        }
        for folder, tasks in teaches.items():  # all of them, before the first one answers
            check_teacher(folder, tasks)
        examples = {name: training_examples(config, model.tasks[name]) for name in taught}
        found: dict[str, list[np.ndarray]] = {name: [] for name in taught}
        for folder, tasks in teaches.items():
            teacher = Predictor(folder, device=str(model.device), precision=config.precision)
            for task in tasks:
                answers = ask(teacher, task, examples[task.name], progress=progress)
                found[task.name].append(answers)
        for name, answers in found.items():
            mean = torch.from_numpy(np.mean(answers, axis=0))
            model.kept[f"{self.name}/answers/{name}"].copy_(mean)

    def begin_step(self, model: TrainedModel, step: Step) -> None:
        left = 1 - step.number / step.total if self.anneal else 1
        model.kept[f"{self.name}/weight"].fill_(left * self.weight)

    def losses(self, losses: Tensor, outputs: Tensor, seen: ForwardPass) -> Tensor:
        answers = seen.model.kept.get(f"{self.name}/answers/{seen.task.name}")
        if answers is None:
            return losses
        assert seen.batch.rows is not None
        rows = to_device(torch.as_tensor(seen.batch.rows), answers.device)
        soft = soft_losses(seen.task, outputs, answers[rows], self.temperature)
        weight = seen.model.kept[f"{self.name}/weight"]
        return (1 - weight) * losses + weight * soft


def split(entry: str) -> tuple[str, str]:
    """TASK= and FOLDER of a teacher; no text and FOLDER, where that is all."""
    found = re.match(r"[a-zA-Z][\w-]*=", entry)
    prefix = found[0] if found else ""
    folder = entry.removeprefix(prefix)
    if not folder.strip():
        raise ValueError(f"teachers has {entry!r}; give FOLDER or TASK=FOLDER")
    return prefix, folder


def soft_losses(task: Task, outputs: Tensor, answers: Tensor, temperature: float) -> Tensor:
    """How far a student is from its teachers for each row, (B,); 0 where they agree.

    Args:
        task: says the kind.
        outputs: (B, K) of the student.
        answers: (B, K) probabilities of the teachers, or numbers of a regression.
        temperature: T.
    """
    if task.kind == "regression":
        return row_losses(task, outputs, answers.squeeze(-1))
    logits, sure = outputs.float() / temperature, answers ** (1 / temperature)
    if task.kind == "classes":
        wanted = sure / sure.sum(dim=-1, keepdim=True)
        each = F.kl_div(logits.log_softmax(dim=-1), wanted, reduction="none").sum(dim=-1)
        return temperature**2 * each
    yes = sure / (sure + (1 - answers) ** (1 / temperature))
    each = F.kl_div(F.logsigmoid(logits), yes, reduction="none")
    each = each + F.kl_div(F.logsigmoid(-logits), 1 - yes, reduction="none")
    return temperature**2 * each.mean(dim=-1)


def check_teacher(folder: str, tasks: Sequence[Task]) -> None:
    """Raise ValueError unless a folder holds a finished run that answers tasks as they are here."""
    run = Run.open(folder)
    config = run.config()
    known = config.tasks if isinstance(config, TrainConfig) else ()
    for task in tasks:
        if task.name not in known:
            answered = ", ".join(known) or f"no task, for it is a {config.title} run"
            raise ValueError(
                f"{folder} cannot teach {task.name}: it answers {answered}; a teacher of one task "
                "is named TASK=FOLDER"
            )
        try:
            check_same_answers(get_task(task.name), task)  # its own, now that the run is open
        except ValueError as error:
            raise ValueError(f"{folder} cannot teach {task.name}: {error}") from None
    if not run.record_path.is_file():
        raise ValueError(f"{folder} cannot teach: it is not finished; end it with --resume")


def ask(
    teacher: Predictor, task: Task, examples: Sequence[Example], *, progress: bool
) -> np.ndarray:
    """A teacher's probabilities for rows of a task, or numbers of a regression, (rows, K)."""
    source = teacher.encoded(examples, task.name)
    found = evaluate(teacher.model, task, source, precision=teacher.precision, progress=progress)
    if distributed.is_writer():
        warn_of_cut(source.cut, len(examples), teacher.max_length, f"rows of {task.name}")
        metric = task.metrics[0]
        score = f"{task.name} {metric} {found.metrics[metric]:.3f}"
        print(
            f"teacher {teacher.run.folder}: {score} on the {len(examples)} training rows",
            file=sys.stderr,
        )
    if found.probabilities is None:
        return found.answers[:, None]
    return found.probabilities[:, 1:] if task.kind == "binary" else found.probabilities
