"""The walls around a submission that is graded: bubblewrap, or Linux namespaces.

A submission sees the interpreter, its libraries and installed packages, the clean copy with its own
files in it, and the calls of upstream functions; all of it read-only and nothing else: no place to
write, no other process, no network. lab/guard.py is the inside. The reference, the expected
numbers, other submissions and the results are not there.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lab.exercises import EXERCISES
from lab.handout import PACKAGES, ROOT
from lab.nursery import address

Kind = Literal["forked", "bubblewrap", "namespaces", "user", "none"]
WALLS: tuple[Kind, ...] = ("bubblewrap", "namespaces")
"""What keeps a submission in, best first; "user" is only another user, and "none" is nothing."""
QUICK: Kind = "forked"
"""Namespaces too, made by a process that has imported PyTorch already: for many submissions."""

SYSTEM = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/nix/store",
    "/sys/devices/system/cpu",
    "/proc/cpuinfo",
)
"""What libraries look up at their start: where others are, and what the processor can do."""
DEVICES = ("/dev/null", "/dev/urandom")
ENVIRONMENT = {
    "HOME": "/",
    "USER": "nobody",
    "LC_ALL": "C.UTF-8",
    "TORCHINDUCTOR_CACHE_DIR": "/",  # gradient checkpointing looks for one, and writes nothing
}

INSTALLED = ("torch._dynamo", "msgspec", "safetensors.torch", "tokenizers", "tyro")
"""What the library imports, for a process that forks. Gradient checkpointing and optimizers import
torch._dynamo, for seconds."""
OURS = ("lab.runner", "data.readers", "data.task_files", "minbert.backbones", "minbert.classifier",
        "minbert.quick", "minbert.transfer", "minbert.per_task", "multitask.config",
        "multitask.runs.checkpoint", "multitask.text_table")  # fmt: skip
CHECKS = tuple(f"lab.checks.{path.stem}" for path in (ROOT / "lab" / "checks").glob("[!_]*.py"))
"""Of the clean copy: neither these nor what they import holds an exercise, so they are the same for
all submissions."""


def python() -> str:
    """The interpreter itself, behind a virtual environment's links."""
    return os.path.realpath(sys.executable)


def packages() -> list[str]:
    """The folders of installed packages."""
    return [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]


@functools.cache
def library_bytes() -> int:
    """What PyTorch's shared libraries may take of a process's addresses: gigabytes with a GPU's."""
    folders = [Path(path, name) for path in packages() for name in ("torch", "nvidia")]
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*.so*"))


def shared() -> list[str]:
    """Files and folders of the system that every submission sees."""
    bases = dict.fromkeys(["/usr", "/usr/local", "", sys.base_prefix])
    libraries = [f"{base}/{name}" for base in bases for name in ("lib", "lib64")]
    found = [*libraries, *SYSTEM, python(), *packages()]
    return [path for path in dict.fromkeys(found) if os.path.exists(path)]


def installed_copies() -> list[str]:
    """Folders of this project among the installed packages: they would be the reference."""
    folders = [*map(Path, packages())]
    for path in shared():
        folders += Path(path).glob("python*/*-packages")
    copies = [folder / name for folder in folders for name in (*PACKAGES, "lab")]
    return [str(path) for path in dict.fromkeys(copies) if path.is_dir()]


class Nursery:
    """A process with PyTorch that forks a child for each submission: lab/nursery.py calls it."""

    def __init__(self, folder: Path, clean: Path | None = None) -> None:
        """Start it.

        Args:
            folder: for its address.
            clean: the copy whose OURS it imports; a submission's own copy takes its place. By
                default it imports PyTorch alone.
        """
        self.folder, self.clean = folder, clean
        imports = ["torch"] if clean is None else [*INSTALLED, *OURS, *CHECKS]
        places = [*([] if clean is None else [str(clean)]), *packages()]
        held = sorted({place.module for exercise in EXERCISES for place in exercise.places})
        settings: dict[str, Any] = {"packages": places, "imports": imports, "held": held}
        place = os.open(folder, os.O_PATH)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(address(place))
            os.close(place)
            (folder / "nursery").chmod(0o600)
            listening.listen(64)
            settings["listen"] = listening.fileno()
            guard = [python(), "-I", "-S", "-B", str(ROOT / "lab" / "guard.py")]
            self._process = subprocess.Popen(
                [*_namespaces(), *guard, json.dumps(settings)],
                env={"OMP_NUM_THREADS": "1", **ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(listening.fileno(),),
                start_new_session=True,
            )

    def close(self) -> None:
        """End it, and with it all that it has forked."""
        self._process.kill()
        self._process.wait()
        (self.folder / "nursery").unlink(missing_ok=True)


def command(
    kind: Kind,
    work: Path,
    folder: Path,
    *,
    own: Sequence[Path] = (),
    nursery: Nursery | None = None,
) -> list[str]:
    """How lab/guard.py in a copy is started; the runner's arguments follow.

    Args:
        kind: the walls.
        work: the copy.
        folder: for what has to be put together; nothing in it is seen from inside.
        own: what else of ours the submission sees.
        nursery: of the kind "forked".
    """
    seen_as = work if nursery is None or nursery.clean is None else nursery.clean
    settings = {
        "code": str(seen_as),
        "walls": kind in (QUICK, *WALLS),
        "drop": kind != "none",
        "packages": packages(),
        "libraries": library_bytes(),
        "mounts": [],
    }
    inner = [python(), "-I", "-S", "-B", str(work / "lab" / "guard.py")]
    if kind not in (QUICK, *WALLS):
        return [*inner, json.dumps(settings)]
    empty, root = folder / "empty", folder / "root"
    empty.mkdir(exist_ok=True)
    root.mkdir(exist_ok=True)
    sees = [(path, path) for path in (*shared(), *map(str, own))]
    sees.append((str(work), str(seen_as)))
    sees += [(str(empty), path) for path in installed_copies()]
    root_user = os.geteuid() == 0
    if kind == "bubblewrap":
        options = ["--die-with-parent", "--unshare-pid", "--unshare-net", "--unshare-ipc"]
        options += ["--unshare-uts", "--cap-drop", "ALL"]
        if root_user:  # guard.py becomes another user
            options += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        else:
            options += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
        binds = [("--ro-bind", *each) for each in sees]
        binds += [("--dev-bind", device, device) for device in DEVICES]
        for bind in binds:
            for parent in reversed(Path(bind[2]).parents[:-1]):
                options += ["--dir", str(parent)]  # else it is its maker's alone
            options += bind
        start = [_program("bwrap"), *options, "--remount-ro", "/", "--chdir", "/", "--"]
    else:
        settings |= {"mounts": [*sees, *zip(DEVICES, DEVICES)], "root": str(root)}
        start = _namespaces()
    if kind == QUICK:
        assert nursery is not None
        request = {"folder": str(nursery.folder), "settings": settings}
        client = str(ROOT / "lab" / "nursery.py")
        return [python(), "-I", "-S", "-B", client, json.dumps(request)]
    return [*start, *inner, json.dumps(settings)]


def _namespaces() -> list[str]:
    """How a program is started in namespaces of its own, which ends with the one that starts it."""
    options = ["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        options += ["--user", "--map-current-user", "--keep-caps"]
    return [_program("setpriv"), "--pdeathsig", "KILL", _program("unshare"), *options, "--"]


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ValueError(f"{name} is not installed")
    return path


@functools.cache
def failure(kind: Kind) -> str | None:
    """Why there are no such walls here, or None: they are built once, around an import of torch."""
    with tempfile.TemporaryDirectory(prefix="sandbox-") as folder:
        work = Path(folder, "work")
        (work / "lab").mkdir(parents=True)
        shutil.copy(ROOT / "lab" / "guard.py", work / "lab")
        for path in (Path(folder), work, work / "lab", work / "lab" / "guard.py"):
            path.chmod(0o755)
        nursery = None
        try:
            nursery = Nursery(Path(folder)) if kind == QUICK else None
            tried = subprocess.run(
                command(kind, work, Path(folder), nursery=nursery),
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=300,
                check=False,
                errors="replace",
                encoding="utf-8",
            )
        except (ValueError, OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        finally:
            if nursery is not None:
                nursery.close()
    if tried.returncode == 0:
        return None
    return (tried.stderr.strip().splitlines() or [f"it ended with {tried.returncode}"])[-1]


def choose(*, unsafe: bool, hidden: Sequence[Path], many: bool = False) -> Kind:
    """The best walls that there are.

    Args:
        unsafe: whether to go on without.
        hidden: what no submission may see.
        many: whether there are so many submissions that an import of PyTorch for each is much.

    Raises:
        ValueError: there are none.
    """
    for path in (ROOT, *hidden):
        for mount in shared():
            if path.resolve().is_relative_to(Path(mount).resolve()):
                raise ValueError(
                    f"{path} is in {mount}, which submissions see; put it somewhere else"
                )
    reasons = []
    for kind in (QUICK, *WALLS) if many else WALLS:
        reason = failure(kind)
        if reason is None:
            return kind
        reasons.append(f"{kind}: {reason}")
    told = f"no sandbox can be made here ({'; '.join(reasons)})"
    if not unsafe:
        raise ValueError(
            f"{told}. Install bubblewrap, or grade in a container (docs/teaching.md says how); "
            "--unsafe runs what was handed in with your own rights"
        )
    kind = "user" if os.geteuid() == 0 and failure("user") is None else "none"
    whose = "as another user" if kind == "user" else "with your own rights"
    print(f"warning: {told}; what was handed in runs {whose}")
    return kind
