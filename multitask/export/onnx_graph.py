"""Encoder and head as an ONNX graph, for onnxruntime.

    input_ids, attention_mask, token_type_ids (rows, tokens) int64 -> logits (rows, L) float32

Both axes take any size. Of classes, two as well, the softmax of the logits is the probabilities; of
a regression the one logit is the number. An encoder without segments has no token_type_ids.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from minbert.files import replacing
from minbert.layouts import Padded
from minbert.quick import route_of
from multitask.linear_head import LinearHeads
from multitask.model import MultitaskModel

OPSET = 17
"""What onnxruntime 1.12 (2022) and all later ones run."""


class Graph(nn.Module):
    """A model for one of its tasks."""

    def __init__(self, model: MultitaskModel, task: str) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        layout = Padded(attention_mask.bool())
        model, heads = self.model, self.model.heads
        with model.encoder.choice.of(self.task):
            output = model.encoder(
                input_ids,
                token_type_ids=token_type_ids,
                layout=layout,
                output_hidden_states=model.mixes_layers,
            )
            pooled = model.pooling(model.mixed(output))
        if isinstance(heads, LinearHeads):
            return heads.logits(pooled, self.task)
        outputs = heads(pooled, self.task)  # (B, K)
        if self.model.tasks[self.task].kind == "binary":
            return torch.cat([torch.zeros_like(outputs), outputs], dim=1)  # σ(x) = softmax([0, x])
        return outputs


def write_graph(path: Path, model: MultitaskModel, task: str) -> None:
    """Write a model's graph for one of its tasks.

    Raises:
        ValueError: the package onnx is not installed.
    """
    if importlib.util.find_spec("onnx") is None:
        raise ValueError("a graph is written by the package onnx: pip install 'minbert[onnx]'")
    ids = _sample(model)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if hasattr(model.encoder.config, "type_vocab_size"):
        inputs["token_type_ids"] = torch.zeros_like(ids)
    axes = {name: {0: "rows", 1: "tokens"} for name in inputs} | {"logits": {0: "rows"}}
    training = model.training
    graph = Graph(model, task).eval()
    with warnings.catch_warnings(), replacing(path) as temporary, torch.no_grad():
        warnings.simplefilter("ignore")  # that checks of the inputs are no part of the graph
        with route_of("plain"), _ViewsForUnflatten():
            torch.onnx.export(
                graph,
                tuple(inputs.values()),
                str(temporary),
                input_names=[*inputs],
                output_names=["logits"],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
    model.train(training)


def _sample(model: MultitaskModel) -> Tensor:
    """Two rows of ids, long enough that local attention is local in what is traced."""
    config = model.encoder.config
    length = min(config.max_positions, getattr(config, "local_attention", 0) // 2 + 8)
    return torch.ones(2, length, dtype=torch.long)


class _ViewsForUnflatten(TorchFunctionMode):
    """Tensor.unflatten as a view: the exporter takes the sizes that unflatten gives for fixed."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is not Tensor.unflatten:
            return func(*args, **(kwargs or {}))
        x, dim, sizes = args
        dim %= x.dim()
        return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])
