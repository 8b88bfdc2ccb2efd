"""A batch with its outputs, and how the model can be run on it once more: what penalties need."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.func import functional_call

from data.batching import Batch
from data.tasks import Task
from multitask.heads import row_losses
from multitask.trained_model import TrainedModel

Change = Callable[[Tensor, Tensor, "ForwardPass"], Tensor]
"""The rows' own losses (B,), outputs, their pass -> the losses as extensions make them, (B,)."""


class ForwardPass:
    """One pass of a batch through the model; others follow as an extension wants them.

    Extra passes take part in the gradient as the first one does. All of it happens within the
    objective's own forward pass, which is the one that data parallel training knows of.
    """

    outputs: Tensor
    """(B, K)."""
    plain_losses: Tensor
    """(B,) the task's own loss of each row."""
    losses: Tensor
    """(B,) the loss of each row, as extensions define and weigh it."""

    def __init__(
        self,
        model: TrainedModel,
        batch: Batch,
        task: Task,
        change: Change,
        *,
        replayable: bool = True,
    ) -> None:
        """Run the model; `replayable` where `same` may be called afterwards."""
        assert batch.labels is not None
        self.model, self.batch, self.task, self.labels = model, batch, task, batch.labels
        self._change = change
        self._before = _random_state(model.device) if replayable else None
        self.outputs = model(batch, task.name)
        self.plain_losses = row_losses(task, self.outputs, self.labels)
        self.losses = change(self.plain_losses, self.outputs, self)

    def losses_of(self, outputs: Tensor) -> Tensor:
        """(B,) the losses, as extensions define and weigh them, of other outputs of the batch."""
        plain = row_losses(self.task, outputs, self.labels)
        return self._change(plain, outputs, self)

    def again(self) -> Tensor:
        """Outputs (B, K) with another draw of dropout."""
        return self.model(self.batch, self.task.name)

    def same(
        self, *, noise: Tensor | None = None, weights: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Outputs (B, K) with the draw of dropout that the first pass had.

        Args:
            noise: (T, E), added to the word embeddings of the T real tokens.
            weights: parameters to take in the place of the model's own, by name.
        """
        assert self._before is not None, "this pass was not to be run again"
        with _replayed(self._before, self.model.device), self._noisy(noise):
            if weights is None:
                return self.model(self.batch, self.task.name)
            # In the type of what they stand for, which on a GPU may be a copy in 16 bits.
            own = dict(self.model.named_parameters())
            cast = {name: weight.to(own[name].dtype) for name, weight in weights.items()}
            return functional_call(self.model, cast, (self.batch, self.task.name))

    def embedding_noise(self) -> Tensor:
        """(T, E) standard normal numbers, as many as the real tokens' word embeddings have."""
        assert self.batch.layout is not None
        weight = self.model.encoder.word_embeddings.weight
        assert isinstance(weight, Tensor)
        return torch.randn(
            len(self.batch.layout.real_tokens),
            weight.size(1),
            device=weight.device,
            dtype=weight.dtype,
        )

    @contextmanager
    def _noisy(self, noise: Tensor | None) -> Generator[None]:
        """A block in which word embeddings have noise added."""
        if noise is None:
            yield
            return
        assert self.batch.layout is not None
        places = self.batch.layout.real_tokens

        def add(_module: object, _inputs: object, embedded: Tensor) -> Tensor:
            flat = embedded.flatten(0, -2)  # (B * S or T, E)
            return flat.index_add(0, places, noise.to(flat.dtype)).view_as(embedded)

        hook = self.model.encoder.word_embeddings.register_forward_hook(add)
        try:
            yield
        finally:
            hook.remove()


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Where the generators stand from which dropout draws."""
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_gpu


@contextmanager
def _replayed(before: tuple[Tensor, Tensor | None], device: torch.device) -> Generator[None]:
    """A block whose dropout draws as it was drawn from an earlier state on."""
    on_cpu, on_gpu = before
    with torch.random.fork_rng(devices=[] if on_gpu is None else [device]):
        torch.set_rng_state(on_cpu)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)
        yield
