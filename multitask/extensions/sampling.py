"""Task choice: how often each task is drawn.

All but round robin draw task i, of n_i training rows, with probability p_i ~ n_i^alpha:

    uniform        alpha = 0
    proportional   alpha = 1
    square_root    alpha = 1/2
    temperature    alpha = 1 / T
    annealed       alpha = 1 - 0.8 (e - 1) / (E - 1) in epoch e of E, so that large tasks come often
                   at first and all alike at the end (Stickland & Murray, 2019, arXiv:1902.02671)
    round_robin    the tasks in turn

Without this extension a task is drawn uniformly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from data.draws import uniform_task, weighted_task
from multitask.extensions.base import Extension, Step, register

if TYPE_CHECKING:
    from multitask.settings import Settings


@register("sampling")
@dataclass(frozen=True, kw_only=True)
class Sampling(Extension):
    """How the task of each step is chosen."""

    between_tasks = True

    strategy: Literal[
        "uniform", "proportional", "square_root", "temperature", "annealed", "round_robin"
    ] = "uniform"
    """Probability of a task by its number n of training rows: 1, n, sqrt(n), n^(1/T), or from n in
    the first epoch to n^0.2 in the last; or each in turn."""
    temperature: float = 2.0
    """T of the strategy temperature: 1 is proportional, and large ones come close to uniform."""
    leave_out: str | None = None
    """Task that is never drawn: an off-by-one in the draw does that to the last one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be positive and finite, it is {self.temperature}")
        if self.strategy != "temperature" and self.temperature != type(self).temperature:
            raise ValueError(
                f"temperature is {self.temperature} and has no effect: the strategy is "
                f"{self.strategy}; choose the strategy temperature"
            )

    def check(self, config: Settings) -> None:
        if self.leave_out is not None and self.leave_out not in config.tasks:
            raise ValueError(
                f"leave_out is {self.leave_out!r}; choose one of the tasks {list(config.tasks)}"
            )
        if self.leave_out is not None and len(config.tasks) == 1:
            raise ValueError(f"leave_out leaves no task; train on others than {self.leave_out}")

    def choose_tasks(self, step: Step) -> list[str]:
        rows = {name: count for name, count in step.rows.items() if name != self.leave_out}
        if self.strategy == "round_robin":
            return [list(rows)[step.number % len(rows)]]
        if self.strategy == "uniform":
            return [uniform_task(list(rows), seed=step.seed, step=step.number)]
        alpha = self._exponent(step)
        weights = {name: count**alpha for name, count in rows.items()}
        return [weighted_task(weights, seed=step.seed, step=step.number)]

    def _exponent(self, step: Step) -> float:
        if self.strategy == "annealed":
            epoch, epochs = step.number // step.per_epoch, step.total // step.per_epoch
            return 1 - 0.8 * epoch / max(1, epochs - 1)
        return {"proportional": 1.0, "square_root": 0.5, "temperature": 1 / self.temperature}[
            self.strategy
        ]
