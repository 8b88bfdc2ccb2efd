"""Many submissions without an import of PyTorch for each: the client of a process that forks.

    python -I -S -B nursery.py REQUEST [RUNNER-ARGUMENTS...]

`sandbox.Nursery` keeps lab/guard.py waiting with PyTorch imported, and with what of the clean copy
holds no exercise, in namespaces of its own and before it has read a line of anybody's. This program
stands in for the process of one submission: it hands over its output and the results' pipe, and
ends when the submission's child does. That child makes its own namespaces, takes the same steps as
any other, and dies when this one is killed.
"""

from __future__ import annotations

import json
import os
import socket
import sys


def main() -> None:
    request, arguments = json.loads(sys.argv[1]), sys.argv[2:]
    pipes = [1]
    if arguments:
        pipes.append(int(arguments[arguments.index("--results") + 1]))
    folder = os.open(request["folder"], os.O_PATH)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as nursery:
        nursery.connect(address(folder))
        message = json.dumps([request["settings"], arguments]).encode()
        socket.send_fds(nursery, [message], pipes)
        for pipe in pipes[1:]:
            os.close(pipe)  # whose reader waits for its end
        code = nursery.recv(16)
    sys.exit(int(code or b"1"))


def address(folder: int) -> str:
    """The socket in an open folder: a path of its own may be too long for one."""
    return f"/proc/self/fd/{folder}/nursery"


if __name__ == "__main__":
    main()
