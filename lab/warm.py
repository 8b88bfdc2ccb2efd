"""A runner of checks that waits: it has imported PyTorch before it is told what to run.

    python -m lab.warm          then a line on standard input, a JSON list: the runner's arguments

`minbert lab check --watch` keeps one ready, for an import of PyTorch takes seconds and a check a
part of one. Of the code under test nothing is read before the line comes.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    import torch  # noqa: F401
    import torch.nn.functional  # noqa: F401

    from lab.runner import main as run

    line = sys.stdin.readline()
    if line:
        sys.argv[1:] = json.loads(line)
        run()


if __name__ == "__main__":
    main()
