"""Checks of part 5: batches, clipping, accumulation, scores.

What is drawn at random is looked at in ways that any order of the draws satisfies.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lab.harness import Draw, check
from lab.planting import planted
from lab.source import Target

Cases = Iterator[tuple[str, Any]]


@check("batch")
def batch(draw: Draw) -> Cases:
    from data.batching import lay_out, layout_of

    for name, lengths in (
        ("three rows", [3, 5, 1]),
        ("one row", [4]),
        ("rows of one length", [2, 2]),
        ("the longest row last", [1, 2, 6, 7]),
    ):
        rows = [draw.integers(10, 50, n).numpy().astype(np.int32) for n in lengths]
        kept = [row.copy() for row in rows]
        for kind in ("padded", "packed"):
            layout: Any = layout_of(np.array(lengths), kind)
            mask = layout.mask if kind == "padded" else None
            yield f"layout_of, {name}, {kind}", [type(layout).__name__, layout.positions, mask]
            yield f"lay_out, {name}, {kind}", lay_out(rows, kind, fill=7)
        yield f"{name} are left as they were", all(map(np.array_equal, rows, kept))
    gap = [draw.integers(10, 50, n).numpy() for n in (2, 0, 3)]
    yield "lay_out, a row without tokens, padded", lay_out(gap, "padded", fill=0)
    yield "lay_out, a row without tokens, packed", lay_out(gap, "packed", fill=0)
    yield from buckets(draw)


def buckets(draw: Draw) -> Cases:
    """How rows are put into batches."""
    from data.draws import BatchStream

    seed = draw.random.randrange(1000)

    def order(
        lengths: Any, size: int, number: int = 0, *, bucketed: bool = True, more: int = 0
    ) -> list[Any]:
        stream = BatchStream(lengths, size, seed=seed + more, name="sst", bucketed=bucketed)
        return [np.asarray(each) for each in stream._order(number)]

    def known(batches: list[Any]) -> str:
        return str([each.tolist() for each in batches])

    lengths = draw.integers(1, 30, 23).numpy()
    for bucketed in (True, False):
        name = "bucketed" if bucketed else "not bucketed"
        found = order(lengths, 4, bucketed=bucketed)
        kinds = {str(each.dtype).replace("int32", "int64") for each in found}
        yield f"{name}: kind of row numbers", sorted(kinds)
        yield f"{name}: rows of the batches", sorted(len(each) for each in found)
        rows = sorted(int(row) for each in found for row in each)
        yield f"{name}: every row comes once", rows == list(range(23)) or "some do not"
        again = order(lengths, 4, bucketed=bucketed)
        yield f"{name}: the same pass is the same again", known(found) == known(again)
        for what, other in (
            ("another pass", order(lengths, 4, 1, bucketed=bucketed)),
            ("another seed", order(lengths, 4, bucketed=bucketed, more=1)),
        ):
            yield f"{name}: {what} has another order", known(found) != known(other)
        if bucketed:
            each = sorted(sorted(int(lengths[row]) for row in rows) for rows in found)
            yield "bucketed: the lengths in each batch", each
    yield "one row", [each.tolist() for each in order([5], 4)]
    yield "fewer rows than a batch", [sorted(each.tolist()) for each in order([5, 9, 2], 8)]
    lengths = np.array(draw.random.sample(range(1, 301), 300))
    passes = [order(lengths, 2, number) for number in (0, 1)]
    means = [lengths[each].mean() for each in passes[0]]
    rises = float(np.mean(np.diff(means) > 0))
    yield "300 rows: batches come in any order of length", 0.3 < rises < 0.7 or f"{rises:.0%} rise"
    apart = float(np.mean([np.ptp(lengths[each]) for each in passes[0]]))
    text = f"two rows of a batch differ by {'about ' if apart < 10 else 'more than '}"
    text += f"{round(apart)} tokens" if apart < 10 else "10 tokens"
    yield "300 rows in pools of 100, cut in pairs of like length", 2.0 < apart < 4.3 or text
    pairs = [{tuple(sorted(each.tolist())) for each in batches} for batches in passes]
    same = len(pairs[0] & pairs[1]) / len(pairs[0])
    yield "300 rows: another pass puts other rows together", same < 0.6
    mixed = order(lengths, 2, bucketed=False)
    apart = float(np.mean([np.ptp(lengths[each]) for each in mixed]))
    yield "300 rows, not bucketed: lengths are mixed", apart > 60


@check("clipping")
def clipping(draw: Draw) -> Cases:
    from optim.clipping import clip_gradients

    shapes = ((3, 2), (4,), (2, 1, 3), ())
    for name, factor, share in (
        ("a norm above the limit", 3.0, 0.4),
        ("a norm below the limit", 0.2, 2.5),
        ("a norm of just the limit", 1.0, 1.0),
        ("a norm far above the limit", 300.0, 0.001),
        ("gradients of zero", 0.0, 1.0),
    ):
        params = [nn.Parameter(draw.normal(*shape)) for shape in shapes]
        kept = [p.detach().clone() for p in params]
        for param in params:
            param.grad = factor * draw.normal(*param.shape)
        params[1].grad = None
        squares = [float(p.grad.square().sum()) for p in params if p.grad is not None]
        limit = share * sum(squares) ** 0.5 or 1.0
        yield f"{name}: the norm", clip_gradients(params, limit)
        yield f"{name}: gradients", [p.grad for p in params]
        same = all(map(torch.equal, params, kept))
        yield f"{name}: parameters are left as they were", same
    one = nn.Parameter(draw.normal(5))
    one.grad = 10 * draw.normal(5)
    yield "one parameter: the norm", clip_gradients([one], 1.5)
    yield "one parameter: its gradient", one.grad
    yield "no gradient at all: the norm", clip_gradients([nn.Parameter(draw.normal(2))], 1.0)


class _Scene:
    """Stands for an engine: a linear model with squared errors, and a log of what was done."""

    def __init__(self, draw: Draw, precision: str = "fp32") -> None:
        self.device, self._precision = torch.device("cpu"), precision
        self.scaler = SimpleNamespace(scale=lambda loss: 8 * loss)
        self.weights = nn.Parameter(draw.normal(3))
        self.weights.grad = draw.normal(3)  # of another task
        self.first = self.weights.grad.clone()
        self.log: list[Any] = []
        self._inside: bool | None = None

    def parallel(self, batch: Any, task: str, weight: Tensor, factor: float = 1.0) -> Any:
        assert self.weights.grad is not None
        moved = not torch.equal(self.weights.grad, self.first)
        self.log.append([task, moved, self._inside, torch.is_autocast_enabled("cpu")])
        losses = (batch.inputs * self.weights).sum(1).sub(batch.labels).square()
        mean = factor * losses.sum() / weight
        return 3 * mean, mean.detach()  # to minimise, as extensions change it, and as it is

    @contextmanager
    def _pass(self, last: Any) -> Generator[None]:
        before, self._inside = self._gradient(), bool(last)
        yield
        self._inside = None
        self.log.append(["a backward pass inside", not torch.equal(before, self._gradient())])

    def _weight(self, shares: Any) -> Tensor:
        from multitask.loop.engine import Engine

        return Engine._weight(self, shares)  # pyrefly: ignore[bad-argument-type]

    def _gradient(self) -> Tensor:
        return torch.zeros(3) if self.weights.grad is None else self.weights.grad.clone()


def shares_of(draw: Draw, sizes: list[int], factors: list[float] | None = None) -> list[Any]:
    """Batches of so many rows."""
    from multitask.loop.engine import Share

    made = []
    for size, factor in zip(sizes, factors or [1.0] * len(sizes), strict=True):
        rows: Any = SimpleNamespace(
            inputs=draw.normal(max(1, size), 3), labels=draw.normal(max(1, size)), weight=size
        )
        made.append(Share(rows, factor))
    return made


@check("accumulation")
def accumulation(draw: Draw) -> Cases:
    from multitask.loop.engine import Engine

    settings: list[tuple[str, list[int], list[float] | None, int]] = [
        ("a last batch that is smaller", [4, 4, 1], None, 1),
        ("equal batches", [3, 3], None, 1),
        ("one batch", [5], None, 1),
        ("a batch that does not count", [4, 2], [1.0, 0.0], 1),
        ("one of two processes", [3, 1], None, 2),
        ("batches of no weight", [0, 0], None, 1),
    ]
    for name, sizes, factors, processes in settings:
        scene = _Scene(draw)
        shares = shares_of(draw, sizes, factors)
        with several(processes):
            weight = scene._weight(shares)
        yield f"{name}: the weight of all", weight
        with several(processes):
            total = Engine._backward_each(scene, "sst", shares, reduce=True)  # pyrefly: ignore
        yield f"{name}: the mean loss", total
        yield f"{name}: the gradient, added to another task's", scene.weights.grad
        yield f"{name}: the loss has no gradient", not total.requires_grad
        yield f"{name}: task, pass before, brings together, 16 bits", scene.log
    scene = _Scene(draw, "bf16")
    Engine._backward_each(scene, "sts", shares_of(draw, [2, 2]), reduce=False)  # pyrefly: ignore
    yield "in 16 bits, gradients kept apart: what was done", scene.log


@contextmanager
def several(processes: int) -> Generator[None]:
    """A block in which there seem to be so many processes, all of which have the same numbers."""
    module = "multitask.distributed"
    with (
        planted(Target(module, "count"), lambda: processes),
        planted(Target(module, "sum_over_processes"), lambda values: processes * values),
    ):
        yield


@check("metrics")
def metrics(draw: Draw) -> Cases:
    from multitask.experiments import significance

    def classes(count: int, *shape: int) -> Any:
        return draw.integers(0, count, *shape).double().numpy()

    some, many = classes(2, 12), classes(4, 12)
    rare = np.array([0.0, 0, 1, 1, 2, 2, 2, 5])
    constant, four = np.ones(6), np.array([0.0, 1, 1, 0, 1, 1])
    cases: list[tuple[str, Any, Any]] = [
        ("two classes, three models", some, classes(2, 3, 12)),
        ("four classes, three models", many, classes(4, 3, 12)),
        ("labels of their own for each", classes(3, 2, 9), classes(3, 2, 9)),
        ("a class that is never answered", rare, np.array([0.0, 0, 1, 2, 2, 2, 1, 0])),
        ("a class that only one model answers", four, np.stack([four, [0, 7, 1, 0, 1, 0.0]])),
        ("all right", many, many),
        ("all wrong", some, 1 - some),
        ("labels that are all the same", constant, np.stack([constant, four])),
        ("answers that are all the same", four, constant),
        ("one row", np.ones(1), np.ones(1)),
    ]
    for short in ("macro_f1", "matthews"):
        score = getattr(significance, f"_{short}")
        for name, labels, answers in cases:
            yield f"{short}, {name}", array(score(labels, answers))
    numbers = draw.normal(9).double().numpy()
    guesses = numbers + 0.7 * draw.normal(3, 9).double().numpy()
    tenth = np.full(9, 0.1)
    for name, labels, answers in (
        ("three models", numbers, guesses),
        ("against the labels", numbers, -2 * numbers),
        ("labels of their own for each", guesses, guesses[::-1]),
        ("numbers far from 0", numbers + 3e6, guesses + 3e6),
        ("numbers of another size", 1000 * numbers, guesses / 1000),
        ("labels that are all the same", tenth, guesses),
        ("answers that are all the same", numbers, np.stack([guesses[0], tenth])),
        ("both are all the same", np.full(6, 0.7), np.full(6, 0.1)),  # six have another mean
        ("one row", np.ones(1), np.zeros(1)),
    ):
        yield f"pearson, {name}", array(significance._pearson(labels, answers))


def array(value: Any) -> Any:
    """Scores as a tensor; all else as it is."""
    is_number = isinstance(value, float | np.ndarray | np.floating)
    return torch.as_tensor(np.asarray(value)) if is_number else value
