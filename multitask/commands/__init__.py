"""What each command does: a dataclass a command, its fields the flags, its docstrings the help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Group:
    """Commands that have a first word in common, such as `minbert data fetch`."""

    commands: ClassVar[Mapping[str, type]] = {}
