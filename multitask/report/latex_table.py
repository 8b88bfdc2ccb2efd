"""A table as a longtable in booktabs' style, which goes on over pages and is never too wide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from multitask.report.latex_text import guarded

WIDTH = 480
"""Points of a line of text: A4 less margins of 2 cm."""
GAP = 6
"""Between two columns: twice \\tabcolsep."""
SIZES = {"small": 5.3, "footnotesize": 4.8, "scriptsize": 4.3}
"""Size -> points of a character of typewriter type, which is wider than the others."""
LEFT, RIGHT = r">{\raggedright\arraybackslash}", r">{\raggedleft\arraybackslash}"


class Cell(NamedTuple):
    """A cell as LaTeX, and what a reader sees of it."""

    latex: str
    shown: str


def longtable(
    lines: Sequence[Sequence[Cell]],
    right: Sequence[bool],
    caption: str | None = None,
    label: str | None = None,
) -> str:
    """A table in the largest size in which it fits; where none does, columns of words are broken.

    Args:
        lines: the header, and the rows.
        right: of each column, whether it is set to the right, as numbers are.
        caption: LaTeX above the table; none for a table without a number.
        label: for references to it.
    """
    header, *rows = lines
    columns = list(zip(*lines, strict=True))
    natural = [max(len(cell.shown) for cell in column) for column in columns]
    room = WIDTH - GAP * len(columns)
    fitting = (name for name, width in SIZES.items() if sum(natural) * width <= room)
    size = next(fitting, None)
    if size is not None:
        places = "".join("r" if to_right else "l" for to_right in right)
    else:
        size = "scriptsize"
        least = [_least(column, to_right) for column, to_right in zip(columns, right, strict=True)]
        widths = _shared(natural, least, room / SIZES[size])
        places = "".join(
            f"{RIGHT if to_right else LEFT}p{{{width * SIZES[size]:.1f}pt}}"
            for width, to_right in zip(widths, right, strict=True)
        )
    title = f"\\caption{{{caption}}}" if caption else ""
    title += f"\\label{{{label}}}" if label else ""
    head = f"\\toprule\n{_line(header)}\\midrule\n"
    first = f"{title}\\\\\n{head}\\endfirsthead\n" if title else ""
    body = "".join(map(_line, rows))
    return (
        f"{{\\{size}\n\\begin{{longtable}}{{@{{}}{places}@{{}}}}\n{first}{head}\\endhead\n"
        f"\\bottomrule\n\\endlastfoot\n{body}\\end{{longtable}}}}"
    )


def _line(cells: Sequence[Cell]) -> str:
    return guarded(" & ".join(cell.latex for cell in cells)) + " \\\\\n"


def _least(column: Sequence[Cell], to_right: bool) -> int:
    """Characters that a column must have room for: its longest word, or number as a whole."""
    header, *rows = column
    words = header.shown.split()
    for cell in rows:
        words += [cell.shown] if to_right else cell.shown.split()
    return max(map(len, words), default=0) + 1  # for capitals, which are wider


def _shared(natural: Sequence[int], least: Sequence[int], room: float) -> list[float]:
    """Room for so many characters, shared among columns: what each must have, and of what is left
    over in proportion to what it would like to have."""
    if sum(least) > room:  # too many words that cannot be broken
        return [count * room / sum(least) for count in least]
    more = [max(0, whole - count) for whole, count in zip(natural, least, strict=True)]
    part = (room - sum(least)) / (sum(more) or 1)
    return [count + part * extra for count, extra in zip(least, more, strict=True)]
