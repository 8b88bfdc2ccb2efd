"""What the handouts give, as the checks meet it: configs, modules by their names, other parts."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn

from lab.harness import Draw, mark_dropouts, marked_dropout
from lab.planting import planted
from lab.runner import is_installed
from lab.source import Target

Load = Callable[[str], Any]
"""Gives a module of the checkout, or what stands for it in the reference, by its name."""


class NotHere(Exception):
    """A part is not there under its name, or is built otherwise than the handout's."""


class Skipped:
    """Comes in the place of a value that this version of a handout cannot give."""


class Config(SimpleNamespace):
    """Options of a model; one that the handout has not is said to be that."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"config.{name} is asked for, which the handout's config has not")


def bert_config(**changes: Any) -> Config:
    """A BERT of three tiny layers."""
    sizes: dict[str, Any] = {
        "vocab_size": 11,
        "hidden_size": 12,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 7,
        "max_position_embeddings": 9,
        "type_vocab_size": 2,
        "layer_norm_eps": 0.1,
        "hidden_dropout_prob": marked_dropout().p,
        "attention_probs_dropout_prob": marked_dropout().p,
        "hidden_act": "gelu",
        "initializer_range": 0.02,
        "pad_token_id": 0,
        "name_or_path": "",
    }
    return Config(**{**sizes, **changes})


def member(module: Any, name: str) -> Any:
    """A class, or a function of one, by its dotted name.

    Raises:
        NotHere: there is none of this name.
    """
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise NotHere(f"there is no {name}")
    return found


def built(cls: type[nn.Module], config: Config) -> Any:
    """A module of a checkout.

    Raises:
        NotHere: it cannot be made as the handout makes it.
    """
    try:
        return cls(config)
    except (NotImplementedError, NotHere):
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [f for f in frames[1:] if not is_installed(Path(f.filename))]
        raised = (theirs or frames)[-1]
        where = f"{Path(raised.filename).name}:{raised.lineno}"
        raise NotHere(
            f"{cls.__name__} cannot be made as the handout makes it: {type(error).__name__} at "
            f"{where}: {error}"
        ) from error


def prepared(draw: Draw, right: type[nn.Module], cls: type[nn.Module]) -> Any:
    """A module of a checkout with seeded values, each by its name, and marked dropouts.

    What it has beside the handout's parameters keeps its first values: there a part that is added
    does nothing yet, as a rule.

    Raises:
        NotHere: a parameter that weights are loaded into has another name.
    """
    module, seed = built(cls, bert_config()), draw.random.randrange(2**32)
    found = dict(module.named_parameters())
    for name, parameter in right(bert_config()).named_parameters():
        if name not in found or found[name].shape != parameter.shape:
            raise NotHere(
                f"{cls.__name__} has no {name} of shape {tuple(parameter.shape)}, by which name "
                "pretrained weights are loaded"
            )
        values = 0.5 * Draw(seed, name).normal(*parameter.shape)
        found[name].data = values + ("norm" in name and name.endswith("weight"))
    return mark_dropouts(module)


@contextmanager
def supplied(load: Load, reference: Any, *names: str) -> Generator[None]:
    """Put right functions in the place of a checkout's, where their arguments are the handout's."""
    module = load("bert")
    with ExitStack() as stack:
        for name in names:
            cls, function = name.split(".")
            own = vars(getattr(module, cls, object)).get(function)
            right = vars(getattr(reference, cls))[function]
            if own is not None and _arguments(own) == _arguments(right):
                stack.enter_context(planted(Target(module.__name__, name), right))
        yield


def _arguments(function: Any) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []
