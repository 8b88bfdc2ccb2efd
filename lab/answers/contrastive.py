"""The contrastive loss: a right answer from its definition, in float64, and mistakes."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lab.answers import mistake, right


def cosines(u, v):
    """(N, M), each from its definition."""
    dots = torch.einsum("nh,mh->nm", u.double(), v.double())
    lengths = [x.double().square().sum(-1).sqrt() for x in (u, v)]
    return dots / lengths[0].unsqueeze(1) / lengths[1]


def loss_of(
    anchors, candidates, of_anchors, of_candidates, temperature=0.05, *, compare=cosines,
    scale=lambda scores, temperature: scores / temperature, own=True, apart=True, last=torch.mean
):  # fmt: skip
    """ranking_loss with its parts open to change."""
    scores = scale(compare(anchors, candidates).double(), temperature)
    counted = torch.eye(*scores.shape, dtype=torch.bool) & own
    others = ~torch.eye(*scores.shape, dtype=torch.bool)
    counted |= others & ((of_anchors.unsqueeze(1) != of_candidates) | (not apart))
    sums = torch.where(counted, scores.exp(), 0.0).sum(1)
    return last(sums.log() - scores.diagonal()).to(anchors.dtype)


@right("contrastive")
def ranking_loss(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    return loss_of(anchors, candidates, of_anchors, of_candidates, temperature)


@mistake("contrastive", "embeddings are compared by dot products; a cosine divides by both lengths")
def not_normalised(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    def dots(u, v):
        return u @ v.T

    return loss_of(anchors, candidates, of_anchors, of_candidates, temperature, compare=dots)


@mistake("contrastive", "embeddings are normalised over the batch, and not each to length 1")
def normalised_over_batch(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    def compare(u, v):
        return F.normalize(u, dim=0) @ F.normalize(v, dim=0).T

    return loss_of(anchors, candidates, of_anchors, of_candidates, temperature, compare=compare)


@mistake("contrastive", "cosines are multiplied by the temperature; they are divided by it")
def temperature_multiplied(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    def scale(scores, temperature):
        return scores * temperature

    return loss_of(anchors, candidates, of_anchors, of_candidates, temperature, scale=scale)


@mistake("contrastive", "the temperature is not used")
def no_temperature(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    return loss_of(anchors, candidates, of_anchors, of_candidates, 1.0)


@mistake(
    "contrastive", "the positive itself is left out of the sum below; it is one of the candidates"
)
def diagonal_left_out(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    return loss_of(anchors, candidates, of_anchors, of_candidates, temperature, own=False)


@mistake(
    "contrastive",
    "the positive is masked as a text of the anchor's own group, so the loss is infinite",
)
def positive_masked(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    alike = of_anchors.unsqueeze(1) == of_candidates
    scores = (cosines(anchors, candidates) / temperature).masked_fill(alike, float("-inf"))
    return F.cross_entropy(scores, torch.arange(len(anchors))).to(anchors.dtype)


@mistake("contrastive", "texts of the anchor's own group count as negatives, duplicates among them")
def duplicates_as_negatives(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    return loss_of(anchors, candidates, of_anchors, of_candidates, temperature, apart=False)


@mistake(
    "contrastive",
    "scores of duplicates become 0, which e makes 1 of; they should not count",
)
def duplicates_at_zero(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    alike = of_anchors.unsqueeze(1) == of_candidates
    alike &= ~torch.eye(*alike.shape, dtype=torch.bool)
    scores = (cosines(anchors, candidates) / temperature).masked_fill(alike, 0.0)
    return F.cross_entropy(scores, torch.arange(len(anchors))).to(anchors.dtype)


@mistake("contrastive", "the last M - N candidates, which are negatives, are passed over")
def hard_negatives_ignored(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    n = len(anchors)
    return loss_of(anchors, candidates[:n], of_anchors, of_candidates[:n], temperature)


@mistake(
    "contrastive",
    "the softmax runs over anchors; each anchor has to find its positive among candidates",
)
def softmax_over_anchors(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    alike = of_anchors.unsqueeze(1) == of_candidates
    alike &= ~torch.eye(*alike.shape, dtype=torch.bool)
    scores = (cosines(anchors, candidates) / temperature).masked_fill(alike, float("-inf"))
    return -scores.log_softmax(0).diagonal().mean().to(anchors.dtype)


@mistake("contrastive", "the loss is a sum over anchors; it should be their mean")
def summed(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    return loss_of(anchors, candidates, of_anchors, of_candidates, temperature, last=torch.sum)


@mistake("contrastive", "each anchor has its loss (N,); return their mean, one number")
def loss_of_each(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    def each(losses):
        return losses

    return loss_of(anchors, candidates, of_anchors, of_candidates, temperature, last=each)


@mistake("contrastive", "the sign is missing, so that what means the same is driven apart")
def sign_missing(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    return -loss_of(anchors, candidates, of_anchors, of_candidates, temperature)


@mistake("contrastive", "candidates are cut off from their gradient; both sides of a pair learn")
def candidates_detached(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    return loss_of(anchors, candidates.detach(), of_anchors, of_candidates, temperature)
