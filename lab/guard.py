"""The inside of the sandbox: what lab/sandbox.py starts in the place of lab/runner.py.

    python -I -S -B guard.py SETTINGS [RUNNER-ARGUMENTS...]
    python -I -S -B guard.py SETTINGS       with "listen": a child for each that calls (nursery.py)

Before a line of a submission is read, this process goes into a world of a few read-only files
(where bubblewrap has not done so already), gives up its user and its rights, and has the kernel
refuse for good what no exercise needs: other processes, sockets, memory beyond its own. Without
runner arguments it only tries whether all of this works, and torch with it. Linux; elsewhere, with
`--unsafe`, limits of time and memory are all there is.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import platform
import resource
import signal
import struct
import sys
from typing import Any

NOBODY = 65534
GIB = 2**30
LIMITS = {
    "RLIMIT_AS": 6 * GIB,
    "RLIMIT_DATA": 3 * GIB,
    "RLIMIT_CPU": 240,
    "RLIMIT_FSIZE": 0,
    "RLIMIT_CORE": 0,
    "RLIMIT_NOFILE": 256,
    "RLIMIT_NPROC": 4096,  # threads, of all processes of one user where the kernel is old
}
"""There is one process, so limits of a process are limits of a submission."""

SYSTEM_CALLS = {
    # name: x86_64, aarch64 (-1: it has none)
    "fork": (57, -1), "vfork": (58, -1), "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438), "kcmp": (312, 272),
    "socket": (41, 198), "io_uring_setup": (425, 425),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "fsopen": (430, 430),
    "open_tree": (428, 428), "pivot_root": (155, 41), "chroot": (161, 51),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
}  # fmt: skip
"""System calls that are refused: other processes, the network, memory that no limit counts, and
doors into the kernel that no exercise needs."""
MACHINES = {"x86_64": (0, 0xC000003E, 56), "aarch64": (1, 0xC00000B7, 220)}
"""Machine -> its place in SYSTEM_CALLS, its AUDIT_ARCH number, and clone."""
CLONE3, CLONE_THREAD = 435, 0x10000
PIVOT_ROOT, MOUNT_SETATTR = "pivot_root", 442


def checked(result: int, what: str) -> None:
    """Raise what a C function that gave -1 has left in errno."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def enter(root: str, mounts: list[tuple[str, str]]) -> None:
    """Go into a file system of `mounts` alone, (source, target), all of it read-only.

    Args:
        root: an empty folder, where it is put together.
        mounts: later ones may lie in earlier ones.
    """
    c = libc()
    bind, nosuid, recursive, detach = 0x1000, 2, 0x4000, 2
    checked(c.mount(b"tmpfs", root.encode(), b"tmpfs", nosuid, b"size=1m,mode=755"), "tmpfs")
    for source, target in mounts:
        place = root + target
        folder = os.path.isdir(source)
        os.makedirs(place if folder else os.path.dirname(place), exist_ok=True)
        if not folder and not os.path.exists(place):
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY))
        result = c.mount(os.fsencode(source), os.fsencode(place), None, bind | recursive, None)
        checked(result, f"mounting {source}")
    os.chdir(root)
    place = MACHINES[platform.machine()][0]
    checked(c.syscall(SYSTEM_CALLS["pivot_root"][place], b".", b"."), "pivot_root")
    checked(c.umount2(b".", detach), "leaving the old files")
    os.chdir("/")
    # struct mount_attr: to set (read-only, no setuid), to clear, propagation, user namespace
    attributes = struct.pack("QQQQ", 1 | 2, 0, 0, 0)
    at_cwd, at_recursive = -100, 0x8000
    result = c.syscall(MOUNT_SETATTR, at_cwd, b"/", at_recursive, attributes, len(attributes))
    checked(result, "making all read-only")


def drop_rights() -> None:
    """Be nobody, where there is another user to be, and have no capability in any case."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # in a namespace without a second user
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    version_3 = 0x20080522
    header, nothing = struct.pack("Ii", version_3, 0), bytes(24)
    checked(libc().capset(header, nothing), "giving up capabilities")


def go_on_as_child() -> None:
    """Split in two: the submission's process, and this one, which dies with it.

    As the first process of its namespace it takes all others along, and a child cannot end or leave
    it. It is killed when the grader is.
    """
    die_with_parent = 1
    checked(libc().prctl(die_with_parent, signal.SIGKILL), "prctl")
    child = os.fork()
    if child:
        exit_like(child)


def limit(library_bytes: int) -> None:
    """Set the limits of this process, beside the addresses that libraries are mapped to."""
    limits = LIMITS | {"RLIMIT_AS": LIMITS["RLIMIT_AS"] + library_bytes}
    for name, value in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # macOS has limits that cannot be set.
        lax = sys.platform != "linux"
        with contextlib.suppress(ValueError, OSError) if lax else contextlib.nullcontext():
            resource.setrlimit(kind, (value, value))


def refuse_system_calls() -> None:
    """Have the kernel refuse SYSTEM_CALLS, and any new process, from now on (seccomp).

    The filter is a program of the kernel's small machine (BPF): load a word, jump, return.
    """
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        raise OSError(f"system calls of {sys.platform} on {platform.machine()} are not known")
    place, architecture, clone = MACHINES[platform.machine()]
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, no_permission, no_such_call = 0x7FFF0000, 0x80000000, 0x50001, 0x50026
    number_at, architecture_at, flags_at = 0, 4, 16  # in struct seccomp_data

    program = [
        (load, 0, 0, architecture_at),
        (equal, 1, 0, architecture),
        (give, 0, 0, kill),
        (load, 0, 0, number_at),
        (at_least, 0, 1, 0x40000000),  # x32's numbers
        (give, 0, 0, no_permission),
    ]
    for numbers in SYSTEM_CALLS.values():
        if numbers[place] >= 0:
            program += [(equal, 0, 1, numbers[place]), (give, 0, 0, no_permission)]
    program += [
        (equal, 0, 1, CLONE3),
        (give, 0, 0, no_such_call),  # whose flags cannot be seen; C libraries then take clone
        (equal, 1, 0, clone),
        (give, 0, 0, allow),
        (load, 0, 0, flags_at),
        (any_bit, 0, 1, CLONE_THREAD),
        (give, 0, 0, allow),
        (give, 0, 0, no_permission),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter_ = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    checked(libc().prctl(no_new_privileges, 1, 0, 0, 0), "no new privileges")
    checked(libc().prctl(set_seccomp, mode_filter, filter_), "refusing system calls")


def serve(settings: dict[str, Any]) -> None:
    """Import PyTorch once, and give each that connects a child that goes inside.

    What a child has of this process is libraries, what of the clean copy holds no exercise, and the
    settings: no submission is read here, and no number that one should not see has ever been. It
    ends when its connection is closed; how it ended is the answer.
    """
    import gc
    import select
    import socket

    sys.path[:0] = settings["packages"]
    for name in settings["imports"]:
        importlib.import_module(name)
    early = sys.modules.keys() & settings["held"]
    assert not early, f"these stand in the way of a submission's own: {early}"
    warm_up()
    gc.freeze()  # a collection in a child would write on, and so copy, all of this
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    with socket.socket(fileno=settings["listen"]) as listening:
        children: dict[int, Any] = {}  # a handle of each, and its connection
        while True:
            ready = select.select([listening, *children, *children.values()], [], [])[0]
            for child, connection in [*children.items()]:
                if child in ready or connection in ready:  # which is closed: nothing else is sent
                    signal.pidfd_send_signal(child, signal.SIGKILL)
                    ended = os.waitid(os.P_PIDFD, child, os.WEXITED)
                    assert ended is not None
                    code = ended.si_status + (0 if ended.si_code == os.CLD_EXITED else 128)
                    with contextlib.suppress(OSError):
                        connection.send(str(code).encode())
                    connection.close()
                    os.close(child)
                    del children[child]
            if listening in ready:
                connection, _ = listening.accept()
                message, pipes, _, _ = socket.recv_fds(connection, 1 << 20, 2)
                if message:  # else the one who called has been ended
                    children[start(json.loads(message), pipes, own)] = connection


def warm_up() -> None:
    """Have PyTorch do once what it prepares when an optimizer is first made and takes a step."""
    import torch

    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    optimizer.step()
    optimizer.zero_grad()


def start(message: Any, pipes: list[int], own: int) -> int:
    """Fork a child, the first process of a namespace of its own, that goes inside.

    Args:
        message: its settings and arguments.
        pipes: for its output and its results; closed here.
        own: this process's own namespace of processes.

    Returns:
        A handle of the child.
    """
    settings, arguments = message
    mount, uts, ipc, pid, net = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
    checked(libc().unshare(pid), "a new namespace of processes")  # the next child is in it
    child = os.fork()
    if child:
        checked(libc().setns(own, pid), "back to the own namespace")
        for pipe in pipes:
            os.close(pipe)
        return os.pidfd_open(child)
    try:
        os.setsid()
        checked(libc().unshare(mount | uts | ipc | net), "new namespaces")
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, pipes[0]), (2, pipes[0])):
            os.dup2(source, target)
        if arguments:
            arguments[arguments.index("--results") + 1] = str(pipes[1])
        for other in map(int, os.listdir("/proc/self/fd")):  # connections of others too
            if other not in (0, 1, 2, *pipes[1:]):
                with contextlib.suppress(OSError):  # of the one that lists them
                    os.close(other)
        sys.argv = ["guard.py", *arguments]
        importlib.invalidate_caches()  # the submission's folders are in the place of others
        go_inside(settings)
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(1)


def exit_like(child: int) -> None:
    """Wait for a child, and end as it did."""
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def main() -> None:
    settings = json.loads(sys.argv[1])
    sys.argv = sys.argv[1:]
    if "listen" in settings:
        serve(settings)
    go_inside(settings)


def go_inside(settings: dict[str, Any]) -> None:
    """Put up the walls, and run the checks."""
    if settings["mounts"]:
        enter(settings["root"], settings["mounts"])
    if settings["drop"]:
        drop_rights()
    if sys.platform == "linux":
        go_on_as_child()
    # No site module: nothing that hooks into the start of an interpreter, and no .pth file that
    # leads to the library itself.
    sys.path[:0] = [settings["code"], *settings["packages"]]
    if not settings["walls"]:  # where a compiler is in sight, it may be asked where libraries are
        import torch
    limit(settings["libraries"])
    try:
        refuse_system_calls()
    except OSError:
        if settings["walls"]:
            raise
    import torch  # noqa: F401

    if len(sys.argv) > 1:
        from lab.runner import main as run

        run()


if __name__ == "__main__":
    main()
