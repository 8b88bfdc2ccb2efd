"""What the loop and the extensions know of a model; model.py has the models."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from data.tasks import Task
from minbert.encoder import Encoder


class TrainedModel(nn.Module):
    """An encoder with heads: what the loop and its extensions know of a model."""

    encoder: Encoder
    heads: nn.Module
    tasks: dict[str, Task]
    """The model's tasks by name."""
    left_out: tuple[str, ...] = ()
    """Tensors of the adapter that it started from which are of another model's head."""
    kept: dict[str, Tensor]
    """What extensions keep from step to step, by names that begin with their own: no parameters,
    but saved with them in last.safetensors."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = {}

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.heads.parameters()).device

    def depths(self) -> list[tuple[str, nn.Module]]:
        """The parts from input to output: embeddings, layer 1, ..., pooler, heads."""
        return [*self.encoder.depths(), ("heads", self.heads)]

    def parts(self) -> list[nn.Module]:
        """What each process puts together for itself where weights are split over processes."""
        return [part for _, part in self.encoder.depths()]

    def part_of(self) -> dict[str, str]:
        """Parameter name -> the part of `depths` that it is in, the encoder's where a head is tied.

        Raises:
            ValueError: a parameter is in none of them.
        """
        owners = {p: part for part, module in reversed(self.depths()) for p in module.parameters()}
        lost = [name for name, p in self.named_parameters() if p not in owners]
        if lost:
            raise ValueError(
                f"{', '.join(lost[:20])}: in no part of the model; depths() of "
                f"{type(self.encoder).__name__} must list the module, or heads must hold it"
            )
        return {name: owners[p] for name, p in self.named_parameters()}
