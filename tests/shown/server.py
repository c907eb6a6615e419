"""A process that has imported everything and forks a child for each ``harness`` command that a shell calls.

``python server.py SOCKET`` serves; ``python server.py SOCKET client ARGUMENT...`` is what the shell calls:
it hands over its standard streams, its folder and its environment, and ends with the child's status.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys


def client(address: str, argv: list[str]) -> int:
    """Runs one command in a child of the server."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(address)
        socket.send_fds(peer, [b"x"], [0, 1, 2])
        request = {"argv": argv, "cwd": os.getcwd(), "env": dict(os.environ)}  # noqa: PTH109
        peer.sendall(json.dumps(request).encode() + b"\n")
        answer = peer.makefile("rb").readline()
    return int(answer) if answer else 1


def serve(address: str) -> None:
    """Imports what commands need, runs two, then waits for more."""
    from harness.cli import main

    told = os.dup(1)
    os.dup2(2, 1)
    for words in (["run", "--quiet"], ["report", "--out", "warm-report"]):
        try:
            main(words)
        except SystemExit as ended:
            if ended.code:
                raise
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(16)
        os.write(told, b"ready\n")
        while True:
            peer, _ = listening.accept()
            if not os.fork():
                listening.close()
                _child(peer)
            peer.close()


def _child(peer: socket.socket) -> None:
    from harness.cli import main

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(peer, 1, 3)
    request = json.loads(peer.makefile("rb").readline())
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[:0] = os.environ.get("SHOWN_SITE", "").split(os.pathsep)
    code = 1
    try:
        main(request["argv"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        peer.sendall(f"{code}\n".encode())
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[2:3] == ["client"]:
        sys.exit(client(sys.argv[1], sys.argv[3:]))
    serve(sys.argv[1])
