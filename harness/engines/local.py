"""The engine ``local``: this process, or several processes of this machine."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import ClassVar

from harness.engines.frames import receive, send
from harness.errors import UsageError
from harness.work import Again, Ended, Need, Stop, Unit

_LOOK = 0.1  # seconds without news until the caller gets a turn
_PATIENCE = 10.0  # seconds that a worker has to put its locks away
_WORKER = "from harness.engines.local_worker import main; main()"


@dataclass(frozen=True)
class Local:
    """``workers`` processes; by default one for each GPU that may be used, or this process alone."""

    summary: ClassVar[str] = (
        "this process, or one process for each GPU; local[workers=4] for so many processes"
    )
    needs: ClassVar[tuple[str, ...]] = ()
    elsewhere: ClassVar[bool] = False

    workers: int | None = None
    retries: int = 2

    @contextmanager
    def open(self, need: Need) -> Iterator[LocalWorkers]:
        """Processes start with their first unit."""
        if (self.workers is not None and self.workers < 1) or self.retries < 0:
            raise UsageError("local: workers are 1 or more, retries 0 or more")
        gpus = _gpus(need.device)
        count = max(len(gpus), 1) if self.workers is None else self.workers
        workers = LocalWorkers(count if count > 1 else 0, count, self.retries, gpus)
        try:
            yield workers
        finally:
            workers.close()


def _gpus(device: str) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES calls each GPU that ``device`` allows; none for one named, or no GPU."""
    if device not in ("auto", "cuda"):
        return ()
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    given = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(given[:count]) if given else tuple(map(str, range(count)))


@dataclass
class LocalWorkers:
    """A thread for each process hands it one unit after another."""

    count: int
    beside: int
    retries: int
    gpus: tuple[str, ...]
    _waiting: deque[tuple[Unit, int]] = field(default_factory=deque)
    _ended: queue.Queue[Ended | Again] = field(default_factory=queue.Queue)
    _processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    _starting: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False

    def run(self, units: Sequence[Unit]) -> Iterator[Ended | Again | None]:
        """See :class:`~harness.work.Workers`."""
        self._waiting.extend((unit, 0) for unit in units)
        threads = [
            threading.Thread(target=self._serve, args=(number,), daemon=True)
            for number in range(min(self.count, len(units)))
        ]
        for thread in threads:
            thread.start()
        left = len(units)
        while left:
            try:
                ended = self._ended.get(timeout=_LOOK)
            except queue.Empty:
                yield None
                continue
            left -= isinstance(ended, Ended)
            yield ended
        for thread in threads:
            thread.join()

    def close(self) -> None:
        """Ends the processes: politely, so that they give their locks back, then not."""
        with self._starting:
            self._closed = True
        self._waiting.clear()
        processes = list(self._processes.values())
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _close(process)

    def _serve(self, number: int) -> None:
        """One thread's work: units for one process, started anew when it is lost."""
        while not self._closed:
            try:
                unit, lost = self._waiting.popleft()
            except IndexError:
                return
            try:
                self._ended.put(Ended(unit, stop=self._ask(number, unit)))
            except (EOFError, OSError) as error:
                reason = self._death(number, error)
                if lost < self.retries:
                    self._ended.put(Again(unit, reason, lost + 2, self.retries + 1))
                    self._waiting.appendleft((unit, lost + 1))
                else:
                    self._ended.put(Ended(unit, lost=reason))
            except Exception as error:  # or the caller would wait for ever
                self._ended.put(Ended(unit, stop=Stop(f"{type(error).__name__}: {error}", 1)))

    def _ask(self, number: int, unit: Unit) -> Stop | None:
        """Has a unit run by a worker's process; EOFError or OSError where that has ended."""
        with self._starting:
            if self._closed:
                raise EOFError
            if number not in self._processes:
                self._processes[number] = self._start(number)
        process = self._processes[number]
        assert process.stdin
        assert process.stdout
        send(process.stdin, unit)
        found: Stop | None = pickle.loads(receive(process.stdout))
        return found

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        own = {"CUDA_VISIBLE_DEVICES": self.gpus[number % len(self.gpus)]} if self.gpus else {}
        path = os.pathsep.join(filter(None, sys.path))  # it finds the plugins that this process finds
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, **own},
            start_new_session=True,  # Ctrl-C is for this process, which ends the others
        )

    def _death(self, number: int, error: Exception) -> str:
        """Why a worker's process is gone."""
        process = self._processes.pop(number, None)
        if process is None:
            return f"no worker could be started: {error}"
        _close(process)
        code = process.wait()
        if code >= 0:
            return f"its worker ended with status {code}"
        why = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"its worker was ended by {_name(-code)}{why}"


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        with suppress(OSError):  # what was written to it and not read
            stream.close()  # type: ignore[union-attr]


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of real time
        return f"signal {number}"
