"""Heads as students write it, and mistakes that change a line."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lab.answers import plain


@plain("classifier")
def heads_forward(self, features, task):
    from multitask.heads import CosineOutput

    out = self.outputs[task]
    if isinstance(out, CosineOutput):
        return out(features)
    which = "pair" if task in self.paired else "single"
    x = self.dropout(features)
    x = self.shared[which](x)
    x = self.activation(x)
    x = self.dropout(x)
    return out(x)


heads_forward.but(
    "the activation is always GELU; `self.activation` is the one that was chosen",
    "self.activation(x)",
    "F.gelu(x)",
)
heads_forward.but(
    "the outputs have lost their last dimension; they are (B, K), for one output too",
    "return out(x)",
    "return out(x).squeeze(-1)",
)
heads_forward.but(
    "all tasks use the first one's output layer; each has its own",
    "out = self.outputs[task]",
    "out = next(iter(self.outputs.values()))",
)
heads_forward.but(
    "a `CosineOutput` is given the shared layer's features; it takes the cosines as they come",
    "    if isinstance(out, CosineOutput):\n        return out(features)\n",
    "",
)
heads_forward.but(
    "there is a dropout on the outputs too; the two places are before the linear maps",
    "return out(x)",
    "return self.dropout(out(x))",
)
heads_forward.but(
    "the second dropout comes before the activation; it comes after",
    "    x = self.activation(x)\n    x = self.dropout(x)",
    "    x = self.activation(self.dropout(x))",
)
heads_forward.but(
    'single texts take `self.shared["pair"]` too; it is for tasks of pairs',
    "task in self.paired",
    '"pair" in self.shared',
)
heads_forward.but(
    'all pairs take `self.shared["pair"]`; it is for the tasks in `self.paired`',
    "task in self.paired",
    'self.tasks[task].is_pair and "pair" in self.shared',
)
heads_forward.but(
    "a regression is cut to its range, where it has no gradient; outputs are raw",
    "return out(x)",
    'y = out(x)\n    return y.clamp(0, 5) if self.tasks[task].kind == "regression" else y',
)
heads_forward.but(
    "cosines are returned as they are; the `CosineOutput` scales them",
    "return out(features)",
    "return features",
)
heads_forward.but(
    "there is an activation after the task's layer; outputs are raw",
    "return out(x)",
    "return self.activation(out(x))",
)


@plain("compare", of="compare_concat")
def compare_concat(u, v):
    return torch.cat([u, v, torch.abs(u - v)], dim=-1)


compare_concat.but(
    "this is |u| - |v|; the absolute value is of the difference, |u - v|",
    "torch.abs(u - v)",
    "u.abs() - v.abs()",
)
compare_concat.but("u and v have changed places; it is u, v, |u - v|", "[u, v,", "[v, u,")
compare_concat.but(
    "there is a fourth part, u v; three make (B, 3 H)",
    "torch.abs(u - v)]",
    "torch.abs(u - v), u * v]",
)
compare_concat.but(
    "the parts are stacked in a dimension of their own; they stand side by side, (B, 3 H)",
    "torch.cat([u, v, torch.abs(u - v)], dim=-1)",
    "torch.stack([u, v, torch.abs(u - v)], dim=1)",
)


@plain("compare", of="compare_cosine")
def compare_cosine(u, v):
    return F.cosine_similarity(u, v, dim=-1).unsqueeze(-1)


compare_cosine.but(
    "the cosines are a row, (1, B); they are a column", ".unsqueeze(-1)", ".unsqueeze(0)"
)
compare_cosine.but(
    "the product is divided by the squared lengths; take their roots",
    "F.cosine_similarity(u, v, dim=-1)",
    "((u * v).sum(dim=-1) / (u.square().sum(-1) * v.square().sum(-1)))",
)
compare_cosine.but(
    "each u is compared with each v; row i is u_i with v_i alone",
    "F.cosine_similarity(u, v, dim=-1).unsqueeze(-1)",
    "F.normalize(u, dim=-1) @ F.normalize(v, dim=-1).T",
)
compare_cosine.but(
    "the lengths are of the whole batch; each row has its own",
    "F.cosine_similarity(u, v, dim=-1)",
    "((u * v).sum(-1) / (u.norm() * v.norm()))",
)
compare_cosine.but(
    "the cosine is moved to 0 ... 1; it stays between -1 and 1",
    "F.cosine_similarity(u, v, dim=-1)",
    "((F.cosine_similarity(u, v, dim=-1) + 1) / 2)",
)
compare_cosine.but(
    "v is cut off (detach); both embeddings learn",
    "F.cosine_similarity(u, v, dim=-1)",
    "F.cosine_similarity(u, v.detach(), dim=-1)",
)
compare_cosine.but(
    "short vectors are taken for longer ones: eps is far too large",
    "F.cosine_similarity(u, v, dim=-1)",
    "F.cosine_similarity(u, v, dim=-1, eps=1.0)",
)


@plain("answers")
def answers(task, outputs):
    if task.kind == "tokens":
        return outputs.argmax(dim=-1), None
    if task.kind == "regression":
        return outputs.float().squeeze(-1), None
    if task.kind == "classes":
        probs = outputs.float().softmax(dim=-1)
        return probs.argmax(dim=-1), probs
    p = outputs.float().sigmoid()
    if task.kind == "labels":
        return (p > 0.5).long(), p
    return (p > 0.5).long().squeeze(-1), torch.cat([1 - p, p], dim=-1)


answers.but(
    "a binary task's answers keep a dimension of size 1; they are (B,)",
    "(p > 0.5).long().squeeze(-1)",
    "(p > 0.5).long()",
)
answers.but(
    "argmax of one number is always 0; compare no and yes",
    "(p > 0.5).long().squeeze(-1)",
    "p.argmax(dim=-1)",
)
answers.but(
    "a softmax of one number is always 1; a binary task has a sigmoid",
    "p = outputs.float().sigmoid()",
    'p = outputs.float().softmax(-1) if task.kind == "binary" else outputs.float().sigmoid()',
)
answers.but(
    "argmax runs over the rows; it is over the classes",
    "probs.argmax(dim=-1)",
    "probs.argmax(dim=0)",
)
answers.but(
    "each class has a sigmoid of its own; a softmax makes them sum to 1",
    "outputs.float().softmax(dim=-1)",
    "outputs.float().sigmoid()",
)
answers.but(
    "the softmax runs over the rows; it is over the classes",
    "outputs.float().softmax(dim=-1)",
    "outputs.float().softmax(dim=0)",
)
answers.but(
    "a regression's answer is cut to a range; it is the number itself",
    "outputs.float().squeeze(-1), None",
    "outputs.float().squeeze(-1).clamp(0, 5), None",
)
answers.but(
    "a regression comes with probabilities; it has None",
    "outputs.float().squeeze(-1), None",
    "outputs.float().squeeze(-1), outputs.float().sigmoid()",
)
answers.but(
    "only the likeliest label is 1; several may hold at once",
    "return (p > 0.5).long(), p",
    "return F.one_hot(p.argmax(-1), p.size(-1)), p",
)
answers.but(
    "several labels go through a softmax, as if one excluded the others; each has a sigmoid",
    "return (p > 0.5).long(), p",
    "q = outputs.float().softmax(-1)\n        return (q > 0.5).long(), q",
)
answers.but(
    "an output of 0 counts as yes; yes has to be likelier than no",
    "return (p > 0.5).long(), p",
    "return (p >= 0.5).long(), p",
    "return (p > 0.5).long().squeeze(-1), torch.cat([1 - p, p], dim=-1)",
    "return (p >= 0.5).long().squeeze(-1), torch.cat([1 - p, p], dim=-1)",
)
answers.but(
    "a binary task's answers are probabilities; they are 0 or 1",
    "(p > 0.5).long().squeeze(-1)",
    "p.squeeze(-1)",
)
answers.but(
    "tokens come with probabilities; they have none, as there are too many",
    "return outputs.argmax(dim=-1), None",
    "return outputs.argmax(dim=-1), outputs.float().softmax(-1)",
)
