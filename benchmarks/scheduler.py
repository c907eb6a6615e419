"""Rules by which units go to workers, played through: when all ends, and what more work that takes.

    python -m benchmarks.scheduler --seeds 5

10,000 cells in four groups (:func:`ten_thousand`), or a tenth of that for 8 workers, with varying times and
lost workers. Every figure is the mean over seeds, of which each draws times, and who is lost when.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

from harness.dispatch import CellLoad, Dispatch, GroupLoad, dispatch, helpers
from harness.simulation import Simulated, Task, simulate, tasks

Name = tuple[str, int]
GROUPS = {  # seconds of the pass, of a cell's training: what VGG16 and ResNet cost on an A100, about
    "vgg16": (60.0, (25.0, 150.0, 600.0)),
    "resnet50": (20.0, (15.0, 40.0, 250.0)),
    "resnet18": (8.0, (12.0, 20.0, 90.0)),
    "efficientnet_b0": (6.0, (12.0, 30.0, 120.0)),
}
SPREAD = 0.3
RULES = ("whole", "finer", "joining")
FINER = 8  # times as many workers


def ten_thousand(each: int = 2500) -> list[GroupLoad[Name]]:
    """Four networks, ``each`` cells of each: linear probes, last blocks, full fine-tuning."""
    draw = random.Random(0)
    return [
        GroupLoad(name, tuple(CellLoad((name, i), draw.choice(times), prefix) for i in range(each)))
        for name, (prefix, times) in GROUPS.items()
    ]


@dataclass(frozen=True)
class Played:
    """An end over the lower bound, and the work over what is needed, both as factors."""

    ends: float
    work: float


def played(
    plan: Dispatch[Name], loads: Sequence[GroupLoad[Name]], workers: int, join: bool, lose: int, seed: int
) -> Played:
    """One run. Workers are lost at times spread evenly over that in which all could be done."""
    suffix = {cell.cell: cell.suffix for load in loads for cell in load.cells}
    waiting = tasks(plan.units, suffix, SPREAD, seed)
    times = [t.whole for task in waiting for t in task.cells]
    needed = sum(load.cells[0].prefix for load in loads) + sum(times)
    draw = random.Random(seed)
    when = sorted(draw.uniform(0, needed / workers) for _ in range(lose))
    lost = list(zip(when, draw.sample(range(workers), lose), strict=True))
    many = helpers(len(waiting), workers) if join else 0
    found = simulate(waiting, workers, helpers=many, lost=lost, retries=3)
    assert set(found.finished.values()) == {1}
    assert len(found.finished) == len(suffix)
    return Played(found.ends / bound(waiting, needed, workers, found, lost), sum(found.busy) / needed)


def bound(
    waiting: Sequence[Task[Name]],
    needed: float,
    workers: int,
    found: Simulated[Name],
    lost: Sequence[tuple[float, int]] = (),
    joins: Sequence[float] = (),
) -> float:
    """All work shared evenly by the workers that are there, or the longest cell with its pass."""
    there = workers + sum(found.ends - at for at in joins) / found.ends
    there -= sum(max(found.ends - at, 0) for at, _ in lost) / found.ends
    longest = max(task.prefix + t.whole for task in waiting for t in task.cells)
    return max(needed / there, longest)


def lines(workers: Sequence[int], seeds: int) -> Iterator[str]:
    """A Markdown table."""
    yield "| workers | lost | " + " | ".join(f"{rule}: end | work" for rule in RULES) + " |"
    yield "|---" * (2 + 2 * len(RULES)) + "|"
    for count in workers:
        loads = ten_thousand(2500 if count > 8 else 250)
        plans = {times: dispatch(loads, count * times) for times in (1, FINER)}
        for lose in (0, max(count // 64, 1), count // 4):
            row = []
            for rule in RULES:
                plan = plans[FINER if rule == "finer" else 1]
                found = [played(plan, loads, count, rule == "joining", lose, seed) for seed in range(seeds)]
                row += [f"{mean(p.ends for p in found):.3f}", f"{mean(p.work for p in found):.3f}"]
            yield f"| {count} | {lose} | " + " | ".join(row) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    for line in lines(given.workers, given.seeds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
