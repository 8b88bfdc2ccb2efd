"""Ctrl-C between two steps, never inside one; with several processes, at the same step in all."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, at a moment when the state is whole."""

    def __init__(self, *, shared: bool = False) -> None:
        self._held = False
        self.asked = False
        """Whether a signal came in a held block."""
        self.agreed = not shared
        """Whether all processes of the run take the signal together."""
        self.torn = False
        """Whether a second signal cut a held block short, so that the state is not to be saved."""

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self._held and not self.asked:
            self.asked = True
        else:
            self.torn = self._held
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Generator[None]:
        """A signal in this block takes effect at its end; a second one at once.

        Where several processes share the run, it takes effect once they have agreed.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.asked and self.agreed:
            raise KeyboardInterrupt

    def agree(self) -> None:
        """Tell what the processes found together: that one of them was asked to stop."""
        self.asked = self.agreed = True

    @contextmanager
    def handled(self) -> Generator[None]:
        """Handle signals this way inside the block (in the main thread; others get no signals)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        former = {number: signal.signal(number, self) for number in signals}
        try:
            yield
        finally:
            for number, action in former.items():
                signal.signal(number, action)
