"""Inference on a GPU in bfloat16: texts to embeddings, tokenizing included, and one long text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import length
from benchmarks.gpu import timed
from benchmarks.rows import chunks, their_tokenizer

BATCH = 256
"""Texts that go through at once, where a library wants to be told."""


def ours_embed(folder: Path, texts: Sequence[str], device: str) -> float:
    """Seconds of minbert's `embed` as it comes: 16 bits, and batches by the GPU's memory."""
    from minbert import embed, load_backbone

    backbone = load_backbone(folder)
    backbone.encoder.to(device)
    return timed(device, lambda: embed(backbone, texts))


def theirs_embed(folder: Path, texts: Sequence[str], device: str) -> float:
    """Seconds of sentence-transformers' `encode`."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device=device).bfloat16()
    encode = partial(
        model.encode,
        list(texts),
        batch_size=BATCH,
        normalize_embeddings=True,
        convert_to_numpy=False,
        convert_to_tensor=True,
        show_progress_bar=False,
    )
    return timed(device, encode)


def transformers_embed(folder: Path, texts: Sequence[str], device: str) -> float:
    """Seconds of transformers' model with batches of texts of about equal length."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16).to(device).eval()
    tokenizer = their_tokenizer(folder)

    @torch.inference_mode()
    def embed() -> None:
        for part in chunks(sorted(texts, key=len), BATCH):
            inputs = tokenizer(
                list(part), padding=True, truncation=True, max_length=256, return_tensors="pt"
            ).to(device)
            states = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1)
            mean = (states * mask).sum(dim=1) / mask.sum(dim=1)
            torch.nn.functional.normalize(mean, dim=-1)

    return timed(device, embed)


def long_text(candidate: str, work: str, tokens: int, layers: int, device: str) -> float:
    """Seconds of a forward pass, or of one with its gradients, of one long text in bfloat16."""
    make = {"minbert": length.ours, "transformers": length.theirs}[candidate]
    point = {"work": work, "length": tokens, "layers": layers}
    with torch.device(device):
        act: Callable[[], Any] = make(point)
    with torch.autocast(device, torch.bfloat16):
        return timed(device, act, warm_up=3, repeats=5)
