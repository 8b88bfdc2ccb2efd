"""The inside of the sandbox: limits, no network, no other processes, no reading of the solutions.

    python -I -S -B guard.py SETTINGS RUNNER-ARGUMENTS...

Started in place of lab/runner.py when a submission is graded. The interpreter's own audit events
(PEP 578) are refused from the moment that the submission's code may run; a hook cannot be taken
away again. What was tried is written down. Where the system permits it, grade.py puts this process
into namespaces of its own as well. Expected numbers never come here.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

REFUSED = {
    "starts another process": ("subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.exec",
                               "os.posix_spawn", "os.spawn", "pty.spawn", "_winapi.CreateProcess"),
    "uses the network": ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo",
                         "socket.gethostbyname", "socket.gethostbyaddr", "socket.sendmsg"),
    "sends signals": ("os.kill", "os.killpg", "signal.pthread_kill"),
    "calls C libraries": ("ctypes.dlopen", "ctypes.dlsym"),
    "changes limits": ("resource.setrlimit", "resource.prlimit"),
}  # fmt: skip
"""What a submission may not do -> the audit events of it."""
CHANGING = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink",
            "os.truncate", "os.chmod", "os.chown", "os.utime", "shutil.rmtree")  # fmt: skip
"""Events that change files; their first argument is the path."""


def limit(settings: dict[str, Any]) -> None:
    """Set the limits of this process."""
    wanted = {
        resource.RLIMIT_AS: settings["memory"],
        resource.RLIMIT_FSIZE: settings["file_size"],
        resource.RLIMIT_CPU: settings["cpu_seconds"],
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def real_path(path: Any) -> str:
    return os.path.realpath(os.fsdecode(path))


def arm(settings: dict[str, Any]) -> None:
    """Refuse from now on what a submission may not do, and write down what it tried."""
    scratch = real_path(settings["scratch"])
    hidden = [real_path(path) for path in settings["hidden"]]
    own = real_path("/proc/self")
    notes = os.open(settings["notes"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    reasons = {event: reason for reason, events in REFUSED.items() for event in events}
    told: set[str] = set()

    def refuse(reason: str) -> None:
        if reason not in told:
            told.add(reason)
            os.write(notes, f"{reason}\n".encode())
        raise PermissionError(f"the submission {reason}, which is refused")

    def within(path: Any, folders: list[str]) -> bool:
        real = real_path(path)
        return any(real == folder or real.startswith(folder + os.sep) for folder in folders)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in reasons:
            refuse(reasons[event])
        if event == "open" and not isinstance(args[0], int) and args[0] is not None:
            path, mode, flags = args
            if os.path.isdir(path):  # with it, a path relative to it could lead anywhere
                refuse("opens a folder")
            changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            writes = any(sign in (mode or "") for sign in "wax+") or bool((flags or 0) & changing)
            if writes and not within(path, [scratch, os.devnull]):
                refuse("writes files")
            if within(path, hidden):
                refuse("reads the library's own solutions, or what others handed in")
            if re.match(r"/proc/\d", real_path(path)) and not within(path, [own]):
                refuse("looks into other processes")
        elif event in CHANGING and not within(args[0], [scratch]):
            refuse("writes files")

    sys.addaudithook(hook)


def main() -> None:
    settings = json.loads(sys.argv[1])
    sys.argv = sys.argv[1:]
    limit(settings)
    # No site module: nothing that hooks into the start of an interpreter, and no .pth file that
    # leads to the library itself.
    sys.path[:0] = [str(ROOT), *settings["packages"]]
    from lab.harness import load_checks
    from lab.runner import main as run

    load_checks()
    arm(settings)
    run()


if __name__ == "__main__":
    main()
