"""Units of work and where they run: the contract of an engine. Its names are in ``contracts.py`` too.

All state is in run folders. A unit that is run again does what is left of it, wherever it was begun, so
engines are interchangeable and any of them goes on with what another left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable


@dataclass(frozen=True)
class Need:
    """What every worker of a grid gets: CPU ``threads``, and a ``device`` as ``--device`` names it.

    ``folder``, an absolute path, is where the run folders are; workers on other machines see it too.
    """

    threads: int
    device: str
    folder: Path


@dataclass(frozen=True)
class Stop:
    """Why a whole grid can't go on, which trying again wouldn't change: one line, and the exit status."""

    text: str
    code: int


class Unit(Protocol):
    """Cells of one group that one worker trains together; can be pickled.

    To call it in a worker's process, in its main thread, is to run it. ``cells`` are names of run folders.
    """

    @property
    def cells(self) -> tuple[str, ...]: ...

    def __call__(self) -> Stop | None: ...


@dataclass(frozen=True)
class Ended:
    """A unit that an engine is done with: what its call returned, or why its worker was ``lost``."""

    unit: Unit
    stop: Stop | None = None
    lost: str = ""


@dataclass(frozen=True)
class Again:
    """A unit whose worker was lost and that is run again: why, and which of how many attempts that is."""

    unit: Unit
    reason: str
    attempt: int
    attempts: int


class Workers(Protocol):
    """Workers that are there. ``beside`` is how many of them may share one machine's memory.

    With a ``count`` of 0 there are none: the caller trains its cells in its own process.
    """

    count: int
    beside: int

    def run(self, units: Sequence[Unit]) -> Iterator[Ended | Again | None]:
        """Runs units, in this order as workers come free, and yields each when it has ended.

        A unit whose worker is lost is run again, a limited number of times; to yield that too lets the
        caller say it. None is yielded whenever nothing has ended for a moment, so that the caller can look at
        the run folders.
        """
        ...


@runtime_checkable
class Engine(Protocol):
    """Where units run: a frozen dataclass whose fields are its options.

    ``summary`` says in one line where that is; ``needs`` are modules that an extra of its package, by the
    engine's name, brings. ``elsewhere``: its workers may be on other machines, and this one needs no
    device. Registered under the entry-point group ``harness.engines``.
    """

    summary: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    elsewhere: ClassVar[bool]

    def open(self, need: Need) -> AbstractContextManager[Workers]:
        """Workers, until the context ends: none of them, and nothing they started, outlives it.

        Raises UsageError where there can be none.
        """
        ...
