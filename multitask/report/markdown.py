"""Tables in Markdown, and the places in the project's documents where they are put."""

from __future__ import annotations

import re
from collections.abc import Sequence

RESULTS = "<!-- results: minbert report -->\n", "<!-- end of results -->\n"
MARKER = re.compile(r"<!-- report: (?P<study>[\w.+-]+)/(?P<block>[\w-]+) -->\n")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table, its first columns to the left and the others, of numbers, to the right."""
    rule = [":--"] * left + ["--:"] * (len(header) - left)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, rule, *rows))


def put_between(text: str, begin: str, end: str, new: str) -> str:
    """The text with what stands between two lines of it replaced."""
    before, begun, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not (begun and ended):
        raise ValueError(f"the text lacks the lines {begin!r} and {end!r}, in this order")
    return f"{before}{begin}{new}{end}{after}"
