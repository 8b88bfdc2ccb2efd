"""Commands where POSIX is missing, as on Windows: to the project's files alone, for libraries that
are installed here are Linux's."""

import os
import subprocess
import sys
from pathlib import Path

import own_data

ROOT = Path(__file__).resolve().parent.parent
WINDOWS = f"""
import builtins, os, signal, sys, types

MODULES = {{"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "posix", "curses"}}
NAMES = {{
    "os": "sysconf geteuid getuid getegid getgid fork killpg getpgid setsid setpgid uname mkfifo "
        "statvfs nice O_NOFOLLOW O_DIRECTORY O_CLOEXEC set_blocking register_at_fork chown "
        "sched_getaffinity getloadavg wait3 wait4 posix_spawn pread WNOHANG",
    "signal": "SIGKILL SIGHUP SIGQUIT SIGALRM SIGUSR1 SIGCHLD SIGPIPE alarm setitimer "
        "pthread_sigmask",
}}
here, real, missed = {str(ROOT)!r}, builtins.__import__, set()

def without(module, names):
    found = types.ModuleType(module.__name__)
    vars(found).update({{k: v for k, v in vars(module).items() if k not in names.split()}})
    def missing(name):
        missed.add(name)
        raise AttributeError(f"no {{name}} on Windows")
    found.__getattr__ = missing
    return found

PARTS = {{name: without(globals()[name], names) for name, names in NAMES.items()}}

def importing(name, globals=None, locals=None, fromlist=(), level=0):
    file = str((globals or {{}}).get("__file__", ""))
    if file.startswith(here) and "site-packages" not in file:  # which may lie in the project
        if name in MODULES:
            missed.add(name)
            raise ImportError(f"no module {{name}} on Windows")
        if name in PARTS:
            return PARTS[name]
    return real(name, globals, locals, fromlist, level)

builtins.__import__ = importing
sys.path.insert(0, here)
from lab.__main__ import main

for line in sys.stdin.read().splitlines():
    print("$", line, flush=True)
    sys.argv = ["minbert", *line.split("|")]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    print("exit", code, flush=True)
print("missed", *sorted(missed))
"""


def test_commands_work_where_posix_is_missing(tmp_path, folder):
    own_data.reviews(tmp_path)
    backbone = f"--backbone|{folder / 'backbone'}|--epochs|1|--batch-size|8|--device|cpu"
    lines = [
        "task|new|reviews.csv",
        f"train|--task-file|reviews.toml|--out|own|{backbone}",
        "evaluate|own|--split|dev",
        "predict|--run|own|A joy.",
        "info|own",
        "lab|start|work|--only|optim",
        "lab|check",
    ]
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS],
        input="\n".join(lines),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": ""},
        capture_output=True,
        encoding="utf-8",
    )
    said = done.stdout + done.stderr
    codes = [line for line in done.stdout.splitlines() if line.startswith("exit ")]
    assert done.returncode == 0, said
    assert codes == ["exit 0"] * (len(lines) - 1) + ["exit 2"], said
    assert "on Windows work in WSL (wsl --install)" in done.stderr
    assert {"fcntl", "fork", "sysconf"} <= set(done.stdout.splitlines()[-1].split()[1:])
