"""ModernBERT: a BERT with what was learned since.

Warner et al. (2024), arXiv:2412.13663. What differs from BERT:
- LayerNorm at the beginning of each block ("pre-norm", Xiong et al., 2020, arXiv:2002.04745), and
  once more at the end; the first layer's attention has none, for the embeddings are normalised.
- Rotary positions (RoPE) in place of a table of position embeddings; no segments.
- GeGLU in the feed-forward block: gelu(x A) * (x B) C (Shazeer, 2020, arXiv:2002.05202).
- Every third layer attends globally, the others to near tokens only, which costs time in
  proportion to the length; sequences of 8,192 tokens.
- No biases but the decoder's, and none in LayerNorm.
- The pooler is the masked-language-model head's own first half.

B batch, S sequence, N heads, D head size, H = N * D hidden size, I intermediate size, V vocabulary.
"..." is (B, S) in a padded batch and (T,) in a packed one: see minbert/attention.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from minbert import flash
from minbert.attention import (
    Layout,
    apply_rope,
    local_attention,
    merge_heads,
    rope_angles,
    scaled_dot_product_attention,
)
from minbert.base import Encoder, EncoderConfig, register
from minbert.quick import Dropout, Linear, attention

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
    pad_token_id: int = 50283
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
        "tiny": {"hidden_size": 128, "num_layers": 4, "num_heads": 2, "intermediate_size": 192},
        "mini": {"hidden_size": 256, "num_layers": 6, "num_heads": 4, "intermediate_size": 384},
        "small": {"hidden_size": 512, "num_layers": 8, "num_heads": 8, "intermediate_size": 768},
        "base": {"hidden_size": 768, "num_layers": 22, "num_heads": 12, "intermediate_size": 1152},
        "large": {
            "hidden_size": 1024,
            "num_layers": 28,
            "num_heads": 16,
            "intermediate_size": 2624,
        },
    }
    """Base and large are the paper's; the smaller ones are shapes to train from scratch."""

    TOKEN_IDS: ClassVar = {
        "pad_token_id": "pad_id",
        "bos_token_id": "cls_id",
        "eos_token_id": "sep_id",
        "cls_token_id": "cls_id",
        "sep_token_id": "sep_id",
    }
    HUB_NAMES: ClassVar = {
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "max_positions": "max_position_embeddings",
        "global_every": "global_attn_every_n_layers",
        "global_theta": "global_rope_theta",
        "local_theta": "local_rope_theta",
        "layer_norm_eps": "norm_eps",
        "initializer_cutoff": "initializer_cutoff_factor",
    }
    HUB_FIXED: ClassVar = {
        "hidden_activation": "gelu",
        "classifier_activation": "gelu",
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "classifier_bias": False,
        "decoder_bias": True,
        "tie_word_embeddings": True,
    }

    def __post_init__(self) -> None:
        names = ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size")
        for name in (*names, "global_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, it is {getattr(self, name)}")
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by 2 x num_heads "
                f"{self.num_heads}, and rotary positions take features two by two; choose a divisor"
            )
        if self.local_attention < 2:
            raise ValueError(f"local_attention must be at least 2, it is {self.local_attention}")
        if not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"pad_token_id {self.pad_token_id} is no token of a vocabulary of "
                f"{self.vocab_size}; take the tokenizer's"
            )
        if self.classifier_pooling not in ("cls", "mean"):
            raise ValueError(
                f"classifier_pooling is {self.classifier_pooling!r}; choose one of cls, mean"
            )
        for name in ("embedding", "attention", "mlp", "classifier"):
            rate = getattr(self, f"{name}_dropout")
            if not 0 <= rate < 1:
                raise ValueError(f"{name}_dropout must be in [0, 1), it is {rate}")

    @property
    def layer_types(self) -> list[str]:
        """The kind of each layer, in the words of a hub config.json."""
        return [LOCAL if n % self.global_every else GLOBAL for n in range(self.num_layers)]

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> ModernBertConfig:
        """Read a hub config.json, with transformers 5's names for some settings or the older."""
        settings = dict(config)
        for kind, name in ((GLOBAL, "global_rope_theta"), (LOCAL, "local_rope_theta")):
            rope = (config.get("rope_parameters") or {}).get(kind) or {}
            if rope.get("rope_type", "default") != "default":
                raise ValueError(
                    f"config.json says rope_type = {rope['rope_type']!r}, and {cls.__name__} "
                    "computes 'default' only; load another checkpoint"
                )
            settings[name] = rope.get("rope_theta", config.get(name, cls._theta(kind)))
        types = config.get("layer_types")
        if types is not None:
            settings["global_attn_every_n_layers"] = _period(types)
        return super().from_hub(settings)

    def to_hub(self) -> dict[str, Any]:
        """The settings of a hub config.json, in the words of transformers 5 and of 4."""
        thetas = {GLOBAL: self.global_theta, LOCAL: self.local_theta}
        ropes = {k: {"rope_type": "default", "rope_theta": v} for k, v in thetas.items()}
        return {**super().to_hub(), "layer_types": self.layer_types, "rope_parameters": ropes}

    @classmethod
    def _theta(cls, kind: str) -> float:
        return cls.global_theta if kind == GLOBAL else cls.local_theta


def _period(types: list[str]) -> int:
    """n where every n-th layer is global, from the first."""
    for n in range(1, len(types) + 1):
        if types == [LOCAL if place % n else GLOBAL for place in range(len(types))]:
            return n
    raise ValueError(
        f"config.json says layer_types = {types}, and ModernBERT's global layers are each n-th, "
        "from the first; load another checkpoint"
    )


def layer_norm(config: ModernBertConfig) -> nn.LayerNorm:
    """LayerNorm with a weight and no bias."""
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)


class Embeddings(nn.Module):
    """LayerNorm(word), then dropout: positions come in the attention."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.norm = layer_norm(config)
        self.dropout = Dropout(config.embedding_dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.dropout(self.norm(self.word(input_ids)))  # (..., H)


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions, to all tokens or to near ones."""

    def __init__(self, config: ModernBertConfig, kind: str) -> None:
        super().__init__()
        self.heads = (config.num_heads, config.hidden_size // config.num_heads)  # (N, D)
        self.window = config.local_attention // 2 if kind == LOCAL else None
        self.query_key_value = Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.dropout = Dropout(config.attention_dropout)
        self.output = Linear(config.hidden_size, config.hidden_size, bias=False)
        self.output_dropout = Dropout(config.attention_dropout)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        rope: tuple[Tensor, Tensor],
        attentions: list[Tensor] | None = None,
    ) -> Tensor:
        def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
            tokens = [t.transpose(1, 2) for t in (query, key, value)]  # (B, N, S, D)
            inputs = (*tokens, mask[:, None, None, :])  # (B, 1, 1, S): no query sees padding
            if attentions is None:
                context = attention(*inputs, self.dropout, window=self.window)
            else:
                if self.window is None:
                    found = scaled_dot_product_attention(*inputs, self.dropout)
                else:
                    found = local_attention(*inputs, self.window, self.dropout)
                context, probabilities = found
                attentions.append(probabilities)
            return merge_heads(context)  # (B, S, H)

        x = self.query_key_value(x).unflatten(-1, (3, *self.heads))  # (..., 3, N, D)
        query, key, value = x.unbind(-3)  # (..., N, D)
        query, key = apply_rope(query, *rope), apply_rope(key, *rope)
        if attentions is None and flash.serves(layout, query, self.dropout, window=self.window):
            tokens = query, key, value
            context = flash.attention(layout, *tokens, self.dropout, window=self.window)
        else:
            context = layout.per_sequence(attend, query, key, value)
        return self.output_dropout(self.output(context))  # (..., H)


class GatedFeedForward(nn.Module):
    """GeGLU: a GELU of one half of the inner features gates the other."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.inner = Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.dropout = Dropout(config.mlp_dropout)
        self.outer = Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated, gate = self.inner(x).chunk(2, dim=-1)  # (..., I) each
        return self.outer(self.dropout(F.gelu(activated) * gate))  # (..., H)


class ModernBertLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): pre-norm."""

    def __init__(self, config: ModernBertConfig, number: int) -> None:
        super().__init__()
        self.kind = config.layer_types[number]
        self.attention_norm = layer_norm(config) if number > 0 else nn.Identity()
        self.attention = SelfAttention(config, self.kind)
        self.feed_forward_norm = layer_norm(config)
        self.feed_forward = GatedFeedForward(config)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        rope: tuple[Tensor, Tensor],
        attentions: list[Tensor] | None = None,
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), layout, rope, attentions)
        return x + self.feed_forward(self.feed_forward_norm(x))  # (..., H)


class Pooler(nn.Module):
    """LayerNorm(gelu(W h)), of a sequence's pooled vector, or of each token to predict it."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=False)
        self.norm = layer_norm(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.gelu(self.dense(x)))  # (..., H)


class MaskedLanguageModelHead(nn.Module):
    """Scores over the vocabulary for each token; the decoder's matrix is the word embedding."""

    def __init__(self, pooler: Pooler, word_embedding: nn.Embedding) -> None:
        super().__init__()
        self.pooler = pooler  # tied: the encoder's own modules
        self.word = word_embedding
        self.bias = nn.Parameter(word_embedding.weight.new_zeros(word_embedding.num_embeddings))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.pooler(x), self.word.weight, self.bias)  # (..., V)


@register("modernbert")
class ModernBert(Encoder):
    """ModernBERT's encoder. Called as `modernbert(input_ids, attention_mask)`."""

    Config = ModernBertConfig
    HUB_CLASSES = ("ModernBertModel", "ModernBertForMaskedLM")

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(ModernBertLayer(config, n) for n in range(config.num_layers))
        self.final_norm = layer_norm(config)
        self.pooler = Pooler(config)
        self.pooler_dropout = Dropout(config.classifier_dropout)
        self.apply(self.initialise)

    def encode(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,  # no part of this encoder
        layout: Layout,
        attentions: list[Tensor] | None,
    ) -> list[Tensor]:
        head_size = self.config.hidden_size // self.config.num_heads
        thetas = {GLOBAL: self.config.global_theta, LOCAL: self.config.local_theta}
        ropes = {k: rope_angles(layout.positions, head_size, v) for k, v in thetas.items()}
        states = [self.embeddings(input_ids)]
        for layer in self.layers:
            states.append(self.run(layer, states[-1], layout, ropes[layer.kind], attentions))
        states[-1] = self.final_norm(states[-1])
        return states

    def pool(self, last_hidden_state: Tensor, layout: Layout) -> Tensor:
        pool = layout.first if self.config.classifier_pooling == "cls" else layout.mean
        return self.pooler_dropout(self.pooler(pool(last_hidden_state)))

    def make_mlm_head(self) -> MaskedLanguageModelHead:
        return MaskedLanguageModelHead(self.pooler, self.embeddings.word)

    def depths(self) -> list[tuple[str, nn.Module]]:
        layers = [(f"layer {n}", layer) for n, layer in enumerate(self.layers, start=1)]
        end = [("final norm", self.final_norm), ("pooler", self.pooler)]
        return [("embeddings", self.embeddings), *layers, *end]

    def initialise(self, module: nn.Module) -> None:
        """Normal(0, initializer_range), cut off, for matrices; LayerNorm the identity.

        Linear maps back to H features, whose outputs the layers add up, start smaller by √(2 L).
        """
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.Linear | nn.Embedding):
            std = self.config.initializer_range
            if isinstance(module, nn.Linear) and module.out_features == self.config.hidden_size:
                std /= math.sqrt(2 * self.config.num_layers)
            cutoff = self.config.initializer_cutoff * std
            nn.init.trunc_normal_(module.weight, std=std, a=-cutoff, b=cutoff)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])

    PREFIX = "model."
    OUTSIDE = ("head.",)
    KEYS: ClassVar = {
        "embeddings.word": "embeddings.tok_embeddings",
        "embeddings.norm": "embeddings.norm",
        "layers.{n}.attention_norm": "layers.{n}.attn_norm",
        "layers.{n}.attention.query_key_value": "layers.{n}.attn.Wqkv",
        "layers.{n}.attention.output": "layers.{n}.attn.Wo",
        "layers.{n}.feed_forward_norm": "layers.{n}.mlp_norm",
        "layers.{n}.feed_forward.inner": "layers.{n}.mlp.Wi",
        "layers.{n}.feed_forward.outer": "layers.{n}.mlp.Wo",
        "final_norm": "final_norm",
        "pooler.dense": "head.dense",
        "pooler.norm": "head.norm",
    }
    MLM_KEYS: ClassVar = {"bias": "decoder.bias"}
    TIED: ClassVar = {"decoder.weight": "embeddings.tok_embeddings.weight"}
    DROPPED: ClassVar = {
        "decoder.weight": "tied to the word embeddings",
        "decoder.bias": "the masked-language-model head, which was not asked for",
        "classifier": "the head of another task",
    }

    ROLES: ClassVar = {
        "embeddings.word": "word_embeddings",
        "layers.{n}.attention.query_key_value": "query_key_value",
        "layers.{n}.attention.output": "attention_output",
        "layers.{n}.feed_forward.inner": "feed_forward_inner",
        "layers.{n}.feed_forward.outer": "feed_forward_outer",
        "pooler.dense": "pooler",
    }
