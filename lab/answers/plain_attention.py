"""Attention as students write it, and mistakes that change a line."""

from __future__ import annotations

import math

import torch

from lab.answers import plain


@plain("attention_mask")
def key_mask(mask):
    return mask.unsqueeze(1).unsqueeze(2)


key_mask.but(
    "the new dimensions are at the end; they stand between the batch and the keys",
    "mask.unsqueeze(1).unsqueeze(2)",
    "mask.unsqueeze(-1).unsqueeze(-1)",
)
key_mask.but(
    "this is a mask to be added, 0 and -10000; a bool mask is asked for, True at real tokens",
    "mask.unsqueeze(1).unsqueeze(2)",
    "(1.0 - mask.unsqueeze(1).unsqueeze(2).float()) * -10000.0",
)
key_mask.but(
    "the mask is of floats; it stays bool, True at real tokens",
    "mask.unsqueeze(1).unsqueeze(2)",
    "mask.unsqueeze(1).unsqueeze(2).float()",
)
key_mask.but(
    "rows of padding are masked too, (B, 1, S, S); the mask speaks of keys alone",
    "mask.unsqueeze(1).unsqueeze(2)",
    "(mask.unsqueeze(1) & mask.unsqueeze(2)).unsqueeze(1)",
)
key_mask.but(
    "both new dimensions are in front; the batch comes first",
    "mask.unsqueeze(1).unsqueeze(2)",
    "mask[None, None, :, :]",
)
key_mask.but(
    "the mask hides later tokens, as a decoder's does; BERT looks both ways",
    "mask.unsqueeze(1).unsqueeze(2)",
    "mask[:, None, None, :] & torch.ones(mask.size(1), mask.size(1), dtype=torch.bool).tril()",
)


@plain("attention")
def scaled_dot_product_attention(query, key, value, mask, dropout):
    d = query.shape[-1]
    scores = torch.matmul(query, key.transpose(-1, -2))
    scores = scores / math.sqrt(d)
    if mask is not None:
        scores = scores.masked_fill(mask == 0, float("-inf"))
    probs = torch.softmax(scores, dim=-1)
    dropped = dropout(probs)
    context = torch.matmul(dropped, value)
    return context, probs


scaled_dot_product_attention.but(
    "the scale is 8, bert-base's √64; take D from the query's shape", "math.sqrt(d)", "8.0"
)
scaled_dot_product_attention.but(
    (
        "masked scores are lowered by 100, and a score may be larger; only -inf hides a key "
        "for certain"
    ),
    'scores.masked_fill(mask == 0, float("-inf"))',
    "scores + (~mask) * -100.0",
)
scaled_dot_product_attention.but(
    "exp() of a large score overflows; torch.softmax subtracts the row's maximum first",
    "torch.softmax(scores, dim=-1)",
    "scores.exp() / scores.exp().sum(dim=-1, keepdim=True)",
)
scaled_dot_product_attention.but(
    "a mask that is None is used all the same; without one, all may be attended to",
    '    if mask is not None:\n        scores = scores.masked_fill(mask == 0, float("-inf"))',
    '    scores = scores.masked_fill(~mask, float("-inf"))',
)
scaled_dot_product_attention.but(
    "context and probabilities are returned the other way round",
    "return context, probs",
    "return probs, context",
)


@plain("heads", of="split_heads")
def split_heads(x, num_heads):
    B, S, H = x.shape
    x = x.view(B, S, num_heads, H // num_heads)
    return x.transpose(1, 2)


split_heads.but(
    "a head size of 64 is written into the code; it is H divided by the number of heads",
    "x.view(B, S, num_heads, H // num_heads)",
    "x.view(B, S, -1, 64)",
)
split_heads.but(
    "the number of heads is taken for the head size: N heads have H / N features each",
    "x.view(B, S, num_heads, H // num_heads)",
    "x.view(B, S, H // num_heads, num_heads)",
)
split_heads.but(
    "the result is (B, N, D, S): only heads and tokens change places",
    "return x.transpose(1, 2)",
    "return x.permute(0, 2, 3, 1)",
)


@plain("heads", of="merge_heads")
def merge_heads(x):
    B, N, S, D = x.shape
    x = x.transpose(1, 2).contiguous()
    return x.view(B, S, N * D)


merge_heads.but(
    "the heads are summed; they are put side by side, N · D = H",
    "x = x.transpose(1, 2).contiguous()\n    return x.view(B, S, N * D)",
    "return x.sum(dim=1)",
)


@plain("self_attention", of="attend")
def attend(layout, query, key, value, num_heads, dropout, *, window=None, attentions=None):
    from minbert.attention import key_mask, merge_heads, scaled_dot_product_attention, split_heads

    def rows(q, k, v, mask):
        q = split_heads(q, num_heads)
        k = split_heads(k, num_heads)
        v = split_heads(v, num_heads)
        allowed = None if mask is None else key_mask(mask)
        context, probs = scaled_dot_product_attention(q, k, v, allowed, dropout)
        if attentions is not None:
            attentions.append(probs)
        return merge_heads(context)

    return layout.per_sequence(rows, query, key, value)


attend.but(
    "the context is added to `attentions`; it collects the probabilities",
    "attentions.append(probs)",
    "attentions.append(context)",
)
attend.but(
    "each head's map is added to `attentions` by itself; one (B, N, S, S) holds them all",
    "attentions.append(probs)",
    "attentions.extend(probs.unbind(1))",
)
attend.but(
    "the maps are averaged over the heads; `attentions` collects all of them, (B, N, S, S)",
    "attentions.append(probs)",
    "attentions.append(probs.mean(dim=1))",
)
attend.but(
    "the layout is passed over: a packed batch needs `layout.per_sequence`",
    "return layout.per_sequence(rows, query, key, value)",
    "return rows(query, key, value, layout.mask)",
)
attend.but(
    (
        "all tokens of a packed batch attend to each other; `layout.per_sequence` keeps "
        "sequences apart"
    ),
    "return layout.per_sequence(rows, query, key, value)",
    (
        "if query.dim() == 2:\n"
        "        return rows(query[None], key[None], value[None], None)[0]\n"
        "    return layout.per_sequence(rows, query, key, value)"
    ),
)


@plain("self_attention", of="SelfAttention.forward")
def self_attention(self, x, layout, attentions=None):
    from minbert.attend import attend

    q = self.query(x)
    k = self.key(x)
    v = self.value(x)
    context = attend(layout, q, k, v, self.num_heads, self.dropout, attentions=attentions)
    return self.output(context)


self_attention.but("keys and values have changed places", "layout, q, k, v,", "layout, q, v, k,")
self_attention.but(
    "the keys are made by the queries' linear map; they have their own",
    "self.key(x)",
    "self.query(x)",
)
self_attention.but("the values are x itself; `self.value` maps them", "self.value(x)", "x")
self_attention.but(
    "dropout acts on the output too; here it belongs on the probabilities alone",
    "return self.output(context)",
    "return self.dropout(self.output(context))",
)
self_attention.but(
    "there are always 12 heads; take the number from `self.num_heads`", "self.num_heads", "12"
)
self_attention.but("there is one head only; the number is `self.num_heads`", "self.num_heads", "1")
self_attention.but(
    "x is added here; that is the work of add & norm",
    "return self.output(context)",
    "return x + self.output(context)",
)
self_attention.but(
    "the last linear map is given the queries; it maps the context",
    "self.output(context)",
    "self.output(q)",
)
