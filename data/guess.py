"""What a file of rows looks like: which column is the text, which the label, of which kind; and the
task file that says so. `minbert task new` shows the guesses with their reasons.

A guess is a start: the task file is there to be read and mended.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data.readers import NUMBER, SPLIT_NAMES, TRUTHS, plain
from data.tables import DELIMITERS, parquet_rows, records_of, text_lines
from data.task_files import ENDINGS, METRICS, FileFormat
from minbert.files import brief, parse_json, regular

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


@dataclass(frozen=True)
class Shape:
    """A file as it was found."""

    path: Path
    format: FileFormat
    encoding: str
    delimiter: str | None
    columns: dict[str, list[Any]]
    """Name -> its cells, those of a csv file as text."""

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()), []))


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


def shape_of(path: Path, delimiter: str | None = None) -> Shape:
    """Read a file without knowing what is in it.

    Raises:
        ValueError: it is no such file, has no header or no rows.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(
            f"{path}: its ending is none of {', '.join(ENDINGS)}; rename the file, or save "
            "a spreadsheet as CSV"
        )
    kind, encoding = ENDINGS[ending], "utf-8"
    if kind == "parquet":
        rows = list(parquet_rows(path))
    else:
        encoding = _encoding(path)
        if kind == "jsonl":
            rows = [
                parse_json(text, dict[str, Any], f"{path}:{line}")
                for line, text, _ in text_lines(path, encoding)
                if text.strip()
            ]
        else:
            delimiter = delimiter or ("\t" if kind == "tsv" else _delimiter(path, encoding))
            return Shape(path, kind, encoding, delimiter, _columns(path, delimiter, encoding))
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not rows or not names:
        raise ValueError(f"{path} has no rows")
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Shape(path, kind, encoding, None, columns)


def _encoding(path: Path) -> str:
    data = regular(path).read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _delimiter(path: Path, encoding: str) -> str:
    """The delimiter that gives the first rows the same number of columns, and the most."""
    found = []
    for delimiter in DELIMITERS:
        widths = []
        for _, fields, broken in records_of(path, delimiter, encoding):
            widths.append(0 if broken else len(fields))
            if len(widths) == 50:
                break
        same = sum(width == widths[0] for width in widths) if widths else 0
        found.append((widths[0] > 1 if widths else False, same, widths[0] if widths else 0))
    return DELIMITERS[max(range(len(found)), key=lambda n: found[n])]


def _columns(path: Path, delimiter: str, encoding: str) -> dict[str, list[Any]]:
    records = records_of(path, delimiter, encoding)
    line, header, broken = next(records, (1, [], None))
    names = [name.strip() for name in header]
    if broken or not names:
        raise ValueError(f"{path}:{line}: {broken or 'there is no header line'}")
    if any(len(name.split()) > 8 for name in names):
        raise ValueError(
            f"{path}:{line}: the first line must name the columns, and looks like a row: "
            f"{brief(header, 100)}; write a header line such as text{delimiter}label"
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{path}:{line}: two columns are called {twice[0]!r}; rename one")
    rows = []
    for line, fields, broken in records:
        if broken or len(fields) != len(names):
            broken = broken or f"{len(fields)} columns where {len(names)} are due"
            raise ValueError(
                f"{path}:{line}: {broken}\n    {brief(delimiter.join(fields)[:70], 80)}\n"
                f"    mend the row; if fields are not divided by {delimiter!r}, give --delimiter"
            )
        rows.append(fields)
    if not rows:
        raise ValueError(f"{path} has a header, and no rows")
    return {name: [row[n] for row in rows] for n, name in enumerate(names)}


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


# The task file


def toml_of(found: Guess, *, folder: Path, dev: Path | None, test: Path | None) -> str:
    """The task file of a guess, with a comment on each part.

    Args:
        found: the guess.
        folder: where the file will be, from which paths are taken.
        dev, test: files of these splits.
    """
    shape = found.shape
    q = _quoted
    one = q(found.texts[0]) if len(found.texts) == 1 else _list(found.texts)
    label = q(found.labels[0]) if len(found.labels) == 1 else _list(found.labels)
    lines = [
        f"# A task for minbert: minbert train --task-file {found.name}.toml",
        "# docs/tasks.md explains every key.",
        f"name = {q(found.name)}",
        f"kind = {q(found.kind)}  # classes: one of several; number; labels: any of several",
    ]
    if found.classes:
        lines.append(f"classes = {_list(found.classes)}")
    if found.range:
        lines.append(f"range = [{found.range[0]:g}, {found.range[1]:g}]  # of all labels")
    metrics = METRICS[found.kind]
    lines += [
        f"metrics = {_list(metrics)}  # the first one chooses the best epoch",
        f'text = {one}  # the column of the text, or ["first", "second"] of a pair',
        f"label = {label}",
    ]
    if len(found.texts) == 2:
        lines.append("symmetric = false  # true where the two texts may change places")
    if found.separator:
        lines.append(f"separator = {q(found.separator)}  # between several labels in a cell")
    if found.id:
        lines.append(f"id = {q(found.id)}  # without it a row is known by its line")
    if found.kind != "number" and len(found.labels) == 1:
        lines += [
            "",
            "# What is written otherwise in the files than in classes, such as",
            "# [names]",
            f"# {q('another spelling')} = {q(found.classes[0])}",
        ]
    needs_dev = dev is None and "dev" not in found.splits
    if needs_dev:
        share = 0.2 if shape.rows < SPEAKING else 0.1
        lines += [
            "",
            "[hold_out]  # of the training rows; equal texts stay together",
            f"dev = {share}",
            "seed = 1",
        ]
    entries = [(shape.path, "train"), (dev, "dev"), (test, "test")]
    for path, split in entries:
        if path is None:
            continue
        shown = _relative(path, folder)
        lines += ["", "[[files]]", f"path = {q(shown)}"]
        if split == "train" and found.split_column:
            lines.append(f"split_column = {q(found.split_column)}")
        else:
            lines.append(f"split = {q(split)}")
        this = shape if split == "train" else shape_of(path, None)
        if this.delimiter and this.format != "tsv":
            lines.append(f"delimiter = {q(this.delimiter)}")
        if this.encoding != "utf-8":
            lines.append(f"encoding = {q(this.encoding)}")
        if split == "test" and not set(found.labels) <= this.columns.keys():
            lines.append('label = ""  # this file has none')
    return "\n".join(lines) + "\n"


def _relative(path: Path, folder: Path) -> str:
    path, folder = path.resolve(), folder.resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(names: Sequence[str]) -> str:
    return f"[{', '.join(map(_quoted, names))}]"
