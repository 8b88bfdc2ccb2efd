"""Everything that trains: one encoder shared by the heads of several tasks.

The names below are imported when first used, so that `minbert --help` starts without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multitask.config import ContrastConfig, PretrainConfig, TrainConfig
    from multitask.model import MultitaskModel
    from multitask.predictor import Predictor
    from multitask.training import resume, train

_HOMES = {
    "TrainConfig": "config",
    "MultitaskModel": "model",
    "Predictor": "predictor",
    "ContrastConfig": "config",
    "PretrainConfig": "config",
    "resume": "training",
    "train": "training",
}

__all__ = [
    "ContrastConfig",
    "MultitaskModel",
    "Predictor",
    "PretrainConfig",
    "TrainConfig",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'multitask' has no attribute {name!r}")
    return getattr(importlib.import_module(f"multitask.{_HOMES[name]}"), name)
