"""From what came out, and what should have, to a sentence that helps.

First the catalogue: an outcome that equals a known mistake's is named. Where there is more than
one mistake, or another, the first case that differs is looked at alone: it may be as if a known
mistake were made, or closest to one. Otherwise the difference is described (differences.py), and
the call that led to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from lab.differences import difference
from lab.values import is_tensor, same

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
