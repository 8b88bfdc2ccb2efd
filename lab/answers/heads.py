"""Part 3, heads and tasks: right answers in float64 where there are sums, and mistakes."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.nn import functional as F

from lab.answers import mistake, right
from lab.answers.bert import gelu, softmax
from lab.answers.bert import linear as linear_map

# Pooling


@right("pooling", of="mean")
def mean(self, x):
    return torch.stack([row[keep].double().mean(0) for row, keep in zip(x, self.mask)]).to(x.dtype)


@right("pooling", of="max")
def maximum(self, x):
    return torch.stack([row[keep].max(0).values for row, keep in zip(x, self.mask)])


@mistake("pooling", "the mean takes padding in; only real tokens count", of="mean")
def mean_of_all(self, x):
    return x.mean(1)


@mistake("pooling", "the sum is over real tokens and is divided by S; divide by how many are real",
         of="mean")  # fmt: skip
def mean_by_length(self, x):
    return (x * self.mask.unsqueeze(-1)).mean(1)


@mistake("pooling", "the sum takes padding in; zero it first", of="mean")
def sum_of_all(self, x):
    return x.sum(1) / self.mask.sum(1, keepdim=True)


@mistake("pooling", "the sum is not divided by anything", of="mean")
def sum_for_mean(self, x):
    return (x * self.mask.unsqueeze(-1)).sum(1)


@mistake("pooling", "the mask is inverted: this is the mean over padding", of="mean")
def mean_inverted(self, x):
    mask = (~self.mask).unsqueeze(-1)
    return (x * mask).sum(1) / mask.sum(1)


@mistake("pooling", "the maximum takes padding in; only real tokens count", of="max")
def max_of_all(self, x):
    return x.amax(1)


@mistake("pooling", "padding counts as 0 in the maximum, which beats negative features", of="max")
def max_with_zeros(self, x):
    return (x * self.mask.unsqueeze(-1)).amax(1)


@mistake("pooling", "the mask is inverted in the maximum", of="max")
def max_inverted(self, x):
    return x.masked_fill(self.mask.unsqueeze(-1), float("-inf")).amax(1)


# Pairs


def encoded(self, texts, pairs=None, *, max_length=None, strategy="longest_first", reset=True,
            count=None):  # fmt: skip
    """Tokenizer.encode with its parts open to change."""
    from minbert.tokenization import Encodings

    rows = list(texts) if pairs is None else list(zip(texts, pairs))
    whole = [self.fast.encode(*row) if pairs is not None else self.fast.encode(row) for row in rows]
    cut = 0 if max_length is None else sum(len(each.ids) > max_length for each in whole)
    if max_length is not None:
        self.fast.enable_truncation(max_length, strategy=strategy)
        whole = [self.fast.encode(*r) if pairs is not None else self.fast.encode(r) for r in rows]
        if reset:
            self.fast.no_truncation()
    ids, types = [each.ids for each in whole], [each.type_ids for each in whole]
    return Encodings(ids, types, cut if count is None else count)


@right("pair")
def encode(self, texts, pairs=None, *, max_length=None):
    return encoded(self, texts, pairs, max_length=max_length)


@mistake("pair", "segment ids are all 0: the second text's tokens should have 1")
def types_all_zero(self, texts, pairs=None, *, max_length=None):
    from minbert.tokenization import Encodings

    found = encoded(self, texts, pairs, max_length=max_length)
    types = [[0] * len(ids) for ids in found.input_ids]
    return Encodings(found.input_ids, types, found.truncated)


@mistake("pair", "the second texts are left out")
def second_left_out(self, texts, pairs=None, *, max_length=None):
    return encoded(self, texts, max_length=max_length)


@mistake("pair", "the two texts are joined into one, without [SEP] between them")
def joined(self, texts, pairs=None, *, max_length=None):
    both = texts if pairs is None else [f"{a} {b}" for a, b in zip(texts, pairs)]
    return encoded(self, both, max_length=max_length)


@mistake("pair", "first and second text have changed places")
def texts_swapped(self, texts, pairs=None, *, max_length=None):
    first, second = (texts, None) if pairs is None else (pairs, texts)
    return encoded(self, first, second, max_length=max_length)


@mistake("pair", "rows are not cut to max_length")
def never_cut(self, texts, pairs=None, *, max_length=None):
    return encoded(self, texts, pairs)


@mistake("pair", "the truncation stays on after the call: call `no_truncation()` when done")
def truncation_left_on(self, texts, pairs=None, *, max_length=None):
    return encoded(self, texts, pairs, max_length=max_length, reset=False)


@mistake("pair", "rows that were cut are not counted in `truncated`")
def cut_not_counted(self, texts, pairs=None, *, max_length=None):
    return encoded(self, texts, pairs, max_length=max_length, count=0)


# Heads


def head(self, features, task, *, before=True, between=True, activation=gelu, last=lambda x: x,
         shared=None):  # fmt: skip
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


@mistake("compare", "the difference keeps its sign; it should be the distance, |u - v|",
         of="compare_concat")  # fmt: skip
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


@mistake("compare", "the cosine runs over the batch; it belongs to the features of each row",
         of="compare_cosine")  # fmt: skip
def cosine_over_batch(u, v):
    return F.cosine_similarity(u, v, dim=0).unsqueeze(-1)


# Losses


def loss_of(task, outputs, labels, *, share=lambda loss, outputs: loss.sum()):
    """Each row's loss from its definition, in float64, then their sum."""
    outputs = outputs.double()
    if task.kind == "classes":
        chosen = outputs.gather(1, labels.long().unsqueeze(1)).squeeze(1)
        loss = outputs.logsumexp(1) - chosen
    elif task.kind == "binary":
        signs = 2 * labels.double() - 1
        loss = torch.log1p((-signs * outputs[:, 0]).exp())
    else:
        loss = (outputs[:, 0] - labels.double()) ** 2
    return share(loss, outputs).float()


@right("losses")
def loss_sum(task, outputs, labels):
    return loss_of(task, outputs, labels)


@mistake("losses", "the loss is a mean over rows; it should be their sum")
def mean_loss(task, outputs, labels):
    return loss_of(task, outputs, labels, share=lambda loss, outputs: loss.mean())


@mistake("losses", "outputs (B, 1) meet labels (B,) and make (B, B); give both the same shape")
def broadcast_regression(task, outputs, labels):
    if task.kind == "regression":
        return (outputs - labels).square().sum()
    return loss_of(task, outputs, labels)


@mistake("losses", "outputs of classes go through a softmax before the cross-entropy has its own")
def softmax_twice(task, outputs, labels):
    return loss_of(task, outputs.softmax(-1) if task.kind == "classes" else outputs, labels)


@mistake("losses", "the binary outputs go through a sigmoid twice: the loss takes logits")
def sigmoid_twice(task, outputs, labels):
    return loss_of(task, outputs.sigmoid() if task.kind == "binary" else outputs, labels)


@mistake("losses", "the regression's loss is the absolute error; it should be the squared one")
def absolute_error(task, outputs, labels):
    if task.kind == "regression":
        return (outputs.squeeze(-1) - labels).abs().sum()
    return loss_of(task, outputs, labels)


@mistake("losses", "the regression is squashed by a sigmoid; its labels go from 0 to 5")
def squashed_loss(task, outputs, labels):
    return loss_of(task, outputs.sigmoid() if task.kind == "regression" else outputs, labels)


@mistake("losses", "a binary task takes the squared error; it should be binary cross-entropy")
def binary_squared_error(task, outputs, labels):
    if task.kind == "binary":
        return (outputs.squeeze(-1).sigmoid() - labels).square().sum()
    return loss_of(task, outputs, labels)


# Answers


@right("answers")
def answers(task, outputs):
    if task.kind == "regression":
        return outputs[:, 0], None
    if task.kind == "binary":
        outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
    probabilities = softmax(outputs)
    return probabilities.max(1).indices, probabilities


@mistake("answers", "binary probabilities are in the wrong order: the first is that of no")
def yes_first(task, outputs):
    found, probabilities = answers(task, outputs)
    return found, probabilities.flip(-1) if task.kind == "binary" else probabilities


@mistake("answers", "a binary output is compared with 0.5; as a logit it says yes above 0")
def logit_over_half(task, outputs):
    found, probabilities = answers(task, outputs)
    return (outputs[:, 0] > 0.5).long() if task.kind == "binary" else found, probabilities


@mistake("answers", "a softmax over one output is always 1; a binary task takes the sigmoid")
def softmax_of_one(task, outputs):
    if task.kind != "binary":
        return answers(task, outputs)
    return outputs.argmax(-1), outputs.softmax(-1)


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


# Freezing


def built(config, encoder, *, frozen="encoder", dropout=True, seeded=True, forked=True,
          checkpointing=True):  # fmt: skip
    """MultitaskModel.from_config with its parts open to change."""
    from data.tasks import TASKS
    from multitask.model import MultitaskModel

    state = torch.get_rng_state()
    if seeded:
        torch.manual_seed(config.seed)
    model = MultitaskModel(
        encoder,
        [TASKS[name] for name in config.tasks],
        pooling=config.pooling,
        pair=config.pair,
        head_size=config.head_size,
        head_dropout=config.head_dropout,
    )
    rate = config.encoder_dropout
    for module in encoder.modules():
        if dropout and rate is not None and isinstance(module, nn.Dropout):
            module.p = rate
    encoder.gradient_checkpointing = config.gradient_checkpointing and checkpointing
    if config.frozen:
        parts = {"encoder": [encoder], "all": [model], "none": [], "layers": encoder.layers}
        for part in parts[frozen]:
            for parameter in part.parameters():
                parameter.requires_grad = False
    for extension in config.extensions:
        extension.prepare(model)
    if forked:
        torch.set_rng_state(state)
    return model


@right("freezing")
def from_config(cls, config, encoder):
    return built(config, encoder)


@mistake("freezing", "nothing is frozen: the encoder's parameters must not require gradients")
def not_frozen(cls, config, encoder):
    return built(config, encoder, frozen="none")


@mistake("freezing", "the heads are frozen too, so nothing is left to train")
def all_frozen(cls, config, encoder):
    return built(config, encoder, frozen="all")


@mistake("freezing", "only the layers are frozen; embeddings and pooler belong to the encoder too")
def layers_frozen(cls, config, encoder):
    return built(config, encoder, frozen="layers")


@mistake("freezing", "`config.encoder_dropout` is not used; a rate of 0.0 is a rate, None is not")
def dropout_not_set(cls, config, encoder):
    return built(config, encoder, dropout=False)


@mistake("freezing", "the heads do not start from `config.seed`")
def not_seeded(cls, config, encoder):
    return built(config, encoder, seeded=False)


@mistake("freezing", "the seed stays set for everybody else: put the random state back")
def not_forked(cls, config, encoder):
    return built(config, encoder, forked=False)


@mistake("freezing", "`config.gradient_checkpointing` is not used")
def no_checkpointing(cls, config, encoder):
    return built(config, encoder, checkpointing=False)


# Sampling


@right("sampling")
def uniform_task(tasks, *, seed, step):
    return random.Random(f"{seed} {step}").choice(tasks)


@mistake("sampling", "tasks come in turn and are not drawn")
def round_robin(tasks, *, seed, step):
    return tasks[(seed + step) % len(tasks)]


@mistake("sampling", "the step is left out, so every step draws the same task")
def same_every_step(tasks, *, seed, step):
    return uniform_task(tasks, seed=seed, step=0)


@mistake("sampling", "the seed is left out: another seed should draw other tasks")
def seed_left_out(tasks, *, seed, step):
    return uniform_task(tasks, seed=0, step=step)


@mistake("sampling", "the draw comes from a global generator: a resumed run would draw other tasks")
def global_generator(tasks, *, seed, step):
    return random.choice(tasks)


@mistake("sampling", "the last task is never drawn: the upper end of `integers` is out already")
def last_left_out(tasks, *, seed, step):
    return uniform_task(tasks[:-1] or tasks, seed=seed, step=step)
