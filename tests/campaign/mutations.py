"""What may become of a file: flipped bits, cuts, values of other kinds, another file in its place.

Each mutation changes a file by drawn choices, and says in words what it did.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Mutation = Callable[[random.Random, Path], str]

ODD_VALUES = (
    None, True, False, 0, -1, 1.5, 10**30, -(2**63), 1e308, "", "x", "0_1", "\u0661", "\x00",
    "a" * 5000, [], {}, [None], [[]], {"x": {}}, [1, "2"], "..", "/", "~",
)  # fmt: skip
RAW_VALUES = (
    "NaN", "Infinity", "-Infinity", "1e400", '"\\ud800"', "[" * 100_000, '{"a":' * 100_000, "01",
    "0x1f", '"', "'x'", "1" * 5000, "[1,]", "{}{}", "tru",
)  # fmt: skip
"""Which json.dumps would not write."""
ODD_BYTES = (
    b"\x00", b"\xff", b"\xff\xfe", b"\xed\xa0\x80", b"\r", b"\n", b"\t", b'"', b"\\",
    "\u2028".encode(), b"\x1b[2J", b"%s", b"{", b"}", b"version https://git-lfs",
)  # fmt: skip


def flip(draw: random.Random, path: Path) -> str:
    content = bytearray(path.read_bytes())
    places = [draw.randrange(len(content)) for _ in range(draw.choice([1, 1, 3, 20]))]
    for place in places:
        content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return f"bits flipped at {places}"


def flip_early(draw: random.Random, path: Path) -> str:
    """In the first bytes, where headers are."""
    content = bytearray(path.read_bytes())
    place = draw.randrange(min(len(content), 200))
    content[place] = draw.randrange(256)
    path.write_bytes(content)
    return f"byte {place} made {content[place]}"


def cut(draw: random.Random, path: Path) -> str:
    size = draw.choice([0, 1, 7, 8, 9, int(draw.random() * path.stat().st_size)])
    os.truncate(path, min(size, path.stat().st_size))
    return f"cut to {path.stat().st_size} bytes"


def zero(draw: random.Random, path: Path) -> str:
    """What a crash of the machine leaves: the size is there, the bytes are not."""
    content = path.read_bytes()
    start = int(draw.random() * len(content))
    path.write_bytes(content[:start] + bytes(len(content) - start))
    return f"zeros from byte {start}"


def insert(draw: random.Random, path: Path) -> str:
    content, new = path.read_bytes(), draw.choice(ODD_BYTES)
    place = draw.choice([0, len(content), draw.randrange(len(content) + 1)])
    path.write_bytes(content[:place] + new + content[place:])
    return f"{new!r} put in at {place}"


def double(draw: random.Random, path: Path) -> str:
    """A block of it stands twice, as where two writers wrote at once."""
    content = path.read_bytes()
    start, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    path.write_bytes(content[:end] + content[start:])
    return f"bytes {start} to {end} doubled"


def encode(draw: random.Random, path: Path) -> str:
    encoding = draw.choice(["utf-16", "utf-8-sig", "utf-32", "latin-1", "utf-7"])
    text = path.read_bytes().decode("utf-8", errors="replace")
    path.write_bytes(text.encode(encoding, errors="replace"))
    return f"written as {encoding}"


def replace(draw: random.Random, path: Path) -> str:
    """Something else stands in its place."""
    what = draw.choice(
        ["nothing", "folder", "fifo", "loop", "device", "dangling", "other", "socket"]
    )
    others = sorted(other for other in path.parent.rglob("*") if other.is_file() and other != path)
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "loop":
        path.symlink_to(path.name)
    elif what == "device":
        path.symlink_to(draw.choice(["/dev/zero", "/dev/random", "/dev/full", "/proc/self/mem"]))
    elif what == "dangling":
        path.symlink_to("nowhere")
    elif what == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as made:
            here = os.getcwd()
            os.chdir(path.parent)  # the path of a socket may have about 100 bytes
            made.bind(path.name)
            os.chdir(here)
    elif what == "other" and others:
        shutil.copy(draw.choice(others), path)
    return f"{what} in its place"


def reshape(draw: random.Random, path: Path) -> str:
    """A drawn value of a JSON file, or of a line of several, becomes one of another kind."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".jsonl":
        new, what = reshaped(draw, json.loads(text))
        path.write_text(new, encoding="utf-8")
        return what
    lines = text.splitlines()
    number = draw.randrange(len(lines))
    if draw.random() < 0.3:
        how = draw.choice(["lost", "twice", "swapped"])
        line = lines.pop(number)
        if how != "lost":
            lines[number:number] = [line, line] if how == "twice" else []
        if how == "swapped":
            lines.insert(0, line)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return f"line {number + 1} {how}"
    lines[number], what = reshaped(draw, json.loads(lines[number]))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return f"line {number + 1}: {what}"


def reshaped(draw: random.Random, value: Any) -> tuple[str, str]:
    """JSON with a drawn place of the value changed, and what was done."""
    places: list[tuple[Any, Any]] = [(None, None)]
    todo = [value]
    while todo:
        node = todo.pop()
        keys = (
            list(node)
            if isinstance(node, dict)
            else range(len(node) if isinstance(node, list) else 0)
        )
        places += [(node, key) for key in keys]
        todo += [node[key] for key in keys]
    node, key = draw.choice(places[1:] or places) if draw.random() < 0.95 else places[0]
    how = draw.choice(["odd", "odd", "odd", "raw", "gone", "text", "near", "extra"])
    if node is None:
        how = "odd"
    elif how == "gone":
        del node[key]
        return json.dumps(value), f"{key!r} taken out"
    elif how == "extra" and isinstance(node, dict):
        node["unheard_of"] = draw.choice(ODD_VALUES)
        return json.dumps(value), f"'unheard_of' put in beside {key!r}"
    if how == "raw":
        mark, new = "\u2042", draw.choice(RAW_VALUES)
        node[key] = mark
        return json.dumps(value).replace(json.dumps(mark), new, 1), f"{key!r} made {new[:40]}"
    old = value if node is None else node[key]
    if how == "text":
        new = str(old)
    elif how == "near" and isinstance(old, int | float):
        new = draw.choice([old + 1, old - 1, -old, old * 1000, old + 0.5, float(old)])
    else:
        new = draw.choice(ODD_VALUES)
    if node is None:
        return json.dumps(new), f"the whole made {str(new)[:40]!r}"
    node[key] = new
    return json.dumps(value), f"{key!r} made {str(new)[:40]!r}"


def header(draw: random.Random, path: Path) -> str:
    """The header of a safetensors file is another: names, shapes, places, sizes, metadata."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    new, what = reshaped(draw, json.loads(content[8 : 8 + size]))
    told = draw.choice([len(new.encode()), len(new.encode()), 2**40, 2**63, size])
    path.write_bytes(told.to_bytes(8, "little") + new.encode() + content[8 + size :])
    return f"header: {what}" + ("" if told == len(new.encode()) else f", its size made {told}")


ANY: tuple[Mutation, ...] = (flip, flip_early, cut, zero, insert, double, replace)


def mutations_of(path: Path) -> list[Mutation]:
    """What may become of a file, by its kind; shapes of JSON more often than the rest."""
    found = list(ANY)
    if path.suffix in (".json", ".jsonl"):
        found += [reshape] * 8
    if path.suffix == ".safetensors":
        found += [header] * 4
    else:
        found.append(encode)
    return found


def mutate(draw: random.Random, path: Path) -> str:
    """Change a file that has something in it."""
    if path.stat().st_size == 0:
        return replace(draw, path)
    return draw.choice(mutations_of(path))(draw, path)
