"""Candidates of training: some optimizer steps from the pretrained weights."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch

from benchmarks.rows import Data, Work, chunks, their_tokenizer

if TYPE_CHECKING:
    from minbert.tokenization import Tokenizer
    from multitask.model import MultitaskModel

STEPS = 20
"""Optimizer steps that are timed."""


def _step_batches(data: Data, size: int, ordered: bool) -> list[list[int]]:
    """Row numbers of each step: random rows, or rows of similar length in a random order."""
    draw = random.Random(0)
    rows = list(range(len(data.texts)))
    draw.shuffle(rows)
    if ordered:
        rows.sort(key=lambda row: len(" ".join(data.texts[row])))
    batches = [list(part) for part in chunks(rows, size)]
    draw.shuffle(batches)
    return batches[:STEPS]


def ours_train(
    data: Data, *, size: int = 32, ordered: bool = False, precision: str = "fp32"
) -> Work:
    from data.tasks import get_task
    from minbert import load_backbone
    from multitask.model import MultitaskModel

    backbone = load_backbone(data.folder, fresh=("pooler",))
    model = MultitaskModel(backbone.encoder, [get_task("sst")])
    return _our_steps(data, model, backbone.tokenizer, size, ordered, precision)


def ours_lora(data: Data, *, size: int = 16, ordered: bool = False) -> Work:
    """Rank 8 on queries and values, and the head."""
    from data.tasks import get_task
    from minbert import load_backbone
    from minbert.adapters import LoRASettings, add_lora
    from multitask.model import MultitaskModel

    backbone = load_backbone(data.folder, fresh=("pooler",))
    add_lora(backbone.encoder, LoRASettings(rank=8, targets=("query", "value")))
    model = MultitaskModel(backbone.encoder, [get_task("sst")])
    return _our_steps(data, model, backbone.tokenizer, size, ordered, "fp32")


def _our_steps(
    data: Data,
    model: MultitaskModel,
    tokenizer: Tokenizer,
    size: int,
    ordered: bool,
    precision: str,
) -> Work:
    from data.batching import EncodedRows
    from data.readers import Example
    from minbert.inference import autocast
    from minbert.quick import keep_freed_memory
    from multitask.heads import row_losses
    from optim import AdamW, parameter_groups

    keep_freed_memory()
    model.train()
    task = model.tasks["sst"]
    groups = parameter_groups(model.named_parameters(), lr=5e-5, weight_decay=0.01)
    optimizer = AdamW(groups, lr=5e-5, fused=True)
    examples = [
        Example(str(n), texts, label)
        for n, (texts, label) in enumerate(zip(data.texts, data.labels, strict=True))
    ]
    source = EncodedRows(examples, tokenizer, pair="cross", max_length=data.max_length)
    batches = _step_batches(data, size, ordered)

    def work() -> None:
        for rows in batches:
            batch = source.batch(rows)
            optimizer.zero_grad(set_to_none=True)
            with autocast(model.device, precision):
                outputs = model(batch, "sst")
            assert batch.labels is not None
            (row_losses(task, outputs, batch.labels).sum() / len(rows)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return work


def transformers_train(
    data: Data,
    *,
    size: int = 32,
    ordered: bool = False,
    fused: bool = False,
    precision: str = "fp32",
) -> Work:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(data.folder, num_labels=5)
    return _their_steps(data, model, size, ordered, fused, precision)


def peft_lora(data: Data, *, size: int = 16, ordered: bool = False, fused: bool = False) -> Work:
    """Rank 8 on queries and values, and the head, as peft does it."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(data.folder, num_labels=5)
    settings = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, target_modules=["query", "value"]
    )
    return _their_steps(data, get_peft_model(model, settings), size, ordered, fused, "fp32")


def _their_steps(
    data: Data,
    model: torch.nn.Module,
    size: int,
    ordered: bool,
    fused: bool,
    precision: str,
) -> Work:
    model.train()
    tokenizer = their_tokenizer(data.folder)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-5, weight_decay=0.01, fused=fused)
    batches = []
    for rows in _step_batches(data, size, ordered):
        texts = map(list, zip(*(data.texts[row] for row in rows)))
        encoded = tokenizer(
            *texts, padding=True, truncation=True, max_length=data.max_length, return_tensors="pt"
        )
        labels = torch.tensor([int(data.labels[row]) for row in rows])
        batches.append({**encoded, "labels": labels})

    def work() -> None:
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()

    return work
