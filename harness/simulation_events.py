"""Where a simulation of several workers stands, and what each event makes of it (``simulation.py``)."""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from harness.dispatch import worth_joining

T = TypeVar("T")


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
    """One unit of a ``group``: the time of its pass over the images, then its cells in turn."""

    prefix: float
    cells: tuple[Training[T], ...]
    lost: int = 0
    group: str = ""

    @property
    def time(self) -> float:
        return self.prefix + sum(cell.left for cell in self.cells)


@dataclass
class Work(Generic[T]):
    """What a worker is at: its pass (no ``cell``), or a cell since ``began``, until ``ends``."""

    task: Task[T]
    left: deque[Training[T]]
    began: float
    ends: float
    cell: Training[T] | None = None
    helps: bool = False


@dataclass
class Play(Generic[T]):
    """Where a simulation stands. ``open`` has the cells that nobody has begun, by group, with their units."""

    waiting: deque[Task[T]]
    helpers: int
    retries: int
    epochs: int
    now: float = 0.0
    open: dict[str, dict[T, tuple[Training[T], Task[T]]]] = field(default_factory=dict)
    again: deque[Task[T]] = field(default_factory=deque)  # before all others
    free: list[int] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    running: dict[int, Work[T]] = field(default_factory=dict)
    begun: dict[T, Training[T]] = field(default_factory=dict)  # what is left of it where it was lost
    finished: Counter[T] = field(default_factory=Counter)
    failed: list[T] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    joined: list[float] = field(default_factory=list)
    later: list[Task[T]] = field(default_factory=list)
    alone: bool = False  # each cell by itself, the last try
    _ends: list[tuple[float, int]] = field(default_factory=list)

    def next_end(self) -> float:
        """The next end of a pass or a cell, if anything runs; those of lost workers are passed over."""
        while self._ends:
            at, worker = self._ends[0]
            if worker in self.running and self.running[worker].ends == at:
                return at
            heapq.heappop(self._ends)
        return math.inf

    def come(self, at: float, count: int) -> None:
        for _ in range(count):
            heapq.heappush(self.free, len(self.busy))
            self.busy.append(0.0)
        self._start(at)

    def step(self, at: float) -> None:
        """The next pass or cell ends, and its worker goes on."""
        _, worker = heapq.heappop(self._ends)
        work = self.running[worker]
        self.now = at
        self.busy[worker] += at - work.began
        if work.cell is not None:
            self.finished[work.cell.cell] += 1
        elif work.helps:
            self.joined.append(work.task.prefix)
        self._go_on(worker, work)

    def lose(self, at: float, worker: int) -> None:
        """A worker is gone, and what it had goes to another."""
        if worker in self.free:
            self.free.remove(worker)
            heapq.heapify(self.free)
        if worker not in self.running:
            return
        work = self.running.pop(worker)
        self.now = at
        self.busy[worker] += at - work.began
        spent, cells = at - work.began, [*work.left]
        if work.cell is None:
            self.losses.append(spent)
        else:
            first = work.cell.after(spent, self.epochs)
            self.losses.append(work.task.prefix + spent - (work.cell.left - first.left))
            cells.insert(0, first)
            self.begun[first.cell] = first
        if work.helps:  # what it had begun is looked for at the end; it is tried again itself
            self.helpers += 1
            self.later += [Task(work.task.prefix, (cells[0],), 0, work.task.group)] if work.cell else []
        else:
            left = Task(work.task.prefix, tuple(cells), work.task.lost + 1, work.task.group)
            (self.again if left.lost <= self.retries else self.later).append(left)
        self._start(at)

    def apart(self) -> None:
        """What is left of lost units, each cell by itself, unless that has been tried."""
        lost = [replace(task, cells=tuple(left)) for task in self.later if (left := self._left(task))]
        self.later = []
        if self.alone or all(len(task.cells) == 1 and task.lost > self.retries for task in lost):
            self.failed += [cell.cell for task in lost for cell in task.cells]
            return
        self.alone = True
        self.again.extend(Task(task.prefix, (cell,), 0, task.group) for task in lost for cell in task.cells)
        self._start(self.now)

    def _start(self, at: float) -> None:
        while self.free and (found := self._next()) is not None:
            task, helps = found
            worker = heapq.heappop(self.free)
            work = Work(task, deque(task.cells), at, at + task.prefix, None, helps)
            self.running[worker] = work
            heapq.heappush(self._ends, (work.ends, worker))

    def _next(self) -> tuple[Task[T], bool] | None:
        """What a free worker gets: a unit, or a group to join, with the dearest pass of its units."""
        while self.again:
            task = self.again.popleft()
            if self._left(task):
                return task, False
        if self.waiting:
            return self.waiting.popleft(), False
        while self.helpers:
            if found := self._worth_joining():
                return found, True
            self.helpers -= 1
        return None

    def _left(self, task: Task[T]) -> list[Training[T]]:
        """The cells that nobody is at or has done."""
        unbegun = self.open.get(task.group, {})
        return [cell for cell in task.cells if cell.cell in unbegun or cell.cell in self.begun]

    def _worth_joining(self) -> Task[T] | None:
        best: Task[T] | None = None
        most = 0.0
        for group, cells in self.open.items():
            left = sum(cell.left for cell, _ in cells.values())
            prefix = max((task.prefix for _, task in cells.values()), default=0.0)
            if worth_joining(left, prefix) and left - prefix > most:
                best, most = Task(prefix, (), 0, group), left - prefix
        return best

    def _go_on(self, worker: int, work: Work[T]) -> None:
        """The next cell of its unit, or of the group that it helps, that nobody has begun; or it is free."""
        unbegun = self.open.get(work.task.group, {})
        found = None
        if work.helps and unbegun:
            found = next(iter(unbegun.values()))[0]
        while not work.helps and work.left and found is None:
            cell = work.left.popleft()
            found = cell if cell.cell in unbegun else self.begun.pop(cell.cell, None)
        if found is not None:
            unbegun.pop(found.cell, None)
            work.cell, work.began, work.ends = found, self.now, self.now + found.left
            heapq.heappush(self._ends, (work.ends, worker))
            return
        del self.running[worker]
        heapq.heappush(self.free, worker)
        self._start(self.now)
