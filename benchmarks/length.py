"""Time and memory of ModernBERT against the length of a text, beside transformers.

One text of random tokens at a time, through layers of ModernBERT-base's sizes, of which every third
attends globally, as in the whole model.
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

WORK = ("inference", "training")
LENGTHS = (512, 1024, 2048, 4096, 8192)
LAYERS = 6
SIZES = {"hidden_size": 768, "intermediate_size": 1152, "vocab_size": 1000, "pad_token_id": 0}
"""ModernBERT-base's, but for the vocabulary: a table of 50,368 takes memory and no time."""


def ours(work: str, length: int, layers: int = LAYERS) -> Callable[[], None]:
    """minbert's encoder on one packed text."""
    from minbert import Packed
    from minbert.encoders.modernbert import ModernBert
    from minbert.encoders.modernbert_config import ModernBertConfig
    from minbert.quick import keep_freed_memory

    keep_freed_memory()
    model = ModernBert(ModernBertConfig(num_layers=layers, **SIZES))
    ids = torch.randint(1, SIZES["vocab_size"], (length,))
    return _work(work, model, lambda: model(ids, layout=Packed([length])).last_hidden_state)


def theirs(work: str, length: int, layers: int = LAYERS) -> Callable[[], None]:
    """transformers' ModernBertModel with sdpa, its default."""
    from transformers import ModernBertConfig, ModernBertModel

    unused = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
    model = ModernBertModel(ModernBertConfig(num_hidden_layers=layers, **SIZES, **unused))
    ids = torch.randint(1, SIZES["vocab_size"], (1, length))
    return _work(work, model, lambda: model(ids).last_hidden_state)


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


def points() -> Iterator[tuple[str, int]]:
    """What is measured: the work and the length of the text."""
    for work in WORK:
        for length in LENGTHS:
            yield work, length


def measure(work: str, length: int, *, threads: int, repeats: int) -> dict[str, Any]:
    """Time and memory of both at one length."""
    candidates = {
        "minbert": partial(ours, work, length),
        "transformers": partial(theirs, work, length),
    }
    found = compare(candidates, threads=threads, repeats=repeats)
    return {"work": work, "length": length, "candidates": found}


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Time above, memory below, a column for inference and one for training."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(2, len(WORK), sharex="col")
    for column, work in enumerate(WORK):
        line = [point for point in results if point["work"] == work]
        for name, colour in (("minbert", COLOURS[0]), ("transformers", COLOURS[5])):
            x = [point["length"] for point in line]
            for row, key in ((0, "median"), (1, "peak_memory_mb")):
                y = [point["candidates"][name][key] for point in line]
                axes[row, column].plot(x, y, "o-", color=colour, label=name)
        axes[0, column].set_title(work)
        axes[1, column].set_xlabel("tokens in a text")
    for one in axes.flat:
        one.grid(alpha=0.3)
        one.set_ylim(0)
    axes[0, 0].set_ylabel("a text, s")
    axes[1, 0].set_ylabel("peak memory, MB")
    axes[0, 0].legend(frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
