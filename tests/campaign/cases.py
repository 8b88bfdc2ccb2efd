"""What a case is: random choices, a folder of its own, commands run in it, and what must hold."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

LINES = 6
"""Most lines of an error's message; a longer one is not read."""
LETTERS = 2000
"""And most of its characters."""
MEMORY_MB = 1500
"""What no command on tiny files comes near, unless a file makes it."""


NOTES = "notes.txt"


class Broken(Exception):
    """A promise did not hold."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    words: tuple[str, ...]
    status: int
    """Exit status; of one that a signal ended, the signal's number below zero."""
    output: str
    errors: str
    memory_mb: float


@dataclass
class Process:
    """A command that runs in a process of its own, forked from this one, which has all imported."""

    words: tuple[str, ...]
    pid: int
    printed: Path

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def wait(self) -> Done:
        _, status, usage = os.wait4(self.pid, 0)
        scale = 1 if sys.platform == "darwin" else 1024
        streams = [self.printed.with_suffix(suffix) for suffix in (".out", ".err")]
        texts = [path.read_text("utf-8", "replace") if path.exists() else "" for path in streams]
        memory_mb = usage.ru_maxrss * scale / 2**20
        return Done(self.words, os.waitstatus_to_exitcode(status), *texts, memory_mb)


@dataclass
class Case:
    """One try."""

    kind: Kind
    seed: int
    number: int
    folder: Path
    """Its own, empty at first."""
    shared: Path
    """Files that cases of all kinds read, and copy before they change them."""
    draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(f"{self.seed} {self.kind.name} {self.number}")

    def note(self, text: object) -> None:
        """Write down what is tried, which a case that hangs has told, too."""
        line = str(text).replace(str(self.folder), ".").replace(str(self.shared), "~")
        told = self.folder / NOTES
        with told.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line.replace("\n", " ") + "\n")

    def start(self, *words: object, before: Callable[[], None] = lambda: None) -> Process:
        """Start `minbert` with these words, in the case's folder; `before` is called first."""
        texts = tuple(map(str, words))
        printed = self.folder / f"printed-{time.monotonic_ns()}"
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        pid = os.fork()
        if not pid:
            _become(texts, printed, self.folder, before)
        return Process(texts, pid, printed)

    def run(self, *words: object, before: Callable[[], None] = lambda: None) -> Done:
        """Run `minbert` with these words to its end."""
        return self.start(*words, before=before).wait()

    def prepared(self, name: str, make: Callable[[Path], None]) -> Path:
        """A folder that several cases start from, made by the first of them."""
        place, begun = self.shared / name, self.shared / f"{name}.begun"
        if begun.exists() or not place.exists():
            shutil.rmtree(place, ignore_errors=True)
            self.shared.mkdir(exist_ok=True)
            begun.touch()
            make(place)
            begun.unlink()
        return place


@dataclass(frozen=True)
class Kind:
    """Cases that are alike, and what must hold for each."""

    name: str
    promise: str
    attempt: Callable[[Case], None]
    """Raises Broken where the promise does not hold."""
    seconds: float
    """A case that takes longer hangs."""


KINDS: dict[str, Kind] = {}


def kind(name: str, promise: str, seconds: float = 60) -> Callable[..., Callable[[Case], None]]:
    """Make a function of a case a kind of its own."""

    def register(attempt: Callable[[Case], None]) -> Callable[[Case], None]:
        KINDS[name] = Kind(name, promise, attempt, seconds)
        return attempt

    return register


# Rules


def require(held: object, what: object) -> None:
    if not held:
        raise Broken(str(what))


def check_finished(done: Done) -> None:
    """It must have done what it was asked."""
    require(done.status == 0, f"{' '.join(done.words[:2])} ended with {done.status}: {tail(done)}")


def check_message(
    done: Done, *names: str, statuses: tuple[int, ...] = (0, 2), begin: str = "error: "
) -> None:
    """It must have ended well, or with a short message that has one of the names in it."""
    what = f"{' '.join(done.words[:2])} ended with {done.status}"
    require("Traceback" not in done.errors + done.output, f"{what} and a traceback: {tail(done)}")
    require(done.status in statuses, f"{what}: {tail(done)}")
    require(done.memory_mb < MEMORY_MB, f"{what} and took {done.memory_mb:.0f} MB")
    if done.status <= 0:
        return
    _, begun, message = done.errors.rpartition(begin)
    require(begun, f"{what} without a message: {tail(done)}")
    check_text(message, *names, what=what)


def check_text(message: str, *names: str, what: str = "it was refused") -> None:
    """A message must be short, and have one of the names in it."""
    lines = message.strip().splitlines()
    size = f"{len(lines)} lines, {len(message)} characters"
    require(len(lines) <= LINES and len(message) <= LETTERS, f"{what} with {size}: {message[:300]}")
    plain = all(each.isprintable() or each in "\n\t" for each in message)
    require(plain, f"{what}, and signs for the terminal are in the message: {message!r}")
    found = not names or any(name in message for name in names)
    require(found, f"{what}, and the message names none of {', '.join(names)}: {message.strip()}")


def tail(done: Done) -> str:
    """The end of what it said; of a traceback, the place and the error."""
    lines = [line.rstrip() for line in done.errors.splitlines() if line.strip()]
    ours = re.compile(r'\s+File ".*(minbert|multitask|optim|data|lab)/')
    places = [line.strip() for line in lines if ours.match(line)]
    return " | ".join([*places[-1:], *lines[-2:]])[-500:] if lines else "it said nothing"


def contents(folder: Path) -> dict[str, bytes]:
    """The regular files under a folder, byte for byte."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


# The forked process


def _become(
    words: tuple[str, ...], printed: Path, folder: Path, before: Callable[[], None]
) -> NoReturn:
    """End this process as `minbert` with these words would."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for number, path in enumerate((os.devnull, f"{printed}.out", f"{printed}.err")):
            opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            os.dup2(opened, number)
            os.close(opened)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(folder)
        sys.argv = ["minbert", *words]
        from lab.__main__ import main

        before()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
        status = 0
        sys.stdout.flush()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def warm_up() -> None:
    """Import all that commands import, and start no thread: forked processes have it at once."""
    import gc

    import matplotlib.backends.backend_agg
    import scipy.stats
    import sklearn.metrics
    import torch.distributed

    import minbert.encoders
    import multitask.experiments.queue  # noqa: F401
    import multitask.glue.leaderboard  # noqa: F401
    import multitask.glue.score  # noqa: F401
    import multitask.predictor
    import multitask.report.document  # noqa: F401
    from multitask import training
    from multitask.commands.main import parse
    from multitask.extensions.base import load_extensions

    assert all((matplotlib, scipy, sklearn, torch, minbert, multitask))
    load_extensions()
    for words in (["train"], ["pretrain"], ["evaluate"], ["predict"]):
        parse([*words, "--tasks", "sst"] if "train" in words[0] else words)
    training.draw_run = lambda run: None  # most of the time of a small run
    gc.collect()
    gc.freeze()  # the collector would copy the pages that processes share
