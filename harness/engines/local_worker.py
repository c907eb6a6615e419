"""A worker of the engine ``local``: units come in on standard input, what stopped them goes out."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
from types import FrameType
from typing import IO, NoReturn

from harness.engines.frames import receive, send


class _Ended(BaseException):
    """SIGTERM, as an exception, so that locks are given back and temporary files go."""


def _end(signum: int, frame: FrameType | None) -> NoReturn:
    raise _Ended


def main() -> None:
    """Runs units until the process that hands them out is gone, whichever way."""
    signal.signal(signal.SIGTERM, _end)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a plugin prints isn't an answer
    units: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, units), daemon=True).start()
    try:
        while True:
            unit = pickle.loads(units.get())
            send(answers, unit())
    except (_Ended, BrokenPipeError):
        os._exit(0)  # nothing is left to be flushed, and a thread sits in a read


def _listen(stream: IO[bytes], units: queue.Queue[bytes]) -> None:
    """In a thread, so that the other side's end is noticed in the middle of a unit."""
    try:
        while True:
            units.put(receive(stream))
    except EOFError:
        os.kill(os.getpid(), signal.SIGTERM)
