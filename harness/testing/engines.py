"""What an engine must keep to."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from harness.contracts import Again, Ended, Engine, Need, Unit, Workers
from harness.engines.trials import BEAT, TURN, Beating, Dying, Stopping, Trial, Waiting, here
from harness.testing.claims import attempt, require, require_words
from harness.testing.grids import check_grid

_MOST_CALLS = 20  # of a unit that is lost each time
_SETTLES = 15.0  # seconds that workers have to end
_TURN = 20.0  # that a unit waits until the caller has had one
_STILL = 0.5  # seconds without a beat: it has ended


def check_engine(engine: Engine, folder: str | Path | None = None, patience: float = 120.0) -> None:
    """Has ``engine`` run units that say what became of them, then a small grid, below a fresh folder.

    Units run in the main thread of a process that isn't this one; each is yielded once, with what its call
    returned; one whose worker is killed is run again, and one whose worker is killed every time is yielded
    with the reason; None is yielded while nothing ends; no unit outlives the context. A grid of four cells,
    in folders that ``local`` began and with every worker killed once, ends with the digests of ``local``, and
    ``local`` goes on with what the engine began. AssertionError where not, also where nothing happens for
    ``patience`` seconds.

    ``folder`` has to be on a file system that workers see; by default it is one for temporary files. It takes
    some twenty seconds of CPU time, most of them imports of torch by workers that take over from lost ones.
    """
    who = type(engine).__name__
    require_words(engine, "summary")
    needs = getattr(engine, "needs", None)
    require(
        isinstance(needs, tuple) and all(isinstance(name, str) for name in needs),
        f"{who}.needs is {needs!r}; it has to be a tuple of modules' names",
    )
    elsewhere = getattr(engine, "elsewhere", None)
    require(isinstance(elsewhere, bool), f"{who}.elsewhere is {elsewhere!r}; it has to be True or False")
    with tempfile.TemporaryDirectory(dir=folder, prefix="check-engine-") as place:
        root = Path(place).resolve()
        trials = _Trials(engine, who, root, patience)
        trials.check_units()
        trials.check_end()
        with _within(5 * patience, f"{who}: a grid of four cells"):
            check_grid(engine, who, root)


@dataclass(frozen=True)
class _Trials:
    engine: Engine
    who: str
    folder: Path
    patience: float

    def check_units(self) -> None:
        """Units that end, stop, and lose their workers; and one more, as for what was lost with others."""
        ends, later = Trial(("ends",), *self._where), Trial(("later",), *self._where)
        stops = Stopping(("stops",), *self._where)
        once = Dying(("dies-once",), *self._where)
        always = Dying(("dies-always",), *self._where, times=_MOST_CALLS)
        waits = Waiting(("waits",), *self._where, patience=_TURN)
        with self._opened() as workers:
            found = self._run(workers, (ends, stops, once, always, waits))
            found |= self._run(workers, (later,))
        for unit, calls in ((ends, 1), (stops, 1), (once, 2), (waits, 1), (later, 1)):
            self._require_end(found, unit, calls)
        what = f"{self.who}: a unit whose worker is killed every time"
        require(
            1 < always.calls <= _MOST_CALLS, f"{what} was called {always.calls} times; twice or some more"
        )
        require(bool(found["dies-always"].lost), f"{what} was yielded without a reason in 'lost'")

    def check_end(self) -> None:
        """A unit in the middle when the context ends, as on Ctrl-C."""
        beat = self.folder / BEAT
        with self._opened() as workers, _within(self.patience, f"{self.who}: a unit that has begun"):
            for ended in workers.run((Beating(("beats",), *self._where),)):
                require(ended is None, f"{self.who}: a unit that goes on for ever was yielded: {ended}")
                if beat.exists():
                    break
        ends = time.monotonic() + _SETTLES
        size = -1
        while size != (size := beat.stat().st_size):
            require(time.monotonic() < ends, f"{self.who}: a unit goes on after the engine's context")
            time.sleep(_STILL)

    @property
    def _where(self) -> tuple[Path, tuple[str, int]]:
        return self.folder, here()

    @contextmanager
    def _opened(self) -> Iterator[Workers]:
        with _within(self.patience, f"{self.who}: open()"):
            context = attempt(f"{self.who}.open()", lambda: self.engine.open(Need(1, "cpu", self.folder)))
            workers = attempt(f"{self.who}.open()", context.__enter__)
        try:
            require(
                workers.count > 0 and workers.beside > 0,
                f"{self.who}: {workers.count} workers, {workers.beside} beside each other, can't be tried; "
                "choose options with which there is at least one",
            )
            yield workers
        finally:
            with _within(self.patience, f"{self.who}: the end of its context"):
                context.__exit__(None, None, None)

    def _run(self, workers: Workers, units: Sequence[Trial]) -> dict[str, Ended]:
        """What became of each unit, by its cell."""
        given = {unit.cells for unit in units}
        found: dict[str, Ended] = {}
        with _within(self.patience, f"{self.who}: units {', '.join(sorted(c[0] for c in given))}") as limit:
            for ended in self._yielded(workers, units):
                if ended is None:
                    (self.folder / TURN).touch()
                    limit.check()
                    continue
                if isinstance(ended, Again):
                    continue
                require(isinstance(ended, Ended), f"{self.who}: run() yielded {ended!r}, no Ended")
                cells = ended.unit.cells
                require(cells in given, f"{self.who}: run() yielded {cells}, which it wasn't given")
                require(cells[0] not in found, f"{self.who}: run() yielded the unit {cells} twice")
                found[cells[0]] = ended
        missing = sorted({unit.cells[0] for unit in units} - found.keys())
        require(not missing, f"{self.who}: run() ended without having yielded: {', '.join(missing)}")
        return found

    def _yielded(self, workers: Workers, units: Sequence[Unit]) -> Iterator[Ended | Again | None]:
        """What ``run`` yields; what it raises says what it should have done."""
        running = iter(workers.run(units))
        while True:
            try:
                ended = next(running)
            except StopIteration:
                return
            except Exception as error:
                if isinstance(error, AssertionError):  # out of time
                    raise
                raise AssertionError(
                    f"{self.who}: run() raised {type(error).__name__}: {error}; a unit whose worker is lost "
                    "is run again, and in the end yielded with the reason"
                ) from error
            yield ended

    def _require_end(self, found: Mapping[str, Ended], unit: Trial, calls: int) -> None:
        ended, what = found[unit.cells[0]], f"{self.who}: the unit '{unit.cells[0]}'"
        require(not ended.lost, f"{what} was given up: {ended.lost}")
        expected = unit.answer
        fault = (
            ended.stop.text if ended.stop and not expected else f"yielded with {ended.stop}, not {expected}"
        )
        require(ended.stop == expected, f"{what}: {fault}")
        require(unit.calls == calls, f"{what} was called {unit.calls} times, not {calls}")


class _Limit:
    def __init__(self, seconds: float, what: str) -> None:
        self._ends = time.monotonic() + seconds
        self._fault = f"{what}: nothing came of it in {seconds:g} s"

    def check(self) -> None:
        require(time.monotonic() < self._ends, self._fault)

    def end(self, signum: int, frame: FrameType | None) -> NoReturn:
        raise AssertionError(self._fault)


@contextmanager
def _within(seconds: float, what: str) -> Iterator[_Limit]:
    """AssertionError after ``seconds``, whatever is waited for; outside a main thread by ``check`` alone."""
    limit = _Limit(seconds, what)
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield limit
        return
    before = signal.signal(signal.SIGALRM, limit.end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield limit
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
