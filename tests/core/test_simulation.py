"""A scheduler played through: against figures worked out by hand, and with ten thousand cells."""

import itertools
import random

import pytest

from harness.dispatch import CellLoad, GroupLoad, dispatch
from harness.simulation import EPOCHS, Task, Training, simulate, tasks


def task(prefix, *times, name="a"):
    return Task(prefix, tuple(Training(f"{name}{i}", t, t) for i, t in enumerate(times)))


def test_a_free_worker_takes_what_waits_next():
    found = simulate([task(1, 4), task(1, 3, name="b"), task(1, 2, name="c"), task(0, 1, name="d")], 2)
    assert (found.ends, found.busy, found.lost) == (7, (6, 7), 0)
    assert set(found.finished.values()) == {1}


def test_a_lost_worker_costs_the_pass_and_what_the_epoch_had_done():
    """Lost at 7.5 of: a pass of 2, a cell of 4 (done), a cell of 10 whose first epoch of one is whole."""
    found = simulate([task(2, 4, 10), task(1, 1, name="b")], 2, lost=[(7.5, 0)])
    assert found.losses == (2 + 0.5,)
    assert found.busy == (7.5, 2 + 2 + 9)
    assert found.ends == 7.5 + 2 + 9
    assert set(found.finished.values()) == {1}


def test_a_worker_lost_in_its_pass_had_done_nothing_else():
    found = simulate([task(2, 4)], 2, lost=[(1.5, 0)])
    assert (found.losses, found.ends) == ((1.5,), 1.5 + 6)


def test_an_idle_worker_that_is_lost_costs_nothing():
    found = simulate([task(2, 4)], 2, lost=[(1, 1)])
    assert (found.losses, found.ends) == ((), 6)


def test_what_is_left_of_a_unit_that_is_lost_too_often_is_tried_cell_by_cell():
    """Lost at 6, 8 and 9 of 0 + 1 + 4 + 4 + 4: one cell was done, two are left, on two workers at once."""
    unit = task(1, 4, 4, 4)
    found = simulate([unit], 5, lost=[(6, 0), (8, 1), (9, 2)], retries=2)
    assert found.finished == {"a0": 1, "a1": 1, "a2": 1}
    assert found.ends == pytest.approx(9 + 1 + 4)
    # After the third loss the first of them had made an epoch in 6 - 5 = 1: two whole ones of 0.4 are kept.
    assert found.losses[0] == pytest.approx(1 + 0.2)
    again = simulate([unit], 6, lost=[(6, 0), (8, 1), (9, 2)], retries=0)
    assert (again.failed, again.finished) == (("a1", "a2"), {"a0": 1})
    assert simulate([task(1, 4)], 2, lost=[(3, 0)], retries=0).failed == ("a0",)


def test_a_worker_that_joins_takes_what_waits():
    found = simulate([task(0, 4, name=n) for n in "abc"], 1, joins=[1])
    assert (found.ends, found.busy) == (8, (8, 4))
    with pytest.raises(ValueError, match="no worker is left"):
        simulate([task(0, 4)], 1, lost=[(1, 0)])
    assert simulate([task(0, 4)], 1, lost=[(1, 0)], joins=[3]).ends == 3 + 4 - 0.8, "two epochs were whole"


@pytest.mark.parametrize("seed", range(5))
def test_without_noise_or_loss_it_is_what_dispatch_says(seed):
    draw = random.Random(seed)
    loads = []
    for name in range(6):
        count = draw.randrange(1, 30)
        cells = tuple(CellLoad((name, i), draw.uniform(1, 9), 4.0) for i in range(count))
        loads.append(GroupLoad(f"g{name}", cells))
    suffix = {cell.cell: cell.suffix for load in loads for cell in load.cells}
    plan = dispatch(loads, 7)
    found = simulate(tasks(plan.units, suffix), 7)
    assert found.ends == pytest.approx(plan.ends)
    assert found.finished == dict.fromkeys(suffix, 1)


GROUPS = {  # seconds of the pass, of a cell's training: what VGG16 and ResNet cost on an A100, about
    "vgg16": (60.0, (25.0, 150.0, 600.0)),
    "resnet50": (20.0, (15.0, 40.0, 250.0)),
    "resnet18": (8.0, (12.0, 20.0, 90.0)),
    "efficientnet_b0": (6.0, (12.0, 30.0, 120.0)),
}


def ten_thousand():
    """Four networks, 2,500 cells each: linear probes, last blocks, full fine-tuning."""
    draw = random.Random(0)
    return [
        GroupLoad(name, tuple(CellLoad((name, i), draw.choice(times), prefix) for i in range(2500)))
        for name, (prefix, times) in GROUPS.items()
    ]


@pytest.mark.parametrize(
    ("workers", "lose", "join", "spread", "finer"),
    [
        (64, 0, 0, 0.0, 1),
        (64, 0, 0, 0.3, 1),
        pytest.param(64, 0, 0, 0.3, 8, marks=pytest.mark.slow),
        (64, 12, 8, 0.3, 1),
        pytest.param(64, 12, 8, 0.3, 8, marks=pytest.mark.slow),
        pytest.param(512, 40, 0, 0.3, 1, marks=pytest.mark.slow),
        pytest.param(512, 40, 0, 0.3, 8, marks=pytest.mark.slow),
    ],
)
def test_ten_thousand_cells(workers, lose, join, spread, finer):
    """Each cell ends once; a lost worker costs what it had of a pass and of an epoch, and not more.

    ``finer`` dispatches for so many times as many workers: smaller units, more passes over the images.
    """
    loads = ten_thousand()
    cells = [cell for load in loads for cell in load.cells]
    plan = dispatch(loads, workers * finer)
    waiting = tasks(plan.units, {cell.cell: cell.suffix for cell in cells}, spread, seed=1)
    calm = simulate(waiting, workers)
    draw = random.Random(2)
    when = sorted(draw.uniform(0, calm.ends) for _ in range(lose))
    lost = list(zip(when, draw.sample(range(workers), lose), strict=True))
    joins = [draw.uniform(0, calm.ends / 2) for _ in range(join)]
    found = simulate(waiting, workers, lost=lost, joins=joins, retries=3)
    assert len(found.finished) == len(cells) == 10_000
    assert set(found.finished.values()) == {1}
    assert found.failed == ()
    times = [training.whole for unit in waiting for training in unit.cells]
    assert all(0 <= a <= max(u.prefix for u in waiting) + max(times) / EPOCHS for a in found.losses)
    assert sum(found.busy) - sum(calm.busy) == pytest.approx(found.lost, abs=1e-6)
    needed = sum(load.cells[0].prefix for load in loads) + sum(times)
    there = workers + sum(found.ends - at for at in joins) / found.ends
    there -= sum(max(found.ends - at, 0) for at, _ in lost) / found.ends
    bound = max(needed / there, max(unit.prefix + t.whole for unit in waiting for t in unit.cells))
    print(
        f"{workers} workers, {lose} lost, {join} join, spread {spread}: {len(plan.units)} units end after "
        f"{found.ends:.0f} s, lower bound {bound:.0f} s (x {found.ends / bound:.3f}); "
        f"{100 * found.lost / sum(found.busy):.2f} % of the work done again"
    )
    assert bound * (1 - 1e-9) <= found.ends
    assert found.ends <= calm.ends + max(unit.time for unit in waiting)


def test_every_moment_of_a_loss_keeps_the_books():
    """One worker lost at any time: what was worked is what was needed and what was lost."""
    waiting = [task(2, 3, 5), task(1, 4, name="b"), task(3, 2, 2, 2, name="c")]
    needed = sum(t.time for t in waiting)
    for at, worker in itertools.product([i / 4 for i in range(60)], range(2)):
        found = simulate(waiting, 3, lost=[(at, worker)])
        assert sum(found.busy) == pytest.approx(needed + found.lost)
        assert set(found.finished.values()) == {1}
        assert len(found.finished) == 6
