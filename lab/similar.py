"""Which submissions look alike: a list for a teacher to look at, never a verdict.

Schleimer, Wilkerson & Aiken (2003), *Winnowing*: each exercise's body is a row of tokens in which
names of variables count as equal and comments do not count; every run of TOKENS of them has a hash,
and of each WINDOW of hashes the smallest is kept. What the library has itself, or many submissions
have, says nothing and is left out: short exercises have few right answers.
"""

from __future__ import annotations

import functools
import io
import itertools
import keyword
import re
import textwrap
import tokenize
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab import handout
from lab.exercises import Exercise
from lab.results import cell, write_table

TOKENS, WINDOW = 12, 4
COMMON = 0.1
"""Share of a class from which on a fingerprint says nothing; and at least RARE submissions."""
RARE = 5
ENOUGH, ALIKE, MOST = 12, 0.4, 200
"""Fingerprints that two must share, the share of the smaller's from which on they are listed, and
pairs in the list."""


def write_similar(
    path: Path, bodies: Mapping[str, Mapping[str, str]], exercises: Sequence[Exercise]
) -> int:
    """Write the pairs that look alike; gives their number.

    Args:
        path: the table.
        bodies: name -> `bodies_of` the files that were handed in.
        exercises: those that were set.
    """
    reference = {
        e.name: "\n".join(itertools.chain(*map(handout.body, e.places))) for e in exercises
    }
    pairs = alike(bodies, reference)
    rows = [
        [cell(a), cell(b), f"{share:.0%}", shared, same, " ".join(where)]
        for share, shared, same, a, b, where in pairs
    ]
    write_table(path, [["one", "other", "alike", "fingerprints", "same text", "exercises"], *rows])
    return len(pairs)


def bodies_of(texts: Mapping[str, str], exercises: Sequence[Exercise]) -> dict[str, str]:
    """Exercise -> the bodies of its functions, where they can be found and are no blanks."""
    found = {}
    for exercise in exercises:
        pieces = [rough_body(texts.get(p.path.as_posix(), ""), p.name) for p in exercise.places]
        text = "\n".join(pieces)
        if all(pieces) and "raise NotImplementedError" not in text:
            found[exercise.name] = text
    return found


def rough_body(source: str, name: str) -> str:
    """A function's body without its docstring, by indentation alone; empty where there is none.

    A file of a submission need not be Python, and to parse all files of a class takes minutes.
    """
    source = source.replace("\r\n", "\n")
    *outer, function = name.split(".")
    for one in outer:
        _, *inside = re.split(rf"^class {one}\b.*\n", source, flags=re.MULTILINE)
        source = inside[-1] if inside else ""
        source = re.split(r"^\S", source, maxsplit=1, flags=re.MULTILINE)[0]
    found = [*re.finditer(rf"^[ \t]*(?=def {function}\()", source, re.MULTILINE)]
    if not found:
        return ""
    rest = source[found[-1].end() :]  # the last definition is the one that counts
    head = re.match(r"(?:.*\n)*?.*:\n", rest)
    own = re.match(rf"(?:{found[-1][0]}[ \t].*\n|[ \t]*\n)*", rest[head.end() :]) if head else None
    body = textwrap.dedent(own[0] if own else "")
    return re.sub(r'\A"""(?:.|\n)*?"""\n', "", body).strip("\n")


def alike(
    bodies: Mapping[str, Mapping[str, str]], reference: Mapping[str, str]
) -> list[tuple[float, int, int, str, str, list[str]]]:
    """Pairs by how alike they are: share, fingerprints, bodies of the same text, names, where."""
    known = {name: fingerprints(text) for name, text in reference.items()}
    prints: dict[str, set[tuple[str, int]]] = {}
    for name, own in bodies.items():
        prints[name] = {
            (exercise, print_)
            for exercise, text in own.items()
            for print_ in fingerprints(text) - known.get(exercise, set())
        }
    holders: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name, own_prints in prints.items():
        for each in own_prints:
            holders[each].append(name)
    most = max(RARE, int(COMMON * len(bodies)))
    telling = {each: names for each, names in holders.items() if len(names) <= most}
    sizes = Counter(name for names in telling.values() for name in names)
    shared: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for (exercise, _), names in telling.items():
        for pair in itertools.combinations(names, 2):
            shared[pair][exercise] += 1
    found = []
    for (a, b), where in shared.items():
        count, share = where.total(), where.total() / min(sizes[a], sizes[b])
        if count >= ENOUGH and share >= ALIKE:
            same = sum(len(bodies[a][each]) > 60 and bodies[a][each] == bodies[b][each]
                       for each in where)  # fmt: skip
            found.append((share, count, same, a, b, [name for name, _ in where.most_common(8)]))
    return sorted(found, key=lambda pair: (-pair[0], -pair[1], pair[3:5]))[:MOST]


@functools.cache
def fingerprints(text: str) -> frozenset[int]:
    """The hashes that winnowing keeps of a body; many have the same one."""
    row = tokens(text)
    hashes = [
        zlib.crc32(" ".join(row[start : start + TOKENS]).encode("utf-8", "replace"))
        for start in range(len(row) - TOKENS + 1)
    ]
    ends = range(WINDOW, len(hashes) + 1)
    return frozenset(min(hashes[end - WINDOW : end]) for end in ends)


def tokens(text: str) -> list[str]:
    """What a body says, whatever its variables are called, and however it is laid out."""
    row: list[str] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                row.append(token.string if row[-1:] == ["."] else "v")
            elif token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER):
                row.append(token.string)
            elif token.type == tokenize.STRING:
                row.append("s")
    except (tokenize.TokenError, SyntaxError):  # what came before counts
        pass
    return row
