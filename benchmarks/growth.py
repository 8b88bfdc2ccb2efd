"""How time and memory of a training step grow with length, batch and layers, beside transformers.

One of the three grows at a time, from a BERT of MiniLM's sizes on random tokens, without padding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from benchmarks.curves import Curves, Point

START = {"length": 64, "batch": 8, "layers": 6}
GROWTH = {
    "length": (32, 64, 128, 256, 512),
    "batch": (4, 8, 16, 32, 64),
    "layers": (2, 4, 6, 12, 24),
}
SIZES = {"vocab_size": 30522, "hidden_size": 384, "intermediate_size": 1536}


def ours(point: Point) -> Callable[[], None]:
    """A training step of minbert's encoder, packed."""
    from minbert import Bert, BertConfig, Packed
    from minbert.quick import keep_freed_memory
    from optim import AdamW

    keep_freed_memory()
    length, batch = point["length"], point["batch"]
    model = Bert(BertConfig(num_layers=point["layers"], num_heads=12, **SIZES)).train()
    optimizer = AdamW(model.parameters(), fused=True)
    ids = torch.randint(1000, 30000, (batch * length,))

    def forward() -> torch.Tensor:
        layout = Packed([length] * batch)
        return layout.mean(model(ids, layout=layout).last_hidden_state)

    return partial(_step, forward, optimizer)


def theirs(point: Point) -> Callable[[], None]:
    """The same step of transformers' BertModel with sdpa, and torch.optim.AdamW."""
    from transformers import BertConfig, BertModel

    config = BertConfig(num_hidden_layers=point["layers"], num_attention_heads=12, **SIZES)
    model = BertModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.randint(1000, 30000, (point["batch"], point["length"]))
    return partial(_step, lambda: model(ids).last_hidden_state.mean(dim=1), optimizer)


def _step(forward: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    forward().square().sum().backward()
    optimizer.step()


CURVES = Curves(
    ours=ours,
    theirs=theirs,
    points=tuple(
        {"grows": what, **START, what: value} for what, values in GROWTH.items() for value in values
    ),
    curve="grows",
    along={
        "length": ("length", "tokens in a sequence"),
        "batch": ("batch", "sequences"),
        "layers": ("layers", "layers"),
    },
    work="a training step",
)
draw = CURVES.draw
