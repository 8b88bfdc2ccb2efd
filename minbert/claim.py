"""A folder has one writer: whoever trains, evaluates or exports into it holds its lock meanwhile.

    with claimed(folder):
        ...                         # another process that tries is told who holds the folder

The lock is flock on FOLDER/.lock, by filelock. The operating system takes it away from a process
that ends, however it ends, so a dead writer's claim lapses at once and a suspended one's does not.

Over NFS (version 4, or 3 with its lock daemon) and over parallel file systems that are mounted with
flock, this holds between hosts too, and the claim of a host that is gone lapses when the server
gives up its lease, after a minute or two. Where flock is known to one host alone (Lustre with
localflock, NFS with local_lock=all), claims hold between the processes of that host. Where there is
none, filelock takes the file itself for the lock: one that a killed process left is taken over on
its own host, and from another host has to be removed by hand.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".lock"


class Busy(ValueError):
    """Another process, or another thread of this one, writes to the folder."""


@contextmanager
def claimed(folder: str | Path, *, wait: float = 0.5) -> Generator[None]:
    """Be the only writer of a folder while the block runs; the thread that is may claim it again.

    The folder is made where there is none, and goes again if nothing was written to it.

    Args:
        folder: to write to.
        wait: seconds to wait for another writer.

    Raises:
        Busy: another writer has it; the message says who, and since when.
        OSError: nothing can be written there.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    folder = Path(os.path.realpath(folder))
    lock = FileLock(str(folder / LOCK), is_singleton=True)
    if lock.is_locked:
        with lock:
            yield
        return
    new_folders = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait)
        if not isinstance(lock, SoftFileLock):  # which says it itself, in the same way
            with suppress(PermissionError):  # Windows locks the text too; then nobody is named
                text = f"{os.getpid()}\n{socket.gethostname()}\n"
                (folder / LOCK).write_text(text, encoding="utf-8")
    except Timeout:
        raise Busy(
            f"{folder} is being written to by {holder(folder) or 'another process'}; wait for it "
            "to end, or name another folder"
        ) from None
    except OSError as error:
        _release(lock, new_folders)
        reason = "it is a file" if os.path.isfile(folder) else error.strerror
        raise OSError(f"{folder} cannot be written to: {reason}; name another folder") from None
    try:
        yield
    finally:
        _release(lock, new_folders)


def holder(folder: Path) -> str | None:
    """Who writes to a folder now, and since when; None where nobody does."""
    from filelock import FileLock, Timeout

    path = Path(os.path.realpath(folder)) / LOCK
    try:
        pid, host = path.read_text(encoding="utf-8").split("\n")[:2]
        since = datetime.fromtimestamp(path.stat().st_mtime)
        try:
            with FileLock(str(path), timeout=0):
                return None
        except Timeout:
            return f"process {pid} on {host}, since {since:%Y-%m-%d %H:%M:%S}"
    except (OSError, ValueError):  # nobody, or somebody who came this moment
        return None


def _release(lock: BaseFileLock, new_folders: list[Path]) -> None:
    """Let go of a lock, and remove its file and the folders that were made for it alone."""
    with suppress(OSError):
        if lock.is_locked:  # while it is: afterwards the file may be another's
            os.unlink(lock.lock_file)
    lock.release(force=True)
    with suppress(OSError):  # not empty, or gone
        for folder in new_folders:
            folder.rmdir()
