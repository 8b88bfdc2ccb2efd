"""What every encoder shares: its call, its output, and the registry that finds it by name.

To add an encoder, write `minbert/encoders/x.py` with a config and the modules, `x_hub.py` beside it
with the names that hub checkpoints use, and decorate its class with `@register("x")`. Loading,
saving, heads and training follow from that.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minbert.checks import check_counts, check_rates, convert, convert_fields, kinds_of
from minbert.hub_keys import NO_EFFECT, ONLY, HubFormat, check_keys
from minbert.layouts import Layout, Padded
from minbert.per_task import Choice


@dataclass(frozen=True, kw_only=True)
class EncoderOutput:
    """What an encoder returns. Tokens are (B, S, H) in a padded batch, (T, H) in a packed one."""

    last_hidden_state: Tensor
    """The last layer's output; in a padded batch, look at real tokens only."""
    pooler_output: Tensor | None
    """The pooler's vector for each sequence, (B, H), where the encoder has one."""
    layout: Layout
    """Where the tokens of each sequence lie; `layout.mean(last_hidden_state)` pools them."""
    hidden_states: tuple[Tensor, ...] | None = None
    """On request: the embeddings and each layer's output, one more than there are layers."""
    attentions: tuple[Tensor, ...] | None = None
    """On request: each layer's attention probabilities, (B, N, S, S), before dropout."""


C = TypeVar("C", bound="EncoderConfig")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The sizes that every encoder's config has. A subclass documents and checks its own."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    max_positions: int
    pad_token_id: int | None = 0
    initializer_range: float = 0.02

    HUB: ClassVar[HubFormat]
    """How hub checkpoints write the encoder of this config."""
    TOKEN_IDS: ClassVar[Mapping[str, str]] = {"pad_token_id": "pad_id"}
    """Field of this class -> the tokenizer's attribute that it repeats."""
    SIZES: ClassVar[Mapping[str, Mapping[str, int]]] = {}
    """Name of a size -> its settings, for an encoder that is made from scratch."""

    def __post_init__(self) -> None:
        convert_fields(self)

    check_sizes = check_counts
    check_rates = check_rates

    def check_padding(self) -> None:
        """Raise ValueError unless the padding's id is a token, or None."""
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"pad_token_id {self.pad_token_id} is no token of a vocabulary of "
                f"{self.vocab_size}; take the tokenizer's"
            )

    @classmethod
    def from_hub(cls: type[C], config: Mapping[str, Any]) -> C:
        """Read a hub config.json; every key of it is read, known to be without effect, or said to
        be unknown.

        Raises:
            ValueError: a key asks for what is not computed here, or has a value of a wrong type.
        """
        kinds = kinds_of(cls)
        names = {f.name: cls.HUB.names.get(f.name, f.name) for f in fields(cls)}
        only = {**ONLY, **{name: (value,) for name, value in cls.HUB.fixed.items()}}
        known = NO_EFFECT | cls.HUB.read | {*names.values()}
        check_keys(config, only, known, file="config.json", reader=cls.__name__)
        given = {ours: theirs for ours, theirs in names.items() if theirs in config}
        return cls(**{o: convert(config[theirs], kinds[o], theirs) for o, theirs in given.items()})

    @classmethod
    def of_size(cls: type[C], size: str) -> C:
        """The config of a named size of SIZES."""
        if size not in cls.SIZES:
            known = f"known are {', '.join(cls.SIZES)}" if cls.SIZES else "it has none"
            raise ValueError(
                f"{cls.__name__} has no size called {size!r}, {known}; give a config.json in its "
                "place (--encoder-config)"
            )
        return cls(**cls.SIZES[size])

    def to_hub(self) -> dict[str, Any]:
        """The settings of a hub config.json, without model_type and architectures."""
        named = {self.HUB.names.get(f.name, f.name): getattr(self, f.name) for f in fields(self)}
        return {**self.HUB.fixed, **named}


class Encoder(nn.Module, ABC, Generic[C]):
    """Token ids in, one vector a token out; C is the class of its config."""

    Config: ClassVar[type[EncoderConfig]]
    name: ClassVar[str]
    """The registered name, which is also config.json's `model_type`."""
    ROLES: ClassVar[Mapping[str, str]]
    """Linear map or embedding table, as in `HUB.keys` -> its role, by which adapters choose."""
    TOKENIZER: ClassVar[Literal["wordpiece", "bpe"]] = "wordpiece"
    """What kind of tokenizer is learnt for it when it is made from scratch."""
    SUMS: ClassVar[tuple[str, str]] = ("attention_norm", "feed_forward_norm")
    """The modules of a layer that add attention's output, and the feed-forward block's, to what
    went in: norm(residual + dropout(output)), called with the two. Adapters take their places."""

    config: C
    gradient_checkpointing: bool = False
    """In training, keep each layer's input alone, and compute the layer again in the backward pass:
    less memory, about a third more time (Chen et al., 2016, arXiv:1604.06174)."""

    def __init__(self, config: C) -> None:
        super().__init__()
        self.config = config
        self.choice = Choice()
        """Which task's parameters take part, where tasks have some of their own."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        layout: Layout | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> EncoderOutput:
        """Encode a padded batch, or a packed one when given its layout.

        Args:
            input_ids: (B, S), or (T,) with a packed layout; int64.
            attention_mask: (B, S), bool or 0/1, 1 at real tokens; without it all tokens are real.
            token_type_ids: segment of each token, shaped like input_ids; zeros by default.
            layout: in place of attention_mask.
            output_hidden_states: return the embeddings and every layer's output too.
            output_attentions: return every layer's attention probabilities too.
        """
        input_ids = _ids(input_ids, "input_ids")
        if layout is None:
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            layout = Padded(mask)
        elif attention_mask is not None:
            raise ValueError("attention_mask and layout say the same thing; pass one of them")
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        token_type_ids = _ids(token_type_ids, "token_type_ids")
        for name, ids in (("input_ids", input_ids), ("token_type_ids", token_type_ids)):
            if tuple(ids.shape) != layout.shape:
                raise ValueError(
                    f"{name} have shape {tuple(ids.shape)}, and the attention mask or layout is "
                    f"for {layout.shape}; they must be equal"
                )
        if layout.max_length > self.config.max_positions:
            raise ValueError(
                f"a sequence has {layout.max_length} tokens, and this encoder has positions for "
                f"{self.config.max_positions}; truncate when tokenizing (max_length)"
            )
        if output_attentions:
            if self.gradient_checkpointing and self.training:
                raise ValueError(
                    "attention maps are not kept under gradient checkpointing; turn one of the "
                    "two off, or call .eval()"
                )
            layout = layout.whole()
        attentions: list[Tensor] | None = [] if output_attentions else None
        try:
            states = self.encode(input_ids, token_type_ids, layout, attentions)
        except IndexError:  # of an embedding table, on a CPU
            segments = getattr(self.config, "type_vocab_size", "any number of")
            raise ValueError(
                f"input_ids are from {input_ids.min()} to {input_ids.max()}, token_type_ids to "
                f"{token_type_ids.max()}; this encoder has {self.config.vocab_size} tokens and "
                f"{segments} segments, counted from 0; encode texts with its own tokenizer"
            ) from None
        return EncoderOutput(
            last_hidden_state=states[-1],
            pooler_output=self.pool(states[-1], layout),
            layout=layout,
            hidden_states=tuple(states) if output_hidden_states else None,
            attentions=None if attentions is None else tuple(attentions),
        )

    @property
    def has_pooler(self) -> bool:
        """Whether this encoder gives a `pooler_output`."""
        return "pooler" in dict(self.depths())

    @property
    def word_embeddings(self) -> nn.Module:
        """The table of words, by its role; (..., E) comes out of it."""
        (place,) = (place for place, role in self.ROLES.items() if role == "word_embeddings")
        return self.get_submodule(place)

    @property
    def attention_size(self) -> int:
        """Features of a key, and of a value, all heads together."""
        return self.config.hidden_size

    @property
    def layers_by_name(self) -> dict[str, nn.Module]:
        """The layers from input to output, as in `depths`: "layer 1", ..."""
        return {name: part for name, part in self.depths() if name.startswith("layer ")}

    def run(self, layer: nn.Module, *inputs: Any) -> Tensor:
        """A layer's output, with gradient checkpointing where that is on."""
        if not (self.gradient_checkpointing and self.training and torch.is_grad_enabled()):
            return layer(*inputs)
        task = self.choice.task

        def computed(*inputs: Any) -> Tensor:
            with self.choice.of(task):  # in the backward pass too, when the block is left
                return layer(*inputs)

        return checkpoint(computed, *inputs, use_reentrant=False)

    def compile_layers(self, backend: str = "inductor") -> None:
        """Let torch.compile fuse what each layer does to tokens one by one, at its first call.

        Attention stays as it is: its products are kernels already, and its shapes change from batch
        to batch. The names of parameters stay too.
        """
        for layer in self.layers_by_name.values():
            for name, module in layer.named_children():
                if name != "attention":
                    module.compile(backend=backend, dynamic=True)

    @abstractmethod
    def encode(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        layout: Layout,
        attentions: list[Tensor] | None,
    ) -> list[Tensor]:
        """The embeddings and each layer's output; attention maps are added to `attentions`."""

    @abstractmethod
    def pool(self, last_hidden_state: Tensor, layout: Layout) -> Tensor | None:
        """The pooler's output (B, H), or None for an encoder without one."""

    @abstractmethod
    def make_mlm_head(self) -> nn.Module:
        """A new masked-language-model head, tied to this encoder's word embeddings."""

    @abstractmethod
    def initialise(self, module: nn.Module) -> None:
        """Give a module of this encoder, or its head, its values before training."""

    @abstractmethod
    def depths(self) -> list[tuple[str, nn.Module]]:
        """The encoder's parts from input to output, as in embeddings, each layer, pooler; each is a
        module that is called."""


def _ids(ids: Any, name: str) -> Tensor:
    """Ids as a tensor, from an array or lists too."""
    try:
        ids = torch.as_tensor(ids)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} are no rectangle of whole numbers ({error}); pad rows of different lengths, "
            "or lay them end to end with layout=Packed(lengths)"
        ) from None
    if ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{name} must be int64, they are {ids.dtype}; pass ids.long()")
    return ids


def pattern_of(place: str) -> str:
    """A module's name as tables have it: layers.3.attention -> layers.{n}.attention."""
    return re.sub(r"\.\d+\.", ".{n}.", place)


def name_in(table: Mapping[str, str], place: str) -> str:
    """What a table such as `HubFormat.keys` calls a module: {n} becomes the layer's number."""
    number = re.search(r"\.(\d+)\.", place)
    return table[pattern_of(place)].format(n=number and number[1])


E_ = TypeVar("E_", bound=type[Encoder])
ENCODERS: dict[str, type[Encoder]] = {}
"""The encoders by name; import minbert.encoders to have all of them in it."""


def register(name: str) -> Callable[[E_], E_]:
    """Class decorator: make an encoder known under config.json's `model_type`."""

    def add(cls: E_) -> E_:
        cls.name = name
        ENCODERS[name] = cls
        return cls

    return add
