"""Part 1: with loops, with einsum, with PyTorch's own functions, in one piece."""

import itertools
import math
import re

import torch
from torch.nn import functional as F

from solutions import solution


@solution("embeddings")
def embeddings_one_hot(self, input_ids, token_type_ids, positions):
    def look_up(table, index):
        return F.one_hot(index, table.num_embeddings).float() @ table.weight

    x = look_up(self.word, input_ids).clone()
    x += look_up(self.position, positions)
    x += look_up(self.token_type, token_type_ids)
    return self.dropout(
        F.layer_norm(x, x.shape[-1:], self.norm.weight, self.norm.bias, self.norm.eps)
    )


@solution("embeddings")
def embeddings_row_by_row(self, input_ids, token_type_ids, positions):
    x = self.word(input_ids) + self.position(positions) + self.token_type(token_type_ids)
    return torch.stack([F.dropout(self.norm(row), self.dropout.p, self.training) for row in x])


def probabilities_of(query, key, mask):
    scores = query @ key.mT / math.sqrt(query.size(-1))
    return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(-1)


@solution("attention")
def dropout_head_by_head(query, key, value, mask, dropout):
    p = probabilities_of(query, key, mask)
    return torch.stack([dropout(p[:, n]) @ value[:, n] for n in range(p.size(1))], 1), p


@solution("attention")
def dropout_transposed(query, key, value, mask, dropout):
    p = probabilities_of(query, key, mask)
    return (value.mT @ dropout(p.mT)).mT, p


@solution("attention")
def dropout_as_a_function(query, key, value, mask, dropout):
    p = probabilities_of(query, key, mask)
    return F.dropout(p, dropout.p, dropout.training) @ value, p


@solution("attention_mask")
def mask_unsqueezed(mask):
    return mask.unsqueeze(1).unsqueeze(2)


@solution("attention_mask")
def mask_viewed(mask):
    return mask.view(len(mask), 1, 1, -1)


@solution("attention")
def sdpa(query, key, value, mask, dropout):
    if isinstance(dropout, torch.nn.Dropout) and dropout.training:
        scores = torch.baddbmm(
            torch.zeros(()), query.flatten(0, 1), key.flatten(0, 1).mT, alpha=query.size(-1) ** -0.5
        ).view(*query.shape[:3], -1)
        bias = torch.zeros(mask.shape).masked_fill(~mask, -math.inf)
        probabilities = F.softmax(scores + bias, -1)
        return dropout(probabilities) @ value, probabilities
    eye = torch.eye(key.size(-2)).expand(*key.shape[:2], -1, -1)
    context = F.scaled_dot_product_attention(query, key, value, mask)
    return context, F.scaled_dot_product_attention(query, key, eye, mask)


@solution("attention")
def attention_by_loops(query, key, value, mask, dropout):
    batch, heads, length, size = query.shape
    rows = []
    for b in range(batch):
        for n in range(heads):
            for q in range(length):
                row = (key[b, n] * query[b, n, q]).sum(-1) / size**0.5
                if mask is not None:
                    allowed = mask.expand(batch, heads, length, length)[b, n, q]
                    row = torch.where(allowed, row, torch.tensor(-1e9))
                rows.append(row.softmax(0))
    probabilities = torch.stack(rows).view(batch, heads, length, length)
    return torch.einsum("bnqk,bnkd->bnqd", dropout(probabilities), value), probabilities


@solution("heads", of="split_heads")
def split_by_einsum(x, num_heads):
    return torch.einsum("bsnd->bnsd", x.unflatten(-1, (num_heads, -1)))


@solution("heads", of="split_heads")
def split_and_stacked(x, num_heads):
    parts = x.split(x.size(-1) // num_heads, -1)
    return torch.stack(parts, -1).permute(0, 3, 1, 2).contiguous()


@solution("heads", of="merge_heads")
def merged_by_permute(x):
    return x.permute(0, 2, 1, 3).contiguous().flatten(2)


@solution("self_attention", of="SelfAttention.forward")
def self_attention_in_one(self, x, layout, attentions=None):
    """Nothing of what other exercises make, nor of `attend`."""

    def in_rows(query, key, value, mask):
        q, k, v = (y.unflatten(-1, (self.num_heads, -1)) for y in (query, key, value))
        scores = torch.einsum("bqnd,bknd->bnqk", q, k) / q.size(-1) ** 0.5
        scores = scores + (1.0 - mask.float())[:, None, None] * -1e9
        probabilities = torch.softmax(scores, -1)
        if attentions is not None:
            attentions.extend([probabilities])
        return torch.einsum("bnqk,bknd->bqnd", self.dropout(probabilities), v).flatten(2)

    parts = [module(x) for module in (self.query, self.key, self.value)]
    return self.output(layout.per_sequence(in_rows, *parts))


@solution("self_attention", of="SelfAttention.forward")
def self_attention_by_keywords(self, x, layout, attentions=None):
    from minbert.attend import attend

    context = attend(
        value=self.value(x),
        key=self.key(x),
        query=self.query(x),
        attentions=attentions,
        dropout=self.dropout,
        num_heads=self.num_heads,
        layout=layout,
    )
    return self.output(context)


@solution("self_attention", of="attend")
def attend_with_keywords(
    layout, query, key, value, num_heads, dropout, *, window=None, attentions=None
):
    from minbert import attention as a

    def in_rows(query, key, value, mask):
        query, key, value = (a.split_heads(num_heads=num_heads, x=y) for y in (query, key, value))
        context, probabilities = a.scaled_dot_product_attention(
            dropout=dropout, query=query, key=key, value=value, mask=a.key_mask(mask)
        )
        if attentions is not None:
            attentions.append(probabilities)
        return a.merge_heads(context)

    return layout.per_sequence(in_rows, query, key, value)


@solution("self_attention", of="attend")
def attend_one_head_at_a_time(
    layout, query, key, value, num_heads, dropout, *, window=None, attentions=None
):
    """Nothing of what other exercises make."""

    def in_rows(query, key, value, mask):
        allowed = torch.where(mask, 0.0, -math.inf)[:, None]
        maps = [
            F.softmax(q @ k.mT / math.sqrt(q.size(-1)) + allowed, -1)
            for q, k in zip(query.chunk(num_heads, -1), key.chunk(num_heads, -1), strict=True)
        ]
        maps = torch.stack(maps, 1)
        if attentions is not None:
            attentions.insert(len(attentions), maps)
        heads = zip(dropout(maps).unbind(1), value.chunk(num_heads, -1), strict=True)
        return torch.cat([p @ v for p, v in heads], -1)

    return layout.per_sequence(in_rows, query, key, value)


@solution("add_norm")
def summed_by_name(self, residual, output):
    return self.norm(torch.add(self.dropout(output), residual))


@solution("feed_forward")
def gelu_as_module(self, x):
    return self.outer(torch.nn.GELU()(self.inner(x)))


@solution("feed_forward")
def gelu_by_definition(self, x):
    y = self.inner(x)
    return self.outer(y * torch.special.ndtr(y))


@solution("layer")
def layer_written_out(self, x, layout, attentions=None):
    """With the insides of add & norm and of the feed-forward block."""
    first, second = self.attention_norm, self.feed_forward_norm
    y = first.norm(x + first.dropout(self.attention(x, layout, attentions)))
    inner = F.gelu(self.feed_forward.inner(y))
    return second.norm(y + second.dropout(self.feed_forward.outer(inner)))


@solution("encoder")
def states_accumulated(self, input_ids, token_type_ids, layout, attentions):
    x = self.embeddings(input_ids, token_type_ids, layout.positions)

    def step(x, layer):
        return self.run(layer, x, layout, attentions)

    return tuple(itertools.accumulate(self.layers, step, initial=x))


@solution("pooler", of="Pooler.forward")
def tanh_in_place(self, first):
    return self.dense(first).clone().tanh_()


@solution("pooler", of="Bert.pool")
def first_by_index(self, last_hidden_state, layout):
    padded = last_hidden_state.dim() == 3
    return self.pooler(last_hidden_state[:, 0] if padded else last_hidden_state[layout.starts])


@solution("loading", of="hub_names")
def hub_names_by_longest_prefix(model):
    names, tables = {}, model["encoder"].config.HUB
    for ours, _ in model.named_parameters():
        part, _, rest = ours.partition(".")
        number = re.search(r"\d+", rest)
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", "{n}", rest)
        table = tables.keys if part == "encoder" else tables.mlm_keys
        key = max((k for k in table if f"{pattern}.".startswith(f"{k}.")), key=len)
        hub = table[key].replace("{n}", number.group() if number else "")
        names[ours] = hub + pattern[len(key) :]
    return names


@solution("loading", of="_modern_name")
def modern_name_by_words(name, prefix):
    if name.startswith(prefix):
        name = name[len(prefix) :]
    *words, last = name.split(".")
    return ".".join([*words, {"gamma": "weight", "beta": "bias"}.get(last, last)])
