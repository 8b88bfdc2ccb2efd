"""The study's rows. Each is a list of stages, and a stage is a config for the one training loop.

    Row("mt+lora-4", "multitask - LoRA rank 4", Multitask(), FineTune(LAYERS, LoRA(rank=4)))

A row is run for each of its tasks on its own, with fine-tuning on that task at the end; `plan.py`
finds the stages that rows have in common. How long, how large and how quick to learn is said by a
`Scale`, apart from the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

from multitask.config import AnyConfig, PretrainConfig, TrainConfig
from multitask.extensions.base import Extension
from multitask.extensions.bitfit import BitFit
from multitask.extensions.gradient_surgery import GradientSurgery
from multitask.extensions.ia3 import IA3
from multitask.extensions.layer_lr import LayerLR
from multitask.extensions.lora import LoRA
from multitask.extensions.unfreeze import Unfreeze

TASKS = ("sst", "para", "sts", "cola")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much of the study to run: what a row's stages take from here."""

    name: str
    epochs: int
    """Epochs of fine-tuning a task."""
    frozen_epochs: int
    """Epochs of heads on a frozen encoder, whose features are computed once."""
    batch_size: int = 16
    limit: int | None = None
    """Training rows of each task, at most."""
    whole: tuple[str, ...] = ()
    """Tasks that are fine-tuned on all of their rows."""
    multitask_epochs: int = 3
    multitask_steps: int = 1000
    """Steps in an epoch of multitask training."""
    mlm_epochs: Mapping[int, int]
    """Published number of MLM epochs -> ours."""
    mlm_leg: int
    """MLM epochs of one stage."""
    pooling: Literal["pooler", "mean"] = "pooler"
    lr: float
    """Learning rate of full fine-tuning, of multitask training too."""
    heads_lr: float = 1e-3
    """Of heads on a frozen encoder."""
    adapter_lr: float = 1e-3
    """Of LoRA and BitFit."""
    ia3_lr: float = 5e-3
    mlm_lr: float
    schedule: Literal["constant", "linear"] = "constant"
    warmup: float = 0.0
    note: str
    """What differs from the published settings, for the tables."""


SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            name="full",
            epochs=10,
            frozen_epochs=10,
            mlm_epochs={15: 15, 30: 30},
            mlm_leg=5,
            lr=1e-5,
            mlm_lr=1e-5,
            note="published settings; every run 10 epochs in batches of 16",
        ),
        Scale(
            name="medium",
            epochs=10,
            frozen_epochs=10,
            limit=2136,
            multitask_steps=250,
            mlm_epochs={15: 4, 30: 8},
            mlm_leg=2,
            pooling="mean",
            lr=1e-4,
            mlm_lr=1e-4,
            schedule="linear",
            warmup=0.1,
            note="2,136 training rows of each task, a quarter of SST's and CoLA's, taken at equal "
            "distances; every run 10 epochs in batches of 16, with linear decay of the rate after "
            "a warm-up of 10 %; full fine-tuning at 1e-4 in place of 1e-5, which suits a small "
            "encoder; 4 and 8 epochs of MLM, at 1e-4, in place of 15 and 30; multitask training 3 "
            "x 250 steps in place of 3 x 1000, drawn from all rows; the mean of the tokens in "
            "place of the pooler",
        ),
        Scale(
            name="small",
            epochs=2,
            frozen_epochs=10,
            limit=2000,
            whole=("cola",),
            multitask_steps=125,
            mlm_epochs={15: 2, 30: 4},
            mlm_leg=1,
            pooling="mean",
            lr=1e-4,
            mlm_lr=1e-4,
            schedule="linear",
            warmup=0.1,
            note="2 epochs in place of 10 to 20 (heads alone: 10), with linear decay of the rate "
            "after a warm-up of 10 %; full fine-tuning at 1e-4 in place of 1e-5, which suits a "
            "small encoder; 2 and 4 epochs of MLM, at 1e-4, in place of 15 and 30; multitask "
            "training 3 x 125 steps in place of 3 x 1000, drawn from all rows; otherwise 2,000 "
            "training rows of each task, taken at equal distances, but for fine-tuning on CoLA, "
            "which learns nothing from so few and takes all of its rows; the mean of the tokens in "
            "place of the pooler, which sentence encoders such as MiniLM have never trained",
        ),
        Scale(
            name="tiny",
            epochs=1,
            frozen_epochs=1,
            limit=48,
            multitask_epochs=1,
            multitask_steps=8,
            mlm_epochs={15: 1, 30: 2},
            mlm_leg=1,
            pooling="mean",
            lr=1e-4,
            mlm_lr=1e-4,
            note="1 epoch of 48 rows, which shows that everything runs and nothing else",
        ),
    )
}


class Template(Protocol):
    """What a row says of a stage; a scale and a task make configs of it."""

    kind: ClassVar[str]

    def configs(self, scale: Scale, task: str) -> Sequence[AnyConfig]:
        """The configs of the stage, or of its legs, one after the other."""


def _common(scale: Scale) -> TrainConfig:
    """Settings of the published study that all stages share."""
    return TrainConfig(
        batch_size=scale.batch_size,
        limit=scale.limit,
        lr=scale.lr,
        schedule=scale.schedule,
        warmup=scale.warmup,
        weight_decay=0.0,
        clip=0.0,
        pooling=scale.pooling,
        pair="cross",
        on_bad_row="skip",
    )


@dataclass(frozen=True)
class Pretrain:
    """Further pre-training as a masked language model (Gururangan et al., 2020,
    arXiv:2004.10964), in legs, so that 15 and 30 epochs share the first 15."""

    text: Literal["task", "all"]
    """The task's own training text, or that of all tasks."""
    epochs: int
    """As published; the scale says how many that are."""

    kind: ClassVar[str] = "mlm"

    def configs(self, scale: Scale, task: str) -> Sequence[AnyConfig]:
        return self.legs(scale, task, scale.mlm_epochs[self.epochs])

    def legs(self, scale: Scale, task: str, epochs: int) -> list[PretrainConfig]:
        """So many epochs as legs, each with masks of its own: Adam's moments start anew."""
        return [
            PretrainConfig(
                tasks=(task,) if self.text == "task" else TASKS,
                epochs=scale.mlm_leg,
                batch_size=scale.batch_size,
                limit=scale.limit,
                lr=scale.mlm_lr,
                schedule="constant",
                warmup=0.0,
                weight_decay=0.0,
                clip=0.0,
                on_bad_row="skip",
                seed=leg,
            )
            for leg in range(epochs // scale.mlm_leg)
        ]


@dataclass(frozen=True)
class PretrainLegs(Pretrain):
    """So many legs of further pre-training: the points of Figure 2."""

    def configs(self, scale: Scale, task: str) -> Sequence[AnyConfig]:
        return self.legs(scale, task, self.epochs * scale.mlm_leg)


@dataclass(frozen=True)
class Multitask:
    """One model for all tasks; a step trains one of them, drawn uniformly."""

    surgery: Literal["pcgrad", "gradvac", "none"] | None = None
    """Train all tasks in every step, with their gradients reconciled or (none) added up; there
    are then a quarter of the steps, so that as many rows are seen."""

    kind: ClassVar[str] = "multitask"

    def configs(self, scale: Scale, task: str) -> Sequence[AnyConfig]:
        together = 1 if self.surgery is None else len(TASKS)
        return [
            replace(
                _common(scale),
                tasks=TASKS,
                epochs=scale.multitask_epochs,
                steps_per_epoch=max(1, scale.multitask_steps // together),
                limit=None,
                extensions=(GradientSurgery(method=self.surgery),) if self.surgery else (),
            )
        ]


@dataclass(frozen=True)
class FineTune:
    """Training on one task, kept at its best epoch."""

    extensions: tuple[Extension, ...] = ()
    rate: Literal["lr", "heads_lr", "adapter_lr", "ia3_lr"] = "lr"
    """Which of the scale's learning rates."""
    frozen: bool = False

    kind: ClassVar[str] = "finetune"

    def configs(self, scale: Scale, task: str) -> Sequence[AnyConfig]:
        return [
            replace(
                _common(scale),
                tasks=(task,),
                epochs=scale.frozen_epochs if self.frozen else scale.epochs,
                lr=getattr(scale, self.rate),
                limit=None if task in scale.whole else scale.limit,
                frozen=self.frozen,
                extensions=self.extensions,
            )
        ]


# The rows

LAYERS = LayerLR(decay=0.95)
FULL = FineTune((LAYERS,))


@dataclass(frozen=True)
class Row:
    """One experiment: the stages that lead to each of its tasks' scores."""

    id: str
    title: str
    stages: tuple[Template, ...]
    published: tuple[float, ...] = ()
    """Accuracy of SST and PARA, Pearson's r of STS, accuracy of LIN (CoLA's own development set),
    with bert-base-uncased."""
    tasks: tuple[str, ...] = TASKS


def lora(rank: int) -> FineTune:
    """LoRA on every linear map; alpha = rank, so that the change's scale is 1 at every rank."""
    return FineTune((LAYERS, LoRA(rank=rank, alpha=float(rank))), rate="adapter_lr")


MAIN = (
    Row("frozen", "heads only, encoder frozen",
        (FineTune(rate="heads_lr", frozen=True),), (.404, .731, .587, .750)),
    Row("ft", "full fine-tuning",
        (FineTune(),), (.513, .886, .860, .844)),
    Row("ft+pll", "full fine-tuning, per-layer rates",
        (FULL,), (.518, .885, .852, .850)),

    Row("lora-1", "LoRA, rank 1", (lora(1),), (.513, .873, .859, .861)),
    Row("lora-2", "LoRA, rank 2", (lora(2),), (.502, .882, .865, .861)),
    Row("lora-4", "LoRA, rank 4", (lora(4),), (.524, .882, .869, .862)),
    Row("lora-8", "LoRA, rank 8", (lora(8),), (.506, .884, .862, .861)),
    Row("mt+lora-4", "multitask - LoRA, rank 4",
        (Multitask(), lora(4)), (.513, .882, .864, .856)),
    Row("mlm15-task+lora-4", "MLM on the task's text, 15 - LoRA, rank 4",
        (Pretrain("task", 15), lora(4)), (.484, .858, .749, .761)),

    Row("mlm15-task", "MLM on the task's text, 15",
        (Pretrain("task", 15), FULL), (.529, .889, .866, .848)),
    Row("mlm15-all", "MLM on all text, 15",
        (Pretrain("all", 15), FULL), (.518, .889, .879, .841)),
    Row("mlm30-task", "MLM on the task's text, 30",
        (Pretrain("task", 30), FULL), (.535, .895, .874, .848)),
    Row("mlm30-all", "MLM on all text, 30",
        (Pretrain("all", 30), FULL), (.506, .893, .879, .837)),

    Row("mt", "multitask", (Multitask(), FULL), (.523, .889, .866, .858)),
    Row("mlm15-task+mt", "MLM on the task's text, 15 - multitask",
        (Pretrain("task", 15), Multitask(), FULL), (.527, .890, .882, .848)),
    Row("mlm15-all+mt", "MLM on all text, 15 - multitask",
        (Pretrain("all", 15), Multitask(), FULL), (.514, .892, .877, .835)),
    Row("mlm30-task+mt", "MLM on the task's text, 30 - multitask",
        (Pretrain("task", 30), Multitask(), FULL), (.540, .893, .885, .850)),
)  # fmt: skip
"""The published table; - stands for "and then", and every row ends with fine-tuning of one task."""

METHODS = (
    Row("bitfit", "BitFit: biases alone", (FineTune((LAYERS, BitFit()), rate="adapter_lr"),)),
    Row("ia3", "IA3: scales of keys, values and feed-forward layers",
        (FineTune((LAYERS, IA3()), rate="ia3_lr"),)),
    Row("mt-surgery", "multitask, every task in every step, gradient surgery",
        (Multitask("pcgrad"), FULL)),
    Row("mt-together", "multitask, every task in every step",
        (Multitask("none"), FULL)),
)  # fmt: skip
"""What the published study did not have, beside it."""


def figure_1(scale: Scale, parts: Sequence[str]) -> tuple[Row, ...]:
    """Rows with one part of the encoder trained and the others held still, on STS."""
    return tuple(
        Row(
            f"only-{part.replace(' ', '-')}",
            f"only {part} trained",
            (FineTune((Unfreeze(only=part),)),),
            tasks=("sts",),
        )
        for part in parts
        if part != "pooler" or scale.pooling == "pooler"
    )


def figure_2(scale: Scale) -> tuple[Row, ...]:
    """Rows of SST after more and more MLM epochs; without any it is the row ft+pll."""
    legs = max(scale.mlm_epochs.values()) // scale.mlm_leg
    return tuple(
        Row(
            f"mlm-{leg * scale.mlm_leg}",
            f"MLM on the task's text, {leg * scale.mlm_leg} epochs",
            (PretrainLegs("task", leg), FULL),
            tasks=("sst",),
        )
        for leg in range(1, legs + 1)
    )


def rows(scale: Scale, parts: Sequence[str]) -> dict[str, Row]:
    """All rows of the study by id, for an encoder of these parts."""
    found = (*MAIN, *METHODS, *figure_1(scale, parts), *figure_2(scale))
    return {row.id: row for row in found}
