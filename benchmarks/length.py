"""Time and memory of ModernBERT against the length of a text, beside transformers.

One text of random tokens at a time, through layers of ModernBERT-base's sizes, of which every third
attends globally, as in the whole model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.curves import Curves, Point

WORK = ("inference", "training")
LENGTHS = (512, 1024, 2048, 4096, 8192)
LAYERS = 6
SIZES: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 1152,
    "vocab_size": 1000,
    "pad_token_id": 0,
}
"""ModernBERT-base's, but for the vocabulary: a table of 50,368 takes memory and no time."""


def ours(point: Point) -> Callable[[], None]:
    """minbert's encoder on one packed text."""
    from minbert import ModernBert, ModernBertConfig, Packed
    from minbert.quick import keep_freed_memory

    keep_freed_memory()
    length = point["length"]
    model = ModernBert(ModernBertConfig(num_layers=point["layers"], **SIZES))
    ids = torch.randint(1, SIZES["vocab_size"], (length,))

    def forward() -> torch.Tensor:
        return model(ids, layout=Packed([length])).last_hidden_state

    return _work(point["work"], model, forward)


def theirs(point: Point) -> Callable[[], None]:
    """transformers' ModernBertModel with sdpa, its default."""
    from transformers import ModernBertConfig, ModernBertModel

    unused: dict[str, Any] = dict.fromkeys(
        ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
    )
    config = ModernBertConfig(num_hidden_layers=point["layers"], **SIZES, **unused)
    model = ModernBertModel(config)
    ids = torch.randint(1, SIZES["vocab_size"], (1, point["length"]))
    return _work(point["work"], model, lambda: model(ids).last_hidden_state)


def _work(
    work: str, model: torch.nn.Module, forward: Callable[[], torch.Tensor]
) -> Callable[[], None]:
    """The forward pass alone, or in train mode with its gradients."""
    model.train(work == "training")

    def infer() -> None:
        with torch.inference_mode():
            forward()

    def learn() -> None:
        model.zero_grad(set_to_none=True)
        forward().square().mean().backward()

    return learn if work == "training" else infer


CURVES = Curves(
    ours=ours,
    theirs=theirs,
    points=tuple(
        {"work": work, "length": length, "layers": LAYERS} for work in WORK for length in LENGTHS
    ),
    curve="work",
    along=dict.fromkeys(WORK, ("length", "tokens in a text")),
    work="a text",
)
draw = CURVES.draw
