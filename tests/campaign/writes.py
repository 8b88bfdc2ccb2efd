"""Disks that are full, folders that may not be written to or vanish, outputs that nobody takes."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import sys
import time
from pathlib import Path

from campaign.cases import Case, Done, check_message, contents, kind, require
from campaign.runs import Alone, finish, left_alone
from campaign.same import check_same

NEWNS, NEWUSER = 0x00020000, 0x10000000
READ_ONLY, REMOUNT, RECURSIVE, PRIVATE = 1, 32, 0x4000, 0x40000
"""Of unshare and mount, as Linux has them."""


@kind(
    "write",
    "A write that fails ends a run with a message; with room again, it goes on as if none had.",
    120,
)
def write(case: Case) -> None:
    alone, place = left_alone(case), case.folder / "run"
    fault = case.draw.choice([full_disk, full_disk, small_files, vanished, no_permission, unread])
    done = fault(case, alone, place)
    if fault is unread:  # nothing could be said, perhaps not even why
        require("Traceback" not in done.errors, done.errors)
        require(done.status >= 0, f"it ended with {done.status}")
    else:
        check_message(done, str(place), "output")
    finish(case, alone, place)
    check_same(place, alone.folder)


def full_disk(case: Case, alone: Alone, place: Path) -> Done:
    """The run's folder is a small disk of its own, which is full at some point."""
    size = int(case.draw.random() * 1.3 * sum(map(len, contents(alone.folder).values())))
    place.mkdir()
    if not mount(place, size):
        case.note("no disk may be mounted here")
        return small_files(case, alone, place)
    case.note(f"a disk of {size} bytes")
    done = case.run(*alone.words, "--out", place)
    mount(place, 2**26, REMOUNT)
    return done


def small_files(case: Case, alone: Alone, place: Path) -> Done:
    """No file may grow beyond a size."""
    size = int(case.draw.random() * 1.2 * max(map(len, contents(alone.folder).values())))
    case.note(f"files of at most {size} bytes")
    words = [*alone.words, "--out", place]
    return case.run(*words, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))


def vanished(case: Case, alone: Alone, place: Path) -> Done:
    """The folder is gone at some point."""
    process = case.start(*alone.words, "--out", place)
    moment = case.draw.random() * alone.seconds
    time.sleep(moment)
    shutil.rmtree(place, ignore_errors=True)
    case.note(f"the folder gone after {moment:.2f} s")
    done = process.wait()
    if done.status == 0 and place.exists() and moment > 0:
        require((place / "record.json").exists(), "it ended well, and there is no record")
    shutil.rmtree(place, ignore_errors=True)
    return done


def no_permission(case: Case, alone: Alone, place: Path) -> Done:
    """The folder may be read alone."""
    place.mkdir()
    ordinary = os.geteuid() != 0
    if ordinary:
        place.chmod(0o555)
    elif not (mount(place, 2**26) and mount(place, 2**26, REMOUNT | READ_ONLY)):
        case.note("root may write to any folder here")
        place.rmdir()
        place.write_text("a file in the place of the folder", encoding="utf-8")
    case.note("the folder may not be written to")
    done = case.run(*alone.words, "--out", place)
    require(done.status == 2, f"it ended with {done.status}, and could not have written all")
    if ordinary:
        place.chmod(0o755)
    elif place.is_file():
        place.unlink()
    else:
        mount(place, 2**26, REMOUNT)
    return done


def unread(case: Case, alone: Alone, place: Path) -> Done:
    """What it prints goes nowhere, or cannot be written."""
    numbers = case.draw.choice([(1,), (2,), (1, 2)])
    how = case.draw.choice(["closed", "full", "pipe"])
    case.note(f"output {numbers} is {how}")

    def lose() -> None:
        for number in numbers:
            if how == "closed":
                os.close(number)
                setattr(sys, {1: "stdout", 2: "stderr"}[number], None)  # as Python starts then
                continue
            reader, writer = os.pipe()
            os.close(reader)
            opened = os.open("/dev/full", os.O_WRONLY) if how == "full" else writer
            os.dup2(opened, number)

    return case.run(*alone.words, "--out", place, before=lose)


def mount(place: Path, size: int, flags: int = 0) -> bool:
    """Put a disk of a size at a folder, for this process and its children alone."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if not flags & REMOUNT:
        user = os.geteuid()
        if libc.unshare(NEWNS | (NEWUSER if user else 0)):
            return False
        if user:
            Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="utf-8")
        libc.mount(b"none", b"/", None, RECURSIVE | PRIVATE, None)
    options = f"size={max(size, 4096)},mode=777".encode()
    return libc.mount(b"tmpfs", bytes(place), b"tmpfs", flags, options) == 0
