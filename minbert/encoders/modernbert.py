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
"..." is (B, S) in a padded batch and (T,) in a packed one: see minbert/layouts.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from minbert.attend import attend
from minbert.attention import apply_rope, rope_angles
from minbert.encoder import Encoder, register
from minbert.encoders.modernbert_config import LOCAL, ModernBertConfig
from minbert.layouts import Layout
from minbert.quick import Dropout, Linear, compose


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
        self.num_heads = config.num_heads
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
        x = self.query_key_value(x).unflatten(-1, (3, self.num_heads, -1))  # (..., 3, N, D)
        query, key, value = x.unbind(-3)
        query, key = apply_rope(query, *rope), apply_rope(key, *rope)
        context = attend(
            layout,
            query.flatten(-2),  # (..., H) each
            key.flatten(-2),
            value.flatten(-2),
            self.num_heads,
            self.dropout,
            window=self.window,
            attentions=attentions,
        )
        return self.output_dropout(self.output(context))  # (..., H)


def geglu(x: Tensor) -> Tensor:
    """A GELU of one half of the features gates the other: (..., 2 I) -> (..., I)."""
    activated, gate = x.chunk(2, dim=-1)
    return F.gelu(activated) * gate


class GatedFeedForward(nn.Module):
    """outer(dropout(geglu(inner(x))))."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.inner = Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.dropout = Dropout(config.mlp_dropout)
        self.outer = Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return compose(self.outer, self.dropout, geglu)(self.inner(x))  # (..., H)


class Add(nn.Module):
    """residual + block's output: BERT's add & norm, without its dropout and its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.norm = nn.Identity(), nn.Identity()

    def forward(self, residual: Tensor, output: Tensor) -> Tensor:
        return residual + output  # (..., H)


class ModernBertLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): pre-norm."""

    def __init__(self, config: ModernBertConfig, number: int) -> None:
        super().__init__()
        self.attention_norm = layer_norm(config) if number > 0 else nn.Identity()
        self.attention = SelfAttention(config, config.layer_types[number])
        self.attention_sum = Add()
        self.feed_forward_norm = layer_norm(config)
        self.feed_forward = GatedFeedForward(config)
        self.feed_forward_sum = Add()

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        rope: tuple[Tensor, Tensor],
        attentions: list[Tensor] | None = None,
    ) -> Tensor:
        attended = self.attention(self.attention_norm(x), layout, rope, attentions)
        x = self.attention_sum(x, attended)
        return self.feed_forward_sum(x, self.feed_forward(self.feed_forward_norm(x)))  # (..., H)


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

    def __init__(self, pooler: Pooler, embeddings: Embeddings) -> None:
        super().__init__()
        self.pooler = pooler  # tied: the encoder's own modules
        self.embeddings = embeddings
        weight = embeddings.word.weight
        self.bias = nn.Parameter(weight.new_zeros(len(weight)))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.pooler(x), self.embeddings.word.weight, self.bias)  # (..., V)


@register("modernbert")
class ModernBert(Encoder[ModernBertConfig]):
    """ModernBERT's encoder. Called as `modernbert(input_ids, attention_mask)`."""

    Config = ModernBertConfig
    TOKENIZER = "bpe"
    SUMS = ("attention_sum", "feed_forward_sum")

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__(config)
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
        ropes = {
            kind: rope_angles(layout.positions / factor, head_size, theta)
            for kind, theta, factor in self.config.ropes
        }
        states = [self.embeddings(input_ids)]
        for kind, layer in zip(self.config.layer_types, self.layers, strict=True):
            states.append(self.run(layer, states[-1], layout, ropes[kind], attentions))
        states[-1] = self.final_norm(states[-1])
        return states

    def pool(self, last_hidden_state: Tensor, layout: Layout) -> Tensor:
        pool = layout.first if self.config.classifier_pooling == "cls" else layout.mean
        return self.pooler_dropout(self.pooler(pool(last_hidden_state)))

    def make_mlm_head(self) -> MaskedLanguageModelHead:
        return MaskedLanguageModelHead(self.pooler, self.embeddings)

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

    ROLES: ClassVar[Mapping[str, str]] = {
        "embeddings.word": "word_embeddings",
        "layers.{n}.attention.query_key_value": "query_key_value",
        "layers.{n}.attention.output": "attention_output",
        "layers.{n}.feed_forward.inner": "feed_forward_inner",
        "layers.{n}.feed_forward.outer": "feed_forward_outer",
        "pooler.dense": "pooler",
    }
