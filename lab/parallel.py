"""Work on several things at once, with results in order."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(function: Callable[[T], R], items: Sequence[T], jobs: int) -> Iterator[R]:
    """Results of a function in the order of the items, of which `jobs` are worked on at once.

    Work goes on in threads, for it is other processes that are waited for, and they end with this
    one: Ctrl-C waits for nobody.
    """
    if jobs == 1:
        yield from map(function, items)
        return
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, R | BaseException]] = queue.SimpleQueue()
    for number in range(len(items)):
        waiting.put(number)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                number = waiting.get_nowait()
                try:
                    done.put((number, function(items[number])))
                except BaseException as error:
                    done.put((number, error))

    for _ in range(min(jobs, len(items))):
        threading.Thread(target=work, daemon=True).start()
    early: dict[int, R | BaseException] = {}
    for number in range(len(items)):
        while number not in early:
            other, result = done.get()
            early[other] = result
        result = early.pop(number)
        if isinstance(result, BaseException):
            raise result
        yield result
