"""Measuring: candidates take turns, each in a process of its own, and ratios are of the same turn.

A process of its own means that no library's threads, allocator settings or memory touch another's.
Taking turns means that what the machine does meanwhile slows all of them alike.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import torch

from minbert.costs import layer_flops
from multitask.environment import peak_memory_mb


class Candidate:
    """A candidate in a process of its own, ready to run."""

    def __init__(self, name: str, prepare: Callable[[], Callable[[], None]], threads: int) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, prepare, threads))
        self._process.start()
        other.close()
        self.error: str | None = self._receive()  # after a first run, which warms up

    def seconds(self) -> float:
        """Run once, and tell how long it took."""
        self._pipe.send("run")
        return self._receive()

    def close(self) -> float:
        """End the process; its largest resident memory, in MB."""
        self._pipe.send("end")
        peak = self._receive()
        self._process.join()
        return peak

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"{self.name} ended with exit code {self._process.exitcode}"
            ) from None


def _serve(pipe: Connection, prepare: Callable[[], Callable[[], None]], threads: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # libraries' notes
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    try:
        work = prepare()
        work()
        pipe.send(None)
    except Exception:
        pipe.send(traceback.format_exc(limit=-1).strip().splitlines()[-1])
        return
    while pipe.recv() == "run":
        started = time.perf_counter()
        work()
        pipe.send(time.perf_counter() - started)
    pipe.send(peak_memory_mb())


def compare(
    candidates: Mapping[str, Callable[[], Callable[[], None]]], *, threads: int, repeats: int
) -> dict[str, dict[str, Any]]:
    """Seconds of each candidate in each turn, its peak memory, and its speed by the second's.

    Returns:
        Name -> seconds (a list), median, peak_memory_mb, and ratio with lowest and highest: how
        many times quicker it is than the second candidate, turn by turn; or error.

    Raises:
        ValueError: threads or repeats are below 1.
    """
    for name, value in (("threads", threads), ("repeats", repeats)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, it is {value}")
    ready = {name: Candidate(name, prepare, threads) for name, prepare in candidates.items()}
    results: dict[str, dict[str, Any]] = {
        name: {"error": candidate.error} for name, candidate in ready.items() if candidate.error
    }
    ready = {name: candidate for name, candidate in ready.items() if not candidate.error}
    times: dict[str, list[float]] = {name: [] for name in ready}
    for turn in range(repeats):
        names = list(ready)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(ready[name].seconds())
    other = list(candidates)[1]
    for name, candidate in ready.items():
        results[name] = {
            "seconds": times[name],
            "median": median(times[name]),
            "peak_memory_mb": round(candidate.close()),
        }
        if other in times:
            ratios = [b / a for a, b in zip(times[name], times[other], strict=True)]
            results[name] |= {
                "ratio": median(ratios),
                "lowest": min(ratios),
                "highest": max(ratios),
            }
    return results


def matmul_peak(*, seconds: float = 2.0) -> float:
    """The best GFLOP/s of float32 matrix products of an encoder's shapes, on all threads."""
    best = 0.0
    shapes = ((1024, 384, 1536), (1024, 1536, 384), (1024, 768, 3072), (1024, 1024, 1024))
    for rows, inner, columns in shapes:
        a, b = torch.randn(rows, inner), torch.randn(inner, columns)
        a @ b
        until = time.perf_counter() + seconds / len(shapes)
        while time.perf_counter() < until:
            started = time.perf_counter()
            a @ b
            flops = 2 * rows * inner * columns / (time.perf_counter() - started)
            best = max(best, flops / 1e9)
    return best


def useful_flops(config: Any, lengths: list[int], *, passes: int) -> float:
    """Floating-point operations of an encoder on real tokens alone, of `layer_flops`.

    The backward pass takes as many for the gradient of the activations, and as many again for
    that of the weights.

    Args:
        config: the encoder's.
        lengths: tokens of each row.
        passes: 1 for the forward pass, 2 with a backward pass to frozen weights, 3 to trained ones.
    """
    return config.num_layers * passes * sum(layer_flops(config, length) for length in lengths)
