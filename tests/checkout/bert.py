import math

import torch
import torch.nn.functional as F
from base_bert import BertPreTrainedModel
from torch import nn
from utils import *  # noqa: F403


class BertSelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def transform(self, x, linear_layer):
        return linear_layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attention(self, key, query, value, attention_mask):
        scores = query @ key.transpose(-1, -2) / math.sqrt(key.size(-1))
        scores = scores + attention_mask
        probabilities = F.softmax(scores, dim=-1)
        context = self.dropout(probabilities) @ value
        return context.transpose(1, 2).flatten(2)

    def forward(self, hidden_states, attention_mask):
        key, query, value = (
            self.transform(hidden_states, linear) for linear in (self.key, self.query, self.value)
        )
        return self.attention(key, query, value, attention_mask)


class BertLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attention = BertSelfAttention(config)
        self.attention_dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.attention_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.interm_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.interm_af = F.gelu
        self.out_dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.out_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.out_dropout = nn.Dropout(config.hidden_dropout_prob)

    def add_norm(self, input, output, dense_layer, dropout, ln_layer):
        return ln_layer(input + dropout(dense_layer(output)))

    def forward(self, hidden_states, attention_mask):
        attended = self.self_attention(hidden_states, attention_mask)
        x = self.add_norm(hidden_states, attended, self.attention_dense,
                          self.attention_dropout, self.attention_layer_norm)  # fmt: skip
        inner = self.interm_af(self.interm_dense(x))
        return self.add_norm(x, inner, self.out_dense, self.out_dropout, self.out_layer_norm)


class BertModel(BertPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        size = config.hidden_size
        self.word_embedding = nn.Embedding(config.vocab_size, size, config.pad_token_id)
        self.pos_embedding = nn.Embedding(config.max_position_embeddings, size)
        self.tk_type_embedding = nn.Embedding(config.type_vocab_size, size)
        self.embed_layer_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.embed_dropout = nn.Dropout(config.hidden_dropout_prob)
        places = torch.arange(config.max_position_embeddings).unsqueeze(0)
        self.register_buffer("position_ids", places)
        self.bert_layers = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))
        self.pooler_dense = nn.Linear(size, size)
        self.init_weights()

    def embed(self, input_ids):
        words = self.word_embedding(input_ids)
        places = self.pos_embedding(self.position_ids[:, : input_ids.size(1)])
        types = self.tk_type_embedding(torch.zeros_like(input_ids))
        return self.embed_dropout(self.embed_layer_norm(words + places + types))

    def encode(self, hidden_states, attention_mask):
        mask = get_extended_attention_mask(attention_mask, self.dtype)  # noqa: F405
        for layer in self.bert_layers:
            hidden_states = layer(hidden_states, mask)
        return hidden_states

    def forward(self, input_ids, attention_mask):
        states = self.encode(self.embed(input_ids), attention_mask)
        first = torch.tanh(self.pooler_dense(states[:, 0]))
        return {"last_hidden_state": states, "pooler_output": first}
