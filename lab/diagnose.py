"""From what came out, and what should have, to a sentence that helps.

First the catalogue: an outcome that equals a known mistake's is named. Where there is more than
one mistake, or another, the first case that differs is looked at alone: it may be as if a known
mistake were made, or closest to one. Otherwise it is described: kind, dtype, shape, order, factor,
padding, mode, first index, and the call that led to it.
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
        if equal(found, mistake) and said(found) == said(mistake):
            return Verdict("wrong", sentence(mistake["says"]), named=True)
    for number, (mine, wanted) in enumerate(zip(found["cases"], right["cases"])):
        if not same(mine[1], wanted[1]):
            return first_difference(found, expected, number)
    if error:
        reached = len(found["cases"])
        if alike := as_if_raised(error, expected["mistakes"], reached):
            return Verdict("wrong", sentence(alike), named=True)
        return Verdict("wrong", with_call(raised(error, right, reached), right, reached))
    return Verdict("wrong", "The check ended early.")


def first_difference(found: dict[str, Any], expected: dict[str, Any], number: int) -> Verdict:
    """What is said of the first case that differs, which has this number."""
    right, mistakes = expected["right"], expected["mistakes"]
    title, wanted = right["cases"][number]
    value = found["cases"][number][1]
    if alike := as_if(found, right, mistakes, number):
        return Verdict("wrong", sentence(f"{title}: as if {alike}"), named=True)
    message = f"{title}: {difference(value, wanted)}" + right_in_eval(found, right)
    if near := closest(value, wanted, [m for m in mistakes if len(m["cases"]) > number], number):
        message += f". Of the known mistakes this is closest to, without being equal: {near}"
    return Verdict("wrong", with_call(message, right, number))


def with_call(message: str, right: dict[str, Any], number: int) -> str:
    """A message as a sentence, and the call that leads to the case, where it is known."""
    calls = right.get("calls", [])
    if number >= len(calls) or not calls[number]:
        return sentence(message)
    return f"{sentence(message)} {sentence(f'The call: {calls[number]}')}"


def as_if(
    found: dict[str, Any], right: dict[str, Any], mistakes: list[dict[str, Any]], number: int
) -> str | None:
    """What is said of the mistakes that give this case; None where there are none, or many.

    Of several, those count that give most of the other cases too.
    """
    counts: dict[str, int] = {}
    for mistake in mistakes:
        cases = mistake["cases"]
        if len(cases) <= number or same(cases[number][1], right["cases"][number][1]):
            continue
        differs_before = not all(same(a[1], b[1]) for a, b in zip(cases[:number], right["cases"]))
        if differs_before and not telling(cases[number][1]):
            continue  # a yes or no that another mistake explains, and what it does before is right
        if same(cases[number][1], found["cases"][number][1]):
            equal_ones = sum(same(a[1], b[1]) for a, b in zip(cases, found["cases"]))
            says = mistake["says"].rstrip(".")
            counts[says] = max(equal_ones, counts.get(says, 0))
    best = [says for says, count in counts.items() if count == max(counts.values())]
    if not best or len(best) > 2:
        return None
    more = further(found, right, mistakes, number, best[0])
    # A yes or no, a word, or classes: that is what many mistakes give.
    if not telling(found["cases"][number][1]) and (more or len(best) > 1):
        return None
    return "; or as if ".join(best) + more


LARGE = 1000
"""From here on a whole number is no coincidence."""


def telling(value: Any) -> bool:
    """Whether there are numbers in a value that few mistakes give: broken ones, or large ones."""
    return any(not n.is_integer() or abs(n) >= LARGE for n in numbers_in(value))


def further(
    found: dict[str, Any],
    right: dict[str, Any],
    mistakes: list[dict[str, Any]],
    number: int,
    says: str,
) -> str:
    """A remark where a mistake does not explain all that differs."""
    cases = next(m["cases"] for m in mistakes if m["says"].rstrip(".") == says)
    for n in range(number + 1, len(found["cases"])):
        value = found["cases"][n][1]
        known = [each[n][1] for each in (cases, right["cases"]) if n < len(each)]
        if not any(same(value, one) for one in known):
            return ". That is not all that differs; check again when this is right"
    return ""


def as_if_raised(error: dict[str, Any], mistakes: list[dict[str, Any]], reached: int) -> str | None:
    """What is said of the one mistake that ends at the same place with the same exception."""
    said = {
        m["says"].rstrip(".")
        for m in mistakes
        if m["error"]
        and len(m["cases"]) == reached
        and (m["error"]["type"], m["error"]["message"]) == (error["type"], error["message"])
    }
    if len(said) != 1:
        return None
    return f"{error['type']} ({error['message']}): as if {said.pop()}"


NEAR = 0.1
"""The largest distance to a mistake, as a share of the distances between what came out, what is
right and that mistake, at which it is said to be close."""


def closest(value: Any, wanted: Any, mistakes: list[dict[str, Any]], number: int) -> str | None:
    """What is said of the mistake whose numbers lie nearest, if they are much nearer than right."""
    right, here = numbers_in(wanted), numbers_in(value)
    away = distance(here, right)
    if away is None:
        return None
    found: list[tuple[float, str]] = []
    for mistake in mistakes:
        there = numbers_in(mistake["cases"][number][1])
        gap, from_right = distance(here, there), distance(there, right)
        if gap is not None and from_right is not None and gap < NEAR * min(away, from_right):
            found.append((gap, mistake["says"]))
    return min(found)[1] if found else None


def numbers_in(value: Any) -> list[float]:
    """All numbers of a value, in order."""
    if is_tensor(value):
        return [float(n) for n in value["data"]]
    if isinstance(value, list):
        return [n for item in value for n in numbers_in(item)]
    if isinstance(value, dict):
        return [n for key in sorted(value) for n in numbers_in(value[key])]
    return [float(value)] if isinstance(value, int | float) else []


def distance(a: list[float], b: list[float]) -> float | None:
    """Euclidean distance; None if the lengths differ, there are few numbers, or one is infinite."""
    if len(a) != len(b) or len(a) < 4 or not all(map(math.isfinite, [*a, *b])):
        return None
    return math.dist(a, b)


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two outcomes are the same: equal cases, and an exception of the same type."""
    errors = [outcome["error"] and outcome["error"]["type"] for outcome in (a, b)]
    return errors[0] == errors[1] and same(
        [list(case) for case in a["cases"]], [list(case) for case in b["cases"]]
    )


def said(outcome: dict[str, Any]) -> str:
    """The message of the exception that ended an outcome."""
    return outcome["error"]["message"] if outcome["error"] else ""


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
    if kind == "BdbQuit":
        return f"breakpoint(){where} needs a terminal: minbert lab check NUMBER --pdb"
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
