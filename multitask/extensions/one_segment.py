"""Pairs without segment ids: both texts of a pair have segment 0.

BERT was pre-trained with segment 0 for the first text and 1 for the second (arXiv:1810.04805,
section 3.2). Leaving that out is a common mistake, here made on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from multitask.extensions.base import Extension, register

if TYPE_CHECKING:
    from multitask.trained_model import TrainedModel


@register("one_segment")
@dataclass(frozen=True, kw_only=True)
class OneSegment(Extension):
    """Segment id 0 for both texts of a pair."""

    def prepare(self, model: TrainedModel) -> None:
        model.encoder.register_forward_pre_hook(_without_segments, with_kwargs=True)


def _without_segments(
    encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if kwargs.get("token_type_ids") is not None:
        kwargs["token_type_ids"] = torch.zeros_like(kwargs["token_type_ids"])
    return args, kwargs
