"""Losses as students write it, and mistakes that change a line."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lab.answers import plain


@plain("losses")
def row_losses(task, outputs, labels):
    outputs = outputs.float()
    if task.kind in ("classes", "tokens"):
        return F.cross_entropy(outputs, labels.long(), reduction="none")
    cross_entropy = F.binary_cross_entropy_with_logits
    if task.kind == "binary":
        return cross_entropy(outputs.squeeze(-1), labels.float(), reduction="none")
    if task.kind == "labels":
        return cross_entropy(outputs, labels.float(), reduction="none").mean(dim=-1)
    return (outputs.squeeze(-1) - labels) ** 2


row_losses.but(
    "a small number inside the log bounds the loss at 20; log_softmax needs none",
    'F.cross_entropy(outputs, labels.long(), reduction="none")',
    "-(outputs.softmax(-1) + 1e-9).log().gather(1, labels.long()[:, None]).squeeze(1)",
)
row_losses.but(
    (
        "a sigmoid of 100 is 1 exactly, and its log has no gradient; the loss takes logits: "
        "..._with_logits"
    ),
    "cross_entropy(outputs.squeeze(-1), labels.float(), ",
    "F.binary_cross_entropy(outputs.squeeze(-1).sigmoid(), labels.float(), ",
)
row_losses.but(
    "rows of label 0 have no loss: theirs is -log(1 - σ(output))",
    'cross_entropy(outputs.squeeze(-1), labels.float(), reduction="none")',
    "-labels * F.logsigmoid(outputs.squeeze(-1))",
)
row_losses.but(
    "(B, 1) less (B,) is (B, B): every output meets every label",
    "(outputs.squeeze(-1) - labels) ** 2",
    "((outputs - labels) ** 2).mean(dim=-1)",
)
row_losses.but(
    "a regression's losses keep a dimension of size 1; they are (B,)",
    "(outputs.squeeze(-1) - labels) ** 2",
    "(outputs - labels.unsqueeze(-1)) ** 2",
)
row_losses.but(
    "a regression's output goes through a sigmoid; it is the number itself",
    "(outputs.squeeze(-1) - labels) ** 2",
    "(5 * outputs.squeeze(-1).sigmoid() - labels) ** 2",
)
row_losses.but("each label has its own loss; a row has their mean, (B,)", ".mean(dim=-1)", "")
row_losses.but(
    "several labels are taken for one class; each is a yes or no of its own",
    'cross_entropy(outputs, labels.float(), reduction="none").mean(dim=-1)',
    "F.cross_entropy(outputs, labels.argmax(dim=-1), reduction='none')",
)
row_losses.but(
    "the mean of several labels runs over the rows; it is over the labels of a row",
    ".mean(dim=-1)",
    ".mean(dim=0)",
)
row_losses.but(
    "the loss is computed in the outputs' dtype; in 16 bits it is too coarse: float() first",
    "    outputs = outputs.float()\n",
    "",
)
row_losses.but(
    "the kind `tokens` is not looked at; it is that of classes",
    'in ("classes", "tokens")',
    '== "classes"',
)
row_losses.but(
    "the labels are smoothed; the loss is that of the label alone",
    "labels.long(), reduction",
    "labels.long(), label_smoothing=0.1, reduction",
)


@plain("contrastive")
def ranking_loss(anchors, candidates, anchor_groups, candidate_groups, temperature=0.05):
    a = F.normalize(anchors, dim=1)
    c = F.normalize(candidates, dim=1)
    scores = a @ c.t() / temperature
    same = anchor_groups[:, None] == candidate_groups[None, :]
    target = torch.arange(len(anchors), device=anchors.device)
    same[target, target] = False
    scores = scores.masked_fill(same, float("-inf"))
    return F.cross_entropy(scores, target)


ranking_loss.but("0.05 is written into the code; it is `temperature`", "/ temperature", "/ 0.05")
ranking_loss.but(
    "vectors are normalised over the batch; each has a length of its own",
    "F.normalize(anchors, dim=1)",
    "F.normalize(anchors, dim=0)",
)
ranking_loss.but(
    "the loss is of both directions; anchors look for their positives alone",
    "return F.cross_entropy(scores, target)",
    (
        "n = len(target)\n"
        "    return (F.cross_entropy(scores, target) + F.cross_entropy(scores[:, :n].t(), "
        "target)) / 2"
    ),
)
ranking_loss.but(
    "the target is always candidate 0; anchor i's is candidate i",
    "F.cross_entropy(scores, target)",
    "F.cross_entropy(scores, torch.zeros_like(target))",
)
ranking_loss.but(
    "candidates are compared by group with candidates; it is the anchor's group that counts",
    "anchor_groups[:, None]",
    "candidate_groups[:len(anchors), None]",
)
ranking_loss.but(
    "exp() of a score overflows at a low temperature; logsumexp or cross_entropy do not",
    "return F.cross_entropy(scores, target)",
    "e = scores.exp()\n    return -(e[target, target] / e.sum(dim=1)).log().mean()",
)
ranking_loss.but(
    "the scores are distances; they are cosines",
    "a @ c.t() / temperature",
    "-torch.cdist(a, c) / temperature",
)
ranking_loss.but(
    "the others' scores are masked, and the group's are kept; the other way round is meant",
    "masked_fill(same,",
    "masked_fill(~same & (torch.arange(len(c)) != target[:, None]),",
)
