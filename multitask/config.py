"""Every setting of a run, in one place: the command line's flags are drawn from it.

RunConfig holds what the training loop wants; TrainConfig adds what fine-tuning wants, and
PretrainConfig what pre-training wants.

This file imports no torch, so that `minbert --help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from data.readers import OnBadRow
from data.tasks import MLM, get_task
from minbert.checks import check_counts, check_rates, check_unused, convert_fields
from minbert.files import brief, checked
from multitask.extensions.base import Extension, extension_from_dict, extension_to_dict

PLACES = {
    "out", "overwrite", "device", "route", "optimizer", "layout", "log_every", "save_every",
    "tensorboard", "offline",
}  # fmt: skip
"""Settings that say where and how a run computes, and not what."""


C_ = TypeVar("C_", bound="RunConfig")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every run of the training loop has."""

    command: ClassVar[str]
    """The command that makes such a run."""

    tasks: tuple[str, ...] = ()
    """Tasks whose rows are read."""
    data_dir: Path | None = None
    """Folder with the tasks' files; by default the small data that the project ships."""
    backbone: str = "minilm"
    """minilm, a folder, a hub name such as bert-base-uncased, or the folder of a run, whose best
    encoder this run then starts from."""
    out: Path | None = None
    """Run folder to write; by default a new one under runs/."""
    overwrite: bool = False
    """Replace a run that is in the run folder already."""

    encoder_dropout: float | None = None
    """Dropout inside the encoder while it trains; by default what its checkpoint says."""

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
    compile: bool = False
    """Compile the encoder's layers with torch.compile: the first steps take minutes, the others
    less time, which pays in long runs on a GPU. It needs a C++ compiler, and does not go with a
    frozen encoder, which computes once."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; weights stay float32. fp16 needs a GPU."""
    route: Literal["auto", "plain", "blas", "onednn"] = "auto"
    """How linear maps and dropout are computed on a CPU: see minbert/quick.py; the numbers are the
    same. auto is what the environment variable MINBERT_ROUTE names, or by the CPU's make."""
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
    """Use so many training rows of each task, taken at equal distances, for a try."""
    revision: str | None = None
    """Branch, tag or commit of a backbone from the hub."""
    offline: bool = False
    """Take a hub backbone from the local cache only."""

    extensions: tuple[Extension, ...] = ()
    """What changes the training: see multitask/extensions."""

    def __post_init__(self) -> None:
        convert_fields(self, "extensions")
        given = self.extensions if isinstance(self.extensions, list | tuple) else [self.extensions]
        if others := [each for each in given if not isinstance(each, Extension)]:
            raise ValueError(f"extensions has {brief(others[0])}; give objects such as LoRA()")
        object.__setattr__(self, "extensions", tuple(given))
        for name in self.tasks:
            if get_task(name) is MLM:
                raise ValueError("mlm is no task with labels; train it with minbert pretrain")
        if not self.backbone.strip():
            raise ValueError(f"backbone is {self.backbone!r}; give minilm, a folder or a hub name")
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks {list(self.tasks)} name one twice; name each once")
        check_counts(
            self,
            "epochs",
            "steps_per_epoch",
            "batch_size",
            "accumulate",
            "max_length",
            "patience",
            "save_every",
            "log_every",
            "limit",
        )
        for name in ("lr", "weight_decay", "clip", "eps"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and not negative: {getattr(self, name)}")
        check_rates(self, "encoder_dropout", "beta1", "beta2")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed must be at least 0 and less than 2**64, it is {self.seed}")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is a share of all steps, from 0 to 1; it is {self.warmup}")
        if self.shard and self.precision == "fp16":
            raise ValueError("shard does not go with precision fp16; use bf16 or fp32")
        if self.shard and any(extension.combines for extension in self.extensions):
            raise ValueError(
                "shard does not go with an extension that combines gradients, which takes whole "
                "gradients; leave one of the two out"
            )
        if len(self.freezing) > 1:
            raise ValueError(
                f"{' and '.join(self.freezing)} each say what is left of the encoder to train; "
                "use one"
            )
        for extension in self.extensions:
            extension.check(self)

    @property
    def origin(self) -> str:
        """What the encoder's weights come from."""
        return self.backbone

    @property
    def freezing(self) -> list[str]:
        """The settings that say what is left of the encoder to train."""
        return [extension.name for extension in self.extensions if extension.freezes]

    @property
    def caches_features(self) -> bool:
        """Whether the encoder is not trained at all, so that its features are computed once."""
        return False

    @property
    def uses_pooler(self) -> bool:
        """Whether the outputs depend on the encoder's pooler."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """This config as JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["extensions"] = [extension_to_dict(e) for e in self.extensions]
        return {"command": self.command, **{name: _to_json(v) for name, v in values.items()}}

    @classmethod
    def from_dict(cls: type[C_], values: Mapping[str, Any]) -> C_:
        """The config that `to_dict` gave; unknown settings, and values of another kind, are an
        error."""
        settings = dict(checked(values, dict[str, Any]))
        command, extensions = settings.pop("command", cls.command), settings.pop("extensions", [])
        if command != cls.command:
            raise ValueError(f"command is {brief(command)}, and this is a config of {cls.command}")
        made = tuple(extension_from_dict(e) for e in checked(extensions, list[Any]))
        return replace(checked(settings, cls), extensions=made)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Fine-tune one shared encoder with a head for each task."""

    command: ClassVar[str] = "train"

    tasks: tuple[str, ...] = ("sst", "para", "sts", "cola")
    """Tasks to train on, one or several: sst, para, sts, cola, cfimdb of the course, or sst2, mrpc,
    stsb, qqp, mnli, qnli, rte, wnli of GLUE (cola is GLUE's too)."""
    keep_heads: bool = False
    """Where the backbone is a run, start from its heads too: the layer that tasks share, and the
    outputs of the tasks that both runs have."""
    frozen: bool = False
    """Train the heads only; the encoder's features are computed once."""
    adapter: Path | None = None
    """Folder of a LoRA or IA3 adapter, in the files of peft, to start from: it trains on, beside
    the heads, and the encoder under it is frozen."""
    pooling: Literal["pooler", "cls", "mean", "max"] = "pooler"
    """What stands for a sequence: the encoder's pooler where it has one (BERT's is on [CLS]), [CLS]
    itself, or the tokens' mean or maximum."""
    pair: Literal["cross", "concat", "cosine"] = "cross"
    """Pairs as one sequence, or as two embeddings u, v compared by [u; v; |u-v|] or by cosine."""
    both_orders: bool = False
    """Train on each pair in both orders, where the order means nothing."""
    head_size: int = 256
    """Features of the layer that the heads share."""
    head_dropout: float = 0.1
    """Dropout before and after the shared layer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tasks:
            raise ValueError("tasks is empty; name at least one")
        check_counts(self, "head_size")
        check_rates(self, "head_dropout")
        if self.frozen and self.pair == "cosine":
            raise ValueError(
                "pair cosine learns by changing the embeddings, and frozen keeps them as they "
                "are; use pair concat with frozen, or train the encoder"
            )
        if self.frozen:
            why = "frozen computes the encoder's features once, without dropout; leave it out"
            check_unused(self, why, "encoder_dropout", "gradient_checkpointing", "compile", "shard")
        choosing = [extension.name for extension in self.extensions if extension.chooses]
        if len(choosing) > 1:
            raise ValueError(f"{' and '.join(choosing)} both choose the tasks of a step; use one")

    @property
    def freezing(self) -> list[str]:
        settings = {"frozen": self.frozen, "adapter": self.adapter is not None}
        return super().freezing + [name for name, freezes in settings.items() if freezes]

    @property
    def caches_features(self) -> bool:
        return self.frozen

    @property
    def uses_pooler(self) -> bool:
        return self.pooling == "pooler"


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """Train an encoder as a masked language model on text without labels."""

    command: ClassVar[str] = "pretrain"

    tasks: tuple[str, ...] = ()
    """Tasks whose training rows are the text, and whose development rows are held out."""
    text: tuple[Path, ...] = ()
    """Text files in UTF-8, a text a line, of any size."""
    dev_text: tuple[Path, ...] = ()
    """Text files to hold out, in place of lines of the text files."""
    hold_out: int = 50
    """Of the lines of the text files, every so many is held out."""

    mask_rate: float = 0.15
    """Share of the tokens that the model has to find."""
    mask_share: float = 0.8
    """Share of these that it sees as [MASK]."""
    random_share: float = 0.1
    """Share of these that it sees as a random token; the others it sees as they are."""
    whole_words: bool = False
    """Choose whole words rather than tokens."""

    from_scratch: str | None = None
    """Encoder to start from random weights in place of a backbone, such as bert; its tokenizer
    is learnt from the text."""
    size: str = "mini"
    """Size of an encoder from scratch: tiny, mini, small or base; bert has medium too, convbert
    medium-small, modernbert large."""
    encoder_config: Path | None = None
    """An encoder from scratch as in this config.json, in place of from_scratch and size."""
    vocab_size: int = 8192
    """Most tokens that the tokenizer of an encoder from scratch may have."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tasks and not self.text:
            raise ValueError(
                "there is no text; name tasks whose rows to read (--tasks sst) or files (--text)"
            )
        idle = [extension.name for extension in self.extensions if extension.between_tasks]
        if idle:
            raise ValueError(
                f"{idle[0]} is about several tasks, and pre-training has one, the masked language "
                "model, whatever the text comes from; leave it out"
            )
        if self.dev_text and not self.text:
            raise ValueError("dev_text is held out of text files; tasks have development rows")
        check_counts(self, "vocab_size")
        if self.hold_out < 2:
            raise ValueError(f"hold_out must be at least 2, it is {self.hold_out}")
        if not 0 < self.mask_rate <= 1:
            raise ValueError(f"mask_rate must be more than 0 and at most 1: {self.mask_rate}")
        for name in ("mask_share", "random_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, from 0 to 1; it is {getattr(self, name)}")
        if self.mask_share + self.random_share > 1 + 1e-9:
            raise ValueError(
                f"mask_share {self.mask_share} and random_share {self.random_share} are more than "
                "1 together"
            )
        if self.from_scratch and self.encoder_config:
            raise ValueError("from_scratch and encoder_config both say what to make; give one")
        if self.starts_from_scratch:
            why = "an encoder from scratch starts from random weights; leave it out"
            check_unused(self, why, "backbone", "revision")
        else:
            why = "a backbone has its own; leave it out, or give from_scratch"
            check_unused(self, why, "size", "vocab_size")
        if self.encoder_config:
            check_unused(self, "encoder_config says how large it is; leave it out", "size")

    @property
    def starts_from_scratch(self) -> bool:
        """Whether weights and tokenizer are made anew."""
        return bool(self.from_scratch or self.encoder_config)

    @property
    def origin(self) -> str:
        if self.from_scratch:
            return f"{self.from_scratch} of size {self.size}, from scratch"
        return f"{self.encoder_config}, from scratch" if self.encoder_config else self.backbone


AnyConfig = TrainConfig | PretrainConfig
"""The config of a run, of either kind."""


def config_from_dict(values: Mapping[str, Any]) -> AnyConfig:
    """The config that `to_dict` gave, of the class that it was."""
    pretrains = isinstance(values, dict) and values.get("command") == PretrainConfig.command
    return PretrainConfig.from_dict(values) if pretrains else TrainConfig.from_dict(values)


def _to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_to_json(each) for each in value]
    return str(value) if isinstance(value, Path) else value
