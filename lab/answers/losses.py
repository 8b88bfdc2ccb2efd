"""Part 3, losses and answers: right answers in float64 where there are sums, and mistakes."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lab.answers import mistake, right
from lab.answers.formulas import softmax

# Losses


def loss_of(task, outputs, labels):
    """Each row's loss from its definition, in float64."""
    outputs = outputs.double()
    if task.kind in ("classes", "tokens"):
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


@mistake("losses", "the log of a sigmoid overflows at large outputs; take the loss with logits")
def naive_binary(task, outputs, labels):
    if task.kind != "binary":
        return loss_of(task, outputs, labels)
    yes = outputs.squeeze(-1).sigmoid()
    return -(labels * yes.log() + (1 - labels) * (1 - yes).log())


@mistake("losses", "the log of a softmax overflows at large outputs; take log_softmax, in one")
def naive_classes(task, outputs, labels):
    if task.kind != "classes":
        return loss_of(task, outputs, labels)
    return -outputs.softmax(-1).log().gather(1, labels.long().unsqueeze(1)).squeeze(1)


@mistake("losses", "the squared error is halved; it is (output - label)²")
def half_squared_error(task, outputs, labels):
    return loss_of(task, outputs, labels) * (0.5 if task.kind == "regression" else 1)


@mistake("losses", "the regression's loss is Huber's (smooth_l1); it should be the squared error")
def huber(task, outputs, labels):
    if task.kind == "regression":
        return F.smooth_l1_loss(outputs.squeeze(-1), labels, reduction="none")
    return loss_of(task, outputs, labels)


@mistake("losses", "yes and no have changed places in the binary loss: 1 is yes, a large output")
def binary_flipped(task, outputs, labels):
    return loss_of(task, -outputs if task.kind == "binary" else outputs, labels)


# Answers


@right("answers")
def answers(task, outputs):
    if task.kind == "tokens":
        return outputs.max(1).indices, None
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
    return probabilities.flip(-1).argmax(-1), probabilities.flip(-1)


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


@mistake("answers", "these are logs of probabilities; softmax gives the probabilities")
def log_probabilities(task, outputs):
    found, probabilities = answers(task, outputs)
    return found, probabilities.log() if task.kind == "classes" else probabilities


@mistake("answers", "exp overflows where outputs are large; softmax takes care of that")
def naive_probabilities(task, outputs):
    found, probabilities = answers(task, outputs)
    if task.kind == "classes":
        probabilities = outputs.exp() / outputs.exp().sum(-1, keepdim=True)
    return found, probabilities


@mistake("answers", "a regression's answer is rounded; it is the output as it is")
def rounded(task, outputs):
    found, probabilities = answers(task, outputs)
    return found.round() if task.kind == "regression" else found, probabilities


@mistake("answers", "a binary task gives one probability a row; there are two, no first")
def yes_alone(task, outputs):
    found, probabilities = answers(task, outputs)
    return found, outputs.sigmoid() if task.kind == "binary" else probabilities
