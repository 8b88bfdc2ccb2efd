"""Every setting of a training run, in one place: the command line's flags are drawn from it.

This file imports no torch, so that `minbert --help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from data.readers import OnBadRow
from data.tasks import get_task
from multitask.extensions.base import Extension, extension_from_dict, extension_to_dict


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Fine-tune one shared encoder with a head for each task."""

    tasks: tuple[str, ...] = ("sst", "para", "sts", "cola")
    """Tasks to train on, one or several: sst, para, sts, cola, cfimdb of the course, or sst2, mrpc,
    stsb, qqp, mnli, qnli, rte, wnli of GLUE (cola is GLUE's too)."""
    data_dir: Path | None = None
    """Folder with the tasks' files; by default the small data that the project ships."""
    backbone: str = "minilm"
    """minilm, a folder, or a hub name such as bert-base-uncased."""
    out: Path | None = None
    """Run folder to write; by default a new one under runs/."""
    overwrite: bool = False
    """Replace a run that is in the run folder already."""

    frozen: bool = False
    """Train the heads only; the encoder's features are computed once."""
    pooling: Literal["pooler", "cls", "mean", "max"] = "pooler"
    """What stands for a sequence: BERT's pooler on [CLS] (other encoders have none), [CLS] itself,
    or the tokens' mean or maximum."""
    pair: Literal["cross", "concat", "cosine"] = "cross"
    """Pairs as one sequence, or as two embeddings u, v compared by [u; v; |u-v|] or by cosine."""
    both_orders: bool = False
    """Train on each pair in both orders, where the order means nothing."""
    head_size: int = 256
    """Features of the layer that the heads share."""
    head_dropout: float = 0.1
    """Dropout before and after the shared layer."""
    encoder_dropout: float | None = None
    """Dropout inside the encoder; by default what its checkpoint says."""

    epochs: int = 3
    """Passes over the data; with several tasks, as many steps as one pass over all of them."""
    steps_per_epoch: int | None = None
    """Optimizer steps in an epoch, in place of one pass."""
    batch_size: int = 16
    """Rows that go through the model at once."""
    accumulate: int = 1
    """Batches whose gradients make one optimizer step, which is then exactly that of one batch
    of batch_size x accumulate rows."""
    batches: Literal["random", "bucketed"] = "random"
    """Random rows in a batch, or rows of similar length."""
    layout: Literal["packed", "padded"] = "packed"
    """Tokens without padding, or padded to the longest row; the numbers are the same, but for
    ConvBERT, whose convolutions see padding: see minbert/encoders/convbert.py."""
    max_length: int | None = None
    """Longest row in tokens; by default what the encoder has positions for."""

    lr: float = 5e-5
    """Learning rate at its highest."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the rate goes down after the warm-up."""
    warmup: float = 0.1
    """Share of all steps in which the rate goes up from 0."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; biases and LayerNorms have none."""
    beta1: float = 0.9
    """Decay of AdamW's first moment."""
    beta2: float = 0.999
    """Decay of AdamW's second moment."""
    eps: float = 1e-6
    """Added to the root of AdamW's second moment."""
    correct_bias: bool = True
    """Correct AdamW's moments for their start at zero."""
    optimizer: Literal["fused", "plain"] = "fused"
    """PyTorch's fused primitive, or the steps written out; the numbers are the same."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 for no clipping."""

    gradient_checkpointing: bool = False
    """Keep less for the backward pass and compute it again: less memory, more time."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; weights stay float32. fp16 needs a GPU."""
    route: Literal["auto", "plain", "blas", "onednn"] = "auto"
    """How linear maps and dropout are computed on a CPU: see minbert/quick.py; the numbers are the
    same."""
    shard: bool = False
    """Split weights, gradients and moments over the processes that torchrun started, for encoders
    that outgrow one device; with one process there is nothing to split."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, ..."""
    seed: int = 11711
    """Fixes initial values, order of rows, draw of tasks and dropout."""

    patience: int | None = None
    """Stop after this many epochs without a better development score."""
    evaluate_first: bool = False
    """Score the development sets before training too."""
    save_every: int | None = None
    """Save every so many steps too, not only after every epoch."""
    log_every: int = 10
    """Steps between two writes to metrics.jsonl; a loss that is not finite is noticed then."""
    tensorboard: bool = False
    """Write TensorBoard events too."""
    on_bad_row: OnBadRow = "stop"
    """Stop at a row that cannot be read, or skip it and list it."""
    limit: int | None = None
    """Use the first so many training rows of each task, for a try."""
    revision: str | None = None
    """Branch, tag or commit of a backbone from the hub."""
    offline: bool = False
    """Take a hub backbone from the local cache only."""

    extensions: tuple[Extension, ...] = ()
    """What changes the training: see multitask/extensions."""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("tasks is empty; name at least one")
        for name in self.tasks:
            get_task(name)
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks {list(self.tasks)} name one twice; name each once")
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and getattr(self, name) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {known}")
        positive = ("epochs", "steps_per_epoch", "batch_size", "accumulate", "head_size",
                    "max_length", "patience", "save_every", "log_every", "limit")  # fmt: skip
        for name in positive:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, it is {value}")
        for name in ("lr", "weight_decay", "clip", "eps"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and not negative: {getattr(self, name)}")
        for name in ("head_dropout", "encoder_dropout", "beta1", "beta2"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), it is {value}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, it is {self.seed}")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is a share of all steps, from 0 to 1; it is {self.warmup}")
        if self.shard and self.precision == "fp16":
            raise ValueError("shard does not go with precision fp16; use bf16 or fp32")
        if self.shard and any(extension.combines for extension in self.extensions):
            raise ValueError(
                "shard does not go with an extension that combines gradients, which takes whole "
                "gradients; leave one of the two out"
            )
        if self.frozen and self.pair == "cosine":
            raise ValueError(
                "pair cosine learns by changing the embeddings, and frozen keeps them as they "
                "are; use pair concat with frozen, or train the encoder"
            )

    def to_dict(self) -> dict[str, Any]:
        """This config as JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["extensions"] = [extension_to_dict(e) for e in self.extensions]
        return {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The config that `to_dict` gave; unknown settings are an error."""
        known = {f.name for f in fields(cls)}
        if not isinstance(values, Mapping) or values.keys() - known:
            unknown = sorted(values.keys() - known) if isinstance(values, Mapping) else values
            raise ValueError(f"not a training config, unknown settings: {unknown}")
        typed = dict(values)
        typed["tasks"] = tuple(values["tasks"])
        for name in ("data_dir", "out"):
            typed[name] = None if values[name] is None else Path(values[name])
        typed["extensions"] = tuple(extension_from_dict(e) for e in values["extensions"])
        return cls(**typed)
