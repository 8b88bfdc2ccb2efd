"""The settings of a run in sections: each is a dataclass of its own, checked by itself.

A config (config.py) has sections for its bases, so that `config.lr` is there without a path, and a
function that needs one section takes that. The command line shows a box of flags for each.

This file imports no torch, so that `minbert --help` is quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from tyro.conf import arg

from data.readers import OnBadRow
from data.task_files import register_task_file
from data.tasks import MLM, STAGES, Task, get_task
from minbert.checks import check_counts, check_rates, check_unused, convert_fields
from minbert.edition import PLAIN


@dataclass(frozen=True, kw_only=True)
class Section:
    """Settings that belong together."""

    def __post_init__(self) -> None:
        convert_fields(self, "extensions")  # which a config has beside its sections


@dataclass(frozen=True, kw_only=True)
class DataSettings(Section):
    """What is read, and how it comes in batches."""

    tasks: tuple[str, ...] = ()
    """Tasks whose rows are read."""
    task_files: Annotated[tuple[Path, ...], arg(name="task-file")] = ()
    """Files that define tasks of your own, to be trained beside those of --tasks, or alone: see
    docs/tasks.md, and minbert task new."""
    data_dir: Path | None = None
    """Folder with the tasks' files; by default the small data that the project ships."""
    on_bad_row: OnBadRow = "stop"
    """Stop at a row that cannot be read, or skip it and list it."""
    limit: int | None = None
    """Use so many training rows of each task, taken at equal distances, for a try."""
    max_length: int | None = None
    """Longest row in tokens; by default what the encoder has positions for."""
    batch_size: int = 16
    """Rows that go through the model at once."""
    accumulate: int = 1
    """Batches whose gradients make one optimizer step, which is then exactly that of one batch
    of batch_size x accumulate rows."""
    batches: Literal["random", "bucketed"] = "random"
    """Random rows in a batch, or rows of similar length."""
    layout: Literal["packed", "padded"] = "padded" if PLAIN else "packed"
    """Tokens without padding, or padded to the longest row; the numbers are the same, but for
    ConvBERT, whose convolutions see padding: see minbert/encoders/convbert.py."""

    takes_pairs = False
    """Whether tasks may be of kind pairs, which have no labels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        own = [register_task_file(path).name for path in self.task_files]
        tasks = (*self.tasks, *(name for name in own if name not in self.tasks))
        object.__setattr__(self, "tasks", tasks)
        for name in self.tasks:
            if name in STAGES:
                command = "pretrain" if name == MLM.name else "contrast"
                raise ValueError(f"{name} is no task with labels; train it with minbert {command}")
            if get_task(name).kind == "pairs" and not self.takes_pairs:
                raise ValueError(
                    f"{name} has pairs without labels; train on them with minbert contrast"
                )
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks {list(self.tasks)} name one twice; name each once")
        check_counts(self, "limit", "max_length", "batch_size", "accumulate")


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Section):
    """The encoder that is trained."""

    backbone: str = "minilm"
    """minilm, a folder, a hub name such as bert-base-uncased, or the folder of a run, whose best
    encoder this run then starts from."""
    revision: str | None = None
    """Branch, tag or commit of a backbone from the hub."""
    offline: bool = False
    """Take a hub backbone from the local cache only."""
    encoder_dropout: float | None = None
    """Dropout inside the encoder while it trains; by default what its checkpoint says."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.backbone.strip():
            raise ValueError(f"backbone is {self.backbone!r}; give minilm, a folder or a hub name")
        check_rates(self, "encoder_dropout")


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings(Section):
    """AdamW, and its learning rate from step to step."""

    epochs: int = 3
    """Passes over the data; with several tasks, as many steps as one pass over all of them."""
    steps_per_epoch: int | None = None
    """Optimizer steps in an epoch, in place of one pass."""
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
    clip: float = 1.0
    """Largest norm of the gradient; 0 for no clipping."""
    optimizer: Literal["fused", "plain"] = "plain" if PLAIN else "fused"
    """PyTorch's fused primitive, or the steps written out; the numbers are the same."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "epochs", "steps_per_epoch")
        for name in ("lr", "weight_decay", "clip", "eps"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and not negative: {getattr(self, name)}")
        check_rates(self, "beta1", "beta2")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is a share of all steps, from 0 to 1; it is {self.warmup}")


@dataclass(frozen=True, kw_only=True)
class RunSettings(Section):
    """The run folder, and what is written to it when."""

    out: Path | None = None
    """Run folder to write; by default a new one under runs/."""
    overwrite: bool = False
    """Replace a run that is in the run folder already."""
    seed: int = 11711
    """Fixes initial values, order of rows, draw of tasks and dropout."""
    scores_per_epoch: int = 1
    """Score the development sets so many times an epoch, at equal distances; the weights with the
    best of all scores are kept."""
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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "scores_per_epoch", "patience", "save_every", "log_every")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed must be at least 0 and less than 2**64, it is {self.seed}")


@dataclass(frozen=True, kw_only=True)
class DeviceSettings(Section):
    """Where and how it is computed."""

    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps (Apple's GPU, in fp32), ..."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Arithmetic of matrix products; weights stay float32. fp16 needs a GPU, tf32 (products of 19
    bits, sums of 32) one of the Ampere generation or newer."""
    route: Literal["auto", "plain", "blas", "onednn"] = "plain" if PLAIN else "auto"
    """How linear maps and dropout are computed on a CPU: see minbert/quick.py; the numbers are the
    same. auto is what the environment variable MINBERT_ROUTE names, or by the CPU's make."""
    compile: bool = False
    """Compile the encoder's layers with torch.compile: the first steps take minutes, the others
    less time, which pays in long runs on a GPU. It needs a C++ compiler, and does not go with a
    frozen encoder, which computes once."""
    cuda_graphs: bool = False
    """On one GPU, with precision bf16 or fp16: record what the encoder does to batches of a size,
    and start it as one, which pays where batches are small. An experiment: see docs/gpu.md."""
    gradient_checkpointing: bool = False
    """Keep less for the backward pass and compute it again: less memory, more time."""
    shard: bool = False
    """Split weights, gradients and moments over the processes that torchrun started, for encoders
    that outgrow one device; with one process there is nothing to split."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard and self.precision == "fp16":
            raise ValueError("shard does not go with precision fp16; use bf16 or fp32")
        if self.cuda_graphs:
            for other in ("compile", "gradient_checkpointing", "shard"):
                if getattr(self, other):
                    raise ValueError(f"cuda_graphs does not go with {other}; leave one of them out")
            if self.precision in ("fp32", "tf32"):
                raise ValueError("cuda_graphs records 16-bit steps; use precision bf16 or fp16")


@dataclass(frozen=True, kw_only=True)
class Settings(DeviceSettings, RunSettings, OptimizerSettings, ModelSettings, DataSettings):
    """What every run of the training loop has; the fields of the last base come first."""

    @property
    def trained_tasks(self) -> tuple[Task, ...]:
        """The tasks whose losses are minimised."""
        return tuple(get_task(name) for name in self.tasks)

    @property
    def caches_features(self) -> bool:
        """Whether the encoder is not trained at all, so that its features are computed once."""
        return False


# Fine-tuning has these too

PairKind: TypeAlias = Literal["cross", "concat", "cosine"]


@dataclass(frozen=True, kw_only=True)
class HeadSettings(Section):
    """What stands on the encoder, and how much of the encoder trains with it."""

    head: Literal["shared", "linear"] = "shared"
    """A layer that all tasks share with an output for each, or for each task the classification
    head that transformers puts on the encoder, which minbert export --task hands on."""
    pooling: Literal["pooler", "cls", "mean", "max", "attention"] = "pooler"
    """What stands for a sequence: the encoder's pooler where it has one (BERT's is on [CLS]), [CLS]
    itself, the tokens' mean or maximum, or a mean whose weights each task learns."""
    layer_mix: bool = False
    """Pool a mix of all layers, whose shares each task learns, in place of the last layer."""
    pair: PairKind = "cross"
    """Pairs as one sequence, or as two embeddings u, v compared by [u; v; |u-v|] or by cosine."""
    pair_of: dict[str, PairKind] = field(default_factory=dict, hash=False)  # no dict has one
    """The same for single tasks, where it is another, as in --pair-of sts cosine para concat."""
    both_orders: bool = False
    """Train on each pair in both orders, where the order means nothing."""
    head_size: int = 256
    """Features of the layer that the heads share."""
    head_layers: int = 1
    """Layers that the heads share, one after the other."""
    head_activation: Literal["gelu", "relu", "tanh"] = "gelu"
    """Nonlinearity after each of them."""
    head_dropout: float = 0.1
    """Dropout before and after the shared layer; of a linear head, where transformers has it."""
    keep_heads: bool = False
    """Where the backbone is a run, start from its heads too: the layer that tasks share, and the
    outputs of the tasks that both runs have; and where it is a checkpoint with a classification
    head, a linear head starts from that, labels by their names."""
    frozen: bool = False
    """Train the heads only; the encoder's features are computed once."""
    adapter: Path | None = None
    """Folder of a LoRA or IA3 adapter, in the files of peft, to start from: it trains on, beside
    the heads, and the encoder under it is frozen."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "head_size", "head_layers")
        check_rates(self, "head_dropout")
        if self.head == "linear":
            why = "a linear head is the encoder's own, pooling included, on one sequence; leave it "
            own = ("pooling", "layer_mix", "pair", "pair_of", "head_size", "head_layers")
            check_unused(self, f"{why}out, or take head shared", *own, "head_activation")
        if self.layer_mix and self.pooling == "pooler":
            raise ValueError(
                "the pooler is trained for the last layer, so layer_mix does not go with it; "
                "choose pooling cls, mean, max or attention"
            )
        learnt = {"pooling attention": self.pooling == "attention", "layer_mix": self.layer_mix}
        if self.frozen and any(learnt.values()):
            name = next(name for name, used in learnt.items() if used)
            raise ValueError(
                f"{name} is learnt on the encoder's tokens, and frozen keeps one vector of each "
                "text; leave one of the two out, or freeze the encoder with --use bottleneck"
            )
        if self.frozen and "cosine" in (self.pair, *self.pair_of.values()):
            raise ValueError(
                "pair cosine learns by changing the embeddings, and frozen keeps them as they "
                "are; use pair concat with frozen, or train the encoder"
            )

    def pair_kind(self, task: str) -> PairKind:
        """How a task's pairs are read."""
        return self.pair_of.get(task, self.pair)

    def embeds_pairs(self, task: str) -> bool:
        """Whether a task's rows are pairs that become two embeddings."""
        return get_task(task).is_pair and self.pair_kind(task) != "cross"


# Pre-training has these too


@dataclass(frozen=True, kw_only=True)
class TextSettings(Section):
    """Text without labels, beside the rows of tasks."""

    text: tuple[Path, ...] = ()
    """Text files in UTF-8, a text a line, of any size."""
    dev_text: tuple[Path, ...] = ()
    """Text files to hold out, in place of lines of the text files."""
    hold_out: int = 50
    """Of the lines of the text files, every so many is held out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dev_text and not self.text:
            raise ValueError("dev_text is held out of text files; tasks have development rows")
        if self.hold_out < 2:
            raise ValueError(f"hold_out must be at least 2, it is {self.hold_out}")


@dataclass(frozen=True, kw_only=True)
class MaskingSettings(Section):
    """Which tokens the model has to find, and what it sees in their place."""

    mask_rate: float = 0.15
    """Share of the tokens that the model has to find."""
    mask_share: float = 0.8
    """Share of these that it sees as [MASK]."""
    random_share: float = 0.1
    """Share of these that it sees as a random token; the others it sees as they are."""
    whole_words: bool = False
    """Choose whole words rather than tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
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


@dataclass(frozen=True, kw_only=True)
class ScratchSettings(Section):
    """An encoder made anew, in place of a backbone."""

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
        check_counts(self, "vocab_size")
        if self.from_scratch and self.encoder_config:
            raise ValueError("from_scratch and encoder_config both say what to make; give one")
        if self.encoder_config:
            check_unused(self, "encoder_config says how large it is; leave it out", "size")
        if not self.starts_from_scratch:
            why = "a backbone has its own; leave it out, or give from_scratch"
            check_unused(self, why, "size", "vocab_size")

    @property
    def starts_from_scratch(self) -> bool:
        """Whether weights and tokenizer are made anew."""
        return bool(self.from_scratch or self.encoder_config)


# Contrastive stages have these, and text


@dataclass(frozen=True, kw_only=True)
class ContrastSettings(Section):
    """Which embeddings come together, and which go apart."""

    objective: Literal["mnr", "simcse", "cosent", "margin"] = "mnr"
    """mnr: each text finds its positive among those of all rows of a step, and hard negatives;
    simcse: the same with each text twice, told apart by dropout; cosent: cosines in the order of
    the labels; margin: cosine distance 0 where labels say alike, a margin where they do not."""
    pooling: Literal["pooler", "cls", "mean", "max"] = "mean"
    """What stands for a text: its tokens' mean or maximum, [CLS], or the encoder's pooler."""
    temperature: float = 0.05
    """What cosines are divided by; the lower it is, the more the nearest texts count."""
    margin: float = 0.5
    """How far apart objective margin drives pairs, in cosine distance."""
    positive_above: float = 0.8
    """Pairs with a number for a label are positives from this share of the label's range on: 0.8 is
    4 of the 0 to 5 of sts."""
    positive_class: str | None = None
    """Class whose pairs are positives, such as entailment, where a task has classes; of tasks on
    whether two texts mean the same (para, mrpc, qqp) it is known."""
    score_on: tuple[str, ...] = ()
    """Tasks of pairs with labels whose development rows score the embeddings, in place of those of
    --tasks; their training rows are not read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperature", "margin"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and more than 0: {getattr(self, name)}")
        if not 0 <= self.positive_above <= 1:
            raise ValueError(
                f"positive_above is a share of the label's range, from 0 to 1; it is "
                f"{self.positive_above} (of sts, 0.8 is 4 of 5)"
            )
        if self.objective == "margin":
            check_unused(self, "objective margin has no temperature; leave it out", "temperature")
        else:
            check_unused(self, "it is for objective margin; leave it out", "margin")


SECTIONS: dict[str, type[Section]] = {
    "data": DataSettings,
    "text": TextSettings,
    "masking": MaskingSettings,
    "contrast": ContrastSettings,
    "model": ModelSettings,
    "scratch": ScratchSettings,
    "heads": HeadSettings,
    "optimizer": OptimizerSettings,
    "run": RunSettings,
    "device": DeviceSettings,
}
"""Title -> section, in the order in which help shows them."""
