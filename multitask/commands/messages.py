"""The words of a command line, and that of a script: a function's parameters are its flags.

if __name__ == "__main__":
    run_script(main)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import tyro

from lab.terminal import errors_as_messages, open_page
from multitask.commands.flags import FLAGS

__all__ = ["command_line", "errors_as_messages", "open_page", "run_script"]

T_ = TypeVar("T_")
Flat = Annotated[T_, tyro.conf.OmitArgPrefixes]
"""A dataclass whose fields are a script's flags, beside those of other parameters."""


def command_line() -> list[str]:
    """What follows the program's name.

    Raises:
        ValueError: bytes that are no text in the locale's encoding, which Python makes surrogates
            of; config.json could not hold them, nor most libraries open such a file.
    """
    encoding = sys.getfilesystemencoding()
    for word in sys.argv[1:]:
        if any("\ud800" <= sign <= "\udfff" for sign in word):
            remedy = "convert or rename it" if encoding == "utf-8" else "set PYTHONUTF8=1"
            raise ValueError(f"argument {word!r} is not text in the encoding {encoding}; {remedy}")
    return sys.argv[1:]


def run_script(main: Callable[..., Any]) -> None:
    """Call a function with the command line's flags, which are drawn from its parameters."""
    from minbert.quick import keep_freed_memory  # imports torch, as scripts do

    keep_freed_memory()
    with errors_as_messages(), FLAGS:
        tyro.cli(main, args=command_line())
