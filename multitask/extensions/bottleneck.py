"""Bottleneck adapters, a set for each task: the encoder under them is shared, frozen or trained.

TrainConfig(lr=1e-3, extensions=(Bottleneck(kind="houlsby", size=32),))

The formulas are in minbert/adapters/bottleneck.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minbert.adapters import BottleneckSettings, add_bottlenecks
from multitask.extensions.base import Extension, register

if TYPE_CHECKING:
    from multitask.settings import Settings
    from multitask.trained_model import TrainedModel


@dataclass(frozen=True, kw_only=True)
class TaskAdapters(Extension):
    """What adapters that tasks may have of their own have in common."""

    freezes = True
    exports = False

    def check(self, config: Settings) -> None:
        command = getattr(config, "command", "train")
        if command != "train":
            raise ValueError(
                f"minbert {command} makes an ordinary backbone, which has no place for what "
                f"{self.name} adds; leave it out, or train tasks with it"
            )

    def export(self, model: TrainedModel) -> None:
        raise ValueError(
            f"{self.name} has parameters between the encoder's own, for which an ordinary backbone "
            "has no place; use the run as it is (minbert predict, minbert evaluate), or train with "
            "lora or ia3, which are merged"
        )


@register("bottleneck")
@dataclass(frozen=True, kw_only=True)
class Bottleneck(BottleneckSettings, TaskAdapters):
    """Houlsby and Pfeiffer adapters: use a learning rate of about 1e-3 with them."""

    def prepare(self, model: TrainedModel) -> None:
        add_bottlenecks(model.encoder, self, model.tasks)
