"""What the columns of a file are: which is the text, which the label, of which kind. `minbert task
new` shows the guesses with their reasons.

A guess is a start: the task file is there to be read and mended.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from data.readers import NUMBER, SPLIT_NAMES, TRUTHS, plain
from data.shape import Shape
from minbert.files import brief

Kind = Literal["classes", "number", "labels"]

LABELS = (
    "label", "labels", "class", "category", "target", "sentiment", "rating", "stars", "score",
    "similarity", "topic", "topics", "intent", "tag", "tags", "gold_label", "is_duplicate", "y",
)  # fmt: skip
"""What a column of labels is often called."""
IDS = ("", "id", "ids", "idx", "index", "no", "nr", "number", "row", "uid", "unnamed: 0")
"""What a column of ids is often called."""
SPLITS = ("split", "fold", "part", "partition", "set")
PAIRS = ({"1", "2"}, {"a", "b"}, {"first", "second"}, {"premise", "hypothesis"})
"""How the names of a pair's columns differ."""
FEW, MANY = 20, 50
"""Up to FEW different whole numbers are classes; more than MANY different words are no classes."""
SPEAKING = 2000
"""Rows from which on a tenth held out is enough to score; a fifth of fewer."""


@dataclass
class Guess:
    """What a task is, and why."""

    shape: Shape
    name: str
    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """One column, or one of 0 and 1 for each of several labels."""
    kind: Kind = "classes"
    classes: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    separator: str | None = None
    id: str | None = None
    split_column: str | None = None
    splits: tuple[str, ...] = ()
    why: list[str] = field(default_factory=list)
    """The guesses, a sentence each."""


def guess(
    shape: Shape,
    *,
    name: str,
    text: Sequence[str] = (),
    label: Sequence[str] = (),
    kind: Kind | None = None,
    separator: str | None = None,
) -> Guess:
    """What the columns are: as given, the others as they look.

    Raises:
        ValueError: a column is not there, or nothing looks like a text or a label.
    """
    found = Guess(shape, name, separator=separator)
    columns = {n: [plain(cell) for cell in cells] for n, cells in shape.columns.items()}
    for each in (*text, *label):
        if each not in columns:
            raise ValueError(f"{shape.path} has no column {each!r}; it has {', '.join(columns)}")
    left = [n for n in columns if n not in (*text, *label)]
    for n in list(left):
        distinct = {cell for cell in columns[n] if cell}
        if n.lower() in SPLITS and distinct and {d.lower() for d in distinct} <= SPLIT_NAMES.keys():
            found.split_column = n
            found.splits = tuple(sorted({SPLIT_NAMES[d.lower()] for d in distinct}))
            found.why.append(f"splits: column {n!r} says train, dev or test")
            left.remove(n)
        elif n.lower() in IDS and len(distinct) == shape.rows:
            found.id = n or None
            if n:
                found.why.append(f"ids: column {n!r}, whose values are all different")
            left.remove(n)
    found.labels = tuple(label) or _label_columns(found, columns, left, text)
    left = [n for n in left if n not in found.labels]
    found.texts = tuple(text) or _text_columns(found, columns, left)
    if not found.texts:
        raise ValueError(
            f"{shape.path}: no column looks like a text; name it: --text COLUMN; the columns are "
            f"{', '.join(columns)}"
        )
    _kind(found, shape, columns, kind)
    return found


def _label_columns(
    found: Guess, columns: dict[str, list[str]], left: list[str], text: Sequence[str]
) -> tuple[str, ...]:
    named = [n for n in left if n.lower() in LABELS]
    if named:
        found.why.append(f"label: column {named[0]!r}, by its name")
        return (named[0],)
    switches = [n for n in left if {c.lower() for c in columns[n]} <= TRUTHS.keys()]
    if len(switches) > 1:
        found.why.append(f"label: columns {', '.join(switches)}, which hold 0 and 1 alone")
        return tuple(switches)
    few = [n for n in left if 1 < len(set(columns[n])) <= max(2, min(MANY, len(columns[n]) // 2))]
    numbers = [n for n in left if all(NUMBER.fullmatch(cell) for cell in columns[n])]
    for n in (*few[-1:], *numbers[-1:]):
        found.why.append(f"label: column {n!r}, with {len(set(columns[n]))} different values")
        return (n,)
    raise ValueError(
        f"{found.shape.path}: no column looks like a label; name it: --label COLUMN; the columns "
        f"are {', '.join(columns)}"
    )


def _text_columns(found: Guess, columns: dict[str, list[str]], left: list[str]) -> tuple[str, ...]:
    words = {n: sum(len(c.split()) for c in columns[n]) / max(1, len(columns[n])) for n in left}
    likely = [n for n in left if words[n] >= 2 and not all(map(NUMBER.fullmatch, columns[n]))]
    likely = likely or sorted(left, key=lambda n: -words[n])[:1]
    for one in likely:
        for other in likely:
            if _differ(one, other):
                found.why.append(f"text: a pair, columns {one!r} and {other!r}, by their names")
                return (one, other)
    if len(likely) == 2 and 0.5 < words[likely[0]] / words[likely[1]] < 2:
        found.why.append(f"text: a pair, columns {likely[0]!r} and {likely[1]!r}, alike in length")
        return tuple(likely)
    if not likely:
        return ()
    longest = max(likely, key=lambda n: words[n])
    found.why.append(f"text: column {longest!r}, {words[longest]:.0f} words on average")
    return (longest,)


def _differ(one: str, other: str) -> bool:
    """Whether two columns are called alike but for a 1 and a 2, or the like."""
    a, b = (re.findall(r"\d|[a-z]+", name.lower()) for name in (one, other))
    return len(a) == len(b) and any(
        (x, y) in {tuple(sorted(pair)) for pair in PAIRS} | {("premise", "hypothesis")}
        and a[:n] == b[:n]
        and a[n + 1 :] == b[n + 1 :]
        for n, (x, y) in enumerate(zip(a, b, strict=True))
    )


def _kind(found: Guess, shape: Shape, columns: dict[str, list[str]], kind: Kind | None) -> None:
    """Find out of which kind the labels are, with the classes or the range."""
    first = found.labels[0]
    cells = [cell for cell in columns[first] if cell]
    lists = any(isinstance(cell, list) for cell in shape.columns[first])
    if len(found.labels) > 1:
        found.kind, found.classes = "labels", found.labels
        return
    different = Counter(cells)
    numeric = bool(cells) and all(NUMBER.fullmatch(cell) for cell in cells)
    whole = numeric and all(float(cell).is_integer() for cell in different)
    separator = found.separator or _separator(different)
    if kind is None:
        if lists or (separator and not numeric):
            kind = "labels"
        elif numeric and (not whole or len(different) > FEW):
            kind = "number"
        else:
            kind = "classes"
    found.kind = kind
    if kind == "number":
        if not numeric:
            odd = next(cell for cell in cells if not NUMBER.fullmatch(cell))
            raise ValueError(f"{shape.path}: column {first!r} has {odd!r}, which is no number")
        values = [float(cell) for cell in cells]
        found.range = (min(values), max(values))
        if found.range[0] == found.range[1]:
            raise ValueError(f"{shape.path}: column {first!r} is {values[0]:g} in every row")
        found.why.append(f"kind: number, from {found.range[0]:g} to {found.range[1]:g}")
    elif kind == "labels":
        found.separator = None if lists else separator or ";"
        parts = Counter(
            name
            for cell in shape.columns[first]
            for part in (cell if isinstance(cell, list) else plain(cell).split(separator or ";"))
            if (name := plain(part))
        )
        found.classes = tuple(sorted(parts))
        between = "as lists" if lists else f"with {found.separator!r} between them"
        found.why.append(f"kind: several labels at once, {between}: {_counted(parts)}")
    else:
        if len(different) > max(MANY, 2) and len(different) > len(cells) / 10:
            raise ValueError(
                f"{shape.path}: column {first!r} has {len(different)} different values in "
                f"{len(cells)} rows, too many for classes; name another: --label COLUMN, or say "
                "--kind number or --kind labels"
            )
        if len(different) < 2:
            raise ValueError(
                f"{shape.path}: column {first!r} is {brief(first and cells[0] if cells else '')} "
                "in every row; there is nothing to learn"
            )
        order = sorted(different, key=float) if numeric else sorted(different)
        found.classes = tuple(order)
        also = "; --kind number takes them as numbers" if numeric and len(order) > 2 else ""
        found.why.append(f"kind: {len(order)} classes: {_counted(different)}{also}")


def _separator(different: Counter[str]) -> str | None:
    """What divides several labels in a cell, if anything does: its parts come again and again."""
    for separator in (";", "|", ","):
        parts = Counter(p.strip() for cell in different for p in cell.split(separator))
        several = [cell for cell in different if separator in cell]
        if several and len(parts) <= min(len(different), MANY) and max(parts.values()) > 1:
            return separator
    return None


def _counted(counts: Counter[str]) -> str:
    shown = [f"{name} {count}" for name, count in counts.most_common(8)]
    return ", ".join(shown) + (", ..." if len(counts) > 8 else "")
