"""What the whole says of a submission: whether it trains as it should, and whose fault it is not.

lab/checks/whole.py writes down what came of a few steps of training, and what every function was
given and gave. A suspect is a function that was given what the reference was given and gave
something else, while all that it called itself was right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lab.diagnose import Status, Verdict, sentence
from lab.exercises import EXERCISES, Exercise

CLOSE = 1e-4
"""Of a tensor's sums, as a share of its size: rounding through two steps stays well within."""
SAME_INPUT = 3e-6
"""The same for what a function is given: an input that differs by little is another one."""
SAME_PARAMETERS = 1e-6
"""The same for all parameters of a module or optimizer together, of which a step changes a few."""
NOISE = 1e-5
"""Of a gradient, as a share of the largest one of its run."""
STEP = "optim.adamw:AdamW.step"
AROUND = "Engine._backward_each"
"""All else is called inside of it: it is no suspect where there is another."""
OWNERS: dict[str, Exercise] = {str(place): e for e in EXERCISES for place in e.places}


@dataclass(frozen=True)
class Whole:
    """What is said of all exercises together."""

    status: Status
    message: str = ""
    suspects: dict[str, str] = field(default_factory=dict)
    """Exercise -> what it did otherwise than the reference."""


def judge_whole(found: dict[str, Any], expected: dict[str, Any]) -> Whole:
    """Compare the outcome of the whole with the expected one.

    A run that needs an exercise which is not started is left out.
    """
    waits: list[str] = []
    different: list[str] = []
    suspects: dict[str, str] = {}
    cases: dict[str, Any] = dict(found["cases"])
    for title, right in expected["right"]["cases"]:
        if title not in cases:
            why = found["error"] and found["error"]["message"]
            different.append(f"{title}: it ended early ({why})")
            break
        mine = cases[title]
        if isinstance(mine["found"], str) and mine["found"].startswith("waits for exercise "):
            waits.append(mine["found"])
        elif (where := first_difference(mine["found"], right["found"])) is not None:
            different.append(f"{title}: {where}")
            for name, what in suspects_of(mine["calls"], right["calls"]).items():
                suspects.setdefault(name, f"{what} (in the run: {title})")
    around = [name for name, what in suspects.items() if what.startswith(AROUND)]
    if len(suspects) > len(around):
        suspects = {name: what for name, what in suspects.items() if name not in around}
    if different:
        text = f"training comes out otherwise than it should. {different[0]}"
        return Whole("wrong", sentence(text), suspects)
    if waits:
        return Whole("not started", sentence(waits[0]))
    return Whole("done")


def withdraw(
    verdicts: dict[str, Verdict], found: dict[str, Any], expected: dict[str, Any]
) -> list[str]:
    """Take the whole's suspects from what is done; gives notes on the whole.

    Args:
        verdicts: by exercise, changed in place.
        found: the outcome of the whole.
        expected: the expected one.
    """
    whole = judge_whole(found, expected)
    for name, what in whole.suspects.items():
        if name in verdicts and verdicts[name].status == "done":
            text = f"alone it is right, and in training it is not: {what}"
            verdicts[name] = Verdict("wrong", sentence(text))
    return [f"the whole: {whole.message}"] if whole.status == "wrong" else []


def first_difference(mine: Any, right: dict[str, Any]) -> str | None:
    """Where what came of a run differs, in words; None if it is equal."""
    if not isinstance(mine, dict):
        return str(mine)
    assert isinstance(right, dict)
    steepest = max((d["sums"][0] for k, d in right.items() if k.startswith("gradient") and d))
    for key, wanted in right.items():
        # Some gradients are 0 but for rounding: the bias of the keys moves all scores alike.
        room = NOISE * steepest if key.startswith("gradient") else 0.0
        if alike(mine.get(key), wanted, room=room):
            continue
        if mine.get(key) is None:
            return f"there is no {key}"
        if key == "which parameters train" and isinstance(mine[key], list):
            return f"{len(mine[key])} parameters train; it should be {len(wanted)}"
        if wanted is None:
            return f"there is a {key}, and there should be none"
        return f"the {key} differs"
    return None


def suspects_of(mine: list[Any], right: list[Any]) -> dict[str, str]:
    """Exercise -> the first of its calls that is otherwise, while all calls inside are right."""
    known: dict[str, list[Any]] = {}
    for name, _, given, gave in right:
        known.setdefault(name, []).append((given, gave))
    wrong: list[bool] = []
    found: dict[str, str] = {}
    for number, (name, inside, given, gave) in enumerate(mine):
        wanted = [theirs for same, theirs in known.get(name, ()) if alike(given, same, SAME_INPUT)]
        wrong.append(bool(wanted) and not any(agree(gave, one) for one in wanted))
        if name == STEP and any(wrong[:-1]):
            break  # from here on the parameters are others
        if wrong[-1] and not any(wrong[number - inside : number]) and name in OWNERS:
            function = name.partition(":")[2]
            found.setdefault(OWNERS[name].name, f"{function} {otherwise(gave, wanted[0])}")
    return found


def agree(gave: list[Any], wanted: list[Any]) -> bool:
    """Whether two calls gave the same; the gradient is written down of the first calls alone."""
    both = min(len(gave), len(wanted))
    return alike(gave[:both], wanted[:both])


def otherwise(gave: list[Any], wanted: list[Any]) -> str:
    """In what a call differs."""
    if gave and gave[0] == "raises":
        return f"raises {gave[1]}"
    if not alike(gave[:2], wanted[:2]):
        return "gives another result for the same input"
    return "gives the right numbers, and passes other gradients on"


def alike(a: Any, b: Any, share: float = CLOSE, room: float = 0.0) -> bool:
    """Whether two digests are equal, but for rounding."""
    if isinstance(a, dict) and isinstance(b, dict):
        if "sums" not in a or "sums" not in b:
            return a.keys() == b.keys() and all(alike(a[key], b[key], share) for key in b)
        share = min(share, SAME_PARAMETERS) if "many" in a else share
        room += share * max(b["sums"][0], a["sums"][0]) + 1e-7
        near = all(abs(x - y) <= room for x, y in zip(a["sums"], b["sums"]))
        return near and all(a.get(key) == b.get(key) for key in ("of", "many", "learns"))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(alike(x, y, share) for x, y in zip(a, b))
    if _is_number(a) and _is_number(b):
        return abs(a - b) <= share * (1 + abs(b))
    return type(a) is type(b) and a == b


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
