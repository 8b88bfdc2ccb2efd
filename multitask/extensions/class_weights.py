"""Class weights: rare classes count more, or classes as much as one says.

A row's loss is multiplied by the weight of its class. Balanced weights are n / (K n_c) for n
training rows of K classes, n_c of them of class c, as in scikit-learn: all classes then count alike
together, and the mean weight of a row is 1. The sum over rows is divided by their number, and not
by the sum of their weights as in PyTorch's mean, so that accumulated batches add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from multitask.extensions.base import Extension, register

if TYPE_CHECKING:
    from data.tasks import Task
    from multitask.settings import Settings
    from multitask.trained_model import TrainedModel

KINDS = ("classes", "binary")
"""Kinds of task in which a row has one class."""


@register("class_weights")
@dataclass(frozen=True, kw_only=True)
class ClassWeights(Extension):
    """How much each class of a task counts; regressions and several labels at once have none."""

    weights: dict[str, float] = field(default_factory=dict)
    """Factors by TASK:CLASS, 1 for classes that are not named: cola:unacceptable 2. A task of which
    none is named has balanced ones."""
    balanced: tuple[str, ...] = ()
    """Tasks with balanced weights; by default those with classes of which no weight is given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {name} must be finite and at least 0: {weight}")
        both = self._given.keys() & set(self.balanced)
        if both:
            raise ValueError(
                f"{', '.join(sorted(both))} has weights and is to be balanced too; take one"
            )

    @property
    def _given(self) -> dict[str, dict[str, float]]:
        """Task -> class -> weight."""
        found: dict[str, dict[str, float]] = {}
        for name, weight in self.weights.items():
            task, _, label = name.partition(":")
            found.setdefault(task, {})[label] = weight
        return found

    def check(self, config: Settings) -> None:
        known = {task.name: task for task in config.trained_tasks if task.kind in KINDS}
        for name in [*self._given, *self.balanced]:
            if name not in known:
                raise ValueError(
                    f"class_weights names {name!r}; tasks of this run whose rows have one class "
                    f"each are {list(known)}; weights are written TASK:CLASS"
                )
        for name, weights in self._given.items():
            unknown = weights.keys() - set(known[name].classes)
            if unknown:
                raise ValueError(
                    f"{name} has no class {sorted(unknown)[0]!r}; its classes are "
                    f"{', '.join(known[name].classes)}"
                )
        if not known:
            raise ValueError(
                "class_weights needs a task whose rows have one class each, and "
                f"{', '.join(task.name for task in config.trained_tasks)} is none; leave it out"
            )

    def start(self, model: TrainedModel, labels: Mapping[str, Tensor | None]) -> None:
        for name, task in model.tasks.items():
            rows = labels[name]
            if task.kind not in KINDS or rows is None:
                continue
            weights = torch.ones(len(task.classes))
            if name in self._given:
                for label, weight in self._given[name].items():
                    weights[task.classes.index(label)] = weight
            elif name in self.balanced or not self.balanced:
                weights = balanced_weights(rows, len(task.classes))
            model.kept[f"{self.name}/{name}"] = weights.to(model.device)

    def row_weights(self, labels: Tensor, task: Task, model: TrainedModel) -> Tensor | None:
        weights = model.kept.get(f"{self.name}/{task.name}")
        return None if weights is None else weights[labels.long()]  # (B,)


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """n / (K n_c) of each class c, (classes,), K of which have rows; 1 for one without."""
    counts = torch.bincount(labels.long(), minlength=classes)
    present = counts > 0
    return torch.where(present, len(labels) / (present.sum() * counts.clamp(min=1)), 1.0)
