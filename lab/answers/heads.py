"""Part 3, heads and comparisons: right answers in float64 where there are sums, and mistakes."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lab.answers import mistake, right
from lab.answers.formulas import gelu, softmax
from lab.answers.formulas import linear as linear_map

# Heads


def head(
    self,
    features,
    task,
    *,
    before=True,
    between=True,
    activation=None,
    last=lambda x: x,
    shared=None,
):
    """Heads.forward with its parts open to change."""
    output = self.outputs[task]
    if type(output).__name__ == "CosineOutput":
        return last(output(features))
    kind = "pair" if task in self.paired else "single"
    x = self.dropout(features) if before else features
    x = (activation or chosen(self))(linear_map(self.shared[kind], x))
    return last(linear_map(output, self.dropout(x) if between else x))


def chosen(self):
    """The nonlinearity of the heads, GELU from its definition."""
    return gelu if self.activation is F.gelu else self.activation


@right("classifier")
def classifier(self, features, task):
    return head(self, features, task)


@mistake("classifier", "there is no dropout before the shared layer; in eval mode nobody sees that")
def no_first_dropout(self, features, task):
    return head(self, features, task, before=False)


@mistake("classifier", "there is no dropout before the output layer; in eval mode nobody sees that")
def no_second_dropout(self, features, task):
    return head(self, features, task, between=False)


@mistake("classifier", "there is no activation between the two linear maps, so they are one")
def heads_without_activation(self, features, task):
    return head(self, features, task, activation=lambda x: x)


@mistake("classifier", "the activation is ReLU; the heads have GELU, like BERT")
def heads_with_relu(self, features, task):
    return head(self, features, task, activation=F.relu)


@mistake("classifier", "the activation is GELU's tanh form; here it is the exact one")
def heads_with_tanh_gelu(self, features, task):
    return head(self, features, task, activation=lambda x: F.gelu(x, approximate="tanh"))


@mistake("classifier", "the classes go through a softmax; the loss does that, outputs are raw")
def softmax_in_head(self, features, task):
    return head(self, features, task, last=lambda x: softmax(x) if x.size(-1) > 1 else x)


@mistake("classifier", "the regression is squashed by a sigmoid; its output is a number as it is")
def regression_squashed(self, features, task):
    regression = self.tasks[task].kind == "regression"
    return head(self, features, task, last=lambda x: x.sigmoid() if regression else x)


@mistake("classifier", "a CosineOutput gets what the shared layer made; it takes the features")
def cosine_through_shared(self, features, task):
    output = self.outputs[task]
    if type(output).__name__ == "CosineOutput":
        wide = features.expand(-1, self.shared["single"].in_features)
        return output(F.gelu(self.shared["single"](wide)).mean(-1, keepdim=True))
    return head(self, features, task)


@mistake("classifier", "a binary task's logit goes through a sigmoid; the loss does that")
def binary_squashed(self, features, task):
    binary = self.tasks[task].kind == "binary"
    return head(self, features, task, last=lambda x: x.sigmoid() if binary else x)


@mistake("classifier", "the classes go through a log-softmax; the loss does that, outputs are raw")
def log_softmax_in_head(self, features, task):
    return head(self, features, task, last=lambda x: x.log_softmax(-1) if x.size(-1) > 1 else x)


@mistake("classifier", "dropout stands before the GELU; it stands before each linear map")
def dropout_before_gelu(self, features, task):
    return head(
        self, features, task, before=False, activation=lambda x: chosen(self)(self.dropout(x))
    )


@mistake("classifier", "dropout acts twice before the output layer")
def head_dropped_twice(self, features, task):
    return head(self, features, task, activation=lambda x: self.dropout(chosen(self)(x)))


@mistake("classifier", 'pairs always take `self.shared["pair"]`; where there is none, "single"')
def pair_layer_wanted(self, features, task):
    if self.tasks[task].is_pair and type(self.outputs[task]).__name__ != "CosineOutput":
        self.shared["pair"]
    return head(self, features, task)


@mistake("classifier", 'pairs never take `self.shared["pair"]`; where there is one, they do')
def pair_layer_ignored(self, features, task):
    if type(self.outputs[task]).__name__ == "CosineOutput":
        return self.outputs[task](features)
    x = F.gelu(self.shared["single"](self.dropout(features)))
    return self.outputs[task](self.dropout(x))


# Comparing


@right("compare", of="compare_concat")
def compare_concat(u, v):
    return torch.stack([torch.cat([a, b, torch.maximum(a - b, b - a)]) for a, b in zip(u, v)])


@right("compare", of="compare_cosine")
def compare_cosine(u, v):
    def length(x):
        return x.double().square().sum(-1, keepdim=True).sqrt()

    dot = torch.einsum("bf,bf->b", u.double(), v.double()).unsqueeze(-1)
    return (dot / length(u) / length(v)).to(u.dtype)


@mistake(
    "compare",
    "the difference keeps its sign; it should be the distance, |u - v|",
    of="compare_concat",
)
def signed_difference(u, v):
    return torch.cat([u, v, u - v], dim=-1)


@mistake("compare", "the third part is the product u v; it should be |u - v|", of="compare_concat")
def product(u, v):
    return torch.cat([u, v, u * v], dim=-1)


@mistake("compare", "the difference is missing: three parts make (B, 3 H)", of="compare_concat")
def no_difference(u, v):
    return torch.cat([u, v], dim=-1)


@mistake("compare", "the difference is squared; it should be |u - v|", of="compare_concat")
def squared_difference(u, v):
    return torch.cat([u, v, (u - v).square()], dim=-1)


@mistake(
    "compare", "this is the dot product; a cosine divides by both lengths", of="compare_cosine"
)
def dot_product(u, v):
    return (u * v).sum(-1, keepdim=True)


@mistake("compare", "the cosine must come back as a column, (B, 1)", of="compare_cosine")
def flat_cosine(u, v):
    return F.cosine_similarity(u, v, dim=-1)


@mistake(
    "compare",
    "the cosine runs over the batch; it belongs to the features of each row",
    of="compare_cosine",
)
def cosine_over_batch(u, v):
    return F.cosine_similarity(u, v, dim=0).unsqueeze(-1)


@mistake(
    "compare", "the three parts are in another order; it is u, v, |u - v|", of="compare_concat"
)
def difference_first(u, v):
    return torch.cat([(u - v).abs(), u, v], dim=-1)


@mistake(
    "compare",
    "the parts stand below each other; rows of three parts are (B, 3 H)",
    of="compare_concat",
)
def stacked_rows(u, v):
    return torch.cat([u, v, (u - v).abs()])


@mistake(
    "compare", "this is 1 - cosine, a distance; the cosine itself is asked for", of="compare_cosine"
)
def cosine_distance(u, v):
    return 1 - compare_cosine(u, v)


@mistake(
    "compare", "negative cosines are cut to 0; they say that texts differ", of="compare_cosine"
)
def cosine_cut(u, v):
    return compare_cosine(u, v).clamp(min=0)


@mistake("compare", "only one of the two lengths is divided by", of="compare_cosine")
def one_length(u, v):
    return (u * v).sum(-1, keepdim=True) / u.norm(dim=-1, keepdim=True)
