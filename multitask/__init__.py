"""Everything that trains: one encoder shared by the heads of several tasks.

The names below are imported when first used, so that `minbert --help` starts without torch.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
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


def _check_neighbours() -> None:
    """Raise ImportError where another module stands in the place of a package of this library, as
    a data.py in the working folder does in a notebook."""
    for name in ("minbert", "optim", "data"):
        spec = find_spec(name)
        found = spec.origin if spec else None
        wanted = Path(__file__).resolve().parent.parent / name / "__init__.py"
        if found is None or Path(found).resolve() != wanted:
            raise ImportError(
                f"{found or 'nothing'} is found where the package {name} should be, which "
                "multitask needs; rename that file, or start Python in another folder"
            )


if sys.argv[:1] != ["-m"]:  # python -m multitask: its __main__.py puts the library's folder first
    _check_neighbours()
