"""From a pooled vector to a task's answer, and to its loss.

    pooled (B, F) -> dropout -> shared Linear(F, 256) -> GELU -> dropout -> Linear(256, K) a task

With --head-layers N there are N of the shared maps, each with dropout before and GELU after.

B rows, H hidden size of the encoder, F features (H, or 3 H for two embeddings), K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.tasks import Task
from minbert import embedding
from minbert.encoder import EncoderOutput


def _pooler(output: EncoderOutput) -> Tensor:
    if output.pooler_output is None:
        raise ValueError("this encoder has no pooler; choose pooling cls, mean or max")
    return output.pooler_output


POOLINGS: dict[str, Callable[[EncoderOutput], Tensor]] = {
    "pooler": _pooler,
    **embedding.POOLINGS,
}
"""Name -> one vector (B, H) for each sequence."""


def compare_concat(u: Tensor, v: Tensor) -> Tensor:
    """[u; v; |u - v|], (B, 3 H): Reimers & Gurevych (2019), arXiv:1908.10084."""
    return torch.cat([u, v, (u - v).abs()], dim=-1)


def compare_cosine(u: Tensor, v: Tensor) -> Tensor:
    """cos(u, v) = u·v / (|u| |v|), (B, 1)."""
    return F.cosine_similarity(u, v, dim=-1).unsqueeze(-1)


def pair_kinds(tasks: Sequence[Task], pair: str, pair_of: Mapping[str, str]) -> dict[str, str]:
    """How each task of pairs reads them: `pair`, or what `pair_of` has for it."""
    return {task.name: pair_of.get(task.name, pair) for task in tasks if task.is_pair}


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "tanh": torch.tanh,
}
"""Nonlinearity after each shared layer of the heads."""


class Stack(nn.Module):
    """Linear maps of which all but the first have activation and dropout before them."""

    def __init__(
        self, layers: Sequence[nn.Linear], activation: Callable[[Tensor], Tensor], dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.activation, self.dropout = activation, nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.layers
        x = first(x)
        for layer in others:
            x = layer(self.dropout(self.activation(x)))
        return x  # (B, 256)


class Heads(nn.Module):
    """One linear map a task on features that all tasks share."""

    def __init__(
        self,
        tasks: Sequence[Task],
        hidden_size: int,
        *,
        pair: str = "cross",
        pair_of: Mapping[str, str] = MappingProxyType({}),
        head_size: int = 256,
        layers: int = 1,
        activation: str = "gelu",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.tasks = {task.name: task for task in tasks}
        self.activation = act = ACTIVATIONS[activation]
        kinds = pair_kinds(tasks, pair, pair_of)
        # Two embeddings side by side are wider than one, so these tasks have a layer of their own.
        self.paired = {name for name, kind in kinds.items() if kind == "concat"}
        widths = {"single": hidden_size}
        if self.paired:
            widths["pair"] = 3 * hidden_size
        self.shared = nn.ModuleDict()
        for name, width in widths.items():
            sizes = [width, *[head_size] * layers]
            maps = [nn.Linear(size, after) for size, after in pairwise(sizes)]
            self.shared[name] = maps[0] if layers == 1 else Stack(maps, act, dropout)
        self.dropout = nn.Dropout(dropout)
        self.outputs = nn.ModuleDict()
        for task in tasks:
            if kinds.get(task.name) == "cosine":
                self.outputs[task.name] = CosineOutput(task)
            elif task.unit is not None:
                self.outputs[task.name] = RangeOutput(head_size, task)
            else:
                self.outputs[task.name] = nn.Linear(head_size, task.num_outputs)

    def forward(self, features: Tensor, task: str) -> Tensor:
        """Features (B, F) to the task's outputs (B, K): logits, or the number of a regression."""
        output = self.outputs[task]
        if isinstance(output, CosineOutput):
            return output(features)
        shared = self.shared["pair" if task in self.paired else "single"]
        x = self.activation(shared(self.dropout(features)))  # (B, 256)
        return output(self.dropout(x))  # (B, K)


class CosineOutput(nn.Module):
    """scale · cos + shift: at first the label's range for a regression, else 10 cos - 5."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        low, high = task.label_range if task.kind == "regression" else (-5.0, 5.0)
        self.scale = nn.Parameter(torch.tensor([high - low]))  # (1,): no scalar can be sharded
        self.shift = nn.Parameter(torch.tensor([low]))

    def forward(self, cosine: Tensor) -> Tensor:
        return self.scale * cosine + self.shift  # (B, 1)


class RangeOutput(nn.Linear):
    """A linear map in a regression's own unit: its 0 is the middle of the range."""

    def __init__(self, head_size: int, task: Task) -> None:
        super().__init__(head_size, task.num_outputs)
        self.middle, self.unit = sum(task.label_range) / 2, task.unit or 1.0

    def forward(self, input: Tensor) -> Tensor:
        return self.middle + self.unit * super().forward(input)  # (B, 1)


def row_losses(task: Task, outputs: Tensor, labels: Tensor) -> Tensor:
    """The task's loss of each row (or masked token), (B,).

    classes, tokens: -log softmax(outputs)[label]; binary: -log σ(output) or -log(1 - σ(output));
    regression: (output - label)²; labels, of which several may hold: the mean over the K of them of
    what a binary task has.

    Args:
        task: says the kind.
        outputs: (B, K).
        labels: (B,), or (B, K) of 0 and 1 for the kind labels.
    """
    if task.kind in ("classes", "tokens"):
        return F.cross_entropy(outputs.float(), labels.long(), reduction="none")
    if task.kind == "labels":
        each = F.binary_cross_entropy_with_logits(outputs.float(), labels, reduction="none")
        return each.mean(dim=-1)  # (B, K) -> (B,)
    outputs = outputs.float().squeeze(-1)
    if task.kind == "binary":
        return F.binary_cross_entropy_with_logits(outputs, labels, reduction="none")
    # In a unit of the task's own; those that come along have none.
    return F.mse_loss(outputs, labels, reduction="none") / (task.unit or 1) ** 2


def divergences(task: Task, a: Tensor, b: Tensor) -> Tensor:
    """How far two outputs are apart for each row (or masked token), (B,); 0 where they agree.

    classes, tokens: KL(p‖q) + KL(q‖p) of p = softmax(a), q = softmax(b), which is the sum over
    classes of (p - q) (a - b), for what softmax subtracts from a and b is the same in every class;
    binary: the same of σ(a) and σ(b); labels: their mean over the K; regression: (a - b)².

    Args:
        task: says the kind.
        a, b: (B, K) outputs.
    """
    a, b = a.float(), b.float()
    if task.kind in ("classes", "tokens"):
        return ((a.softmax(dim=-1) - b.softmax(dim=-1)) * (a - b)).sum(dim=-1)
    if task.kind in ("binary", "labels"):
        return ((a.sigmoid() - b.sigmoid()) * (a - b)).mean(dim=-1)
    return (a - b).square().squeeze(-1) / (task.unit or 1) ** 2


def answers(task: Task, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
    """What outputs (B, K) say: the class or number of each row, and the classes' probabilities.

    Returns:
        (B,) answers, or (B, K) of 0 and 1 for the kind labels; and (B, classes) probabilities, or
        None for a regression or for tokens.
    """
    if task.kind == "tokens":
        return outputs.argmax(dim=-1), None
    if task.kind == "regression":
        return outputs.float().squeeze(-1), None
    if task.kind == "labels":
        probabilities = outputs.float().sigmoid()
        return (probabilities > 0.5).long(), probabilities
    if task.kind == "classes":
        probabilities = outputs.float().softmax(dim=-1)
    else:
        yes = outputs.float().sigmoid()
        probabilities = torch.cat([1 - yes, yes], dim=-1)
    return probabilities.argmax(dim=-1), probabilities
