"""What is measured: each workload with its candidates, ours and the alternatives.

A candidate is a function that gets ready (loads, tokenizes) and returns the work to be timed, a
function without arguments. Each runs in a process of its own: see benchmarks/measure.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.inference import (
    onnx_encode,
    ours_embed,
    ours_encode,
    sentence_transformers_embed,
    torch_encode,
    transformers_encode,
)
from benchmarks.rows import Data, Work
from benchmarks.train_speed import STEPS, ours_lora, ours_train, peft_lora, transformers_train

ROWS = 640
"""Rows of a workload at inference: 20 batches of 32."""


@dataclass(frozen=True)
class Workload:
    """One row of the table. The first candidate is ours, the second what it is compared with."""

    name: str
    task: str
    candidates: dict[str, Callable[[Data], Work]]
    size: str = "minilm"
    """minilm, or base: bert-base's sizes with random weights."""
    passes: int = 1
    """What counts as useful work: see `useful_flops`."""
    rows: int = ROWS
    length: int | None = None
    """Tokens of every row, where rows are made equally long."""


def _inference(task: str) -> Workload:
    return Workload(
        f"inference, {task.upper()}",
        task,
        {
            "minbert": ours_encode,
            "transformers": transformers_encode,
            "minbert, sorted": partial(ours_encode, ordered=True),
            "transformers, sorted": partial(transformers_encode, ordered=True),
            "transformers, eager": partial(transformers_encode, attention="eager"),
            "onnxruntime, sorted": onnx_encode,
            "torch.nn.TransformerEncoder": torch_encode,
        },
    )


def _inference_in_bf16(task: str) -> Workload:
    low = torch.bfloat16
    return Workload(
        f"inference in bfloat16, {task.upper()}",
        task,
        {
            "minbert, sorted": partial(ours_encode, ordered=True, precision="bf16"),
            "transformers, sorted": partial(transformers_encode, ordered=True, dtype=low),
        },
    )


def _inference_of_base(task: str) -> Workload:
    return Workload(
        f"inference, {task.upper()}, bert-base",
        task,
        {
            "minbert": ours_encode,
            "transformers": transformers_encode,
            "minbert, sorted": partial(ours_encode, ordered=True),
            "transformers, sorted": partial(transformers_encode, ordered=True),
        },
        size="base",
        rows=160,
    )


def _training(size: int) -> Workload:
    return Workload(
        f"training, SST, batches of {size}",
        "sst",
        {
            "minbert": partial(ours_train, size=size),
            "transformers": partial(transformers_train, size=size),
            "minbert, bucketed": partial(ours_train, size=size, ordered=True),
            "transformers, bucketed, fused": partial(
                transformers_train, size=size, ordered=True, fused=True
            ),
        },
        passes=3,
        rows=STEPS * size,
    )


WORKLOADS = [
    _inference("sst"),
    _inference("sts"),
    _inference("para"),
    _inference_in_bf16("sst"),
    Workload(
        "text to embeddings, SST",
        "sst",
        {"minbert": ours_embed, "sentence-transformers": sentence_transformers_embed},
    ),
    _training(16),
    _training(32),
    Workload(
        "training in bfloat16, SST, batches of 32",
        "sst",
        {
            "minbert, bucketed": partial(ours_train, ordered=True, precision="bf16"),
            "transformers": transformers_train,
            "transformers in bfloat16, bucketed, fused": partial(
                transformers_train, ordered=True, fused=True, precision="bf16"
            ),
        },
        passes=3,
        rows=STEPS * 32,
    ),
    Workload(
        "LoRA of rank 8, SST, batches of 16",
        "sst",
        {
            "minbert": ours_lora,
            "peft": peft_lora,
            "minbert, bucketed": partial(ours_lora, ordered=True),
            "peft, bucketed, fused": partial(peft_lora, ordered=True, fused=True),
        },
        passes=2,
        rows=STEPS * 16,
    ),
    _inference_of_base("sst"),
    _inference_of_base("sts"),
    Workload(
        "training, bert-base, 16 rows of 128 tokens",
        "sst",
        {
            "minbert": partial(ours_train, size=16),
            "transformers": partial(transformers_train, size=16),
            "transformers, fused": partial(transformers_train, size=16, fused=True),
        },
        size="base",
        passes=3,
        rows=2 * 16,
        length=128,
    ),
]
