"""How time and memory of a training step grow with length, batch and layers, beside transformers.

One of the three grows at a time, from a BERT of MiniLM's sizes on random tokens, without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import compare
from minbert.files import replacing
from multitask.figures import COLOURS

START = {"length": 64, "batch": 8, "layers": 6}
GROWTH = {
    "length": (32, 64, 128, 256, 512),
    "batch": (4, 8, 16, 32, 64),
    "layers": (2, 4, 6, 12, 24),
}
UNITS = {"length": "tokens in a sequence", "batch": "sequences", "layers": "layers"}
SIZES = {"vocab_size": 30522, "hidden_size": 384, "intermediate_size": 1536}


def ours(length: int, batch: int, layers: int) -> Callable[[], None]:
    """A training step of minbert's encoder, packed."""
    from minbert import Bert, BertConfig, Packed
    from minbert.quick import keep_freed_memory
    from optim import AdamW

    keep_freed_memory()
    model = Bert(BertConfig(num_layers=layers, num_heads=12, **SIZES)).train()
    optimizer = AdamW(model.parameters(), fused=True)
    ids = torch.randint(1000, 30000, (batch * length,))

    def forward() -> torch.Tensor:
        layout = Packed([length] * batch)
        return layout.mean(model(ids, layout=layout).last_hidden_state)

    return partial(_step, forward, optimizer)


def theirs(length: int, batch: int, layers: int) -> Callable[[], None]:
    """The same step of transformers' BertModel with sdpa, and torch.optim.AdamW."""
    from transformers import BertConfig, BertModel

    config = BertConfig(num_hidden_layers=layers, num_attention_heads=12, **SIZES)
    model = BertModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.randint(1000, 30000, (batch, length))
    return partial(_step, lambda: model(ids).last_hidden_state.mean(dim=1), optimizer)


def _step(forward: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    forward().square().sum().backward()
    optimizer.step()


def points() -> Iterator[tuple[str, dict[str, int]]]:
    """What grows, with the sizes of each point."""
    for what, values in GROWTH.items():
        for value in values:
            yield what, {**START, what: value}


def measure(what: str, sizes: dict[str, int], *, threads: int, repeats: int) -> dict[str, Any]:
    """Time and memory of both at one point."""
    candidates = {"minbert": partial(ours, **sizes), "transformers": partial(theirs, **sizes)}
    found = compare(candidates, threads=threads, repeats=repeats)
    return {"grows": what, **sizes, "candidates": found}


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Time above, memory below, a column for each thing that grows."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(2, len(GROWTH), sharex="col")
    for column, what in enumerate(GROWTH):
        line = [point for point in results if point["grows"] == what]
        for name, colour in (("minbert", COLOURS[0]), ("transformers", COLOURS[5])):
            x = [point[what] for point in line]
            for row, key, scale in ((0, "median", 1e3), (1, "peak_memory_mb", 1)):
                y = [point["candidates"][name][key] * scale for point in line]
                axes[row, column].plot(x, y, "o-", color=colour, label=name)
        axes[1, column].set_xlabel(UNITS[what])
    for one in axes.flat:
        one.grid(alpha=0.3)
        one.set_ylim(0)
    axes[0, 0].set_ylabel("a training step, ms")
    axes[1, 0].set_ylabel("peak memory, MB")
    axes[0, 0].legend(frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
