"""What each command does: a dataclass a command, its fields the flags, its docstrings the help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import ClassVar


@dataclass(frozen=True)
class Group:
    """Commands that have a first word in common, such as `minbert data fetch`."""

    commands: ClassVar[Mapping[str, type]] = {}


def flags_of(words: Sequence[str]) -> tuple[str, ...]:
    """The flags of a command line, as they were typed; what follows -- are none."""
    before = takewhile(lambda word: word != "--", words)
    return tuple(word.partition("=")[0] for word in before if word.startswith("--"))


def dashed(flag: str) -> str:
    """A flag as it is listed; underscores are taken too."""
    return flag.replace("_", "-")
