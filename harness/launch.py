"""Starts the processes of ``harness run --processes N`` on this machine, as ``torchrun`` would.

Unlike torchrun it says nothing of its own and ends with the status of the process that failed first.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

_POLL = 0.1  # seconds
_GRACE = 15.0  # seconds from the first failure until those that still run are ended


def launch(count: int, argv: Sequence[str]) -> int:
    """Runs ``harness ARGV`` in ``count`` processes of one group; the exit status."""
    group = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "harness", *argv],
            env={**os.environ, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]
    try:
        return _status(processes)
    except KeyboardInterrupt:  # they had the same signal, and one of them says so
        _wait(processes, _GRACE)
        return 130
    except BaseException as stopped:  # SIGTERM, which they get now
        if isinstance(stopped, Exception):
            raise
        return 143
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        _wait(processes, _GRACE)
        for process in processes:
            if process.poll() is None:
                process.kill()


def launched() -> bool:
    """Whether this process is one of a group already."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def _status(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """That of the first to fail, once all have ended or had their time to; 0 where none does."""
    first = 0
    while first == 0 and any(process.poll() is None for process in processes):
        time.sleep(_POLL)
        first = next((p.returncode for p in processes if p.poll()), 0)
    _wait(processes, _GRACE)
    return first if first >= 0 else 1  # less than 0: killed by a signal, of which the others say so


def _wait(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    ends = time.monotonic() + seconds
    while any(process.poll() is None for process in processes) and time.monotonic() < ends:
        time.sleep(_POLL)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
