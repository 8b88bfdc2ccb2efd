"""Part 3, heads and losses: right answers in float64 where there are sums, and mistakes."""

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
    activation=gelu,
    last=lambda x: x,
    shared=None,
):
    """Heads.forward with its parts open to change."""
    output = self.outputs[task]
    if type(output).__name__ == "CosineOutput":
        return last(output(features))
    kind = "pair" if self.tasks[task].is_pair and "pair" in self.shared else "single"
    x = self.dropout(features) if before else features
    x = activation(linear_map(self.shared[kind], x))
    return last(linear_map(output, self.dropout(x) if between else x))


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


# Losses


def loss_of(task, outputs, labels):
    """Each row's loss from its definition, in float64."""
    outputs = outputs.double()
    if task.kind == "classes":
        chosen = outputs.gather(1, labels.long().unsqueeze(1)).squeeze(1)
        loss = outputs.logsumexp(1) - chosen
    elif task.kind == "binary":
        signs = 2 * labels.double() - 1
        loss = torch.log1p((-signs * outputs[:, 0]).exp())
    elif task.kind == "labels":
        signs = 2 * labels.double() - 1
        loss = torch.log1p((-signs * outputs).exp()).mean(1)
    else:
        loss = (outputs[:, 0] - labels.double()) ** 2
    return loss.float()


@right("losses")
def row_losses(task, outputs, labels):
    return loss_of(task, outputs, labels)


@mistake("losses", "the loss is a mean over rows; each row should have its own")
def mean_loss(task, outputs, labels):
    return loss_of(task, outputs, labels).mean()


@mistake("losses", "the loss is a sum over rows; each row should have its own")
def sum_of_losses(task, outputs, labels):
    return loss_of(task, outputs, labels).sum()


@mistake("losses", "outputs (B, 1) meet labels (B,) and make (B, B); give both the same shape")
def broadcast_regression(task, outputs, labels):
    if task.kind == "regression":
        return (outputs - labels).square()
    return loss_of(task, outputs, labels)


@mistake("losses", "outputs of classes go through a softmax before the cross-entropy has its own")
def softmax_twice(task, outputs, labels):
    return loss_of(task, outputs.softmax(-1) if task.kind == "classes" else outputs, labels)


@mistake("losses", "the binary outputs go through a sigmoid twice: the loss takes logits")
def sigmoid_twice(task, outputs, labels):
    return loss_of(task, outputs.sigmoid() if task.kind == "binary" else outputs, labels)


@mistake("losses", "where several labels may hold, a softmax makes them compete; each is binary")
def labels_compete(task, outputs, labels):
    if task.kind != "labels":
        return loss_of(task, outputs, labels)
    return -(outputs.log_softmax(-1) * labels).mean(1)


@mistake("losses", "a row of several labels has the sum over them; it should be their mean")
def sum_over_labels(task, outputs, labels):
    factor = outputs.size(-1) if task.kind == "labels" else 1
    return factor * loss_of(task, outputs, labels)


@mistake("losses", "the regression's loss is the absolute error; it should be the squared one")
def absolute_error(task, outputs, labels):
    if task.kind == "regression":
        return (outputs.squeeze(-1) - labels).abs()
    return loss_of(task, outputs, labels)


@mistake("losses", "the regression is squashed by a sigmoid; its labels go from 0 to 5")
def squashed_loss(task, outputs, labels):
    return loss_of(task, outputs.sigmoid() if task.kind == "regression" else outputs, labels)


@mistake("losses", "a binary task takes the squared error; it should be binary cross-entropy")
def binary_squared_error(task, outputs, labels):
    if task.kind == "binary":
        return (outputs.squeeze(-1).sigmoid() - labels).square()
    return loss_of(task, outputs, labels)


# Answers


@right("answers")
def answers(task, outputs):
    if task.kind == "regression":
        return outputs[:, 0], None
    if task.kind == "labels":
        return (outputs > 0).long(), 1 / (1 + (-outputs).exp())
    if task.kind == "binary":
        outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
    probabilities = softmax(outputs)
    return probabilities.max(1).indices, probabilities


@mistake("answers", "binary probabilities are in the wrong order: the first is that of no")
def yes_first(task, outputs):
    found, probabilities = answers(task, outputs)
    return found, probabilities.flip(-1) if task.kind == "binary" else probabilities


@mistake("answers", "yes and no have changed places: class 1 is yes, and the second probability")
def yes_is_no(task, outputs):
    found, probabilities = answers(task, outputs)
    if task.kind != "binary":
        return found, probabilities
    return 1 - found, probabilities.flip(-1)


@mistake("answers", "a binary output is compared with 0.5; as a logit it says yes above 0")
def logit_over_half(task, outputs):
    found, probabilities = answers(task, outputs)
    return (outputs[:, 0] > 0.5).long() if task.kind == "binary" else found, probabilities


@mistake("answers", "a softmax over one output is always 1; a binary task takes the sigmoid")
def softmax_of_one(task, outputs):
    if task.kind != "binary":
        return answers(task, outputs)
    return outputs.argmax(-1), outputs.softmax(-1)


@mistake("answers", "several labels may hold at once; the likeliest alone is answered")
def one_of_several(task, outputs):
    found, probabilities = answers(task, outputs)
    return outputs.argmax(-1) if task.kind == "labels" else found, probabilities


@mistake("answers", "where several labels may hold, each has a sigmoid of its own, and no softmax")
def softmax_of_several(task, outputs):
    found, probabilities = answers(task, outputs)
    return found, softmax(outputs) if task.kind == "labels" else probabilities


@mistake("answers", "raw outputs are returned in place of probabilities")
def raw_outputs(task, outputs):
    found, probabilities = answers(task, outputs)
    return found, outputs if task.kind == "classes" else probabilities


@mistake("answers", "a regression's answer is squashed; it is the output as it is")
def squashed_answer(task, outputs):
    found, probabilities = answers(task, outputs)
    return found.sigmoid() if task.kind == "regression" else found, probabilities


@mistake("answers", "a regression's answer keeps the dimension of size 1; it should be (B,)")
def answer_column(task, outputs):
    return (outputs, None) if task.kind == "regression" else answers(task, outputs)
