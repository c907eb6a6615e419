"""Train each unit of a grid in a process of its own."""

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import ClassVar

from harness.contracts import Ended, Need, Unit

SPAWN = multiprocessing.get_context("spawn")


def work(unit: Unit, answers: Connection) -> None:
    """What a process does: trains the unit's cells, and answers."""
    answers.send(unit())


@dataclass
class OneProcess:
    """The process that there is at a time."""

    retries: int
    count: int = 1
    beside: int = 1
    process: SpawnProcess | None = None

    def run(self, units: Sequence[Unit]) -> Iterator[Ended | None]:
        for unit in units:
            for _ in range(1 + self.retries):
                answers, end = SPAWN.Pipe(duplex=False)
                self.process = SPAWN.Process(target=work, args=(unit, end))
                self.process.start()
                end.close()  # or the end of the process wouldn't be noticed
                while not answers.poll(0.2):
                    yield None
                try:
                    ended = Ended(unit, stop=answers.recv())
                except EOFError:
                    self.process.join()
                    ended = Ended(unit, lost=f"its process ended with status {self.process.exitcode}")
                if not ended.lost:
                    break
            yield ended

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()


@dataclass(frozen=True)
class FreshProcess:
    """A process for each unit, one after the other; another, up to ``retries`` times, where it is killed."""

    summary: ClassVar[str] = "a fresh process for each unit, one after the other"
    needs: ClassVar[tuple[str, ...]] = ()  # modules that have to be there
    elsewhere: ClassVar[bool] = False  # its workers are on this machine

    retries: int = 2

    @contextmanager
    def open(self, need: Need) -> Iterator[OneProcess]:
        workers = OneProcess(self.retries)  # threads and device are set by the unit itself
        try:
            yield workers
        finally:
            workers.close()
