"""The command line of a script: the parameters of a function are its flags.

if __name__ == "__main__":
    run_script(main)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tyro

from lab.terminal import errors_as_messages


def run_script(main: Callable[..., Any]) -> None:
    """Call a function with the command line's flags, which are drawn from its parameters."""
    with errors_as_messages():
        tyro.cli(main)
