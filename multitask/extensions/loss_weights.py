"""Weights of the tasks' losses: fixed, or learned by uncertainty.

A fixed weight w minimises w L for a task with mean loss L. Learned weights (Kendall et al., 2018,
arXiv:1705.07115) take each task's noise sigma^2 for a parameter, and minimise the negative log
likelihood, with s = log sigma^2 (0 at first):

    exp(-s) L + s / 2          a task that classifies
    exp(-s) L / 2 + s / 2      a regression, whose loss is a squared error

A task with a large loss thereby comes to count less. The s are the heads' `log_variances`: they are
trained, saved and written to metrics.jsonl with everything else.

Under Adam a weight that all tasks share cancels; only the weights' proportions matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from minbert.checks import check_unused
from multitask import distributed
from multitask.extensions.base import Extension, Step, register

if TYPE_CHECKING:
    from multitask.settings import Settings
    from multitask.trained_model import TrainedModel


@register("loss_weights")
@dataclass(frozen=True, kw_only=True)
class LossWeights(Extension):
    """How much the loss of each task counts."""

    between_tasks = True

    weights: dict[str, float] = field(default_factory=dict)
    """Factors by task, 1 where none is given: sst 1 para 0.5."""
    learned: bool = False
    """Learn weights from the tasks' uncertainty too."""
    learned_lr: float = 100.0
    """Factor of the learning rate for learned weights, which have further to go than others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for task, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {task} must be finite and at least 0: {weight}")
        if not 0 < self.learned_lr < float("inf"):
            raise ValueError(f"learned_lr must be positive and finite, it is {self.learned_lr}")
        if not self.learned:
            check_unused(self, "no weights are learned; give learned too", "learned_lr")

    def check(self, config: Settings) -> None:
        unknown = sorted(self.weights.keys() - set(config.tasks))
        if unknown:
            raise ValueError(
                f"weights name {', '.join(unknown)}; choose among the tasks {list(config.tasks)}"
            )

    def prepare(self, model: TrainedModel) -> None:
        if self.learned:
            model.heads.log_variances = nn.ParameterDict(
                {task: nn.Parameter(torch.zeros(1)) for task in model.tasks}
            )

    def lr_scale(self, model: TrainedModel) -> Mapping[str, float]:
        names = [name for name, _ in model.named_parameters() if ".log_variances." in name]
        return dict.fromkeys(names, self.learned_lr)

    def begin_step(self, model: TrainedModel, step: Step) -> None:
        if self.learned:
            values = {
                task: distributed.full(s.detach()).clone()[0]
                for task, s in _log_variances(model).items()
            }
            step.log({"kind": "log_variances", "step": step.number, **values})

    def weigh(self, loss: Tensor, share: Tensor, task: str, model: TrainedModel) -> Tensor:
        loss = self.weights.get(task, 1.0) * loss
        if not self.learned:
            return loss
        s = _log_variances(model)[task].squeeze()
        scale = 0.5 if model.tasks[task].kind == "regression" else 1.0
        return scale * (-s).exp() * loss + share * s / 2


def _log_variances(model: TrainedModel) -> nn.ParameterDict:
    found = model.heads.log_variances
    assert isinstance(found, nn.ParameterDict)
    return found
