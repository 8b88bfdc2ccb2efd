"""Ctrl-C between two steps, never inside one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, at a moment when the state is whole."""

    def __init__(self) -> None:
        self._held = False
        self._asked = False
        self.torn = False
        """Whether a second signal cut a held block short, so that the state is not to be saved."""

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self._held and not self._asked:
            self._asked = True
        else:
            self.torn = self._held
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal in this block takes effect at its end; a second one at once."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._asked:
            raise KeyboardInterrupt


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Handle signals this way inside the block (in the main thread; others get no signals)."""
    handler = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield handler
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, handler) for number in signals}
    try:
        yield handler
    finally:
        for number, action in former.items():
            signal.signal(number, action)
