"""Signals that end a command, and standard streams that its caller has closed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

GRACE = 30.0  # seconds that locks and temporary files have to be put in order


class Terminated(BaseException):
    """SIGTERM or SIGHUP (its argument) as an exception: locks are given back and temporary files go."""


class Ended(BaseException):
    """The command ends with this status (its argument); what there is to say, another process has said."""


def watch(grace: float | None) -> None:
    """From now on SIGINT raises KeyboardInterrupt, SIGTERM and SIGHUP raise :class:`Terminated`.

    What still runs ``grace`` seconds later, such as a thread that waits for a file server, ends with the
    process; None: only its caller ends the process. What the caller has ignored (``nohup``) stays ignored.
    """

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        if grace is not None:
            end = threading.Timer(grace, os._exit, (128 + signum,))
            end.daemon = True
            end.start()
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated(signum)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def open_streams() -> None:
    """Closed standard streams lead nowhere, instead of into the next file that is opened."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
