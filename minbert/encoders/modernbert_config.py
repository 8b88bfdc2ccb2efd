"""The settings of a ModernBERT, and how a hub config.json writes them.

Apart from modernbert.py, for transformers 4 and 5 write the kinds of layers and the bases of their
rotary positions each in their own way, and both are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from minbert.encoder import EncoderConfig
from minbert.encoders.modernbert_hub import MODERNBERT
from minbert.files import brief

GLOBAL, LOCAL = "full_attention", "sliding_attention"
"""What a hub config.json calls the two kinds of layers."""


@dataclass(frozen=True, kw_only=True)
class ModernBertConfig(EncoderConfig):
    """Sizes and rates of a ModernBERT; the defaults are ModernBERT-base."""

    vocab_size: int = 50368
    """V, tokens in the vocabulary."""
    hidden_size: int = 768
    """H, features of a token."""
    num_layers: int = 22
    """Transformer layers."""
    num_heads: int = 12
    """N, attention heads; divides hidden_size into an even head size."""
    intermediate_size: int = 1152
    """I, inner features of the feed-forward block, after the gate."""
    max_positions: int = 8192
    """The longest sequence that it was trained for."""
    global_every: int = 3
    """Layers 0, n, 2 n, ... attend globally, the others locally."""
    local_attention: int = 128
    """The local layers' window: a token sees half of it on either side, and itself."""
    global_theta: float = 160_000.0
    """Base of the rotary positions in global layers."""
    local_theta: float = 10_000.0
    """Base of the rotary positions in local layers."""
    global_rope_factor: float = 1.0
    """What positions are divided by in global layers: linear scaling, for longer sequences."""
    local_rope_factor: float = 1.0
    """The same in local layers."""
    layer_norm_eps: float = 1e-5
    """Added to the variance in LayerNorm."""
    initializer_cutoff: float = 2.0
    """Initial values lie within this many standard deviations."""
    embedding_dropout: float = 0.0
    """Dropout on the embeddings."""
    attention_dropout: float = 0.0
    """Dropout on the attention probabilities and on the attention block's output."""
    mlp_dropout: float = 0.0
    """Dropout on the inner features of the feed-forward block."""
    classifier_dropout: float = 0.0
    """Dropout on the pooler's output."""
    classifier_pooling: Literal["cls", "mean"] = "cls"
    """What the pooler takes of a sequence: its first token or its mean."""
    pad_token_id: int | None = 50283
    """Padding."""
    bos_token_id: int | None = 50281
    """First token; like the three below it is kept for a config.json."""
    eos_token_id: int | None = 50282
    """Last token."""
    cls_token_id: int | None = 50281
    """[CLS]."""
    sep_token_id: int | None = 50282
    """[SEP]."""

    SIZES: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "tiny": {"hidden_size": 128, "num_layers": 3, "num_heads": 2, "intermediate_size": 176},
        "mini": {"hidden_size": 256, "num_layers": 6, "num_heads": 4, "intermediate_size": 352},
        "small": {"hidden_size": 512, "num_layers": 8, "num_heads": 8, "intermediate_size": 768},
        "base": {"hidden_size": 768, "num_layers": 22, "num_heads": 12, "intermediate_size": 1152},
        "large": {
            "hidden_size": 1024,
            "num_layers": 28,
            "num_heads": 16,
            "intermediate_size": 2624,
        },
    }
    """Base and large are the paper's; the layers of tiny and mini have about as many parameters as
    those of a BERT of these names."""

    TOKEN_IDS: ClassVar[Mapping[str, str]] = {
        "pad_token_id": "pad_id",
        "bos_token_id": "cls_id",
        "eos_token_id": "sep_id",
        "cls_token_id": "cls_id",
        "sep_token_id": "sep_id",
    }
    HUB = MODERNBERT

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_sizes(
            "vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size",
            "global_every", "max_positions",
        )  # fmt: skip
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by 2 x num_heads "
                f"{self.num_heads}, and rotary positions take features two by two; choose a divisor"
            )
        if self.local_attention < 2:
            raise ValueError(f"local_attention must be at least 2, it is {self.local_attention}")
        self.check_padding()
        if self.classifier_pooling not in ("cls", "mean"):
            raise ValueError(
                f"classifier_pooling is {self.classifier_pooling!r}; choose one of cls, mean"
            )
        self.check_rates(
            "embedding_dropout", "attention_dropout", "mlp_dropout", "classifier_dropout"
        )
        for name in ("global_theta", "local_theta", "global_rope_factor", "local_rope_factor"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be more than 0, it is {getattr(self, name)}")

    @property
    def layer_types(self) -> list[str]:
        """The kind of each layer, in the words of a hub config.json."""
        return [LOCAL if n % self.global_every else GLOBAL for n in range(self.num_layers)]

    @property
    def ropes(self) -> tuple[tuple[str, float, float], ...]:
        """Of each kind of layers: its name, and the base and the divisor of its positions."""
        return (
            (GLOBAL, self.global_theta, self.global_rope_factor),
            (LOCAL, self.local_theta, self.local_rope_factor),
        )

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> ModernBertConfig:
        """Read a hub config.json, with transformers 5's names for some settings or the older."""
        settings = dict(config)
        for kind, name in ((GLOBAL, "global_rope_theta"), (LOCAL, "local_rope_theta")):
            rope = _rope(config, kind)
            settings[name] = rope.get("rope_theta", config.get(name, cls._theta(kind)))
            settings[f"rope_parameters.{kind}.factor"] = rope.get("factor", 1.0)
        types = config.get("layer_types")
        if types is not None:
            settings["global_attn_every_n_layers"] = _period(types)
        return super().from_hub(settings)

    def to_hub(self) -> dict[str, Any]:
        """The settings of a hub config.json, in the words of transformers 5 and of 4."""
        hub = {name: value for name, value in super().to_hub().items() if "." not in name}
        ropes = {}
        for kind, theta, factor in self.ropes:
            scaling = {"rope_type": "default"}
            if factor != 1:
                scaling = {"rope_type": "linear", "factor": factor}
            ropes[kind] = {**scaling, "rope_theta": theta}
        return {**hub, "layer_types": self.layer_types, "rope_parameters": ropes}

    @classmethod
    def _theta(cls, kind: str) -> float:
        return cls.global_theta if kind == GLOBAL else cls.local_theta


def _rope(config: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """What config.json says of the rotary positions of a kind of layers: rope_theta, and the factor
    of linear scaling.

    Raises:
        ValueError: it asks for another kind of scaling.
    """
    parameters = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or {}
    rope = parameters.get(kind) or {} if isinstance(parameters, Mapping) else None
    mappings = isinstance(rope, Mapping) and isinstance(scaling, Mapping)
    if not mappings or parameters.keys() - {GLOBAL, LOCAL}:
        raise ValueError(
            f"config.json says rope_parameters = {brief(parameters)} and rope_scaling = "
            f"{brief(scaling)}; rope_parameters has an object for {GLOBAL} and one for {LOCAL}, "
            "and rope_scaling is an object"
        )
    rope = {**rope, **scaling}
    name = rope.get("rope_type", "default")
    read = {"rope_type", "type", "rope_theta"} | ({"factor"} if name == "linear" else set())
    wrong = [f"{key} = {brief(rope[key])}" for key in rope if key not in read]
    if name not in ("default", "linear") or rope.get("type", name) != name:
        wrong = [f"{key} = {brief(rope[key])}" for key in ("rope_type", "type") if key in rope]
    if wrong:
        raise ValueError(
            f"config.json says {', '.join(wrong)}, and ModernBertConfig computes 'default' rotary "
            "positions, or 'linear' with a factor; load another checkpoint"
        )
    if name == "linear" and "factor" not in rope:
        raise ValueError("config.json says rope_type = 'linear' and no factor; give one")
    return rope


def _period(types: list[str]) -> int:
    """n where every n-th layer is global, from the first."""
    for n in range(1, len(types) + 1):
        if types == [LOCAL if place % n else GLOBAL for place in range(len(types))]:
            return n
    raise ValueError(
        f"config.json says layer_types = {types}, and ModernBERT's global layers are each n-th, "
        "from the first; load another checkpoint"
    )
