"""The multitask model: one encoder, a pooling, and the heads.

Batch -> encoder -> pooled features (B, F) -> task's head -> outputs (B, K)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data.batching import Batch
from data.tasks import Task, get_task
from minbert.base import Encoder
from multitask.config import TrainConfig
from multitask.heads import POOLINGS, Heads, compare_concat, compare_cosine


class MultitaskModel(nn.Module):
    """A shared encoder with a head for each task."""

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        *,
        pooling: str = "pooler",
        pair: str = "cross",
        head_size: int = 256,
        head_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"no pooling is called {pooling!r}; known are {', '.join(POOLINGS)}")
        self.encoder = encoder
        self.pooling = POOLINGS[pooling]
        self.compare = {"concat": compare_concat, "cosine": compare_cosine}.get(pair)
        self.heads = Heads(
            tasks,
            encoder.config.hidden_size,
            pair=pair,
            head_size=head_size,
            dropout=head_dropout,
        )

    @classmethod
    def from_config(cls, config: TrainConfig, encoder: Encoder) -> MultitaskModel:
        """The model of a training config, before its extensions prepare it.

        The heads' initial values depend on config.seed alone.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = cls(
                encoder,
                [get_task(name) for name in config.tasks],
                pooling=config.pooling,
                pair=config.pair,
                head_size=config.head_size,
                head_dropout=config.head_dropout,
            )
            if config.encoder_dropout is not None:
                for module in encoder.modules():
                    if isinstance(module, nn.Dropout):
                        module.p = config.encoder_dropout
            encoder.gradient_checkpointing = config.gradient_checkpointing
            if config.frozen:
                encoder.requires_grad_(False)
            for extension in config.extensions:
                extension.prepare(model)
        return model

    @property
    def tasks(self) -> dict[str, Task]:
        """The model's tasks by name."""
        return self.heads.tasks

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.heads.parameters()).device

    def features(self, batch: Batch, task: str) -> Tensor:
        """Pooled vectors of a batch of rows, (B, H); for two embeddings compared, (B, 3 H | 1)."""
        if batch.features is not None:
            return batch.features
        output = self.encoder(
            batch.input_ids, token_type_ids=batch.token_type_ids, layout=batch.layout
        )
        pooled = self.pooling(output)
        if self.compare is not None and self.tasks[task].is_pair:
            first, second = pooled.chunk(2)  # a batch holds all first texts, then all second
            return self.compare(first, second)
        return pooled

    def forward(self, batch: Batch, task: str) -> Tensor:
        """Outputs (B, K) of a task's head for a batch of its rows."""
        return self.heads(self.features(batch, task), task)
