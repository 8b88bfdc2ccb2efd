"""Damages to data files, and what must hold whatever they did: a fuzzer of the readers.

`try_data_file` draws one case; a test goes through all damages once, a campaign for hours.
"""

from __future__ import annotations

import contextlib
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from random import Random

from data.readers import SAMPLES, OnBadRow, Rows, read_split
from data.schema import Split, Task
from data.tasks import TASKS
from multitask.commands.data_commands import Check

Damage = Callable[[bytes, Random], bytes]
FILES: list[tuple[Task, Split]] = [
    (task, split)
    for task in TASKS.values()
    for split, table in task.tables.items()
    if (SAMPLES / table.path).is_file()
]
"""The samples."""
MOST = 300
"""Characters of a message, of a file in the current folder."""


def _flips(content: bytes, rng: Random) -> bytes:
    flipped = bytearray(content)
    for _ in range(rng.choice([1, 3, 30])):
        flipped[rng.randrange(len(flipped))] = rng.randrange(256)
    return bytes(flipped)


def _spliced(piece: Callable[[Random], bytes]) -> Damage:
    """Puts something into the middle."""

    def damage(content: bytes, rng: Random) -> bytes:
        at = rng.randrange(len(content))
        return content[:at] + piece(rng) + content[at:]

    return damage


def _per_line(change: Callable[[bytes, Random], bytes], share: float = 0.1) -> Damage:
    """Changes a share of the lines."""

    def damage(content: bytes, rng: Random) -> bytes:
        lines = content.split(b"\n")
        return b"\n".join(change(x, rng) if rng.random() < share else x for x in lines)

    return damage


def _without_a_cell(line: bytes, rng: Random) -> bytes:
    cells = line.split(b"\t")
    cells.pop(rng.randrange(len(cells)))
    return b"\t".join(cells)


def _odd_label(line: bytes, rng: Random) -> bytes:
    odd = ["0_1", "１", "1e0", "nan", "inf", "-0", "0x1", "٣", "", "1" * 5000, "True", "1,0", "+1"]
    cells = line.split(b"\t")
    cells[rng.randrange(len(cells))] = rng.choice(odd).encode()
    return b"\t".join(cells)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 132\n" % (b"0a" * 32)

DAMAGES: dict[str, Damage] = {
    "nothing": lambda content, rng: content,
    "bytes": _flips,
    "cut": lambda content, rng: content[: rng.randrange(len(content))],
    "start cut": lambda content, rng: content[rng.randrange(len(content)) :],
    "no header": lambda content, rng: content.partition(b"\n")[2],
    "quotes doubled": lambda content, rng: content.replace(b'"', b'""'),
    "quote put in": _spliced(lambda rng: b'"'),
    "CRLF": lambda content, rng: content.replace(b"\n", b"\r\n"),
    "CR": lambda content, rng: content.replace(b"\n", b"\r"),
    "some CR": _spliced(lambda rng: b"\r"),
    "BOM": lambda content, rng: b"\xef\xbb\xbf" + content,
    "UTF-16": lambda content, rng: content.decode().encode("utf-16"),
    "UTF-16 without BOM": lambda content, rng: content.decode().encode("utf-16-le"),
    "UTF-32": lambda content, rng: content.decode().encode("utf-32"),
    "latin-1": _per_line(lambda line, rng: line + "é".encode("latin-1")),
    "NUL": _spliced(lambda rng: bytes(rng.choice([1, 5000]))),
    "long line": _spliced(lambda rng: b"word " * 200_000),
    "fewer columns": _per_line(_without_a_cell),
    "more columns": _per_line(lambda line, rng: line + b"\t9"),
    "lines joined": _spliced(lambda rng: b"\t"),
    "lines twice": lambda content, rng: content + content,
    "blank lines": _per_line(lambda line, rng: line + rng.choice([b"\n", b"\n \n", b"\n\r"])),
    "labels": _per_line(_odd_label, 0.5),
    "spaces": lambda content, rng: content.replace(b"\t", b"    "),
    "control": _spliced(lambda rng: "\x1b[31m\u202e\u2028\x85\x0c".encode()),
    "Git LFS": lambda content, rng: LFS,
    "HTML": lambda content, rng: b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>\n",
    "gzip": lambda content, rng: gzip.compress(content),
    "empty": lambda content, rng: b"",
}


def try_data_file(rng: Random, folder: Path, *, name: str | None = None) -> str:
    """Damage a sample, read it, and say what came of it: "read" or "refused".

    Args:
        rng: draws the file, the damage (but for `name`) and its place.
        folder: an empty one, which must be the current folder.

    Raises:
        AssertionError: something else came out, or a row was lost.
    """
    task, split = rng.choice(FILES)
    name = name or rng.choice(list(DAMAGES))
    path = folder / task.tables[split].path
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (SAMPLES / task.tables[split].path).read_bytes().splitlines(keepends=True)
    path.write_bytes(DAMAGES[name](b"".join(lines[: rng.choice([30, 60])]), rng))
    try:
        return _outcome(task, split, path, folder)
    except Exception as error:
        raise AssertionError(f"{name} of {path.name}: {type(error).__name__}: {error}") from error
    finally:
        path.unlink()


def _outcome(task: Task, split: Split, path: Path, folder: Path) -> str:
    relative = Path(task.tables[split].path)

    def good(message: str) -> bool:
        return len(message) < MOST and str(relative) in message and "\x1b" not in message

    def read(on_bad_row: OnBadRow) -> Rows | str:
        try:
            return read_split(task, split, ".", on_bad_row=on_bad_row)
        except ValueError as error:
            return str(error)

    stopped, skipped = read("stop"), read("skip")
    assert all(isinstance(found, Rows) or good(found) for found in (stopped, skipped)), stopped

    # What a reader that knows nothing of the format would count: lines that are not blank.
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    lines = [line for line in content.split(b"\n") if line.rstrip(b"\r")]
    rows = len(lines) - (task.tables[split].header is None)
    if isinstance(skipped, Rows):
        assert len(skipped.examples) + len(skipped.skipped) == rows, "a row is lost"
        assert all(good(str(bad)) for bad in skipped.skipped)
    whole = isinstance(skipped, Rows) and not skipped.skipped
    assert stopped == skipped if whole else isinstance(stopped, str)

    out, failed = io.StringIO(), None
    try:
        with contextlib.redirect_stdout(out):
            Check(data_dir=Path(".")).run()
    except ValueError as error:
        failed = str(error)
        assert len(failed) < MOST, failed
    assert all(len(line) < MOST for line in out.getvalue().splitlines())
    assert ("cannot be used" in (failed or "")) == isinstance(skipped, str)
    return "refused" if isinstance(stopped, str) else "read"
