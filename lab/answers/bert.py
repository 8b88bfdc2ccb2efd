"""Part 1, BERT: right answers in float64, and mistakes."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from lab.answers import mistake, right


def normed(norm: nn.LayerNorm, x):
    """LayerNorm from its definition, in float64."""
    y = x.double()
    centred = y - y.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return (centred / deviation * norm.weight.double() + norm.bias.double()).to(x.dtype)


def linear(module: nn.Linear, x):
    """x Wᵀ + b, in float64."""
    return (torch.einsum("...i,oi->...o", x.double(), module.weight.double())
            + module.bias.double()).to(x.dtype)  # fmt: skip


# Embeddings


def looked_up(self, ids, types, positions):
    """The three vectors of each token."""
    tables = ((self.word, ids), (self.position, positions), (self.token_type, types))
    return [torch.stack([table.weight[i] for i in index.reshape(-1)]).view(*index.shape, -1)
            for table, index in tables]  # fmt: skip


@right("embeddings")
def embeddings(self, input_ids, token_type_ids, positions):
    word, position, segment = looked_up(self, input_ids, token_type_ids, positions)
    return self.dropout(normed(self.norm, word + position + segment))


@mistake("embeddings", "positions are missing: the same word has the same vector wherever it is")
def no_positions(self, input_ids, token_type_ids, positions):
    word, _, segment = looked_up(self, input_ids, token_type_ids, positions)
    return self.dropout(self.norm(word + segment))


@mistake("embeddings", "segments are missing: the two texts of a pair cannot be told apart")
def no_segments(self, input_ids, token_type_ids, positions):
    word, position, _ = looked_up(self, input_ids, token_type_ids, positions)
    return self.dropout(self.norm(word + position))


@mistake("embeddings", "the sum is not normalised; see what comes between the sum and the dropout")
def embeddings_not_normalised(self, input_ids, token_type_ids, positions):
    return self.dropout(sum(looked_up(self, input_ids, token_type_ids, positions)))


@mistake("embeddings", "there is no dropout; in eval mode that makes no difference")
def embeddings_without_dropout(self, input_ids, token_type_ids, positions):
    return self.norm(sum(looked_up(self, input_ids, token_type_ids, positions)))


@mistake("embeddings", "dropout comes before LayerNorm; the paper has it after")
def dropout_before_norm(self, input_ids, token_type_ids, positions):
    return self.norm(self.dropout(sum(looked_up(self, input_ids, token_type_ids, positions))))


@mistake("embeddings", "positions are counted anew from 0 to S - 1; use those that are passed in")
def own_positions(self, input_ids, token_type_ids, positions):
    counted = torch.arange(input_ids.shape[-1]).expand(input_ids.shape)
    return embeddings(self, input_ids, token_type_ids, counted)


@mistake("embeddings", "segment ids are taken as all zero; use those that are passed in")
def segments_all_zero(self, input_ids, token_type_ids, positions):
    return embeddings(self, input_ids, torch.zeros_like(token_type_ids), positions)


@mistake("embeddings", "each of the three vectors is normalised; normalise their sum, once")
def normalised_one_by_one(self, input_ids, token_type_ids, positions):
    parts = looked_up(self, input_ids, token_type_ids, positions)
    return self.dropout(sum(self.norm(part) for part in parts))


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


def softmax(scores, dim=-1):
    """Softmax from its definition, in float64."""
    exponentials = (scores.double() - scores.double().amax(dim, keepdim=True)).exp()
    return (exponentials / exponentials.sum(dim, keepdim=True)).to(scores.dtype)


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
    return attend(query, key, value, mask, dropout,
                  scale=(query.size(-1) * query.size(1)) ** -0.5)  # fmt: skip


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


@mistake("heads", "the features are cut without a transpose: heads hold other tokens' features",
         of="split_heads")  # fmt: skip
def split_without_transpose(x, num_heads):
    batch, length, hidden = x.shape
    return x.reshape(batch, num_heads, length, hidden // num_heads)


@mistake("heads", "head n takes every N-th feature; it owns a slice of D features side by side",
         of="split_heads")  # fmt: skip
def split_interleaved(x, num_heads):
    batch, length, hidden = x.shape
    return x.view(batch, length, hidden // num_heads, num_heads).permute(0, 3, 1, 2)


@mistake("heads", "heads and tokens are not transposed: the result must be (B, N, S, D)",
         of="split_heads")  # fmt: skip
def split_not_transposed(x, num_heads):
    return x.view(*x.shape[:2], num_heads, -1)


@mistake("heads", "heads are merged without the transpose: features of other tokens get mixed in",
         of="merge_heads")  # fmt: skip
def merge_without_transpose(x):
    batch, num_heads, length, size = x.shape
    return x.reshape(batch, length, num_heads * size)


@mistake("heads", "merged features are interleaved; head n's D features stand side by side",
         of="merge_heads")  # fmt: skip
def merge_interleaved(x):
    batch, num_heads, length, size = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch, length, num_heads * size)


@mistake("heads", "`view` cannot merge what a transpose has spread out; see the third hint",
         of="merge_heads")  # fmt: skip
def merge_with_view(x):
    batch, num_heads, length, size = x.shape
    return x.transpose(1, 2).view(batch, length, num_heads * size)


# Self-attention


def multi_head(self, x, layout, attentions=None, *, names=("query", "key", "value"), last=True,
               masked=True, dropout=True, merge=merge_heads):  # fmt: skip
    """Multi-head attention with its parts open to change, through the library's functions, which
    are supplied when a check runs."""
    from minbert import attention as parts

    def attend_each(query, key, value, mask):
        q, k, v = (parts.split_heads(each, self.num_heads) for each in (query, key, value))
        keys = parts.key_mask(mask) if masked else None
        drop = self.dropout if dropout else nn.Identity()
        context, probabilities = parts.scaled_dot_product_attention(q, k, v, keys, drop)
        if attentions is not None:
            attentions.append(probabilities)
        return parts.merge_heads(context) if merge is merge_heads else merge(context)

    context = layout.per_sequence(attend_each, *(linear(getattr(self, n), x) for n in names))
    return linear(self.output, context) if last else context


@right("self_attention")
def self_attention(self, x, layout, attentions=None):
    return multi_head(self, x, layout, attentions)


@mistake("self_attention", "the last linear map, `output`, is missing")
def no_output_map(self, x, layout, attentions=None):
    return multi_head(self, x, layout, attentions, last=False)


@mistake("self_attention", "padding is not masked: hand the mask on to the attention")
def padding_attended(self, x, layout, attentions=None):
    return multi_head(self, x, layout, attentions, masked=False)


@mistake("self_attention", "the linear maps of query and key have changed places")
def maps_swapped(self, x, layout, attentions=None):
    return multi_head(self, x, layout, attentions, names=("key", "query", "value"))


@mistake("self_attention", "the values are made by the key's linear map")
def value_from_key(self, x, layout, attentions=None):
    return multi_head(self, x, layout, attentions, names=("query", "key", "key"))


@mistake(
    "self_attention", "`self.dropout` never reaches the attention; in eval mode nobody sees it"
)
def self_attention_without_dropout(self, x, layout, attentions=None):
    return multi_head(self, x, layout, attentions, dropout=False)


@mistake("self_attention", "heads are put together without the transpose; use `merge_heads`")
def merged_by_hand(self, x, layout, attentions=None):
    return multi_head(self, x, layout, attentions, merge=merge_without_transpose)


@mistake("self_attention", "the list `attentions` stays empty: add each map of probabilities to it")
def no_maps(self, x, layout, attentions=None):
    return multi_head(self, x, layout)


# Blocks of a layer


@right("add_norm")
def add_norm(self, residual, output):
    return normed(self.norm, residual + self.dropout(output))


@mistake("add_norm", "dropout acts on the sum; the residual should pass untouched")
def dropout_after_residual(self, residual, output):
    return self.norm(self.dropout(residual + output))


@mistake("add_norm", "dropout acts on the result; it belongs on the block's output, before the sum")
def dropout_after_norm(self, residual, output):
    return self.dropout(self.norm(residual + output))


@mistake("add_norm", "dropout acts on the residual; it belongs on the block's output")
def dropout_on_residual(self, residual, output):
    return self.norm(self.dropout(residual) + output)


@mistake("add_norm", "there is no dropout; in eval mode nobody sees that")
def add_norm_without_dropout(self, residual, output):
    return self.norm(residual + output)


@mistake("add_norm", "this is pre-norm: BERT normalises the sum, not the block's output")
def pre_norm(self, residual, output):
    return residual + self.dropout(self.norm(output))


@mistake("add_norm", "the residual is missing: LayerNorm takes the sum of both")
def no_residual(self, residual, output):
    return self.norm(self.dropout(output))


@mistake("add_norm", "the sum is not normalised")
def not_normalised(self, residual, output):
    return residual + self.dropout(output)


def gelu(x):
    """x Φ(x), in float64."""
    return (x.double() * 0.5 * (1 + torch.erf(x.double() / math.sqrt(2)))).to(x.dtype)


@right("feed_forward")
def feed_forward(self, x):
    return linear(self.outer, gelu(linear(self.inner, x)))


@mistake("feed_forward", "this is GELU's tanh form; BERT has the exact one")
def gelu_tanh(self, x):
    return self.outer(F.gelu(self.inner(x), approximate="tanh"))


@mistake("feed_forward", "the activation is ReLU; BERT has GELU")
def relu(self, x):
    return self.outer(F.relu(self.inner(x)))


@mistake("feed_forward", "there is nothing between the two linear maps, so they are one")
def no_activation(self, x):
    return self.outer(self.inner(x))


@mistake("feed_forward", "there is a GELU after the second map too; it stands between the two")
def gelu_twice(self, x):
    return F.gelu(self.outer(F.gelu(self.inner(x))))


@mistake("feed_forward", "the residual is added here; that is the work of add & norm")
def residual_inside(self, x):
    return x + self.outer(F.gelu(self.inner(x)))


# The layer and the stack


@right("layer")
def layer(self, x, layout, attentions=None):
    attended = self.attention(x, layout, attentions)
    middle = self.attention_norm(x, attended)
    return self.feed_forward_norm(middle, self.feed_forward(middle))


@mistake("layer", "the feed-forward block reads the layer's input; it should read the attention's "
         "normalised sum")  # fmt: skip
def feed_forward_from_input(self, x, layout, attentions=None):
    middle = self.attention_norm(x, self.attention(x, layout, attentions))
    return self.feed_forward_norm(middle, self.feed_forward(x))


@mistake(
    "layer", "the second residual is the layer's input; it should be the first sum, normalised"
)
def second_residual_from_input(self, x, layout, attentions=None):
    middle = self.attention_norm(x, self.attention(x, layout, attentions))
    return self.feed_forward_norm(x, self.feed_forward(middle))


@mistake(
    "layer", "add & norm gets residual and output in the wrong order; dropout tells them apart"
)
def arguments_swapped(self, x, layout, attentions=None):
    middle = self.attention_norm(self.attention(x, layout, attentions), x)
    return self.feed_forward_norm(self.feed_forward(middle), middle)


@mistake("layer", "both sums use the same add & norm; each block has one of its own")
def one_norm_for_both(self, x, layout, attentions=None):
    middle = self.attention_norm(x, self.attention(x, layout, attentions))
    return self.attention_norm(middle, self.feed_forward(middle))


@mistake("layer", "the two add & norms have changed places")
def norms_swapped(self, x, layout, attentions=None):
    middle = self.feed_forward_norm(x, self.attention(x, layout, attentions))
    return self.attention_norm(middle, self.feed_forward(middle))


@mistake("layer", "the first add & norm is missing")
def first_norm_missing(self, x, layout, attentions=None):
    middle = self.attention(x, layout, attentions)
    return self.feed_forward_norm(middle, self.feed_forward(middle))


@mistake("layer", "`attentions` is not handed on to the attention")
def maps_not_handed_on(self, x, layout, attentions=None):
    return layer(self, x, layout)


@right("encoder")
def encoder(self, input_ids, token_type_ids, layout, attentions):
    x = self.embeddings(input_ids, token_type_ids, layout.positions)
    states = [x]
    for each in self.layers:
        x = each(x, layout, attentions)
        states = [*states, x]
    return states


@mistake("encoder", "the embeddings are missing among the states: they come first")
def embeddings_left_out(self, input_ids, token_type_ids, layout, attentions):
    return encoder(self, input_ids, token_type_ids, layout, attentions)[1:]


@mistake("encoder", "only the last state is returned; the caller wants all of them")
def last_state_only(self, input_ids, token_type_ids, layout, attentions):
    return encoder(self, input_ids, token_type_ids, layout, attentions)[-1:]


@mistake("encoder", "every layer starts from the embeddings; it should start from the last state")
def layers_side_by_side(self, input_ids, token_type_ids, layout, attentions):
    x = self.embeddings(input_ids, token_type_ids, layout.positions)
    return [x, *(each(x, layout, attentions) for each in self.layers)]


@mistake("encoder", "the first layer is used at every depth; each depth has a layer of its own")
def one_layer_repeated(self, input_ids, token_type_ids, layout, attentions):
    states = [self.embeddings(input_ids, token_type_ids, layout.positions)]
    for _ in self.layers:
        states.append(self.layers[0](states[-1], layout, attentions))
    return states


@mistake("encoder", "the layers run in reverse order")
def layers_reversed(self, input_ids, token_type_ids, layout, attentions):
    states = [self.embeddings(input_ids, token_type_ids, layout.positions)]
    for each in reversed(self.layers):
        states.append(each(states[-1], layout, attentions))
    return states


# Pooler


@right("pooler", of="Pooler.forward")
def pooler(self, first):
    exponential = (2 * linear(self.dense, first).double()).exp()
    return ((exponential - 1) / (exponential + 1)).to(first.dtype)


@right("pooler", of="Bert.pool")
def pool(self, last_hidden_state, layout):
    starts = {2: getattr(layout, "starts", None), 3: None}[last_hidden_state.dim()]
    return self.pooler(last_hidden_state[:, 0] if starts is None else last_hidden_state[starts])


@mistake("pooler", "there is no tanh after the linear map", of="Pooler.forward")
def no_tanh(self, first):
    return self.dense(first)


@mistake(
    "pooler", "the linear map is missing: tanh alone has nothing to learn", of="Pooler.forward"
)
def no_dense(self, first):
    return torch.tanh(first)


@mistake("pooler", "the activation is GELU; the pooler has tanh", of="Pooler.forward")
def gelu_for_tanh(self, first):
    return F.gelu(self.dense(first))


@mistake("pooler", "the mean of the tokens is pooled; the pooler reads [CLS]", of="Bert.pool")
def pool_the_mean(self, last_hidden_state, layout):
    return self.pooler(layout.mean(last_hidden_state))


@mistake("pooler", "the batch's first row is pooled in place of each row's first token; a packed "
         "batch needs `layout`", of="Bert.pool")  # fmt: skip
def pool_first_row(self, last_hidden_state, layout):
    return self.pooler(last_hidden_state[0])


# Loading


@right("loading", of="hub_names")
def hub_names(model):
    encoder = model["encoder"]
    names = {}
    for prefix, module, table in (
        ("encoder", encoder, encoder.KEYS),
        ("mlm_head", getattr(model, "mlm_head", None), encoder.MLM_KEYS),
    ):
        for ours, theirs in table.items() if module is not None else ():
            for n in range(len(encoder.layers)) if "{n}" in ours else (None,):
                found = module
                for word in ours.format(n=n).split("."):
                    found = getattr(found, word)
                own, hub = f"{prefix}.{ours.format(n=n)}", theirs.format(n=n)
                if isinstance(found, nn.Parameter):
                    names[own] = hub
                else:
                    names |= {f"{own}.{leaf}": f"{hub}.{leaf}" for leaf, _ in
                              found.named_parameters()}  # fmt: skip
    return names


@right("loading", of="_modern_name")
def modern_name(name, prefix):
    if name[: len(prefix)] == prefix:
        name = name[len(prefix) :]
    words = name.split(".")
    words[-1] = {"gamma": "weight", "beta": "bias"}.get(words[-1], words[-1])
    return ".".join(words)


@mistake("loading", "the prefix is taken out wherever it stands; only a beginning is a prefix",
         of="_modern_name")  # fmt: skip
def prefix_anywhere(name, prefix):
    return modern_name(name.replace(prefix, ""), prefix)


@mistake("loading", "gamma and beta are replaced inside words too; only a whole last word counts",
         of="_modern_name")  # fmt: skip
def gamma_anywhere(name, prefix):
    return name.removeprefix(prefix).replace("gamma", "weight").replace("beta", "bias")


@mistake("loading", "gamma and beta have changed places: gamma scales, so it is the weight",
         of="_modern_name")  # fmt: skip
def gamma_is_bias(name, prefix):
    words = name.removeprefix(prefix).split(".")
    words[-1] = {"gamma": "bias", "beta": "weight"}.get(words[-1], words[-1])
    return ".".join(words)


@mistake("loading", "old names stay as they are: gamma is weight and beta is bias today",
         of="_modern_name")  # fmt: skip
def gamma_kept(name, prefix):
    return name.removeprefix(prefix)


@mistake("loading", "the prefix stays on the names", of="_modern_name")
def prefix_kept(name, prefix):
    return modern_name(name, "\0")


@mistake("loading", "layers are counted from 1 in the hub's names; both count from 0",
         of="hub_names")  # fmt: skip
def layers_from_one(model):
    def one_more(name):
        words = name.split(".")
        return ".".join(str(int(w) + 1) if w.isdigit() else w for w in words)

    return {ours: one_more(theirs) for ours, theirs in hub_names(model).items()}


@mistake("loading", "every layer gets the names of layer 0: put the number into {n}",
         of="hub_names")  # fmt: skip
def layer_zero_only(model):
    def zero(name):
        return ".".join("0" if word.isdigit() else word for word in name.split("."))

    return {ours: zero(theirs) for ours, theirs in hub_names(model).items()}


@mistake("loading", "the masked-language-model head's names are missing", of="hub_names")
def head_left_out(model):
    return {k: v for k, v in hub_names(model).items() if not k.startswith("mlm_head")}
