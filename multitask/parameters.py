"""How many parameters train: of a model, and of each method of fine-tuning."""

from __future__ import annotations

from collections import Counter

from torch import nn

from minbert.backbones import find_backbone
from minbert.costs import NUMBER, training_bytes
from minbert.loading import empty_encoder
from multitask.config import TrainConfig
from multitask.extensions.base import Extension
from multitask.extensions.bitfit import BitFit
from multitask.extensions.bottleneck import Bottleneck
from multitask.extensions.ia3 import IA3
from multitask.extensions.lora import LoRA
from multitask.extensions.pal import Pal
from multitask.extensions.prefix import Prefix
from multitask.model import MultitaskModel
from multitask.text_table import table

METHODS: dict[str, tuple[Extension, ...]] = {
    "": (),
    "--lora.targets all": (LoRA(targets=("all",)),),
    "--use lora": (LoRA(),),
    "--lora.dora": (LoRA(dora=True),),
    "--lora.rank 4": (LoRA(rank=4),),
    "--lora.rank 1": (LoRA(rank=1),),
    "--lora.targets query value": (LoRA(targets=("query", "value")),),
    "--use bitfit": (BitFit(),),
    "--bitfit.roles query feed_forward_inner": (BitFit(roles=("query", "feed_forward_inner")),),
    "--use ia3": (IA3(),),
    "--bottleneck.kind houlsby": (Bottleneck(kind="houlsby"),),
    "--use bottleneck": (Bottleneck(),),
    "--bottleneck.size 16": (Bottleneck(size=16),),
    "--use pal": (Pal(),),
    "--pal.frozen": (Pal(frozen=True),),
    "--use prefix": (Prefix(),),
    "--frozen": (),
}
"""Flags of minbert train -> the extensions that they use."""


def trainable_parameters(model: nn.Module) -> dict[str, int]:
    """Part of a model or encoder -> its trainable parameters: embeddings, layers, ..., heads."""
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        part = name.removeprefix("encoder.").partition(".")[0]
        counts[part] += parameter.numel() if parameter.requires_grad else 0
    return dict(counts)


def methods_table(backbone: str) -> str:
    """What each method trains of a backbone, how large that is in a file of float32, and what
    training keeps in memory beside activations: weights, gradients and AdamW's moments."""
    folder = find_backbone(backbone)
    whole = sum(parameter.numel() for parameter in empty_encoder(folder).parameters())
    parts = list(trainable_parameters(empty_encoder(folder)))
    rows, notes = [], []
    for flags, extensions in METHODS.items():
        encoder = empty_encoder(folder)
        encoder.requires_grad_(flags != "--frozen")
        config = TrainConfig(tasks=("sst",), extensions=extensions)
        try:
            model = MultitaskModel.from_config(config, encoder)
        except ValueError as error:  # such as BitFit of an encoder without biases
            notes.append(f"{flags}: {error}")
            continue
        counts = trainable_parameters(model.encoder)
        total = sum(counts.values())
        cells = [*(counts[part] for part in parts), total]
        everything = sum(parameter.numel() for parameter in model.encoder.parameters())
        shares = [f"{100 * total / whole:.2f} %", f"{NUMBER * total / 1e6:.2f}"]
        shares.append(f"{training_bytes(everything, total) / 1e6:.0f}")
        rows.append([flags or "(no flag)", *(f"{count:,}" for count in cells), *shares])
    header = ["flags of minbert train", *parts, "in all", "of the encoder", "MB", "MB to train"]
    last = "and the heads; bottleneck, pal and prefix have so many for each task"
    return "\n".join([table(header, rows), last, *notes])
