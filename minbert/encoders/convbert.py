"""ConvBERT: BERT in which half of the attention is a span-based dynamic convolution.

Jiang et al. (2020), arXiv:2008.02496. Many heads of a BERT only look at neighbours, which a
convolution does for less. What differs from BERT:

- Mixed attention: N / head_ratio heads, each half as wide as the hidden size would allow, and
  beside them as many heads of dynamic convolution, which fill the other half.
- Span-based dynamic convolution: each head averages the K tokens around a token, with weights made
  for that place: softmax(W (query * span key)), where the span key is a separable convolution of
  the hidden states. So the weights depend on the words around, not on the token alone.
- Grouped linear maps in the feed-forward block (medium-small), and word embeddings that may be
  narrower than the hidden states (small, medium-small), with a projection between.
- No pooler. The masked-language-model head is called the generator, as in ELECTRA.

What does not differ is taken from bert.py: the config's other settings, add & norm, the
masked-language-model head, and the names of these parts in checkpoints.

The reference classifies [CLS] through dropout, dense, GELU, dropout, linear: `Heads` with
`--pooling cls --head-size H`.

**Padding.** The published model convolves over padding as over any other token, so a token near the
end of its sequence comes out differently in a batch with longer ones. A padded batch does just so
here, to give the reference's numbers. A packed batch has no padding to convolve over: each sequence
comes out as the reference has it alone in a batch of one. That is what a training run computes,
unless it asks for `layout="padded"`. With `batch_invariant` in the config, padded batches compute
the same as packed ones: the convolutions see zeros beyond each sequence.

B batch, S sequence, N heads, D head size, A = N * D attention size, H = 2 A hidden size, K kernel
size, E embedding size, I intermediate size, V vocabulary, G groups.
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
from minbert.attention import dynamic_convolution
from minbert.encoder import Encoder, EncoderConfig, register
from minbert.encoders.bert import AddNorm, Bert, BertConfig, MaskedLanguageModelHead, WordEmbeddings
from minbert.encoders.convbert_hub import CONVBERT
from minbert.layouts import Layout, Packed
from minbert.quick import Dropout, Linear, compose, linear


@dataclass(frozen=True, kw_only=True)
class ConvBertConfig(BertConfig):
    """Sizes and rates of a ConvBERT: BERT's, and its own; the defaults are conv-bert-base.

    `ConvBertConfig(**ConvBertConfig.SIZES["small"])` is another of the published sizes.
    """

    num_heads: int = 12
    """Heads of a BERT of this size; `mixed_heads` are left of them."""
    embedding_size: int = 768
    """E, features of an embedding; projected to hidden_size where the two differ."""
    head_ratio: int = 2
    """How many heads of a BERT one head here stands for."""
    conv_kernel_size: int = 9
    """K, tokens that a convolution sees: an odd number, half of them on each side."""
    num_groups: int = 1
    """G, parts of the features that the feed-forward block's linear maps keep apart."""
    pad_token_id: int | None = 0
    """The token whose embedding is not trained. The vocabularies have [PAD] at 0, though
    transformers' config says 1 unless told otherwise."""
    batch_invariant: bool = False
    """Convolve over zeros in place of padding: a sequence then comes out the same in any batch."""

    HUB = CONVBERT
    SIZES: ClassVar[Mapping[str, Mapping[str, int]]] = {
        name: {
            "num_layers": layers,
            "hidden_size": hidden,
            "num_heads": heads,
            "intermediate_size": 4 * hidden,
            "embedding_size": embedding,
            "num_groups": groups,
        }
        for name, layers, hidden, heads, embedding, groups in (
            ("base", 12, 768, 12, 768, 1),
            ("medium-small", 12, 384, 8, 128, 2),
            ("small", 12, 256, 4, 128, 1),
            ("mini", 4, 256, 4, 256, 1),
            ("tiny", 2, 128, 2, 128, 1),
        )
    }
    """The first three are the paper's, the others BERT's of these names."""

    def __post_init__(self) -> None:
        EncoderConfig.__post_init__(self)  # BERT asks for other divisors
        self.check_sizes(
            "vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size",
            "embedding_size", "head_ratio", "conv_kernel_size", "num_groups",
        )  # fmt: skip
        if self.hidden_size % (2 * self.mixed_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by 2 x {self.mixed_heads}: half "
                f"of it is for attention, half for convolution, each with num_heads "
                f"{self.num_heads} // head_ratio {self.head_ratio} heads; choose a multiple"
            )
        for name in ("hidden_size", "intermediate_size"):
            if getattr(self, name) % self.num_groups:
                raise ValueError(
                    f"{name} {getattr(self, name)} is not divisible by num_groups "
                    f"{self.num_groups}; choose a divisor"
                )
        if self.conv_kernel_size % 2 == 0:
            raise ValueError(
                f"conv_kernel_size must be odd, it is {self.conv_kernel_size}: a token sees as "
                "many on its left as on its right"
            )
        self.check_rates("hidden_dropout", "attention_dropout")

    @property
    def mixed_heads(self) -> int:
        """N, heads of attention, and as many of convolution."""
        return max(1, self.num_heads // self.head_ratio)


class Embeddings(WordEmbeddings):
    """LayerNorm(word + position + segment), then dropout, then a projection where E is not H."""

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.embedding_size, config.pad_token_id)
        self.position = nn.Embedding(config.max_positions, config.embedding_size)
        self.token_type = nn.Embedding(config.type_vocab_size, config.embedding_size)
        self.norm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)
        self.projection: nn.Module = nn.Identity()
        if config.embedding_size != config.hidden_size:
            self.projection = Linear(config.embedding_size, config.hidden_size)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, positions: Tensor) -> Tensor:
        x = self.word(input_ids) + self.position(positions) + self.token_type(token_type_ids)
        return self.projection(self.dropout(self.norm(x)))  # (..., E) -> (..., H)


class SpanKey(nn.Module):
    """A separable convolution: over K tokens in each feature alone, then over features."""

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__()
        hidden, size = config.hidden_size, config.conv_kernel_size
        self.depthwise = nn.Conv1d(hidden, hidden, size, groups=hidden, bias=False)
        self.pointwise = nn.Conv1d(hidden, hidden // 2, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(hidden // 2, 1))  # a column, as in checkpoints

    def forward(self, x: Tensor, layout: Layout, zero_padding: bool) -> Tensor:
        def convolve(x: Tensor, mask: Tensor) -> Tensor:
            if zero_padding:
                x = x.masked_fill(~mask.unsqueeze(-1), 0)
            # As an image of height 1 it needs no copy with the features outermost, as conv1d does.
            image = x.transpose(1, 2).unsqueeze(2)  # (B, H, 1, S)
            weight = self.depthwise.weight.unsqueeze(2)  # (H, 1, 1, K)
            around = (0, weight.size(3) // 2)
            image = F.conv2d(image, weight, padding=around, groups=x.size(2))
            return image.squeeze(2).transpose(1, 2)  # (B, S, H)

        x = layout.per_sequence(convolve, x)
        return linear(x, self.pointwise.weight.squeeze(2), self.bias.squeeze(1))  # (..., A)


class MixedAttention(nn.Module):
    """Heads of self-attention and heads of span-based dynamic convolution, side by side."""

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__()
        hidden, size = config.hidden_size, config.hidden_size // 2
        self.num_heads = config.mixed_heads
        self.batch_invariant = config.batch_invariant
        self.query = Linear(hidden, size)
        self.key = Linear(hidden, size)
        self.value = Linear(hidden, size)
        self.dropout = Dropout(config.attention_dropout)
        self.span_key = SpanKey(config)
        self.convolution_kernel = Linear(size, self.num_heads * config.conv_kernel_size)
        self.convolution_value = Linear(hidden, size)
        self.output = Linear(hidden, hidden)

    def forward(self, x: Tensor, layout: Layout, attentions: list[Tensor] | None = None) -> Tensor:
        # What a packed batch has for padding is made up by the layout: never to be seen.
        zero_padding = self.batch_invariant or isinstance(layout, Packed)
        query = self.query(x)  # (..., A)
        kernel = self.convolution_kernel(query * self.span_key(x, layout, zero_padding))
        kernel = kernel.unflatten(-1, (self.num_heads, -1)).softmax(dim=-1)  # (..., N, K)
        key, value, near = self.key(x), self.value(x), self.convolution_value(x)

        def convolve(near: Tensor, kernel: Tensor, mask: Tensor) -> Tensor:
            if zero_padding:
                near = near.masked_fill(~mask.unsqueeze(-1), 0)
            return dynamic_convolution(near, kernel)  # (B, S, A)

        attended = attend(
            layout, query, key, value, self.num_heads, self.dropout, attentions=attentions
        )
        convolved = layout.per_sequence(convolve, near, kernel)
        return self.output(torch.cat([attended, convolved], dim=-1))  # (..., H)


class GroupedLinear(nn.Module):
    """A linear map of each of G parts of the features: a G-th of the weights of a whole one."""

    def __init__(self, in_features: int, out_features: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.empty(groups, in_features // groups, out_features // groups)
        )
        self.bias = nn.Parameter(torch.empty(out_features))

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(-1, (self.weight.size(0), -1))  # (..., G, in / G)
        return torch.einsum("...gi,gio->...go", x, self.weight).flatten(-2) + self.bias


class FeedForward(nn.Module):
    """outer(gelu(inner(x))): two linear maps, grouped where G is above 1, with a GELU between."""

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__()
        hidden, inner, groups = config.hidden_size, config.intermediate_size, config.num_groups
        if groups == 1:
            self.inner, self.outer = Linear(hidden, inner), Linear(inner, hidden)
        else:
            self.inner = GroupedLinear(hidden, inner, groups)
            self.outer = GroupedLinear(inner, hidden, groups)

    def forward(self, x: Tensor) -> Tensor:
        return compose(self.outer, F.gelu)(self.inner(x))  # (..., I) -> (..., H)


class ConvBertLayer(nn.Module):
    """Mixed attention and feed-forward, each followed by add & norm."""

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__()
        self.attention = MixedAttention(config)
        self.attention_norm = AddNorm(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = AddNorm(config)

    def forward(self, x: Tensor, layout: Layout, attentions: list[Tensor] | None = None) -> Tensor:
        x = self.attention_norm(x, self.attention(x, layout, attentions))
        return self.feed_forward_norm(x, self.feed_forward(x))  # (..., H)


@register("convbert")
class ConvBert(Encoder[ConvBertConfig]):
    """ConvBERT's encoder. Called as `convbert(input_ids, attention_mask, token_type_ids)`."""

    Config = ConvBertConfig

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(ConvBertLayer(config) for _ in range(config.num_layers))
        self.apply(self.initialise)

    @property
    def attention_size(self) -> int:
        return self.config.hidden_size // 2

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

    def pool(self, last_hidden_state: Tensor, layout: Layout) -> None:
        return None

    def make_mlm_head(self) -> MaskedLanguageModelHead:
        head = MaskedLanguageModelHead(self.config, self.embeddings)
        self.initialise(head.dense)
        return head

    def depths(self) -> list[tuple[str, nn.Module]]:
        layers = [(f"layer {n}", layer) for n, layer in enumerate(self.layers, start=1)]
        return [("embeddings", self.embeddings), *layers]

    def initialise(self, module: nn.Module) -> None:
        """Normal(0, initializer_range) for matrices, zeros for biases, LayerNorm the identity."""
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.Linear | GroupedLinear | nn.Conv1d | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear | GroupedLinear | SpanKey | nn.LayerNorm):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])

    ROLES: ClassVar[Mapping[str, str]] = {
        **{ours: role for ours, role in Bert.ROLES.items() if ours != "pooler.dense"},
        "embeddings.projection": "embedding_projection",
        "layers.{n}.attention.convolution_kernel": "convolution_kernel",
        "layers.{n}.attention.convolution_value": "convolution_value",
    }
