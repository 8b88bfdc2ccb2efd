"""Where a command line meets its terminal: its streams, Ctrl-C, and what a user sees of an error.

All of them run in `errors_as_messages`: minbert, the lab, the benchmarks, the scripts. It stands
here because the lab has to run beside broken code, on the standard library alone.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
import webbrowser
from collections.abc import Callable, Generator
from typing import Any, NoReturn


@contextlib.contextmanager
def errors_as_messages() -> Generator[None]:
    """End the program with a message where the block raises what a user can mend.

    The exit status is 2 after an error, 130 after Ctrl-C, and 141 where the reader of standard
    output has gone, which is what a shell calls the signals SIGINT and SIGPIPE.
    With MINBERT_TRACEBACK=1 in the environment the traceback of an error is shown too.
    """
    _open_streams()
    warnings.showwarning = _show(warnings.showwarning)
    end: BaseException | None = None
    try:
        yield
    except BaseException as error:
        end = error
    lost = _lost_output()
    if isinstance(lost or end, BrokenPipeError):
        sys.exit(141)
    if lost and (end is None or isinstance(end, SystemExit)):
        _fail(f"standard output cannot be written: {lost.strerror}")
    if isinstance(end, KeyboardInterrupt):
        _say(str(end) or "stopped")
        sys.exit(130)
    if end and not os.environ.get("MINBERT_TRACEBACK"):
        if isinstance(end, ValueError | OSError):
            _fail(str(end))
        if _wants_memory(end):
            reason = str(end).partition("\n")[0] or type(end).__name__
            _fail(
                f"not enough memory: {reason}; lower --batch-size and raise --accumulate as much, "
                "which gives the same steps, or take a smaller model"
            )
    if end:
        raise end


def _open_streams() -> None:
    """Make streams of those that the program was started without, and let any sign be printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # closed, as by `>&-`: the next file would get its number
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):  # in a notebook it is none
        with contextlib.suppress(OSError):  # closed meanwhile
            sys.stdout.reconfigure(errors="backslashreplace")  # as Python has standard error


def _show(others: Callable[..., None]) -> Callable[..., None]:
    """How warnings are shown: those for users by their text alone, others as `others` does."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if getattr(category, "for_users", False):
            _say(str(message))
        else:
            others(message, category, *where, **more)

    return show


def _lost_output() -> OSError | None:
    """Why standard output cannot be written, if so; what is still held back for it is dropped."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        return error
    return None


def _fail(message: str) -> NoReturn:
    _say(f"error: {message}")
    sys.exit(2)


def _say(message: str) -> None:
    """Print on standard error, with the number of torchrun's process that speaks."""
    number = os.environ.get("RANK")
    with contextlib.suppress(OSError):  # the exit status says it too
        print("" if number is None else f"[process {number}] ", message, sep="", file=sys.stderr)


def _wants_memory(error: BaseException) -> bool:
    """Whether memory could not be had; PyTorch says so on a CPU in the error's text alone."""
    signs = ("out of memory", "can't allocate memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
    )


def open_page(address: str) -> None:
    """Open a page in the browser, where there is a screen."""
    screens = os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}
    if sys.platform in ("darwin", "win32") or screens:
        webbrowser.open(address)
