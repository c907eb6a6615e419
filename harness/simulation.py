"""A grid on several workers, played through event by event: who takes what when, what a lost worker costs.

The units are those of :func:`harness.dispatch.dispatch`, and what happens to them is what the engines do:
whichever worker is free takes the next; what a lost worker had goes to the end of the queue, so many times,
and whoever takes it makes the pass over the images again, leaves out cells that are done, and goes on with
the one that was in training after its last whole epoch. What is left of units that were lost too often is
tried once more when all else has ended, each cell by itself. Plain arithmetic; times are in any one unit.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from harness.dispatch import Unit

T = TypeVar("T")

RETRIES = 2  # as often an engine gives what a worker lost to another
EPOCHS = 10


@dataclass(frozen=True)
class Training(Generic[T]):
    """A cell with the time that it takes, and what of it is left where part of it is kept."""

    cell: T
    whole: float
    left: float

    def after(self, spent: float, epochs: int) -> Training[T]:
        """What is left when it is stopped after ``spent`` more: it goes on after its last whole epoch."""
        epoch = self.whole / epochs
        done = self.whole - self.left + spent
        return replace(self, left=self.whole - math.floor(done / epoch + 1e-9) * epoch if epoch else 0.0)


@dataclass(frozen=True)
class Task(Generic[T]):
    """One unit: the time of its pass over the images, then its cells in turn."""

    prefix: float
    cells: tuple[Training[T], ...]
    lost: int = 0

    @property
    def time(self) -> float:
        return self.prefix + sum(cell.left for cell in self.cells)


@dataclass(frozen=True)
class Simulated(Generic[T]):
    """What became of a grid.

    ``busy`` is the time that each worker worked, ``finished`` how often each cell was trained to its
    end, ``failed`` the cells that were lost too often, ``lost`` work that was done and had to be done
    again, ``losses`` that of each lost worker.
    """

    ends: float
    busy: tuple[float, ...]
    finished: Mapping[T, int]
    failed: tuple[T, ...]
    losses: tuple[float, ...]

    @property
    def lost(self) -> float:
        return sum(self.losses)


def tasks(
    units: Sequence[Unit[T]], suffix: Mapping[T, float], spread: float = 0.0, seed: int = 0
) -> list[Task[T]]:
    """Units with the times that they turn out to take: log-normal about their costs, on average the same.

    ``spread`` is the standard deviation of the logarithm: with 0.2 two thirds of the times are
    within 20 % or so.
    """
    draw = random.Random(seed)

    def time(cost: float) -> float:
        return cost * draw.lognormvariate(-(spread**2) / 2, spread) if spread else cost

    found = []
    for unit in units:
        times = [(cell, time(suffix[cell])) for cell in unit.cells]
        found.append(Task(time(unit.prefix), tuple(Training(cell, t, t) for cell, t in times)))
    return found


def simulate(
    waiting: Sequence[Task[T]],
    workers: int,
    *,
    lost: Sequence[tuple[float, int]] = (),
    joins: Sequence[float] = (),
    retries: int = RETRIES,
    epochs: int = EPOCHS,
) -> Simulated[T]:
    """Plays ``waiting`` through on ``workers``.

    ``lost`` are times at which a worker, by its number, is gone for good; at each of ``joins`` another one
    comes (with the next number). Raises ValueError where no worker is left for what waits.
    """
    play: _Play[T] = _Play(deque(waiting), retries, epochs)
    play.come(0.0, workers)
    events: list[tuple[float, int, int]] = [(at, 1, worker) for at, worker in lost]
    events += [(at, 0, -1) for at in joins]
    heapq.heapify(events)
    while play.running or play.waiting or play.later:
        if not (play.running or play.waiting):
            play.apart(play.now)
            continue
        ends = min(play.ends(), default=math.inf)
        if events and events[0][0] < ends:
            at, kind, worker = heapq.heappop(events)
            if kind:
                play.lose(at, worker)
            else:
                play.come(at, 1)
        elif play.running:
            play.finish(ends)
        else:
            raise ValueError("no worker is left for what waits")
    return Simulated(play.now, tuple(play.busy), play.finished, tuple(play.failed), tuple(play.losses))


@dataclass
class _Play(Generic[T]):
    """Where a simulation stands."""

    waiting: deque[Task[T]]
    retries: int
    epochs: int
    now: float = 0.0
    free: list[int] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    running: dict[int, tuple[float, Task[T]]] = field(default_factory=dict)  # since when, what
    finished: Counter[T] = field(default_factory=Counter)
    failed: list[T] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    later: list[Task[T]] = field(default_factory=list)
    alone: bool = False  # each cell by itself, the last try
    _ends: list[tuple[float, int]] = field(default_factory=list)

    def ends(self) -> Iterator[float]:
        """The next end of a task, if any runs; those of lost workers are passed over."""
        while self._ends:
            at, worker = self._ends[0]
            began, task = self.running.get(worker, (math.nan, None))
            if task is not None and began + task.time == at:
                yield at
                return
            heapq.heappop(self._ends)

    def come(self, at: float, count: int) -> None:
        for _ in range(count):
            heapq.heappush(self.free, len(self.busy))
            self.busy.append(0.0)
        self._start(at)

    def finish(self, at: float) -> None:
        """The next task ends."""
        _, worker = heapq.heappop(self._ends)
        began, task = self.running.pop(worker)
        self.now = at
        self.busy[worker] += at - began
        self.finished.update(cell.cell for cell in task.cells)
        heapq.heappush(self.free, worker)
        self._start(at)

    def lose(self, at: float, worker: int) -> None:
        """A worker is gone, and what it had goes to another."""
        if worker in self.free:
            self.free.remove(worker)
            heapq.heapify(self.free)
        if worker not in self.running:
            return
        began, task = self.running.pop(worker)
        self.now = at
        self.busy[worker] += at - began
        left, again = self._left(task, at - began)
        self.losses.append(again)
        if left.lost <= self.retries:
            self.waiting.append(left)
        else:
            self.later.append(left)
        self._start(at)

    def apart(self, at: float) -> None:
        """What is left of lost units, each cell by itself, unless that has been tried."""
        lost, self.later = self.later, []
        if self.alone or all(len(task.cells) == 1 for task in lost):
            self.failed += [cell.cell for task in lost for cell in task.cells]
            return
        self.alone = True
        self.waiting.extend(Task(task.prefix, (cell,)) for task in lost for cell in task.cells)
        self._start(at)

    def _left(self, task: Task[T], spent: float) -> tuple[Task[T], float]:
        """What is left of a task that is stopped after ``spent``, and what must be done again."""
        if spent < task.prefix:
            return replace(task, lost=task.lost + 1), spent
        spent -= task.prefix
        cells = deque(task.cells)
        while spent >= cells[0].left:
            done = cells.popleft()
            spent -= done.left
            self.finished[done.cell] += 1
        first = cells[0].after(spent, self.epochs)
        again = task.prefix + spent - (cells[0].left - first.left)
        return Task(task.prefix, (first, *list(cells)[1:]), task.lost + 1), again

    def _start(self, at: float) -> None:
        while self.free and self.waiting:
            worker, task = heapq.heappop(self.free), self.waiting.popleft()
            self.running[worker] = (at, task)
            heapq.heappush(self._ends, (at + task.time, worker))
