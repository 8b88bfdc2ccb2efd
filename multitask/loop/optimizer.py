"""The optimizer's parameter groups: which learning rate and weight decay each parameter has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from multitask.extensions.base import Together
from multitask.runs.checkpoint import trainable
from multitask.settings import OptimizerSettings
from multitask.text_table import table
from multitask.trained_model import TrainedModel
from optim import AdamW, is_bias_or_norm, parameter_groups
from optim.adamw import FUSED_DEVICES


def make_optimizer(settings: OptimizerSettings, model: TrainedModel, extensions: Together) -> AdamW:
    """AdamW as the settings and the extensions want it."""
    return AdamW(
        make_groups(settings, model, extensions),
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        correct_bias=settings.correct_bias,
        fused=settings.optimizer == "fused" and model.device.type in FUSED_DEVICES,
    )


def make_groups(
    settings: OptimizerSettings, model: TrainedModel, extensions: Together
) -> list[dict[str, Any]]:
    """Groups for the optimizer; the extensions' factors of the learning rate multiply."""
    scales = extensions.lr_scale(model)
    return parameter_groups(
        trainable(model).items(),
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        lr_scale=lambda name: scales.get(name, 1.0),
    )


def groups_table(groups: Sequence[dict[str, Any]], model: TrainedModel) -> str:
    """A row for each group: exact rate, weight decay, numbers that it trains, what it holds."""
    part_of, order = model.part_of(), [part for part, _ in model.depths()]
    header = ["holds", "of", "learning rate", "weight decay", "parameters"]
    rows = []
    for group in groups:
        found = {part_of[name] for name in group["names"]}
        items = zip(group["names"], group["params"], strict=True)
        kinds = sorted({is_bias_or_norm(name, param) for name, param in items})
        rows.append(
            [
                ", ".join(_ranges([part for part in order if part in found], order)),
                ["matrices", "biases and norms"][kinds[0]] if len(kinds) == 1 else "all",
                f"{group['lr']:.10g}",
                f"{group['weight_decay']:.10g}",
                f"{sum(param.numel() for param in group['params']):,}",
            ]
        )
    trained = sum(param.numel() for group in groups for param in group["params"])
    everything = sum(param.numel() for param in model.parameters())
    return f"{table(header, rows)}\n{trained:,} of {everything:,} parameters are trained"


def _ranges(parts: list[str], order: list[str]) -> list[str]:
    """Parts in a few words: layer 1, layer 2, layer 3 as "layer 1 to layer 3"."""
    runs: list[list[str]] = []
    for part in parts:
        if runs and order.index(part) == order.index(runs[-1][-1]) + 1:
            runs[-1].append(part)
        else:
            runs.append([part])
    return [run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
