"""Units that train nothing but try their engine: what :func:`harness.testing.check_engine` has workers run.

Each notes in ``folder``, a line in a file of its cell's name, that it was called. They import no torch, so
that a worker that is lost costs little.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.work import Stop, Unit

TURN = "turn"  # what the caller writes when it got one
BEAT = "beat"  # what grows while a unit runs
_LOOK = 0.05
_BEATING = 600.0  # seconds, if nobody ends it


def here() -> tuple[str, int]:
    """This process, among those of all machines."""
    return socket.gethostname(), os.getpid()


def die() -> None:
    """Ends this process as the kernel does when memory is short."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


@dataclass(frozen=True)
class Trial:
    """Ends well, in the main thread of a process other than ``caller``; else a Stop says where it ran."""

    answer: ClassVar[Stop | None] = None

    cells: tuple[str, ...]
    folder: Path
    caller: tuple[str, int]

    def __call__(self) -> Stop | None:
        if here() == self.caller:
            return Stop("it was called in the process that hands units out, which would end with it", 1)
        if threading.current_thread() is not threading.main_thread():
            return Stop("it was called in a thread; that has to be a process's main thread", 1)
        with (self.folder / self.cells[0]).open("a") as notes:
            notes.write("called\n")
        return self.act()

    def act(self) -> Stop | None:
        """What this kind of trial does, and answers."""
        return self.answer

    @property
    def calls(self) -> int:
        """How often it has been called."""
        file = self.folder / self.cells[0]
        return len(file.read_text().splitlines()) if file.exists() else 0


class Stopping(Trial):
    """Says that the grid can't go on."""

    answer = Stop("there is nothing left to train with", 3)


@dataclass(frozen=True)
class Dying(Trial):
    """Its worker is killed the first ``times`` times."""

    times: int = 1

    def act(self) -> None:
        if self.calls <= self.times:
            die()


@dataclass(frozen=True)
class Waiting(Trial):
    """Ends when the caller has had a turn, :data:`TURN`; a Stop after ``patience`` seconds without one."""

    patience: float

    def act(self) -> Stop | None:
        ends = time.monotonic() + self.patience
        while not (self.folder / TURN).exists():
            if time.monotonic() > ends:
                return Stop("no None was yielded", 1)
            time.sleep(_LOOK)
        return None


class Beating(Trial):
    """Goes on until its worker is ended."""

    def act(self) -> None:
        ends = time.monotonic() + _BEATING
        while time.monotonic() < ends:
            with (self.folder / BEAT).open("a") as beats:
                beats.write(".")
            time.sleep(_LOOK)


@dataclass(frozen=True)
class Fragile:
    """``unit``, whose worker is killed the first time: after a cell's first epochs, or else at its end.

    ``note`` is a file that isn't there yet, ``runs`` where its run folders are.
    """

    unit: Unit
    note: Path
    runs: Path

    @property
    def cells(self) -> tuple[str, ...]:
        return self.unit.cells

    def __call__(self) -> Stop | None:
        if self.note.exists():
            return self.unit()
        self.note.touch()
        threading.Thread(target=self._die_in_the_middle, daemon=True).start()
        self.unit()
        die()
        return None

    def _die_in_the_middle(self) -> None:
        while not any((self.runs / cell / "history.jsonl").exists() for cell in self.cells):
            time.sleep(0.002)
        die()
