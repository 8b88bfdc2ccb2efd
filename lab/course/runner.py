"""Runs checks on the modules of a checkout, in a process of its own, and writes what came out.

    python -B lab/course/runner.py --results FD --supplied CHECKOUT --seed 0 attention add_norm ...

The checkout's folder comes first where modules are looked for, so `import utils` is its own. Lines
are those of lab/runner.py. There is no network here, and no GPU: nothing is to be downloaded.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import socket
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent.parent


class Missing(type):
    """The class of what a missing package would have: good for being imported, and not used."""

    def __call__(cls, *args: Any, **options: Any) -> NoReturn:
        refuse(cls.__module__)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        refuse(cls.__module__)


class StandIn(types.ModuleType):
    """Stands for a package that is not installed."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = Missing(name, (), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stand-ins for packages, after all other finders."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def find_spec(
        self, fullname: str, path: Any, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def refuse(module: str) -> NoReturn:
    name = module.partition(".")[0]
    raise ModuleNotFoundError(
        f"{name} is not installed here, and this needs it: pip install {name}"
    )


def no_network(*args: Any) -> NoReturn:
    raise OSError("the checks use no network; what is downloaded here?")


def prepare(checkout: Path) -> None:
    """Let the checkout's modules be found, in the place of this project's."""
    from lab.course.layout import OURS, missing_packages

    sys.path[:] = [str(checkout), *(each for each in sys.path if Path(each or ".") != ROOT)]
    sys.argv[:] = [str(checkout)]
    for name, ours in OURS.items():
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = importlib.import_module(ours)
    sys.meta_path.append(Finder(missing_packages(checkout)))
    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, no_network)


def main() -> None:
    sys.path[0] = str(ROOT)  # it was this file's folder
    from lab.course.checks import cases
    from lab.runner import options, report

    given = options().parse_args()
    prepare(given.supplied)
    report(
        given,
        lambda name: cases(name, given.seed, importlib.import_module),
        root=given.supplied,
    )


if __name__ == "__main__":
    main()
