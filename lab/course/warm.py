"""A runner of a checkout's checks that waits, for `lab check --watch`, as lab/warm.py does."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)  # it was this file's folder
    import lab.course.checks  # noqa: F401 (and PyTorch)
    from lab.course.runner import main as run

    line = sys.stdin.readline()
    if line:
        sys.argv[1:] = json.loads(line)
        run()


if __name__ == "__main__":
    main()
