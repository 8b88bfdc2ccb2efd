"""`minbert lab replay 1` in a checkout: the first case that is wrong, as lab/replay.py shows it.

    python -B lab/course/replay.py --supplied CHECKOUT NAME [--print]

runs in a process of its own, for it imports the student's code.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.course.parts import Part

ROOT = Path(__file__).resolve().parent.parent.parent


def start(root: Path, part: Part, *, printed: bool = False) -> int:
    """Replay a part of a checkout; gives the exit code.

    Raises:
        ValueError: its file is not there.
    """
    from lab.course.report import launch_of

    if not (root / part.file).is_file():
        raise ValueError(f"there is no {part.file} in this checkout, which {part} is in")
    command = [sys.executable, "-B", __file__, "--supplied", str(root.resolve()), part.name]
    launch = launch_of(root)
    return subprocess.run(
        [*command, *(["--print"] if printed else [])], cwd=root, env=launch.environment
    ).returncode


def replay(part: Part, root: Path, *, printed: bool) -> int:
    """Run a part's check up to the first case that is wrong, and show it."""
    from lab.course.expected import expected
    from lab.course.given import NotHere
    from lab.course.report import to_be_written
    from lab.course.runner import prepare
    from lab.replay import first_wrong

    right = expected(part, seed=0)["right"]["cases"]
    prepare(root)
    if to_be_written(root, part):
        print(f"{part} is not started")
        return 1
    there = tuple(target for target in part.targets if is_there(target))
    own, raises = replace(part, targets=there), (NotImplementedError, NotHere)
    try:
        return first_wrong(own, given(part, right), right, printed=printed, raises=raises)
    except NotImplementedError:
        print(f"{part} calls what is not started: see minbert lab check")
    except NotHere as error:
        print(f"{part} cannot be tried: {error}")
    return 1


def given(part: Part, right: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """The cases of a checkout; what its version of the handout cannot give is right."""
    from lab.course.checks import raw_cases
    from lab.course.given import Skipped
    from lab.values import decode

    for number, (title, value) in enumerate(raw_cases(part.name, 0, importlib.import_module)):
        yield title, decode(right[number][1]) if isinstance(value, Skipped) else value


def is_there(target: str) -> bool:
    """Whether a checkout has a function by this name; where not, its calls are not shown."""
    from lab.planting import resolve
    from lab.source import Target

    try:
        resolve(Target.parse(target))
    except (ImportError, AttributeError):
        return False
    return True


def main() -> None:
    sys.path[0] = str(ROOT)  # it was this file's folder
    from lab.course.parts import PART_BY_NAME

    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--supplied", type=Path, required=True)
    parser.add_argument("--print", action="store_true")
    words = parser.parse_args()
    sys.exit(replay(PART_BY_NAME[words.name], words.supplied, printed=words.print))


if __name__ == "__main__":
    main()
