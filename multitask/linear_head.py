"""The classification head that transformers puts on each encoder, one for each task.

    BERT        pooled (B, H) -> dropout -> Linear(H, L)
    ConvBERT    [CLS] (B, H) -> dropout -> Linear(H, H) -> GELU -> dropout -> Linear(H, L)
    ModernBERT  pooled (B, H) -> dropout -> Linear(H, L)

The poolers are the encoders' own: BERT's tanh of a linear map of [CLS], ModernBERT's prediction
head on [CLS] or the mean, whichever its config says. Parameters have transformers' names, so that
a checkpoint's head can be taken and a trained one handed on: multitask/export.

B rows, H hidden size of the encoder, L labels: the classes, or one number of a regression.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from data.tasks import Task
from minbert.classifier import PREFIX, Classifier
from minbert.encoder import Encoder

PROBLEMS = {
    "regression": "regression",
    "labels": "multi_label_classification",
    "classes": "single_label_classification",
    "binary": "single_label_classification",
}
"""Kind of a task -> its problem_type in config.json of transformers."""


class LinearHeads(nn.Module):
    """One classification head a task."""

    def __init__(self, tasks: Sequence[Task], encoder: Encoder, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.tasks = {task.name: task for task in tasks}
        self.classifiers = nn.ModuleDict()
        for task in tasks:
            if encoder.name == "convbert":
                head = ConvBertHead(encoder.config.hidden_size, num_labels(task), dropout)
            else:
                head = DropoutLinear(encoder.config.hidden_size, num_labels(task), dropout)
            head.apply(lambda module: initialise(module, encoder))
            self.classifiers[task.name] = head

    def logits(self, features: Tensor, task: str) -> Tensor:
        """Pooled vectors (B, H) to (B, L), as transformers' classes give them."""
        middle, unit = scale_of(self.tasks[task])
        logits = self.classifiers[task](features)
        return logits if unit == 1 and middle == 0 else middle + unit * logits

    def forward(self, features: Tensor, task: str) -> Tensor:
        """Pooled vectors (B, H) to the task's outputs (B, K).

        Of two classes that is the difference of their logits, (B, 1): its sigmoid is the softmax's
        probability of the second one, so that losses, gradients and answers are the same.
        """
        logits = self.logits(features, task)
        if self.tasks[task].kind == "binary":
            return logits[:, 1:] - logits[:, :1]
        return logits


class DropoutLinear(nn.Linear):
    """BERT's head, and ModernBERT's."""

    def __init__(self, hidden_size: int, labels: int, dropout: float) -> None:
        super().__init__(hidden_size, labels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(self.dropout(input))  # (B, L)


class ConvBertHead(nn.Module):
    """ConvBERT's head, which has a layer of its own in the place of a pooler."""

    def __init__(self, hidden_size: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(hidden_size, labels)

    def forward(self, first: Tensor) -> Tensor:
        x = F.gelu(self.dense(self.dropout(first)))  # (B, H)
        return self.out_proj(self.dropout(x))  # (B, L)


def num_labels(task: Task) -> int:
    """L, how many labels a task has: transformers has an output for each of two classes."""
    return len(task.classes) or 1


def initialise(module: nn.Module, encoder: Encoder) -> None:
    """Give a linear map of a head its values before training, as transformers does."""
    if not isinstance(module, nn.Linear):
        return
    encoder.initialise(module)
    nn.init.zeros_(module.bias)
    stds = getattr(encoder.config, "initializer_cutoff", None)
    if stds is not None:  # ModernBERT, whose values are cut off at so many standard deviations
        std = encoder.config.hidden_size**-0.5
        cutoff = stds * std
        nn.init.trunc_normal_(module.weight, std=std, a=-cutoff, b=cutoff)


def scale_of(task: Task) -> tuple[float, float]:
    """What a regression's output 0 and 1 are: the middle of its range and its unit, if it has one
    of its own. transformers' classes have no such thing: there it is in the last linear map."""
    return (0.0, 1.0) if task.unit is None else (sum(task.label_range) / 2, task.unit)


LAST = ("weight", "bias", "out_proj.weight", "out_proj.bias")
"""The parameters of a head's last linear map."""


def classifier_of(task: Task, head: nn.Module | None = None) -> Classifier:
    """A task's head as transformers writes it; without one, its labels alone."""
    own = {name: p.detach().cpu() for name, p in head.named_parameters()} if head else {}
    middle, unit = scale_of(task)
    for name in own.keys() & set(LAST) if unit != 1 or middle else ():
        own[name] = unit * own[name] + (middle if name.endswith("bias") else 0)
    return Classifier(
        tensors={f"{PREFIX}{name}": tensor for name, tensor in own.items()},
        labels=task.classes or (task.name,),
        problem=PROBLEMS[task.kind],
    )
