"""Groups of cells to units of work for several workers; plain arithmetic, no torch.

A **unit** is cells of one group that one worker runs together, after one pass over the images. A group
is one unit, unless workers would stand idle: then it may be split, and every part makes the pass again.
:func:`dispatch` weighs the one against the other, gives the units longest first, and says in a line why
each group was split or why it wasn't although workers are idle.

Engines give the next unit to whichever worker is free (list scheduling, longest first: Graham 1969);
:func:`finish_times` says when each unit would be done so. Costs are in any one unit, such as FLOP or
seconds. With n cells, g groups and w workers it takes O(n log n) for sorting and a few hundred times
(g + w) log w; ten thousand cells on 64 workers are a fraction of a second.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

SAVED = 0.1  # what an hour of a worker's work that is spared is worth, in hours of all workers held

_STEP = 1.04  # between the sizes of units that are tried
_TRIED = range(-30, 31)  # from 0.3 to 3.2 times each worker's equal share
_SLACK = 1 + 1e-9  # costs are sums of floating-point numbers
_HALVINGS = 40  # of the interval in which a partition's largest part is looked for


@dataclass(frozen=True)
class CellLoad(Generic[T]):
    """A cell and what it costs.

    ``suffix`` is its own training; ``prefix`` the pass over the images that it needs, to its deepest
    cut, were it alone. Cells of one unit with the same ``shares`` make one pass together, the
    dearest of theirs, since the way to a deep cut leads past all shallower ones.
    """

    cell: T
    suffix: float
    prefix: float = 0.0
    shares: Hashable = None


@dataclass(frozen=True)
class GroupLoad(Generic[T]):
    """Cells of one network. ``name`` is what the reasons call it."""

    name: str
    cells: tuple[CellLoad[T], ...]


@dataclass(frozen=True)
class Unit(Generic[T]):
    """What one worker runs together: cells of one group, in its order. ``prefix`` is a part of ``cost``."""

    group: str
    cells: tuple[T, ...]
    cost: float
    prefix: float


@dataclass(frozen=True)
class Dispatch(Generic[T]):
    """Units, longest first; when the last would be done, and when without any split; why, in lines."""

    units: tuple[Unit[T], ...]
    workers: int
    ends: float
    ends_whole: float
    reasons: tuple[str, ...]


def finish_times(costs: Sequence[float], workers: int) -> tuple[float, ...]:
    """When each unit is done, if whichever of ``workers`` is free first takes the next in this order."""
    free = [0.0] * min(workers, len(costs))
    done = []
    for cost in costs:
        done.append(free[0] + cost)
        heapq.heapreplace(free, done[-1])
    return tuple(done)


def dispatch(groups: Sequence[GroupLoad[T]], workers: int) -> Dispatch[T]:
    """Units of ``groups`` for ``workers``: what ends soonest, unless that takes much more work.

    A split has to bring the end nearer by a tenth (``SAVED``) of what it adds to each worker's work.
    """
    queues = [_Queue(group) for group in groups if group.cells]
    parts = dict.fromkeys(range(len(queues)), 1)
    whole = _ends(queues, parts, workers)
    if workers > 1:
        parts = _fewer(queues, _sized(queues, parts, workers), workers)
    units = [unit for number, queue in enumerate(queues) for unit in queue.units(parts[number])]
    units.sort(key=lambda unit: -unit.cost)  # stable: equals stay in the grid's order
    ends = _ends(queues, parts, workers)
    return Dispatch(tuple(units), workers, ends, whole, tuple(_reasons(queues, parts, workers, ends)))


def helpers(units: int, workers: int) -> int:
    """Workers that may join others when no unit is left for them: all but the last that works.

    None where there are more workers than units, since then a split doesn't pay from the beginning.
    """
    return workers - 1 if units >= workers else 0


def worth_joining(waiting: float, prefix: float) -> bool:
    """Whether a worker that nothing is left for should make the pass of a group that others work at.

    ``waiting`` is the cost of the cells there that nobody has begun: shared after the pass, all ends by half
    of what they cost beyond it sooner, which has to be a tenth (``SAVED``) of the pass.
    """
    return (waiting - prefix) / 2 > SAVED * prefix


@dataclass
class _Queue(Generic[T]):
    """A group's cells in the order in which they are cut into parts.

    What shares a pass stands together, the dearest pass first; so the pass of a part is known by its
    first cell and by where passes begin in it, and sums over any part are differences.
    """

    group: GroupLoad[T]
    order: list[int] = field(default_factory=list)
    begins: list[float] = field(default_factory=list)  # the pass of what begins at each place, else 0
    sums: list[float] = field(default_factory=lambda: [0.0])  # of suffixes and of passes that begin
    known: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cells = self.group.cells
        first: dict[Hashable, int] = {}
        for cell in cells:
            first.setdefault(cell.shares, len(first))
        self.order = sorted(
            range(len(cells)), key=lambda i: (first[cells[i].shares], -cells[i].prefix, -cells[i].suffix)
        )
        previous: Hashable = self
        for i in self.order:
            self.begins.append(cells[i].prefix if cells[i].shares != previous else 0.0)
            self.sums.append(self.sums[-1] + cells[i].suffix + self.begins[-1])
            previous = cells[i].shares

    def cost(self, start: int, stop: int) -> float:
        return self.sums[stop] - self.sums[start] + self._again(start)

    def _again(self, start: int) -> float:
        """The pass that a part makes for its first cell, if that isn't counted in ``sums``."""
        return self.group.cells[self.order[start]].prefix - self.begins[start]

    def fill(self, size: float, at_most: int) -> list[int] | None:
        """Where parts of at most ``size`` end, a cell each at least; None for more than ``at_most``."""
        ends: list[int] = []
        start, count = 0, len(self.order)
        if self.cost(0, count) <= size:
            return [count]
        while start < count:
            if len(ends) == at_most:
                return None
            room = (size - self._again(start)) * _SLACK + self.sums[start]
            start = max(bisect_right(self.sums, room, start) - 1, start + 1)
            ends.append(start)
        return ends

    def cut(self, parts: int) -> list[int]:
        """Where at most ``parts`` parts end, the largest as small as can be."""
        if parts not in self.known:
            count = len(self.order)
            low, high, best = 0.0, self.cost(0, count), [count]
            for _ in range(_HALVINGS if parts > 1 else 0):
                size = (low + high) / 2
                found = self.fill(size, parts)
                low, high, best = (size, high, best) if found is None else (low, size, found)
            self.known[parts] = best
        return self.known[parts]

    def costs(self, parts: int) -> list[float]:
        ends = self.cut(parts)
        return [self.cost(a, b) for a, b in zip([0, *ends], ends, strict=False)]

    def units(self, parts: int) -> list[Unit[T]]:
        ends, cells, found = self.cut(parts), self.group.cells, []
        for start, stop in zip([0, *ends], ends, strict=False):
            rows, cost = sorted(self.order[start:stop]), self.cost(start, stop)
            prefix = sum(self.begins[start:stop]) + self._again(start)
            found.append(Unit(self.group.name, tuple(cells[i].cell for i in rows), cost, prefix))
        return found


def _costs(queues: Sequence[_Queue[T]], parts: Mapping[int, int]) -> list[float]:
    found = [cost for number, queue in enumerate(queues) for cost in queue.costs(parts[number])]
    return sorted(found, reverse=True)


def _ends(queues: Sequence[_Queue[T]], parts: Mapping[int, int], workers: int) -> float:
    return max(finish_times(_costs(queues, parts), workers), default=0.0)


def _price(queues: Sequence[_Queue[T]], parts: Mapping[int, int], workers: int) -> float:
    """Every worker is held until the end, idle or not; work that is spared is worth something besides."""
    costs = _costs(queues, parts)
    return max(finish_times(costs, workers), default=0.0) + SAVED * sum(costs) / workers


def _sized(queues: Sequence[_Queue[T]], whole: Mapping[int, int], workers: int) -> dict[int, int]:
    """Parts of every group for the one largest size of a unit that has the lowest price."""
    share = sum(queue.cost(0, len(queue.order)) for queue in queues) / workers
    tried = {tuple(whole.values()): dict(whole)}
    for power in _TRIED:
        size = share * _STEP**power
        found = {n: len(q.fill(size, workers) or range(workers)) for n, q in enumerate(queues)}
        tried.setdefault(tuple(found.values()), found)
    return min(tried.values(), key=lambda parts: _price(queues, parts, workers))


def _fewer(queues: Sequence[_Queue[T]], parts: dict[int, int], workers: int) -> dict[int, int]:
    """Takes back every split without which the price is no higher."""
    price = _price(queues, parts, workers)
    for number in parts:
        while parts[number] > 1:
            fewer = {**parts, number: parts[number] - 1}
            found = _price(queues, fewer, workers)
            if found > price * _SLACK:
                break
            parts, price = fewer, found
    return parts


def _reasons(queues: Sequence[_Queue[T]], parts: Mapping[int, int], workers: int, ends: float) -> list[str]:
    """A line for each group that is split, and for each that could be and isn't though workers are idle."""
    units, lines = len(_costs(queues, parts)), []
    for number, queue in enumerate(queues):
        count, now = len(queue.order), parts[number]
        other = 1 if now > 1 else 2
        if other > count or not ends or (now == 1 and units >= workers):
            continue
        more = _percent(sum(queue.costs(max(now, other))) / sum(queue.costs(1)) - 1)
        instead = _ends(queues, {**parts, number: other}, workers)
        after = _percent((ends if now > 1 else instead) / (instead if now > 1 else ends))
        if now > 1:
            choice = f"{now} units are {more} more work, for their passes over the images"
            gain = f"all ends after {after} of the time that one unit takes"
        else:
            choice = f"one unit though {workers - units} of {workers} workers stay idle"
            gain = f"two are {more} more work, another pass over the images, to end after {after} of the time"
        lines.append(f"{queue.group.name}, {count} cells: {choice}; {gain}")
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
