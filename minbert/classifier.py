"""A sequence-classification head in a checkpoint, as transformers writes it beside an encoder.

The tensors begin with "classifier."; what the outputs mean is in config.json. An encoder here has
no such head: it is read to be taken by one (multitask/linear_head.py), and written from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

PREFIX = "classifier."
SUFFIX = "ForSequenceClassification"
"""How transformers' classes with such a head end; others have tensors of the same names."""


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A head's tensors and labels."""

    tensors: Mapping[str, Tensor]
    """By transformers' names, from "classifier." on."""
    labels: tuple[str, ...]
    """What each output is called; of a regression, its one number."""
    problem: str
    """config.json's problem_type."""

    @property
    def has_names(self) -> bool:
        """Whether the labels are more than LABEL_0, LABEL_1, ..., which stand for none."""
        return not all(re.fullmatch(r"LABEL_\d+", label) for label in self.labels)

    def to_hub(self) -> dict[str, Any]:
        """What config.json says of it."""
        return {
            "id2label": {str(number): label for number, label in enumerate(self.labels)},
            "label2id": {label: number for number, label in enumerate(self.labels)},
            "problem_type": self.problem,
        }


def classifier_in(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Classifier | None:
    """The head of a checkpoint, if it has one, and config.json names its outputs or none at all.

    Args:
        settings: config.json.
        tensors: of the weight files, without the encoder's prefix.
    """
    architectures = settings.get("architectures") or []
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    if not own or not any(str(name).endswith(SUFFIX) for name in architectures):
        return None
    sizes = [own[n].size(0) for n in (f"{PREFIX}out_proj.bias", f"{PREFIX}bias") if n in own]
    count = sizes[0] if sizes else 0
    names = settings.get("id2label")
    if names is None:
        names = {str(number): f"LABEL_{number}" for number in range(count)}
    if not isinstance(names, dict) or set(names) != {str(number) for number in range(count)}:
        return None
    labels = tuple(str(names[str(number)]) for number in range(count))
    usual = "regression" if count == 1 else "single_label_classification"
    problem = settings.get("problem_type") or usual
    return Classifier(tensors=own, labels=labels, problem=str(problem))
