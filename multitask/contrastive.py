"""Contrastive losses: embeddings of what means the same come together, others go apart.

N rows of a step, H features of an embedding, C texts of a row: an anchor, its positive, and perhaps
a negative of its own. cos(u, v) = u·v / (|u| |v|), τ a temperature.

Each loss is a function of all rows of a step at once, for a row is compared with others: see
multitask/loop/gradient_cache.py for steps of many rows in little memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def ranking_loss(
    anchors: Tensor,
    candidates: Tensor,
    anchor_groups: Tensor,
    candidate_groups: Tensor,
    temperature: float = 0.05,
) -> Tensor:
    """Find each anchor's positive among the candidates of all rows: multiple negatives ranking.

    mean_i -log( exp(cos(a_i, c_i) / τ) / Σ_j exp(cos(a_i, c_j) / τ) ), the sum over candidates j of
    another group than anchor i, and i itself. Henderson et al. (2017), arXiv:1705.00652; with a
    text twice, told apart by dropout, or with negatives among the candidates it is SimCSE's: Gao et
    al. (2021), arXiv:2104.08821, equations 4 and 5.

    Texts of a group are known to mean the same, equal ones above all, and are no negatives of each
    other: without that, the loss drives duplicates apart.

    Args:
        anchors: (N, H).
        candidates: (M, H), the positives of anchors 0 to N - 1 first, then further negatives.
        anchor_groups: (N,) number of each anchor's group.
        candidate_groups: (M,) of each candidate's.
        temperature: τ.

    Returns:
        The mean over anchors, ().
    """
    scores = F.normalize(anchors, dim=-1) @ F.normalize(candidates, dim=-1).T  # (N, M)
    own = torch.arange(len(anchors), device=anchors.device)  # (N,)
    alike = anchor_groups.unsqueeze(1) == candidate_groups  # (N, M)
    alike[own, own] = False  # the positive counts
    return F.cross_entropy((scores / temperature).masked_fill(alike, float("-inf")), own)


def cosent_loss(cosines: Tensor, labels: Tensor, temperature: float = 0.05) -> Tensor:
    """CoSENT, cosines in the order of the labels: Su (2022), https://kexue.fm/archives/8847.

    log(1 + Σ exp((cos_j - cos_i) / τ)), the sum over rows with label_i > label_j, so that only the
    order of labels counts.

    Args:
        cosines: (N,) of the two texts of each row.
        labels: (N,) the larger, the more alike.
        temperature: τ.
    """
    differences = (cosines.unsqueeze(0) - cosines.unsqueeze(1)) / temperature  # (N, N), [i, j]
    ordered = labels.unsqueeze(1) > labels.unsqueeze(0)  # (N, N)
    return torch.cat([cosines.new_zeros(1), differences[ordered]]).logsumexp(dim=0)


def margin_loss(cosines: Tensor, labels: Tensor, margin: float = 0.5) -> Tensor:
    """Pairs close together, or a margin apart: Hadsell, Chopra & LeCun (2006), with d = 1 - cos.

    mean of ½ (y d² + (1 - y) max(0, m - d)²). Between 0 and 1, a label weighs the two sides.

    Args:
        cosines: (N,) of the two texts of each row.
        labels: (N,) y, 1 for alike and 0 for different.
        margin: m.
    """
    distances = 1 - cosines
    alike, apart = distances.square(), (margin - distances).clamp(min=0).square()
    return (labels * alike + (1 - labels) * apart).mean() / 2


@dataclass(frozen=True)
class ContrastiveLoss:
    """The loss of all rows of a step."""

    objective: str
    """mnr, simcse, cosent or margin."""
    temperature: float = 0.05
    margin: float = 0.5
    rows: int = 64
    """Rows of a step: development rows are compared with as many."""

    def __call__(self, vectors: Tensor, groups: Tensor, labels: Tensor | None) -> Tensor:
        """The loss ().

        Args:
            vectors: (N, C, H), first each row's anchor.
            groups: (N, C) numbers of groups of texts that mean the same.
            labels: (N,) from 0 to 1, for cosent and margin.
        """
        anchors, positives, *negatives = vectors.unbind(dim=1)
        if self.objective in ("cosent", "margin"):
            assert labels is not None
            cosines = F.cosine_similarity(anchors, positives, dim=-1)
            if self.objective == "cosent":
                return cosent_loss(cosines, labels, self.temperature)
            return margin_loss(cosines, labels, self.margin)
        others = groups[:, 1:].T.flatten()  # of positives, then of negatives
        candidates = torch.cat([positives, *negatives])
        return ranking_loss(anchors, candidates, groups[:, 0], others, self.temperature)


# How good a space of embeddings is: Wang & Isola (2020), arXiv:2005.10242, section 4.1


def alignment(u: Tensor, v: Tensor) -> Tensor:
    """mean |u - v|² over pairs that mean the same, (P, H) each, normalised; 0 is the best."""
    return (F.normalize(u, dim=-1) - F.normalize(v, dim=-1)).square().sum(dim=-1).mean()


def uniformity(x: Tensor) -> Tensor:
    """log of the mean of exp(-2 |x_i - x_j|²) over all pairs i < j of (T, H), normalised.

    0 where all lie on one point; the lower it is, the more evenly they are spread.
    """
    x = F.normalize(x, dim=-1)
    total = x.new_zeros((), dtype=torch.float64)
    for start in range(0, len(x), 1024):  # so that T² numbers need not be there at once
        near = (-4 + 4 * x[start : start + 1024] @ x.T).exp()  # -2 |u - v|² = -4 + 4 u·v
        total += near.triu(start + 1).sum()
    return (total / (len(x) * (len(x) - 1) / 2)).log()
