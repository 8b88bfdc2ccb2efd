"""What a user sees of an error: one message, never a traceback.

if __name__ == "__main__":
    run_script(main)
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import tyro

from minbert.checks import InputWarning


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """End the program with a message where the block raises what a user can mend.

    With MINBERT_TRACEBACK=1 in the environment the traceback is shown too.
    """
    traced = os.environ.get("MINBERT_TRACEBACK")
    warnings.showwarning = _show(warnings.showwarning)
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        if traced:
            raise
        _fail(str(error))
    except (MemoryError, RuntimeError) as error:
        if traced or not _wants_memory(error):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        _fail(
            f"not enough memory: {reason}; lower --batch-size and raise --accumulate as much, "
            "which gives the same steps, or take a smaller model"
        )
    except KeyboardInterrupt as stop:
        print(f"{_who()}{str(stop) or 'stopped'}", file=sys.stderr)
        sys.exit(130)


def run_script(main: Callable[..., Any]) -> None:
    """Call a function with the command line's flags, which are drawn from its parameters."""
    with errors_as_messages():
        tyro.cli(main)


def _show(others: Callable[..., None]) -> Callable[..., None]:
    """How warnings are shown: ours by their text alone, other libraries' as `others` does."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, InputWarning):
            print(f"{_who()}{message}", file=sys.stderr)
        else:
            others(message, category, *where, **more)

    return show


def _fail(message: str) -> NoReturn:
    print(f"{_who()}error: {message}", file=sys.stderr)
    sys.exit(2)


def _wants_memory(error: Exception) -> bool:
    """Whether memory could not be had; PyTorch says so on a CPU in the error's text alone."""
    signs = ("out of memory", "can't allocate memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def _who() -> str:
    """Which of torchrun's processes speaks."""
    number = os.environ.get("RANK")
    return "" if number is None else f"[process {number}] "
