"""Part 1, attention: right answers in float64, and mistakes."""

from __future__ import annotations

import math

import torch
from torch import nn

from lab.answers import mistake, right
from lab.answers.formulas import linear, softmax

# Attention


@right("attention_mask")
def attention_mask(mask):
    return torch.stack([torch.stack([row]).unsqueeze(0) for row in mask])


@mistake("attention_mask", "the mask is on the queries: it must be the last dimension, the keys'")
def mask_on_queries(mask):
    return mask[:, None, :, None]


@mistake("attention_mask", "the mask is inverted: True must stay where a token is real")
def mask_inverted_early(mask):
    return ~mask[:, None, None, :]


@mistake("attention_mask", "the mask has one dimension too few: heads and queries each need one")
def mask_three_dimensional(mask):
    return mask[:, None, :]


@mistake(
    "attention_mask", "the mask is made additive; here it stays bool, the scores get -inf later"
)
def mask_additive(mask):
    return torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))[:, None, None, :]


def attend(query, key, value, mask, dropout, *, scale=None, fill=float("-inf"), dim=-1):
    """Attention with its parts open to change."""
    scores = torch.einsum("bnqd,bnkd->bnqk", query, key)
    scores = scores * (query.size(-1) ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, fill)
    probabilities = softmax(scores, dim)
    return torch.einsum("bnqk,bnkd->bnqd", dropout(probabilities), value), probabilities


@right("attention")
def attention(query, key, value, mask, dropout):
    return attend(query, key, value, mask, dropout)


@mistake("attention", "the scores are not scaled; look under the root in equation 1")
def unscaled(query, key, value, mask, dropout):
    return attend(query, key, value, mask, dropout, scale=1.0)


@mistake("attention", "the scores are divided by D; equation 1 has a root there")
def scaled_by_size(query, key, value, mask, dropout):
    return attend(query, key, value, mask, dropout, scale=1 / query.size(-1))


@mistake("attention", "the scores are multiplied by √D; they should get smaller, not larger")
def scaled_up(query, key, value, mask, dropout):
    return attend(query, key, value, mask, dropout, scale=query.size(-1) ** 0.5)


@mistake(
    "attention", "the scale comes from the number of keys S; it is the head size D that counts"
)
def scaled_by_length(query, key, value, mask, dropout):
    return attend(query, key, value, mask, dropout, scale=query.size(-2) ** -0.5)


@mistake("attention", "the scale is of all heads together; D is the size of one head")
def scaled_by_hidden(query, key, value, mask, dropout):
    return attend(query, key, value, mask, dropout, scale=(query.size(-1) * query.size(1)) ** -0.5)


@mistake("attention", "the scale comes after the softmax: rows of probabilities do not sum to 1")
def scaled_after_softmax(query, key, value, mask, dropout):
    _, probabilities = attend(query, key, value, mask, dropout, scale=1.0)
    probabilities = probabilities / math.sqrt(query.size(-1))
    return dropout(probabilities) @ value, probabilities


@mistake("attention", "the mask comes after the softmax: what is left of a row does not sum to 1")
def masked_after_softmax(query, key, value, mask, dropout):
    _, probabilities = attend(query, key, value, None, dropout)
    if mask is not None:
        probabilities = probabilities.masked_fill(~mask, 0)
    return dropout(probabilities) @ value, probabilities


@mistake("attention", "the mask is inverted: attention goes to padding and to nothing else")
def mask_inverted(query, key, value, mask, dropout):
    return attend(query, key, value, None if mask is None else ~mask, dropout)


@mistake("attention", "the mask is not used")
def mask_ignored(query, key, value, mask, dropout):
    return attend(query, key, value, None, dropout)


@mistake("attention", "masked scores are set to 0, and exp(0) is not 0; see the hint on the mask")
def masked_with_zero(query, key, value, mask, dropout):
    return attend(query, key, value, mask, dropout, fill=0.0)


@mistake("attention", "softmax runs over the queries; each query's row over the keys must sum to 1")
def softmax_over_queries(query, key, value, mask, dropout):
    return attend(query, key, value, mask, dropout, dim=-2)


@mistake("attention", "softmax runs over the heads; it belongs to the keys, the last dimension")
def softmax_over_heads(query, key, value, mask, dropout):
    return attend(query, key, value, mask, dropout, dim=1)


@mistake("attention", "query and key have changed places: rows of the scores belong to queries")
def query_and_key_swapped(query, key, value, mask, dropout):
    return attend(key, query, value, mask, dropout)


@mistake("attention", "there is no dropout on the probabilities; in eval mode nobody sees that")
def attention_without_dropout(query, key, value, mask, dropout):
    return attend(query, key, value, mask, nn.Identity())


@mistake("attention", "dropout acts on the context; it belongs on the probabilities")
def dropout_on_context(query, key, value, mask, dropout):
    context, probabilities = attend(query, key, value, mask, nn.Identity())
    return dropout(context), probabilities


@mistake("attention", "exp overflows where scores are large; take off the largest of a row first")
def naive_softmax(query, key, value, mask, dropout):
    scores = torch.einsum("bnqd,bnkd->bnqk", query, key) / math.sqrt(query.size(-1))
    exponentials = scores.exp() if mask is None else scores.exp() * mask
    probabilities = exponentials / exponentials.sum(-1, keepdim=True)
    return dropout(probabilities) @ value, probabilities


@mistake("attention", "the bool mask is added to the scores, as 0 and 1; it says which to fill")
def mask_added(query, key, value, mask, dropout):
    scores = torch.einsum("bnqd,bnkd->bnqk", query, key) / math.sqrt(query.size(-1))
    probabilities = softmax(scores if mask is None else scores + mask)
    return dropout(probabilities) @ value, probabilities


@mistake("attention", "a masked score of -10 still has a share; -inf has none")
def masked_with_little(query, key, value, mask, dropout):
    return attend(query, key, value, mask, dropout, fill=-10.0)


@mistake("attention", "the probabilities are cut off (detach): query and key have no gradient")
def probabilities_detached(query, key, value, mask, dropout):
    _, probabilities = attend(query, key, value, mask, dropout)
    return dropout(probabilities).detach() @ value, probabilities


@mistake("attention", "dropout acts on the scores, before the softmax; it belongs after")
def dropout_on_scores(query, key, value, mask, dropout):
    scores = dropout(query @ key.transpose(-2, -1) / math.sqrt(query.size(-1)))
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return softmax(scores) @ value, softmax(scores)


@mistake(
    "attention", "the probabilities returned have been through dropout; return them from before"
)
def dropped_probabilities(query, key, value, mask, dropout):
    context, probabilities = attend(query, key, value, mask, dropout)
    return context, dropout(probabilities)


@mistake("attention", "there is no softmax: the scores themselves weigh the values")
def no_softmax(query, key, value, mask, dropout):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    scores = scores if mask is None else scores.masked_fill(~mask, 0)
    return dropout(scores) @ value, scores


# Heads


@right("heads", of="split_heads")
def split_heads(x, num_heads):
    return torch.stack(x.chunk(num_heads, dim=-1), dim=1)


@right("heads", of="merge_heads")
def merge_heads(x):
    return torch.cat([x[:, head] for head in range(x.size(1))], dim=-1)


@mistake(
    "heads",
    "the features are cut without a transpose: heads hold other tokens' features",
    of="split_heads",
)
def split_without_transpose(x, num_heads):
    batch, length, hidden = x.shape
    return x.view(batch, num_heads, length, hidden // num_heads)


@mistake(
    "heads",
    "the features are cut without a transpose: heads hold other tokens' features",
    of="split_heads",
)
def split_by_reshape(x, num_heads):
    batch, length, hidden = x.shape
    return x.reshape(batch, num_heads, length, hidden // num_heads)


@mistake(
    "heads",
    "head n takes every N-th feature; it owns a slice of D features side by side",
    of="split_heads",
)
def split_interleaved(x, num_heads):
    batch, length, hidden = x.shape
    return x.view(batch, length, hidden // num_heads, num_heads).permute(0, 3, 1, 2)


@mistake(
    "heads",
    "heads and tokens are not transposed: the result must be (B, N, S, D)",
    of="split_heads",
)
def split_not_transposed(x, num_heads):
    return x.view(*x.shape[:2], num_heads, -1)


@mistake(
    "heads",
    "heads are merged without the transpose: features of other tokens get mixed in",
    of="merge_heads",
)
def merge_without_transpose(x):
    batch, num_heads, length, size = x.shape
    return x.reshape(batch, length, num_heads * size)


@mistake(
    "heads",
    "heads are merged without the transpose: features of other tokens get mixed in",
    of="merge_heads",
)
def merge_by_view(x):
    batch, num_heads, length, size = x.shape
    return x.view(batch, length, num_heads * size)


@mistake(
    "heads",
    "merged features are interleaved; head n's D features stand side by side",
    of="merge_heads",
)
def merge_interleaved(x):
    batch, num_heads, length, size = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch, length, num_heads * size)


@mistake(
    "heads",
    "`view` cannot merge what a transpose has spread out; see the third hint",
    of="merge_heads",
)
def merge_with_view(x):
    batch, num_heads, length, size = x.shape
    return x.transpose(1, 2).view(batch, length, num_heads * size)


# Self-attention


def multi_head(layout, query, key, value, num_heads, dropout, *, window=None, attentions=None,
               masked=True, dropped=True, merge=merge_heads):  # fmt: skip
    """`attend` with its parts open to change, through the library's functions, which are supplied
    when a check runs."""
    from minbert import attention as parts

    def attend_each(query, key, value, mask):
        q, k, v = (parts.split_heads(each, num_heads) for each in (query, key, value))
        keys = parts.key_mask(mask) if masked else None
        drop = dropout if dropped else nn.Identity()
        context, probabilities = parts.scaled_dot_product_attention(q, k, v, keys, drop)
        if attentions is not None:
            attentions.append(probabilities)
        return parts.merge_heads(context) if merge is merge_heads else merge(context)

    return layout.per_sequence(attend_each, query, key, value)


@right("self_attention", of="attend")
def attend_in_heads(*inputs, **settings):
    return multi_head(*inputs, **settings)


@mistake("self_attention", "padding is not masked: hand the mask on to the attention", of="attend")
def padding_attended(*inputs, **settings):
    return multi_head(*inputs, **settings, masked=False)


@mistake("self_attention", "`dropout` never reaches the attention; in eval mode nobody sees it",
         of="attend")  # fmt: skip
def self_attention_without_dropout(*inputs, **settings):
    return multi_head(*inputs, **settings, dropped=False)


@mistake("self_attention", "heads are put together without the transpose; use `merge_heads`",
         of="attend")  # fmt: skip
def merged_by_hand(*inputs, **settings):
    return multi_head(*inputs, **settings, merge=merge_without_transpose)


@mistake("self_attention", "the list `attentions` stays empty: add each map of probabilities to it",
         of="attend")  # fmt: skip
def no_maps(*inputs, window=None, attentions=None):
    return multi_head(*inputs)


def projected(self, x, layout, attentions=None, *, names=("query", "key", "value")):
    """The context of self-attention, with the maps of these names."""
    from minbert.attend import attend

    query, key, value = (linear(getattr(self, name), x) for name in names)
    return attend(layout, query, key, value, self.num_heads, self.dropout, attentions=attentions)


@right("self_attention", of="SelfAttention.forward")
def self_attention(self, x, layout, attentions=None):
    return linear(self.output, projected(self, x, layout, attentions))


@mistake("self_attention", "the last linear map, `output`, is missing", of="SelfAttention.forward")
def no_output_map(self, x, layout, attentions=None):
    return projected(self, x, layout, attentions)


@mistake("self_attention", "the linear maps of query and key have changed places",
         of="SelfAttention.forward")  # fmt: skip
def maps_swapped(self, x, layout, attentions=None):
    return self.output(projected(self, x, layout, attentions, names=("key", "query", "value")))


@mistake("self_attention", "the values are made by the key's linear map",
         of="SelfAttention.forward")  # fmt: skip
def value_from_key(self, x, layout, attentions=None):
    return self.output(projected(self, x, layout, attentions, names=("query", "key", "key")))
