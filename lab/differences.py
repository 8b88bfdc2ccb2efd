"""How a value differs from the one that is wanted, in words: kind, dtype, shape, order, factor,
padding, first index."""

from __future__ import annotations

import math
from typing import Any

from lab.values import close, is_tensor, same


def difference(value: Any, wanted: Any) -> str:
    """How a value differs from the one that is wanted."""
    if value is None and wanted is not None:
        return "the result is None; is there a return?"
    if isinstance(value, str) and not isinstance(wanted, str) and value.startswith("no gradient"):
        return value
    if is_tensor(wanted):
        if not is_tensor(value):
            return f"the result is {kind_of(value)}; it should be {kind_of(wanted)}"
        return tensor_difference(value, wanted)
    if isinstance(wanted, list) and isinstance(value, str):
        return value  # why there are no gradients, in words
    if isinstance(wanted, list) and isinstance(value, list):
        if is_short(value) and is_short(wanted):
            return f"the result is {value}; it should be {wanted}"
        if len(value) != len(wanted):
            return f"there are {len(value)} results; there should be {len(wanted)}"
        place = next(n for n, (a, b) in enumerate(zip(value, wanted)) if not same(a, b))
        return f"number {place + 1} of {len(wanted)}: {difference(value[place], wanted[place])}"
    if isinstance(wanted, dict) and isinstance(value, dict) and "object" not in value:
        missing, extra = wanted.keys() - value.keys(), value.keys() - wanted.keys()
        if missing or extra:
            both = {"missing": missing, "too many": extra}
            return "; ".join(f"{k}: {', '.join(sorted(v)[:3])}" for k, v in both.items() if v)
        key = next(key for key in wanted if not same(value[key], wanted[key]))
        return f"{key}: {difference(value[key], wanted[key])}"
    if wanted is True or wanted is False:
        if not isinstance(value, str):
            return f"the result is {kind_of(value)}; it should be {wanted}"
        return value  # what was found, in words
    return f"the result is {kind_of(value)}; it should be {kind_of(wanted)}"


def is_short(value: list[Any]) -> bool:
    """Whether a list is best shown as it is: a few words or whole numbers."""
    return len(value) <= 10 and all(isinstance(item, int | str) for item in value)


def kind_of(value: Any) -> str:
    """A value in few words."""
    if is_tensor(value):
        return f"a {value['dtype']} tensor of shape {tuple(value['shape'])}"
    if isinstance(value, list):
        return f"a sequence of {len(value)}"
    if isinstance(value, dict):
        return f"an object of type {value.get('object', 'dict')}"
    return repr(value)


def tensor_difference(value: Any, wanted: Any) -> str:
    """How a tensor differs from the one that is wanted."""
    found, right = value["data"], wanted["data"]
    if value["shape"] != wanted["shape"]:
        text = f"the shape is {tuple(value['shape'])}; it should be {tuple(wanted['shape'])}"
        if [n for n in value["shape"] if n != 1] == [n for n in wanted["shape"] if n != 1]:
            if all(map(close, found, right)):
                where = sized(value, wanted)
                return f"{text}. The numbers are right: a dimension of size 1 is {where}"
        elif permuted(value, wanted):
            text += (
                ". The numbers are right and in another order: a transpose is missing or too many"
            )
        return text
    if value["dtype"] != wanted["dtype"]:
        return f"the dtype is {value['dtype']}; it should be {wanted['dtype']}"
    wrong = [n for n, (a, b) in enumerate(zip(found, right)) if not close(a, b)]
    index, shape = wrong[0], wanted["shape"]
    at = f" at {unravel(index, shape)}" if shape else ""
    text = f"{number(found[index])}{at}, should be {number(right[index])}"
    text += f"; {len(wrong)} of {len(right)} numbers differ"
    if any(isinstance(n, float) and math.isnan(n) for n in found):
        return f"{text}, and some are not a number (nan): a division by 0, or softmax of -inf alone"
    if not any(found):
        return f"{text}: all of them are 0"
    if permuted(value, wanted):
        return f"{text}. The numbers are right and in another order: look at the transposes"
    factor = constant_factor(found, right)
    if factor is not None:
        return f"{text}: all are off by the same factor, {factor:.4g}"
    if last_tokens_only(wrong, shape):
        return f"{text}: only where there is padding"
    return text


def sized(value: Any, wanted: Any) -> str:
    """What is wrong with dimensions of size 1."""
    more, fewer = len(value["shape"]), len(wanted["shape"])
    if more == fewer:
        return "in another place"
    return "too many; see squeeze" if more > fewer else "missing; see unsqueeze"


def permuted(value: Any, wanted: Any) -> bool:
    """Whether two tensors hold the same numbers in another order."""
    a, b = value["data"], wanted["data"]
    if len(a) != len(b) or len(a) < 2 or len(set(b)) < 2:
        return False
    return all(map(close, sorted(a), sorted(b)))


def constant_factor(found: list[float], right: list[float]) -> float | None:
    """The factor between two lists of numbers, if there is one."""
    if any(isinstance(n, bool) or math.isinf(n) or math.isnan(n) for n in [*found, *right]):
        return None
    largest = max(range(len(right)), key=lambda n: abs(right[n]))
    if not right[largest] or len(right) < 2:
        return None
    factor = found[largest] / right[largest]
    return factor if all(close(a, factor * b) for a, b in zip(found, right)) else None


def last_tokens_only(wrong: list[int], shape: list[int]) -> bool:
    """Whether in (B, S, ...) only the checks' padding differs: the second row's last two tokens."""
    if len(shape) < 3 or shape[:2] != [2, 5]:
        return False
    size = math.prod(shape[2:])
    return all(n // size >= 8 for n in wrong)


def unravel(index: int, shape: list[int]) -> list[int]:
    """The place of a number in a tensor, from its place in the flat one."""
    place = []
    for size in reversed(shape):
        index, rest = divmod(index, size)
        place.append(rest)
    return place[::-1]


def number(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
