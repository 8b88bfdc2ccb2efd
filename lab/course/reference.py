"""The classes that the handouts name, with right bodies: the lab's answers behind their names.

What is given there (names, modules, the order of arguments) is what a checkout's other files and
pretrained weights depend on. A mask is additive: 0 where a token is real, -10,000 where it is
padding. Segments are all 0, and [CLS] is pooled.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.answers import attention as of_attention
from lab.answers import bert as of_bert
from lab.harness import marked_dropout

Function = Callable[..., Any]


# The bodies, from functions that do what the lab's exercises do


def attend_with(attend: Function, merge: Function) -> Function:
    """`BertSelfAttention.attention` of scaled dot-product attention and of merging heads."""

    def attention(
        self: Any, key: Tensor, query: Tensor, value: Tensor, attention_mask: Tensor
    ) -> Tensor:
        dropout = getattr(self, "dropout", None)  # CMU's first version has none
        if dropout is None:
            dropout = marked_dropout().train(self.training)
        context, _ = attend(query, key, value, attention_mask == 0, dropout)
        return merge(context)

    return attention


def add_norm_with(add_norm: Function) -> Function:
    """`BertLayer.add_norm` of add & norm, which has no linear map of its own."""

    def call(
        self: Any,
        input: Tensor,
        output: Tensor,
        dense_layer: nn.Module,
        dropout: nn.Module,
        ln_layer: nn.Module,
    ) -> Tensor:
        return add_norm(SimpleNamespace(dropout=dropout, norm=ln_layer), input, dense_layer(output))

    return call


def layer_with(layer: Function, feed_forward: Function) -> Function:
    """`BertLayer.forward` of a layer and of a feed-forward block without its second map, which
    the handout has in add & norm."""

    def forward(self: Any, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        block = SimpleNamespace(inner=self.interm_dense, outer=same(self.interm_dense.out_features))
        parts = SimpleNamespace(
            attention=lambda x, layout, attentions=None: self.self_attention(x, attention_mask),
            attention_norm=lambda residual, output: self.add_norm(
                residual,
                output,
                self.attention_dense,
                self.attention_dropout,
                self.attention_layer_norm,
            ),
            feed_forward=lambda x: feed_forward(block, x),
            feed_forward_norm=lambda residual, output: self.add_norm(
                residual, output, self.out_dense, self.out_dropout, self.out_layer_norm
            ),
        )
        return layer(parts, hidden_states, None)

    return forward


def same(size: int) -> nn.Linear:
    """A linear map that changes nothing."""
    module = nn.Linear(size, size)
    module.weight.data, module.bias.data = torch.eye(size), torch.zeros(size)
    return module.requires_grad_(False)


def embed_with(embeddings: Function) -> Function:
    """`BertModel.embed` of embeddings, which are handed segments and positions."""

    def embed(self: Any, input_ids: Tensor) -> Tensor:
        tables = SimpleNamespace(
            word=self.word_embedding,
            position=self.pos_embedding,
            token_type=self.tk_type_embedding,
            norm=self.embed_layer_norm,
            dropout=self.embed_dropout,
        )
        positions = torch.arange(input_ids.size(1)).expand(input_ids.shape)
        return embeddings(tables, input_ids, torch.zeros_like(input_ids), positions)

    return embed


def encode_with(encode: Function) -> Function:
    """`BertModel.encode` of a stack of layers that gives every state."""

    def call(self: Any, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        mask = (1.0 - attention_mask[:, None, None, :].float()) * -10_000.0

        def each(layer: nn.Module) -> Function:
            return lambda x, layout, attentions: layer(x, mask)

        stack = SimpleNamespace(
            embeddings=lambda ids, types, positions: hidden_states,
            layers=[each(layer) for layer in self.bert_layers],
            run=lambda layer, *inputs: layer(*inputs),
        )
        whole = SimpleNamespace(positions=None)
        states = encode(stack, attention_mask, attention_mask, whole, None)
        return states[-1]

    return call


def forward_with(pooler: Function, pool: Function) -> Function:
    """`BertModel.forward` of a pooler and of what it is handed."""

    def forward(self: Any, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        from minbert.layouts import Padded

        states = self.encode(self.embed(input_ids), attention_mask)
        dense = SimpleNamespace(dense=self.pooler_dense)
        parts = SimpleNamespace(pooler=lambda first: pooler(dense, first))
        pooled = pool(parts, states, Padded(attention_mask.bool()))
        return {"last_hidden_state": states, "pooler_output": pooled}

    return forward


# The classes


class BertSelfAttention(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.num_attention_heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    attention = attend_with(of_attention.attention, of_attention.merge_heads)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        key, query, value = (
            of_attention.split_heads(linear(hidden_states), self.num_attention_heads)
            for linear in (self.key, self.query, self.value)
        )
        return self.attention(key, query, value, attention_mask)


class BertLayer(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        size, inner, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        self.self_attention = BertSelfAttention(config)
        self.attention_dense = nn.Linear(size, size)
        self.attention_layer_norm = nn.LayerNorm(size, eps=eps)
        self.attention_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.interm_dense = nn.Linear(size, inner)
        self.interm_af = F.gelu
        self.out_dense = nn.Linear(inner, size)
        self.out_layer_norm = nn.LayerNorm(size, eps=eps)
        self.out_dropout = nn.Dropout(config.hidden_dropout_prob)

    add_norm = add_norm_with(of_bert.add_norm)
    forward = layer_with(of_bert.layer, of_bert.feed_forward)


class BertModel(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        size = config.hidden_size
        self.word_embedding = nn.Embedding(config.vocab_size, size, config.pad_token_id)
        self.pos_embedding = nn.Embedding(config.max_position_embeddings, size)
        self.tk_type_embedding = nn.Embedding(config.type_vocab_size, size)
        self.embed_layer_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.embed_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.bert_layers = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))
        self.pooler_dense = nn.Linear(size, size)

    embed = embed_with(of_bert.embeddings)
    encode = encode_with(of_bert.encoder)
    forward = forward_with(of_bert.pooler, of_bert.pool)

    @classmethod
    def from_pretrained(cls, name: str) -> BertModel:
        raise AssertionError(f"a check does not load {name}")


class BertSentimentClassifier(nn.Module):
    """Dropout on the pooled output, then a linear map."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.bert = loaded(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.output = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.output(self.dropout(self.bert(input_ids, attention_mask)["pooler_output"]))


class MultitaskBERT(nn.Module):
    """A linear map for each task, of the pooled output of one text or of two."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.bert = loaded(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.sentiment = nn.Linear(config.hidden_size, 5)
        self.paraphrase = nn.Linear(2 * config.hidden_size, 1)
        self.similarity = nn.Linear(2 * config.hidden_size, 1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.dropout(self.bert(input_ids, attention_mask)["pooler_output"])

    def predict_sentiment(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.sentiment(self(input_ids, attention_mask))

    def predict_paraphrase(self, ids_1: Tensor, mask_1: Tensor, ids_2: Tensor, mask_2: Tensor):
        both = torch.cat([self(ids_1, mask_1), self(ids_2, mask_2)], dim=-1)
        return self.paraphrase(both)

    def predict_similarity(self, ids_1: Tensor, mask_1: Tensor, ids_2: Tensor, mask_2: Tensor):
        both = torch.cat([self(ids_1, mask_1), self(ids_2, mask_2)], dim=-1)
        return self.similarity(both)


def loaded(config: Any) -> BertModel:
    """A BERT whose parameters train as the config says."""
    bert = BertModel.from_pretrained("bert-base-uncased")
    return bert.requires_grad_(config.option == "finetune")
