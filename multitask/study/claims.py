"""Who runs a stage, where several processes on several machines share one folder.

A claim is a file, made with O_EXCL, which a file system lets only one process do:

    stages/NAME.claim-1      the first owner: host, pid; the file's time is its heartbeat
    stages/NAME.claim-2      whoever took over when that heartbeat had stopped

Nobody changes or deletes another's claim. A claim that has gone stale is taken over by making the
next number, which again only one process can do; an owner that finds a higher number than its own
(it was suspended for long, and is back) has lost the stage and stops. There are no locks, so
nothing stays locked when a process is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HEARTBEAT = 20.0
"""Seconds between two signs of life."""
STALE = 600.0
"""Seconds without one after which a claim may be taken over. On the host of a claim, a process
that is gone is noticed at once."""


@dataclass(frozen=True)
class Claim:
    """One owner's right to a stage."""

    stage: Path
    """Folder of the stage."""
    number: int

    @property
    def path(self) -> Path:
        """The claim's file."""
        return _path(self.stage, self.number)

    @property
    def is_latest(self) -> bool:
        """Whether nobody has taken the stage over."""
        return not _path(self.stage, self.number + 1).exists()

    def beat(self) -> None:
        """Give a sign of life."""
        os.utime(self.path)

    def release(self) -> None:
        """Let others have the stage at once."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path, (0, 0))


def claim(stage: Path) -> Claim | None:
    """Claim the stage of this folder, or return None because another process has it."""
    number, latest = _latest(stage)
    if latest is not None and not is_stale(latest):
        return None
    path = _path(stage, number + 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
    return Claim(stage, number + 1)


def owner(stage: Path) -> str | None:
    """`host:pid` of the process that has a stage now."""
    _, latest = _latest(stage)
    if latest is None or is_stale(latest):
        return None
    host, pid = _read(latest)
    return f"{host}:{pid}"


def is_stale(path: Path) -> bool:
    """Whether the owner of a claim has given no sign of life for long, or is known to be gone.

    Times are those of the shared file system, so that clocks of hosts need not agree.
    """
    host, pid = _read(path)
    if host == socket.gethostname() and not _is_alive(pid):
        return True
    probe = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.probe")
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink(missing_ok=True)
    try:
        return now - path.stat().st_mtime > STALE
    except FileNotFoundError:  # its stage was finished meanwhile
        return False


def clear(stage: Path) -> None:
    """Remove the claims on a finished stage, which nobody claims again."""
    for path in stage.parent.glob(f"{stage.name}.claim-*"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def held(mine: Claim) -> Iterator[None]:
    """Give signs of life while the block runs, and release the claim after it.

    An owner that has lost its claim is interrupted, as by Ctrl-C, for another runs the stage.
    """
    stop = threading.Event()
    lost = threading.Event()

    def watch() -> None:
        while not stop.wait(HEARTBEAT):
            if not mine.is_latest:
                lost.set()
                os.kill(os.getpid(), signal.SIGINT)
                return
            mine.beat()

    # A job in the background of a shell's script ignores SIGINT from its start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=watch, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if lost.is_set():
            raise TimeoutError(
                f"another process took {mine.stage.name} over, after this one gave no sign of life "
                f"for {STALE:.0f} seconds"
            ) from None
        raise
    finally:
        stop.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
        mine.release()


def _path(stage: Path, number: int) -> Path:
    return stage.with_name(f"{stage.name}.claim-{number}")


def _latest(stage: Path) -> tuple[int, Path | None]:
    """The highest number claimed so far, and its file."""
    found = [(int(path.name.rpartition("-")[2]), path)
             for path in stage.parent.glob(f"{stage.name}.claim-*")]  # fmt: skip
    return max(found, default=(0, None))


def _read(path: Path) -> tuple[str, int]:
    """Host and process of a claim; one that is just being written is nobody's known yet."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return values["host"], values["pid"]
    except (FileNotFoundError, ValueError):
        return "?", 0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
