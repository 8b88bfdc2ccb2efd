"""Where the published code and the published text disagree, one by one.

The preset `corrected` does what the text says; `as-published` does what the code did, which is all
eight of these; and `--deviations NAME ...` does some of them, to show the price of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from multitask.config import AnyConfig, PretrainConfig, RunConfig, TrainConfig
from multitask.extensions.lora import LoRA
from multitask.extensions.loss_weights import LossWeights
from multitask.extensions.one_segment import OneSegment
from multitask.extensions.sampling import Sampling


@dataclass(frozen=True)
class Place:
    """Where a config stands in the study."""

    row: str
    task: str
    """The task that the row is fine-tuned on at its end."""
    config: Any


@dataclass(frozen=True)
class Deviation:
    """One choice of the published code that its text does not say."""

    number: int
    name: str
    title: str
    touches: str
    """Which rows, in words."""
    applies: Callable[[Place], bool]
    changes: Callable[[Place], dict[str, Any]]
    """The settings that it changes in a config."""


def with_extension(config: RunConfig, *new: Any) -> dict[str, Any]:
    """The config's extensions, with these in the place of others of their kind."""
    names = {extension.name for extension in new}
    kept = [extension for extension in config.extensions if extension.name not in names]
    return {"extensions": (*kept, *new)}


def _pretrains(place: Place) -> bool:
    return isinstance(place.config, PretrainConfig)


def _is_multitask(place: Place) -> bool:
    return isinstance(place.config, TrainConfig) and len(place.config.tasks) > 1


def _lora_of(config: RunConfig) -> LoRA | None:
    return next((e for e in config.extensions if isinstance(e, LoRA)), None)


DOUBLY_DIVIDED = ("para", "sts", "cola")
EPOCHS = {"frozen": 2.0, "lora": 2.0, "mlm": 1.5}
"""Beginning of a row's id -> its epochs in units of the others'."""
BATCHES = {"sst": 64, "para": 32, "sts": 16, "cola": 8}


def _epochs_and_batch(place: Place) -> dict[str, Any]:
    factor = next((f for start, f in EPOCHS.items() if place.row.startswith(start)), 1.0)
    epochs = max(1, round(factor * place.config.epochs))
    return {"epochs": epochs, "batch_size": BATCHES[place.task]}


def _divided_twice(place: Place) -> dict[str, Any]:
    config = place.config
    weights = {name: 1 / config.batch_size for name in config.tasks if name in DOUBLY_DIVIDED}
    return with_extension(config, LossWeights(weights=weights))


def _lora_everywhere(place: Place) -> dict[str, Any]:
    lora = _lora_of(place.config)
    assert lora is not None
    return with_extension(place.config, replace(lora, targets=("all",), alpha=1.0))


DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        6, "uneven-runs",
        "epochs (10 to 20) and batch sizes (8 to 64) differ by run",
        "every fine-tuning on one task",
        lambda place: not _pretrains(place) and not _is_multitask(place),
        _epochs_and_batch,
    ),
    Deviation(
        1, "slow-lora",
        "LoRA after MLM trains at 1e-5, not at 1e-3",
        "mlm15-task+lora-4",
        lambda place: place.row == "mlm15-task+lora-4" and _lora_of(place.config) is not None,
        lambda place: {"lr": place.config.lr / 100},
    ),
    Deviation(
        2, "cola-left-out",
        "the draw of multitask training never comes upon CoLA, being off by one",
        "every row with multitask training that draws tasks",
        lambda place: _is_multitask(place) and not any(e.chooses for e in place.config.extensions),
        lambda place: with_extension(place.config, Sampling(leave_out="cola")),
    ),
    Deviation(
        3, "sts-for-cola",
        "pre-training on CoLA's text reads the sentences of STS",
        "CoLA in rows with MLM on the task's text",
        lambda place: _pretrains(place) and place.config.tasks == ("cola",),
        lambda place: {"tasks": ("sts",)},
    ),
    Deviation(
        4, "masks-alone",
        "every chosen token becomes [MASK]: 100/0/0, not 80/10/10",
        "every row with MLM",
        _pretrains,
        lambda place: {"mask_share": 1.0, "random_share": 0.0},
    ),
    Deviation(
        5, "divided-twice",
        "the losses of PARA, STS and CoLA are divided by the batch size twice",
        "every row, where these tasks are trained",
        lambda place: not _pretrains(place) and bool({*place.config.tasks} & {*DOUBLY_DIVIDED}),
        _divided_twice,
    ),
    Deviation(
        7, "lora-everywhere",
        "LoRA on every linear map and embedding with alpha 1, so that its scale is 1 / rank",
        "every row with LoRA",
        lambda place: _lora_of(place.config) is not None,
        _lora_everywhere,
    ),
    Deviation(
        8, "one-segment",
        "both sentences of a pair have segment id 0",
        "every row, where pairs are read",
        lambda place: bool({*place.config.tasks} & {"para", "sts"}),
        lambda place: with_extension(place.config, OneSegment()),
    ),
)  # fmt: skip
"""In the order in which they are applied; the numbers are those of the published comparison."""

NAMES = {deviation.name: deviation for deviation in DEVIATIONS}


def apply(deviations: Sequence[Deviation], config: AnyConfig, *, row: str, task: str) -> AnyConfig:
    """The config of a stage of a row, as these deviations have it."""
    for deviation in deviations:
        place = Place(row, task, config)
        if deviation.applies(place):
            config = replace(config, **deviation.changes(place))
    return config


def chosen(preset: str, names: Sequence[str] = ()) -> tuple[str, tuple[Deviation, ...]]:
    """The name of a variant of the study, and its deviations.

    Args:
        preset: corrected or as-published.
        names: deviations of corrected that are wanted on their own.
    """
    unknown = sorted({*names} - NAMES.keys())
    if unknown:
        raise ValueError(f"no deviation is called {unknown[0]!r}; known are {', '.join(NAMES)}")
    if preset == "as-published":
        if names:
            raise ValueError("as-published has all deviations; name some with --preset corrected")
        return preset, DEVIATIONS
    found = tuple(d for d in DEVIATIONS if d.name in names)
    return "+".join([preset, *(d.name for d in found)]), found
