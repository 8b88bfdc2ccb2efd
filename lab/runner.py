"""Runs checks on the code of this project, in a process of its own, and writes what came out.

    python -m lab.runner --results FD --supplied FOLDER --seed 0 embeddings attention ...

FD is the number of an open pipe. Each line that goes into it is a JSON list: ["begin", exercise],
["case", title, value] and ["end", error]. The one who started this process compares, so nothing
here knows what is right.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import os
import pdb
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 10.0
"""Of computing, for an exercise; a check takes a small part of one."""


def describe(error: BaseException, root: Path = ROOT) -> dict[str, Any]:
    """An exception as JSON: its type, message, and the student's line that raised it.

    Args:
        error: what was raised.
        root: the folder with the student's code.
    """
    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        inside = path.is_relative_to(root) and not is_installed(path.relative_to(root))
        if inside and not path.is_relative_to(ROOT / "lab"):
            lines.append(f"{path.relative_to(root)}:{frame.lineno}")
    if isinstance(error, SyntaxError) and error.filename:
        lines.append(f"{os.path.relpath(error.filename, root)}:{error.lineno}")
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    where = lines[-1] if lines else None
    return {"type": type(error).__name__, "message": message[:2000], "where": where}


def is_installed(path: Path) -> bool:
    """Whether a file of a project is none of its own, but in an environment within it."""
    hidden = any(part.startswith(".") for part in path.parts)
    return hidden or any(part.endswith("-packages") for part in path.parts)


def options() -> argparse.ArgumentParser:
    """What `outcomes` of lab/outcomes.py hands over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+")
    parser.add_argument("--results", type=int, required=True)
    parser.add_argument("--supplied", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each exercise")
    parser.add_argument("--pdb", action="store_true", help="open a debugger where it ends")
    parser.add_argument("--calls", action="store_true", help="note what goes into the functions")
    return parser


def times_as_long(name: str) -> int:
    """How many times as long as an exercise a check may take: the whole is several runs."""
    return 3 if name in ("trained", "whole") else 1


def limit_time(seconds: float) -> None:
    """Have the kernel end this process (SIGXCPU) when it has computed for so long from now on.

    That counts the work of all its threads, in whole seconds, and no time in which it waits.
    """
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    wanted = {
        resource.RLIMIT_CPU: math.ceil(used.ru_utime + used.ru_stime + seconds),
        resource.RLIMIT_CORE: 0,  # such an end would write one
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (value, hard))


def report(
    given: argparse.Namespace,
    cases_of: Callable[[str], Iterator[tuple[str, Any]]],
    root: Path = ROOT,
) -> NoReturn:
    """Write the cases of each exercise that is asked for, and end this process.

    Args:
        given: the options.
        cases_of: runs the check of this name.
        root: the folder with the student's code.
    """
    os.set_inheritable(given.results, False)
    with open(given.results, "w", encoding="utf-8") as results:

        def write(*line: Any) -> None:
            results.write(json.dumps(line) + "\n")
            results.flush()

        for name in given.names:
            if not given.pdb:
                limit_time(times_as_long(name) * given.seconds)
            write("begin", name)
            error = None
            try:
                for case, value in cases_of(name):
                    write("case", case, value)
            except KeyboardInterrupt:
                raise
            except BaseException as raised:  # SystemExit too: a student's code may call exit()
                error = describe(raised, root)
                if given.pdb and error["type"] not in ("NotImplementedError", "BdbQuit"):
                    print(f"{error['type']}: {error['message']}")
                    pdb.post_mortem(raised.__traceback__)
            with contextlib.suppress(Exception):  # it may be closed
                sys.stdout.flush()
            write("end", error)
            if threading.active_count() > 1:  # which hold memory that the next exercise may want
                break
            if error:
                gc.collect()  # what the frames of its traceback hold
    # Threads that a student's code has left behind must not keep this process alive.
    os._exit(0)


def main() -> None:
    given = options().parse_args()

    from lab.calls import cases_with_calls
    from lab.exercises import BY_NAME
    from lab.harness import cases, load_checks
    from lab.upstream import supplied

    load_checks()  # imports torch, so that this is not counted as the first exercise's time
    gc.freeze()  # a collection looks at what comes from now on: PyTorch's objects take it 0.1 s
    gc.set_threshold(20_000)  # and at 700 new objects there is little to find

    def cases_of(name: str) -> Iterator[tuple[str, Any]]:
        exercise = BY_NAME[name]
        calls = json.loads((given.supplied / f"{name}.json").read_text(encoding="utf-8"))
        with supplied(exercise, calls):
            yield from (cases_with_calls if given.calls else cases)(exercise, given.seed)

    report(given, cases_of)


if __name__ == "__main__":
    main()
