"""What an optimizer step minimises: the losses of a model's tasks, as extensions change them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from data.batching import Batch
from multitask.extensions.base import Extension, Together
from multitask.forward_pass import ForwardPass
from multitask.trained_model import TrainedModel


class Objective(nn.Module):
    """A model with its losses: one module, so that data parallel training finds in one forward
    pass all parameters that a loss depends on, weights that the loss itself learns included."""

    def __init__(self, model: TrainedModel, extensions: Sequence[Extension] = ()) -> None:
        super().__init__()
        self.model = model
        self.extensions = Together(extensions)

    def forward(
        self, batch: Batch, task: str, weight: Tensor, factor: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """A batch's part of the mean loss over a step's rows: to minimise, and as it is.

        Args:
            batch: rows with labels.
            task: whose rows they are.
            weight: () rows (or masked tokens) of the whole step, by which its loss is divided.
            factor: 0 for a batch that is not to count.

        Returns:
            Two numbers (): the loss as extensions change it, and the plain loss, detached.
        """
        again = self.extensions.penalises
        known = self.model.tasks[task]
        seen = ForwardPass(self.model, batch, known, self.change, replayable=again)
        losses, penalty = seen.losses, self.extensions.penalty(seen)  # (B,) each
        if penalty is not None:
            losses = losses + penalty
        mean, plain = (factor * each.sum() / weight for each in (losses, seen.plain_losses))
        share = factor * batch.weight / weight
        return self.extensions.weigh(mean, share, task, self.model), plain.detach()

    def change(self, losses: Tensor, outputs: Tensor, seen: ForwardPass) -> Tensor:
        """The losses of rows (B,) as extensions define and weigh them, from the task's own."""
        losses = self.extensions.losses(losses, outputs, seen)
        weights = self.extensions.row_weights(seen.labels, seen.task, self.model)
        return losses if weights is None else weights * losses
