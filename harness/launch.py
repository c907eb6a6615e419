"""Starts the processes of ``harness run --processes N`` on this machine, as ``torchrun`` would.

Unlike torchrun it ends with the status of the process that failed first, and says nothing of its own unless
one was killed, which can't say it: the others only know that its connection is closed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

_POLL = 0.1  # seconds
_GRACE = 15.0  # seconds from the first failure until those that still run are ended
_EVENTS = Path("/proc/vmstat")


def launch(count: int, argv: Sequence[str]) -> int:
    """Runs ``harness ARGV`` in ``count`` processes of one group; the exit status."""
    group = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    before = _out_of_memory()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "harness", *argv],
            env={**os.environ, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]
    try:
        return _status(processes, before)
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


def _status(processes: Sequence[subprocess.Popen[bytes]], before: int | None) -> int:
    """That of the first to fail, once all have ended or had their time to; 0 where none does."""
    first = 0
    while first == 0 and any(process.poll() is None for process in processes):
        time.sleep(_POLL)
        first = next((p.returncode for p in processes if p.poll()), 0)
    _wait(processes, _GRACE)
    for rank, process in enumerate(processes):
        if (process.poll() or 0) < 0:
            click.echo(f"harness: process {rank} {_death(-process.returncode, before)}", err=True)
    return first if first >= 0 else 1


def _death(number: int, before: int | None) -> str:
    """What ended a process that signal ``number`` killed, as far as can be told, and what to do."""
    known = {s.value: s.name for s in signal.Signals}
    text = f"was killed by {known.get(number, f'signal {number}')}"
    if number != signal.SIGKILL:
        return text
    import resource  # POSIX alone has it, and signals

    after, peak = _out_of_memory(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB
    if before is None or after is None:
        text += ", perhaps since memory ran out"
    elif after > before:
        text += " while the system was out of memory"
    else:
        text += ", not by the system for want of memory: by somebody, or by a guard of this machine"
    return f"{text}; processes held {peak / 2**20:.2g} GiB at the most (--micro-batches takes less)"


def _out_of_memory() -> int | None:
    """How many processes Linux has ended since its start because memory ran out; None where nobody tells."""
    try:
        found = dict(line.split() for line in _EVENTS.read_text().splitlines())
        return int(found["oom_kill"])
    except (OSError, KeyError, ValueError):
        return None


def _wait(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    ends = time.monotonic() + seconds
    while any(process.poll() is None for process in processes) and time.monotonic() < ends:
        time.sleep(_POLL)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
