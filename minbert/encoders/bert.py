"""BERT: Bidirectional Encoder Representations from Transformers.

Devlin et al. (2019), arXiv:1810.04805: the encoder of the Transformer (Vaswani et al., 2017,
arXiv:1706.03762) with learned positions, a segment embedding, LayerNorm after each residual sum
("post-norm"), exact GELU, and a pooler on [CLS]. Dropout stands where the original has it: on the
embeddings after LayerNorm, on the attention probabilities, and on each block's output before the
residual sum.

B batch, S sequence, N heads, D head size, H = N * D hidden size, I intermediate size, V vocabulary.
"..." is (B, S) in a padded batch and (T,) in a packed one: see minbert/layouts.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert.attend import attend
from minbert.encoder import Encoder, EncoderConfig, register
from minbert.encoders.bert_hub import BERT
from minbert.layouts import Layout
from minbert.quick import Dropout, Linear, compose


@dataclass(frozen=True, kw_only=True)
class BertConfig(EncoderConfig):
    """Sizes and rates of a BERT; the defaults are bert-base-uncased."""

    vocab_size: int = 30522
    """V, tokens in the vocabulary."""
    hidden_size: int = 768
    """H, features of a token."""
    num_layers: int = 12
    """Transformer layers."""
    num_heads: int = 12
    """N, attention heads; divides hidden_size."""
    intermediate_size: int = 3072
    """I, inner features of the feed-forward block."""
    max_positions: int = 512
    """The longest sequence that has position embeddings."""
    type_vocab_size: int = 2
    """Segments: 0 for the first text, 1 for the second of a pair."""
    layer_norm_eps: float = 1e-12
    """Added to the variance in LayerNorm."""
    hidden_dropout: float = 0.1
    """Dropout on the embeddings and on each block's output."""
    attention_dropout: float = 0.1
    """Dropout on the attention probabilities."""

    HUB = BERT
    SIZES: ClassVar[Mapping[str, Mapping[str, int]]] = {
        name: {
            "num_layers": layers,
            "hidden_size": hidden,
            "num_heads": hidden // 64,
            "intermediate_size": 4 * hidden,
        }
        for name, layers, hidden in (
            ("tiny", 2, 128),
            ("mini", 4, 256),
            ("small", 4, 512),
            ("medium", 8, 512),
            ("base", 12, 768),
        )
    }
    """Turc et al. (2019), arXiv:1908.08962, table 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_sizes(
            "vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size",
            "max_positions", "type_vocab_size",
        )  # fmt: skip
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}; "
                "choose a divisor"
            )
        self.check_rates("hidden_dropout", "attention_dropout")
        self.check_padding()


class WordEmbeddings(nn.Module):
    """Embeddings with a table of words, to which a decoder is tied."""

    word: nn.Embedding


class Embeddings(WordEmbeddings):
    """LayerNorm(word + position + segment), then dropout."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.position = nn.Embedding(config.max_positions, config.hidden_size)
        self.token_type = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, positions: Tensor) -> Tensor:
        x = self.word(input_ids) + self.position(positions) + self.token_type(token_type_ids)
        return self.dropout(self.norm(x))  # (..., H)


class SelfAttention(nn.Module):
    """Multi-head self-attention: each head attends to all tokens of its own sequence."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.attention_dropout)
        self.output = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, layout: Layout, attentions: list[Tensor] | None = None) -> Tensor:
        query, key, value = self.query(x), self.key(x), self.value(x)  # (..., H) each
        context = attend(
            layout, query, key, value, self.num_heads, self.dropout, attentions=attentions
        )
        return self.output(context)  # (..., H)


class FeedForward(nn.Module):
    """outer(gelu(inner(x))): two linear maps with a GELU between them, on each token alone."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.inner = Linear(config.hidden_size, config.intermediate_size)
        self.outer = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return compose(self.outer, F.gelu)(self.inner(x))  # (..., I) -> (..., H)


class AddNorm(nn.Module):
    """LayerNorm(residual + Dropout(block's output)): post-norm, dropout before the sum."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dropout = Dropout(config.hidden_dropout)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, residual: Tensor, output: Tensor) -> Tensor:
        return self.norm(residual + self.dropout(output))  # (..., H)


class BertLayer(nn.Module):
    """Self-attention and feed-forward, each followed by add & norm."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = AddNorm(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = AddNorm(config)

    def forward(self, x: Tensor, layout: Layout, attentions: list[Tensor] | None = None) -> Tensor:
        x = self.attention_norm(x, self.attention(x, layout, attentions))
        return self.feed_forward_norm(x, self.feed_forward(x))  # (..., H)


class Pooler(nn.Module):
    """tanh(W h_[CLS] + b): one vector for a sequence."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, first: Tensor) -> Tensor:
        return torch.tanh(self.dense(first))  # (B, H)


class MaskedLanguageModelHead(nn.Module):
    """Scores over the vocabulary for each token; the decoder's matrix is the word embedding."""

    def __init__(self, config: BertConfig, embeddings: WordEmbeddings) -> None:
        super().__init__()
        self.embeddings = embeddings  # tied: the encoder's own module
        vocab_size, size = embeddings.word.weight.shape  # H, but for narrower embeddings
        self.dense = Linear(config.hidden_size, size)
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(F.gelu(self.dense(x)))  # (..., H)
        return F.linear(x, self.embeddings.word.weight, self.bias)  # (..., V)


@register("bert")
class Bert(Encoder[BertConfig]):
    """BERT's encoder. Called as `bert(input_ids, attention_mask, token_type_ids)`."""

    Config = BertConfig

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(BertLayer(config) for _ in range(config.num_layers))
        self.pooler = Pooler(config)
        self.apply(self.initialise)

    def encode(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        layout: Layout,
        attentions: list[Tensor] | None,
    ) -> list[Tensor]:
        states = [self.embeddings(input_ids, token_type_ids, layout.positions)]
        for layer in self.layers:
            states.append(self.run(layer, states[-1], layout, attentions))
        return states

    def pool(self, last_hidden_state: Tensor, layout: Layout) -> Tensor:
        return self.pooler(layout.first(last_hidden_state))

    def make_mlm_head(self) -> MaskedLanguageModelHead:
        head = MaskedLanguageModelHead(self.config, self.embeddings)
        self.initialise(head.dense)
        return head

    def depths(self) -> list[tuple[str, nn.Module]]:
        layers = [(f"layer {n}", layer) for n, layer in enumerate(self.layers, start=1)]
        return [("embeddings", self.embeddings), *layers, ("pooler", self.pooler)]

    def initialise(self, module: nn.Module) -> None:
        """Normal(0, initializer_range) for matrices, zeros for biases, LayerNorm the identity."""
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear | nn.LayerNorm):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])

    ROLES: ClassVar[Mapping[str, str]] = {
        "embeddings.word": "word_embeddings",
        "embeddings.position": "position_embeddings",
        "embeddings.token_type": "token_type_embeddings",
        "layers.{n}.attention.query": "query",
        "layers.{n}.attention.key": "key",
        "layers.{n}.attention.value": "value",
        "layers.{n}.attention.output": "attention_output",
        "layers.{n}.feed_forward.inner": "feed_forward_inner",
        "layers.{n}.feed_forward.outer": "feed_forward_outer",
        "pooler.dense": "pooler",
    }
