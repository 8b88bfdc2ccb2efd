"""`minbert lab show 3`: an exercise's inputs, expected and own results as pictures, side by side.

The student's code runs as in `minbert lab check`, with what goes into it written down. The page is
one HTML file of tables, without a script, that asks nothing of anybody.
"""

from __future__ import annotations

import html
import json
import math
from itertools import product
from pathlib import Path
from typing import Any

from lab.check import expected_path
from lab.diagnose import judge, shown
from lab.differences import difference, unravel
from lab.exercises import Exercise
from lab.outcomes import Launch, Output, outcomes
from lab.values import close, is_tensor, same

PICTURES = 12
"""Tables of a tensor that are drawn, one for each index of its dimensions but the last two."""
CELLS = 48
"""Lines and columns of a table that are drawn."""

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 0 auto; padding: 0 16px; }
h2 { border-top: 1px solid #8888; padding-top: 12px; }
.beside { display: flex; flex-wrap: wrap; gap: 12px 32px; align-items: flex-start; }
.beside > div, .scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; margin: 2px 0 10px; }
caption { text-align: left; font-size: 12px; opacity: .8; }
td { width: 46px; height: 24px; text-align: center; font-size: 11px; padding: 0 2px;
  font-variant-numeric: tabular-nums; border: 2px solid transparent; }
td.off { border-color: #d55e0088; }
td.first { border: 3px solid #d55e00; font-weight: bold; }
.wrong { border-left: 5px solid #d55e00; padding-left: 10px; }
.done { border-left: 5px solid #0072b2; padding-left: 10px; }
"""
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def show(root: Path, exercise: Exercise, path: Path) -> Path:
    """Write the pictures of an exercise of a student's copy."""
    launch = Launch(root, root / "lab" / "golden" / "supplied", options=("--calls",))
    ((_, found),) = outcomes(launch, [exercise], Output())
    expected = json.loads(expected_path(root, exercise).read_text(encoding="utf-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(exercise, found, expected), encoding="utf-8")
    return path


def page(exercise: Exercise, found: dict[str, Any], expected: dict[str, Any]) -> str:
    """The HTML of an exercise's pictures.

    Args:
        exercise: which one.
        found: an outcome whose cases are [title, {"result", "calls"}], by the runner's --calls.
        expected: as `judge` takes it.
    """
    right = expected["right"]["cases"]
    own = [(title, *_parts(value)) for title, value in found["cases"]]
    plain = [[title, result] for title, result, _ in own]
    verdict = judge({"cases": plain, "error": found["error"]}, expected)
    mark = "done" if verdict.status == "done" else "wrong"
    body = [f"<h1>{_text(exercise.heading)}</h1>"]
    body += [f'<p class="{mark}"><strong>{verdict.status}</strong> {_text(verdict.message)}</p>']
    files = ", ".join(str(place.path) for place in exercise.places)
    body.append(
        "<p>Blue is above 0, orange below. What differs has a border, and what differs first a "
        f"thick one. In code: {_text(files)}.</p>"
    )
    for number, (title, wanted) in enumerate(right):
        body.append(f"<section><h2>{_text(title)}</h2>")
        if number < len(own):
            _, result, calls = own[number]
            body += [_call(call) for call in calls]
            equal = same(result, wanted)
            said = "as expected" if equal else difference(result, wanted)
            body.append(f'<p class="{"done" if equal else "wrong"}">{_text(said)}</p>')
        else:
            result = None
            body.append('<p class="wrong">Your code did not get as far as this.</p>')
        body.append('<div class="beside">')
        body.append(f"<div><h3>expected</h3>{picture(wanted)}</div>")
        if number < len(own):
            body.append(f"<div><h3>yours</h3>{picture(result, wanted)}</div>")
        body.append("</div></section>")
    title = _text(f"{exercise.heading}: expected and yours")
    return PAGE.format(title=title, style=STYLE, body="\n".join(body))


def _parts(value: Any) -> tuple[Any, list[Any]]:
    """Result and calls of a case; what is otherwise is the student's own work."""
    match value:
        case {"result": result, "calls": [*calls]}:
            return result, calls
    return value, []


def _call(call: Any) -> str:
    match call:
        case {"target": str() as target, "given": dict() as given}:
            inputs = [f"<div><h4>{_text(str(n))}</h4>{picture(v)}</div>" for n, v in given.items()]
            inside = f'<div class="beside">{"".join(inputs)}</div>'
            return f"<details open><summary>into {_text(target)}</summary>{inside}</details>"
    return ""


def picture(value: Any, wanted: Any = None) -> str:
    """A value as tables; with what was wanted, what differs is marked."""
    if isinstance(value, list) and any(is_tensor(each) for each in value):
        others = (
            wanted
            if isinstance(wanted, list) and len(wanted) == len(value)
            else [None] * len(value)
        )
        return "".join(picture(each, other) for each, other in zip(value, others))
    if not _whole(value):
        return f"<p>{_text(repr(value))}</p>"
    data, shape = value["data"], value["shape"]
    off: set[int] = set()
    if _whole(wanted) and wanted["shape"] == shape:
        off = {n for n, (a, b) in enumerate(zip(data, wanted["data"])) if not close(a, b)}
    first = min(off, default=-1)
    sizes = [abs(n) for n in data if math.isfinite(n)]
    most = max(sizes, default=0) or 1
    *outer, lines, columns = [1, 1, *shape][-max(2, len(shape)) :]
    tables = []
    for number, index in enumerate(product(*map(range, outer))):
        if number == PICTURES:
            tables.append("<p>and so on</p>")
            break
        start = number * lines * columns
        rows = [
            "".join(
                _cell(data[n], n, most, n in off, n == first, shape)
                for n in range(start + line * columns, start + line * columns + min(columns, CELLS))
            )
            for line in range(min(lines, CELLS))
        ]
        caption = f"<caption>{_text(str(list(index)))}</caption>" if index else ""
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        tables.append(f"<table>{caption}<tbody>{body}</tbody></table>")
    return f"<p>{_text(value['dtype'])} {_text(str(tuple(shape)))}</p>" + "".join(tables)


def _whole(value: Any) -> bool:
    """Whether this is a tensor with as many numbers as its shape says."""
    match value:
        case {"dtype": str(), "shape": [*shape], "data": [*data]}:
            sizes = all(type(size) is int and size >= 0 for size in shape)
            numbers = all(isinstance(number, int | float) for number in data)
            return sizes and numbers and math.prod(shape) == len(data)
    return False


def _cell(value: float, place: int, most: float, off: bool, first: bool, shape: list[int]) -> str:
    share = min(1.0, abs(value) / most) if math.isfinite(value) else 1.0
    colour = "0,114,178" if value > 0 else "213,94,0"
    mark = ' class="first"' if first else ' class="off"' if off else ""
    name = f"{list(unravel(place, shape))}: {value}"
    written = f"{value:.2g}" if isinstance(value, float) else str(value)
    style = f"background:rgba({colour},{0.7 * share:.2f})"
    return f'<td{mark} title="{_text(name)}" style="{style}">{_text(written)}</td>'


def _text(text: str) -> str:
    """Text that may be anybody's, as HTML."""
    return html.escape(shown(text))
