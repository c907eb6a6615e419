"""A grid on several workers, played through event by event: who takes what when, what a lost worker costs.

The units are those of :func:`harness.dispatch.dispatch`, and what happens to them is what the engines do:
whichever worker is free takes the next; one that finds none left joins a group in which others have cells
waiting, where that pays (:func:`harness.dispatch.worth_joining`). What a lost worker had is the next to be
taken, so many times, and whoever takes it makes the pass over the images again, leaves out cells that are
done, and goes on with the one that was in training after its last whole epoch. What is left of units
that were lost too often is tried once more when all else has ended, each cell by itself. Plain arithmetic;
times are in any one unit.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from harness.dispatch import Unit
from harness.simulation_events import Play, Task, Training

__all__ = ["EPOCHS", "RETRIES", "Simulated", "Task", "Training", "simulate", "tasks"]

T = TypeVar("T")

RETRIES = 2  # as often an engine gives what a worker lost to another
EPOCHS = 10


@dataclass(frozen=True)
class Simulated(Generic[T]):
    """What became of a grid.

    ``busy`` is the time that each worker worked, ``finished`` how often each cell was trained to its
    end, ``failed`` the cells that were lost too often, ``lost`` work that was done and had to be done
    again, ``losses`` that of each lost worker, ``joined`` the passes of workers that joined others.
    """

    ends: float
    busy: tuple[float, ...]
    finished: Mapping[T, int]
    failed: tuple[T, ...]
    losses: tuple[float, ...]
    joined: tuple[float, ...]

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
        cells = tuple(Training(cell, t, t) for cell, t in times)
        found.append(Task(time(unit.prefix), cells, group=unit.group))
    return found


def simulate(
    waiting: Sequence[Task[T]],
    workers: int,
    *,
    helpers: int = 0,
    lost: Sequence[tuple[float, int]] = (),
    joins: Sequence[float] = (),
    retries: int = RETRIES,
    epochs: int = EPOCHS,
) -> Simulated[T]:
    """Plays ``waiting`` through on ``workers``; so many ``helpers`` come after it in the queue.

    ``lost`` are times at which a worker, by its number, is gone for good; at each of ``joins`` another one
    comes (with the next number). Raises ValueError where no worker is left for what waits.
    """
    play: Play[T] = Play(deque(waiting), helpers, retries, epochs)
    for task in waiting:
        play.open.setdefault(task.group, {}).update({cell.cell: (cell, task) for cell in task.cells})
    play.come(0.0, workers)
    events: list[tuple[float, int, int]] = [(at, 1, worker) for at, worker in lost]
    events += [(at, 0, -1) for at in joins]
    heapq.heapify(events)
    while play.running or play.waiting or play.again or play.later:
        if not (play.running or play.waiting or play.again):
            play.apart()
            continue
        ends = play.next_end()
        if events and events[0][0] < ends:
            at, kind, worker = heapq.heappop(events)
            if kind:
                play.lose(at, worker)
            else:
                play.come(at, 1)
        elif play.running:
            play.step(ends)
        else:
            raise ValueError("no worker is left for what waits")
    return Simulated(
        play.now,
        tuple(play.busy),
        play.finished,
        tuple(play.failed),
        tuple(play.losses),
        tuple(play.joined),
    )
