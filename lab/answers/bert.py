"""Part 1, BERT's modules: right answers in float64, and mistakes."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lab.answers import mistake, right
from lab.answers.formulas import gelu, linear, normed

# Embeddings


def looked_up(self, ids, types, positions):
    """The three vectors of each token."""
    tables = ((self.word, ids), (self.position, positions), (self.token_type, types))
    return [
        torch.stack([table.weight[i] for i in index.reshape(-1)]).view(*index.shape, -1)
        for table, index in tables
    ]


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


@mistake("embeddings", "word vectors are multiplied by √H, as in the Transformer; BERT does not")
def words_scaled(self, input_ids, token_type_ids, positions):
    word, position, segment = looked_up(self, input_ids, token_type_ids, positions)
    return self.dropout(self.norm(word * word.size(-1) ** 0.5 + position + segment))


@mistake("embeddings", "dropout is there twice, before and after LayerNorm; it comes once, after")
def embeddings_dropped_twice(self, input_ids, token_type_ids, positions):
    total = sum(looked_up(self, input_ids, token_type_ids, positions))
    return self.dropout(self.norm(self.dropout(total)))


@mistake("embeddings", "only the word's vector is normalised; normalise the sum of all three")
def words_normalised(self, input_ids, token_type_ids, positions):
    word, position, segment = looked_up(self, input_ids, token_type_ids, positions)
    return self.dropout(self.norm(word) + position + segment)


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


@mistake("add_norm", "the block's output is normalised, then dropped and added; LayerNorm is last")
def output_normalised(self, residual, output):
    return residual + self.norm(self.dropout(output))


@mistake("add_norm", "dropout acts on both parts; the residual should pass untouched")
def both_dropped(self, residual, output):
    return self.norm(self.dropout(residual) + self.dropout(output))


@mistake("add_norm", "the residual is cut off (detach), so nothing before it learns through it")
def residual_detached(self, residual, output):
    return self.norm(residual.detach() + self.dropout(output))


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


@mistake("feed_forward", "the activation is SiLU; BERT has GELU")
def silu(self, x):
    return self.outer(F.silu(self.inner(x)))


@mistake("feed_forward", "this is GELU by a sigmoid, x σ(1.702 x); BERT has the exact one")
def gelu_sigmoid(self, x):
    y = self.inner(x)
    return self.outer(y * (1.702 * y).sigmoid())


# The layer and the stack


@right("layer")
def layer(self, x, layout, attentions=None):
    attended = self.attention(x, layout, attentions)
    middle = self.attention_norm(x, attended)
    return self.feed_forward_norm(middle, self.feed_forward(middle))


@mistake(
    "layer",
    "the feed-forward block reads the layer's input; it should read the attention's normalised sum",
)
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


@mistake("layer", "the second add & norm is missing")
def second_norm_missing(self, x, layout, attentions=None):
    middle = self.attention_norm(x, self.attention(x, layout, attentions))
    return self.feed_forward(middle)


@right("encoder")
def encoder(self, input_ids, token_type_ids, layout, attentions):
    x = self.embeddings(input_ids, token_type_ids, layout.positions)
    states = [x]
    for each in self.layers:
        x = self.run(each, x, layout, attentions)
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
    return [x, *(self.run(each, x, layout, attentions) for each in self.layers)]


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


@mistake("encoder", "the states are cut off (detach), so no layer but the last learns")
def states_detached(self, input_ids, token_type_ids, layout, attentions):
    states = [self.embeddings(input_ids, token_type_ids, layout.positions)]
    for each in self.layers:
        states.append(self.run(each, states[-1].detach(), layout, attentions))
    return states


@mistake("encoder", "layers are called without `self.run`, so there is no gradient checkpointing")
def run_left_out(self, input_ids, token_type_ids, layout, attentions):
    states = [self.embeddings(input_ids, token_type_ids, layout.positions)]
    for each in self.layers:
        states.append(each(states[-1], layout, attentions))
    return states


@mistake("encoder", "`attentions` is not handed on to the layers")
def attentions_left_out(self, input_ids, token_type_ids, layout, attentions):
    return encoder(self, input_ids, token_type_ids, layout, None)


@mistake("encoder", "only some of the layers run; there are as many as `self.layers` has")
def three_layers(self, input_ids, token_type_ids, layout, attentions):
    return encoder(self, input_ids, token_type_ids, layout, attentions)[:4]


@mistake("encoder", "segments do not reach the embeddings")
def segments_left_out(self, input_ids, token_type_ids, layout, attentions):
    return encoder(self, input_ids, torch.zeros_like(token_type_ids), layout, attentions)


# Pooler


@right("pooler", of="Pooler.forward")
def pooler(self, first):
    return (1 - 2 / ((2 * linear(self.dense, first).double()).exp() + 1)).to(first.dtype)


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


@mistake(
    "pooler",
    "the batch's first row is pooled in place of each row's first token; a packed "
    "batch needs `layout`",
    of="Bert.pool",
)
def pool_first_row(self, last_hidden_state, layout):
    return self.pooler(last_hidden_state[0])


@mistake(
    "pooler", "the first tokens are returned as they are; `self.pooler` maps them", of="Bert.pool"
)
def pool_without_pooler(self, last_hidden_state, layout):
    return layout.first(last_hidden_state)


@mistake("pooler", "the activation is ReLU; the pooler has tanh", of="Pooler.forward")
def relu_for_tanh(self, first):
    return F.relu(self.dense(first))


@mistake("pooler", "the activation is a sigmoid; the pooler has tanh", of="Pooler.forward")
def sigmoid_for_tanh(self, first):
    return self.dense(first).sigmoid()
