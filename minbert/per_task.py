"""Modules of which a model has one for each task: the task that is being answered chooses.

An encoder knows no tasks. What holds it says which one a call is for,

    with encoder.choice.of("sst"):
        output = encoder(input_ids)

and each `PerTask` inside computes with its set for that task. Outside of such a block there is no
task, and an error in place of another task's numbers. Where a layer is computed again in the
backward pass, it is computed for the task that it was computed for: see `Encoder.run`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

SHARED = "shared"
"""The name of the only set, where all tasks have one together."""


class Choice:
    """The task that a model is computing for; the model and its modules hold the same object."""

    def __init__(self) -> None:
        self.task: str | None = None

    @contextmanager
    def of(self, task: str | None) -> Generator[None]:
        """A block that is about a task."""
        before, self.task = self.task, task
        try:
            yield
        finally:
            self.task = before


class PerTask(nn.Module):
    """A module for each task, by name; or one for all of them, called SHARED."""

    def __init__(self, choice: Choice, sets: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._choice = choice
        self.sets = nn.ModuleDict(sets)

    @property
    def chosen(self) -> nn.Module:
        """The task's own module.

        Raises:
            ValueError: there is no task at hand, or it has none.
        """
        task = SHARED if SHARED in self.sets else self._choice.task
        if task is None or task not in self.sets:
            raise ValueError(
                f"this model has parameters of their own for {', '.join(self.sets)}, and is called "
                f"for {task or 'no task'}; call it in a block `with encoder.choice.of(TASK):`"
            )
        return self.sets[task]

    def forward(self, *inputs: Any) -> Any:
        return self.chosen(*inputs)
