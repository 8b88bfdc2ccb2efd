"""Gradient surgery: tasks' gradients that pull against each other are changed before their sum.

With g_i the gradient of task i, and g_i' what has become of it so far, for every i, and for every
other j in random order:

    pcgrad    where g_i'.g_j < 0, take the part along g_j away (Yu et al., 2020, arXiv:2001.06782):
                  g_i' = g_i' - (g_i'.g_j / |g_j|^2) g_j
    gradvac   where the cosine c of g_i' and g_j is below its moving average a, raise it to a
              (Wang et al., 2021, arXiv:2010.05874):
                  g_i' = g_i' + w g_j  with
                  w = |g_i'| (a sqrt(1 - c^2) - c sqrt(1 - a^2)) / (|g_j| sqrt(1 - a^2))
              and then a = (1 - beta) a + beta c, from 0 at first
    none      leave the gradients as they are, and write down their cosines only

Every step takes a batch of every task. Gradients are compared over the parameters that all tasks
use; a head's parameters keep the gradients of its own tasks.

Each g_i' is a sum of the g_k with coefficients C_ik, so all that is asked of the gradients is the
matrix of their products G_ij = g_i.g_j, and the algorithm is arithmetic on small matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from minbert.checks import check_unused
from multitask.extensions.base import Extension, Step, TaskGradients, register


@register("gradient_surgery")
@dataclass(frozen=True, kw_only=True)
class GradientSurgery(Extension):
    """All tasks in every step, and their gradients reconciled before they are added up."""

    between_tasks = True

    method: Literal["pcgrad", "gradvac", "none"] = "pcgrad"
    """Project conflicting gradients, keep their cosines up to a moving average, or only write the
    cosines between the tasks' gradients to metrics.jsonl, as the other two do as well."""
    beta: float = 0.01
    """Weight of a step in gradvac's moving averages of the cosines."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta <= 1:
            raise ValueError(f"beta must be above 0 and at most 1, it is {self.beta}")
        if self.method != "gradvac":
            check_unused(self, f"the method is {self.method}; choose gradvac", "beta")

    def choose_tasks(self, step: Step) -> list[str]:
        return list(step.rows)

    def combine(self, gradients: TaskGradients, step: Step) -> TaskGradients:
        tasks = list(gradients)
        columns = list(zip(*gradients.values(), strict=True))  # of a parameter: one for each task
        shared = [all(part is not None for part in column) for column in columns]
        if not any(shared):  # nothing that all tasks train learns in this step
            return gradients
        products = gram([column for column, use in zip(columns, shared, strict=True) if use])
        if not np.isfinite(products).all():  # fp16's scaler will skip this step
            return gradients
        norms = np.sqrt(np.diag(products))
        cosines = products / np.maximum(np.outer(norms, norms), 1e-30)
        step.log(
            {
                "kind": "cosines",
                "step": step.number,
                "tasks": tasks,
                "cosines": cosines.round(6).tolist(),
            }
        )
        if self.method == "none" or len(tasks) == 1:
            return gradients

        generator = np.random.default_rng((step.seed, 3, step.number))
        if self.method == "pcgrad":
            coefficients = pcgrad(products, generator)
        else:
            before = step.memory.get(self.name) or np.zeros_like(products).tolist()
            coefficients, averages = gradvac(products, np.array(before), self.beta, generator)
            step.memory[self.name] = averages.tolist()
        for row, task in zip(coefficients.tolist(), tasks, strict=True):
            gradients[task] = [
                weighted_sum(row, column) if use else part
                for part, column, use in zip(gradients[task], columns, shared, strict=True)
            ]
        return gradients


def gram(columns: Sequence[Sequence[Tensor]]) -> np.ndarray:
    """Products G_ij = g_i.g_j of n gradients, (n, n) in float64, from their parts.

    Args:
        columns: for each parameter, its n gradients.
    """
    products = []
    for parts in columns:
        rows = torch.stack([part.flatten() for part in parts])  # (n, size)
        products.append(rows @ rows.T)  # (n, n)
    return torch.stack(products).cpu().numpy().astype(np.float64).sum(axis=0)


def pcgrad(products: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Coefficients C with g_i' = sum_k C_ik g_k, (n, n)."""
    coefficients = np.eye(len(products))
    for i, row in enumerate(coefficients):
        for j in others(i, len(products), generator):
            along = row @ products[:, j]  # g_i'.g_j
            if along < 0:
                row[j] -= along / products[j, j]
    return coefficients


def gradvac(
    products: np.ndarray, averages: np.ndarray, beta: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients C with g_i' = sum_k C_ik g_k, and the new moving averages; (n, n) both."""
    coefficients, averages = np.eye(len(products)), averages.copy()
    for i, row in enumerate(coefficients):
        for j in others(i, len(products), generator):
            own = math.sqrt(max(row @ products @ row, 0.0))  # |g_i'|
            other = math.sqrt(products[j, j])
            if not own * other:  # a gradient that is zero has no direction
                continue
            cosine = float(np.clip(row @ products[:, j] / (own * other), -1, 1))
            aim = averages[i, j]
            if cosine < aim < 1:
                sine, aims_sine = math.sqrt(1 - cosine**2), math.sqrt(1 - aim**2)
                row[j] += own * (aim * sine - cosine * aims_sine) / (other * aims_sine)
            averages[i, j] = (1 - beta) * aim + beta * cosine
    return coefficients, averages


def others(i: int, count: int, generator: np.random.Generator) -> list[int]:
    """The numbers below `count` but for i, in random order."""
    return [j for j in generator.permutation(count).tolist() if j != i]


def weighted_sum(weights: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    """sum_k w_k t_k."""
    total = weights[0] * tensors[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
        total.add_(tensor, alpha=weight)
    return total
