"""`minbert lab check --watch` in a checkout: what a saved file changes is checked again."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab.course import report
from lab.course.parts import Part
from lab.watch import Watch


class CheckoutWatch(Watch[Part]):
    """Checks of a checkout, made again as its files change."""

    WARM = (sys.executable, "-B", str(Path(__file__).with_name("warm.py")))

    def __init__(self, root: Path, parts: Sequence[Part]) -> None:
        there = tuple(part for part in parts if (root / part.file).is_file())
        super().__init__(report.launch_of(root), there)
        self.missing = [part for part in parts if part not in there]
        self._expected = functools.cache(report.expected_of)

    def run(self) -> None:
        for part in self.missing:
            report.show(report.not_there(part))
        super().run()

    def say(self, exercise: Part, outcome: dict[str, Any]) -> tuple[str, Callable[[], None]]:
        expected = functools.partial(self._expected, exercise)
        found = report.say(self.launch.root, exercise, outcome, expected)
        return found.status, functools.partial(report.show, found)
