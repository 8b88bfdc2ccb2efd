"""Data files that are damaged: every line is a row, or is named as a bad one."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from campaign.cases import Broken, Case, check_message, check_text, kind, require
from campaign.mutations import ANY, encode
from data.readers import SAMPLES, Example, Rows, read_split
from data.tasks import TASKS, Split, Task

FILES: list[tuple[Task, Split]] = [
    (TASKS[name], split)
    for name in ("sst", "para", "sts", "cola")
    for split in ("train", "dev", "test")
]
CELLS = (
    "", " ", "x", "nan", "inf", "-1", "9", "1e400", "0_1", "\u0661", "\uff13", "1.0", "3.5", "+1",
    "0x1", '"', '""', "a\tb", "a\rb", "\ufeff", "\x00", "\x85", "\u2028", "\udc80", "w " * 70_000,
)  # fmt: skip


@kind("data", "Every line of a damaged data file is a row as before, or is named as a bad one.", 30)
def data(case: Case) -> None:
    task, split = FILES[case.number % len(FILES)]
    path = case.folder / "data" / task.tables[split].path
    shutil.copytree(SAMPLES, case.folder / "data", ignore=shutil.ignore_patterns("*.py", "__*"))
    before = path.read_bytes()
    rows = read_split(task, split, case.folder / "data")
    what = change_a_line(case, path) if case.draw.random() < 0.6 else damage(case, path)
    case.note(f"{path.name}: {what}")
    if case.draw.random() < 0.15:
        check_message(case.run("data", "check", "--data-dir", case.folder / "data"))
    try:
        found = read_split(task, split, case.folder / "data", on_bad_row="skip")
    except (ValueError, OSError) as error:
        check_text(str(error), path.name, "data")
        return
    check_rows(found, rows, before, path.read_bytes(), has_header=task.tables[split].header is None)


def damage(case: Case, path: Path) -> str:
    return case.draw.choice([*ANY, encode])(case.draw, path)


def change_a_line(case: Case, path: Path) -> str:
    """Something that people and editors do to a table."""
    draw = case.draw
    lines = path.read_bytes().decode().split("\n")
    number = draw.randrange(len(lines) - 1)
    cells = lines[number].split("\t")
    column = draw.randrange(len(cells))
    how = draw.choice(["cell", "cell", "cell", "less", "more", "twice", "join", "break", "ends"])
    if how == "cell":
        cells[column] = draw.choice(CELLS)
    elif how == "less":
        del cells[column]
    elif how == "more":
        cells.insert(column, draw.choice(CELLS))
    lines[number] = "\t".join(cells)
    if how == "twice":
        lines.insert(draw.randrange(number, len(lines)), lines[number])
    elif how == "join":
        lines[number : number + 2] = [lines[number] + " " + lines[number + 1]]
    elif how == "break":
        place = draw.randrange(len(lines[number]) + 1)
        lines[number : number + 1] = [lines[number][:place], lines[number][place:]]
    end = draw.choice(["\r\n", "\r", "\n\n"]) if how == "ends" else "\n"
    path.write_bytes(end.join(lines).encode(errors="surrogateescape"))
    return (
        f"line {number + 1}, column {column + 1}: {how} {cells[column][:20]!r}"
        if column < len(cells)
        else f"line {number + 1}: {how}"
    )


def check_rows(found: Rows, rows: Rows, before: bytes, after: bytes, *, has_header: bool) -> None:
    """Nothing is lost, and the lines that have stayed as they were are the rows that they were."""
    old, new = lines_of(before), lines_of(after)
    due = len(new) - has_header
    told = len(found.examples) + len(found.skipped)
    require(told == due, f"{due} lines have come to {len(found.examples)} rows and "
            f"{len(found.skipped)} bad ones")  # fmt: skip
    for bad in found.skipped:
        check_text(str(bad), found.path.name)
    if has_header and old[0] != new[0]:
        return  # other columns may stand for the same things
    was = {line: said(row) for line, row in zip(old[has_header:], rows.examples)}
    kept = Counter(was[line] for line in dict.fromkeys(new) if line in was)
    missing = kept - Counter(map(said, found.examples))
    if missing and len(found.skipped) < sum(missing.values()):
        raise Broken(f"lines that are as they were are other rows now: {list(missing)[:2]}")


def lines_of(content: bytes) -> list[bytes]:
    """The lines with something on them; \\n alone ends a line."""
    return [line for line in content.split(b"\n") if line.strip(b"\r")]


def said(row: Example) -> tuple[object, ...]:
    """What a row says; where there is no id in the file, it is a number."""
    return (*row.texts, row.label)
