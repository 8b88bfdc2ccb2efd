"""`python -m multitask` is `minbert`, as torchrun starts it."""

import os
import sys
from pathlib import Path

if sys.path[0] in ("", os.getcwd()):  # a data.py there would stand in the place of a package
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from lab.__main__ import main

if __name__ == "__main__":
    main()
