"""From what came out, and what should have, to a sentence that helps.

First the catalogue: an outcome that equals a known mistake's is named. Otherwise the first case
that differs is described: kind, dtype, shape, order, factor, padding, mode, first index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from lab.values import close, is_tensor, same

Status = Literal["done", "wrong", "not started"]


@dataclass(frozen=True)
class Verdict:
    """What is said of one exercise."""

    status: Status
    message: str = ""
    named: bool = False
    """Whether the message names a mistake of the catalogue."""


def judge(found: dict[str, Any], expected: dict[str, Any]) -> Verdict:
    """Compare an outcome with the expected ones.

    Args:
        found: "cases", a list of [title, value], and "error", None or a description.
        expected: "right", an outcome, and "mistakes", outcomes that each have "says".
    """
    error, right = found["error"], expected["right"]
    if error and error["type"] == "NotImplementedError" and "exercise " in error["message"]:
        return Verdict("not started")
    if equal(found, right):
        return Verdict("done")
    for mistake in expected["mistakes"]:
        if equal(found, mistake):
            return Verdict("wrong", sentence(mistake["says"]), named=True)
    for number, (title, wanted) in enumerate(right["cases"]):
        if number >= len(found["cases"]):
            break
        if not same(found["cases"][number][1], wanted):
            message = f"{title}: {difference(found['cases'][number][1], wanted)}"
            only_train = right_in_eval(found, right)
            return Verdict("wrong", sentence(message + only_train))
    if error:
        return Verdict("wrong", sentence(raised(error, right, len(found["cases"]))))
    return Verdict("wrong", "The check ended early.")


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two outcomes are the same: equal cases, and an exception of the same type."""
    errors = [outcome["error"] and outcome["error"]["type"] for outcome in (a, b)]
    return errors[0] == errors[1] and same(
        [list(case) for case in a["cases"]], [list(case) for case in b["cases"]]
    )


def right_in_eval(found: dict[str, Any], right: dict[str, Any]) -> str:
    """A remark where only cases in train mode are wrong."""
    pairs = list(zip(found["cases"], right["cases"]))
    wrong = [title for (_, value), (title, wanted) in pairs if not same(value, wanted)]
    if any("eval mode" in title for _, (title, _) in pairs) and all(
        "train mode" in t for t in wrong
    ):
        return ". In eval mode all is right, so look at where dropout stands"
    return ""


def raised(error: dict[str, Any], right: dict[str, Any], reached: int) -> str:
    """What to say of an exception."""
    where = f" at {error['where']}" if error["where"] else ""
    kind, text = error["type"], error["message"]
    if kind in ("timeout", "ended"):
        return text
    if kind == "SystemExit":
        return f"the code calls exit(){where}; an exercise returns, it does not leave the program"
    if kind == "SyntaxError":
        return f"{error['where']} is not Python: {text}"
    case = f"{right['cases'][reached][0]}: " if reached < len(right["cases"]) else ""
    return f"{case}{kind}{where}: {text}"


def difference(value: Any, wanted: Any) -> str:
    """How a value differs from the one that is wanted."""
    if value is None and wanted is not None:
        return "the result is None; is there a return?"
    if is_tensor(wanted):
        if not is_tensor(value):
            return f"the result is {kind_of(value)}; it should be {kind_of(wanted)}"
        return tensor_difference(value, wanted)
    if isinstance(wanted, list) and isinstance(value, list):
        if len(value) != len(wanted):
            return f"there are {len(value)} results; there should be {len(wanted)}"
        place = next(n for n, (a, b) in enumerate(zip(value, wanted)) if not same(a, b))
        return f"number {place + 1} of {len(wanted)}: {difference(value[place], wanted[place])}"
    if isinstance(wanted, dict) and isinstance(value, dict) and "object" not in value:
        missing, extra = wanted.keys() - value.keys(), value.keys() - wanted.keys()
        if missing or extra:
            what, names = ("missing", missing) if missing else ("too many", extra)
            return f"{what}: {', '.join(sorted(names)[:3])}"
        key = next(key for key in wanted if not same(value[key], wanted[key]))
        return f"{key}: {difference(value[key], wanted[key])}"
    if wanted is True or wanted is False:
        return f"this is not so ({kind_of(value)})" if wanted else "this is so, and should not be"
    return f"the result is {kind_of(value)}; it should be {kind_of(wanted)}"


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
        if permuted(value, wanted):
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


def sentence(text: str) -> str:
    """Text with a full stop at its end, as `shown`."""
    text = shown(text)
    return text if text.endswith((".", "?", "!")) else f"{text}."


def shown(text: str, most: int = 500) -> str:
    """Text that may be anybody's, on one line: cut, and escaped what is not printable.

    So it can steer no terminal, turn no line around, and be written in any encoding of Unicode.
    """
    if len(text) > most:
        text = f"{text[:most]} ... ({len(text):,} characters)"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
