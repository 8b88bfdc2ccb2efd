"""What is said of an exercise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lab.source import Target

Part = Literal["bert", "optim", "heads", "extensions", "loop", "tokens-costs"]
PARTS: tuple[Part, ...] = ("bert", "optim", "heads", "extensions", "loop", "tokens-costs")


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One thing to fill in."""

    name: str
    """Name of its check, and of its page in docs/assignment.md."""
    title: str
    part: Part
    targets: tuple[str, ...]
    """The functions to fill in: module:function or module:Class.method."""
    points: int
    hints: tuple[str, str, str]
    """From a nudge to nearly the answer."""
    level: Literal[1, 2, 3] = 2
    """1: a line or two, from the formula; 2: a few, with care; 3: several things at once."""
    minutes: int = 30
    """About how long it takes who has read its page: an estimate."""
    uses: tuple[str, ...] = ()
    """Earlier exercises whose functions these call: they are supplied when it is checked."""
    number: int = 0
    """Its place in the list, from 1; the list gives it."""

    @property
    def places(self) -> tuple[Target, ...]:
        return tuple(Target.parse(text) for text in self.targets)

    @property
    def heading(self) -> str:
        return f"Exercise {self.number}: {self.title}"

    @property
    def effort(self) -> str:
        return f"Level {self.level} of 3, about {self.minutes} minutes"

    def __str__(self) -> str:
        return f"exercise {self.number}: {self.title}"
