"""The entry of a student's copy: the lab runs there too while other code is broken."""

from __future__ import annotations

import sys

from lab.commands import lab


def main() -> None:
    """`minbert` in a student's copy: the lab needs no other package, the rest all of them."""
    words = sys.argv[1:]
    if words[:1] == ["lab"]:
        sys.exit(lab(words[1:]))
    from multitask.cli import main as minbert

    try:
        minbert()
    except NotImplementedError as error:
        print(f"error: {error} is still to be written", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    sys.exit(lab(sys.argv[1:]))
