"""What a check yields, as JSON values: tensors become {"dtype", "shape", "data"}.

So the numbers can leave the student's process, and be compared where its code cannot reach.
"""

from __future__ import annotations

import math
from typing import Any

TOLERANCE = 1e-5
"""Absolute and relative: float32 and another order of sums stay well within, mistakes do not."""
PLAIN = frozenset((type(None), bool, int, float, str))
"""What JSON has as it is."""


def encode(value: Any) -> Any:
    """A value as JSON; of an object that is neither data nor tensors only the type is kept."""
    if type(value) in PLAIN or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [item if type(item) in PLAIN else encode(item) for item in value]
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if hasattr(value, "detach"):
        flat = value.detach().cpu().reshape(-1).tolist()
        if value.dtype.is_floating_point:
            flat = [float(f"{number:.8g}") for number in flat]
        return {
            "dtype": str(value.dtype).removeprefix("torch."),
            "shape": list(value.shape),
            "data": flat,
        }
    if hasattr(value, "item") and getattr(value, "shape", None) == ():  # a number of numpy
        return value.item()
    return {"object": type(value).__name__}


def decode(value: Any) -> Any:
    """The value that `encode` was given, with torch tensors."""
    import torch

    if isinstance(value, list):
        return [decode(item) for item in value]
    if is_tensor(value):
        kind = getattr(torch, value["dtype"])
        return torch.tensor(value["data"], dtype=kind).view(value["shape"])
    return value


def is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and "dtype" in value


def close(a: Any, b: Any) -> bool:
    """Whether two numbers are equal within TOLERANCE; not a number equals nothing but itself."""
    if isinstance(a, bool) or isinstance(b, bool) or not _numbers(a, b):
        return type(a) is type(b) and a == b
    if math.isfinite(a) and math.isfinite(b):
        return abs(a - b) <= TOLERANCE * (1 + min(abs(a), abs(b)))
    return a == b or (math.isnan(a) and math.isnan(b))


def same(a: Any, b: Any) -> bool:
    """Whether two encoded values are equal: same kinds, dtypes and shapes, and close numbers."""
    if isinstance(a, list) and isinstance(b, list):
        if {*map(type, a), *map(type, b)} == {float}:
            return len(a) == len(b) and all_close(a, b)
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return close(a, b)


def all_close(a: list[float], b: list[float]) -> bool:
    """`close` of many pairs, most of which are quickly told."""
    for x, y in zip(a, b):
        if x != y and not abs(x - y) <= TOLERANCE and not close(x, y):
            return False
    return True


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) for value in values)
