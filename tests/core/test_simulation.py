"""A scheduler played through: against figures worked out by hand, and with ten thousand cells."""

import itertools
import random

import pytest

from harness.dispatch import CellLoad, GroupLoad, dispatch, helpers
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


def test_a_worker_without_a_unit_trains_what_others_have_not_begun():
    """Four cells of 4 after a pass of 2: worker 1 is free at 3, makes its own pass, takes the second at 5 and
    the fourth at 9; all ends at 13 instead of 18.
    """
    waiting = [task(2, 4, 4, 4, 4), Task(0, (Training("b0", 3, 3),), group="b")]
    assert simulate(waiting, 2).ends == 18
    found = simulate(waiting, 2, helpers=1)
    assert (found.ends, found.busy, found.joined) == (13, (10, 13), (2,))
    assert found.finished == {"a0": 1, "a1": 1, "a2": 1, "a3": 1, "b0": 1}


def test_nobody_joins_for_less_than_the_pass_is_worth():
    """At 3 a cell of 4 waits and the pass takes 3.5: with 4.2 it would be worth it."""
    waiting = [task(3.5, 4, 4), Task(0, (Training("b0", 4, 4),), group="b")]
    found = simulate(waiting, 2, helpers=1)
    assert (found.ends, found.joined) == (11.5, ())


def test_who_is_lost_while_it_helps_leaves_its_cell_for_the_end():
    """It had a pass from 3 to 5, and is lost at 7.3, when 5 of 10 epochs were whole: what is left is 2."""
    waiting = [task(2, 4, 4, 4, 4), Task(0, (Training("b0", 3, 3),), group="b")]
    found = simulate(waiting, 2, helpers=1, lost=[(7.3, 1)])
    assert found.losses == (pytest.approx(2 + 0.3),)
    assert found.ends == pytest.approx(2 + 4 + 4 + 4 + 2 + 2)
    assert set(found.finished.values()) == {1}


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


@pytest.mark.parametrize(
    ("workers", "lose", "join", "spread"),
    [
        (64, 0, 0, 0.0),
        (64, 12, 8, 0.3),
        pytest.param(64, 0, 0, 0.3, marks=pytest.mark.slow),
        pytest.param(512, 40, 0, 0.3, marks=pytest.mark.slow),
    ],
)
def test_ten_thousand_cells(benchmarks, workers, lose, join, spread):
    """Each cell ends once; a lost worker costs what it had of a pass and of an epoch, and not more.

    With workers that help others when no unit is left for them, and without, which ends later.
    """
    from benchmarks.scheduler import bound, ten_thousand

    loads = ten_thousand()
    cells = [cell for load in loads for cell in load.cells]
    plan = dispatch(loads, workers)
    waiting = tasks(plan.units, {cell.cell: cell.suffix for cell in cells}, spread, seed=1)
    calm = simulate(waiting, workers)
    draw = random.Random(2)
    when = sorted(draw.uniform(0, calm.ends) for _ in range(lose))
    lost = list(zip(when, draw.sample(range(workers), lose), strict=True))
    joins = [draw.uniform(0, calm.ends / 2) for _ in range(join)]
    alone = simulate(waiting, workers, lost=lost, joins=joins, retries=3)
    many = helpers(len(waiting), workers)
    found = simulate(waiting, workers, helpers=many, lost=lost, joins=joins, retries=3)
    times = [training.whole for unit in waiting for training in unit.cells]
    needed = sum(load.cells[0].prefix for load in loads) + sum(times)
    for how, played in (("alone", alone), ("joined", found)):
        assert len(played.finished) == len(cells) == 10_000
        assert set(played.finished.values()) == {1}
        assert played.failed == ()
        assert all(0 <= a <= max(u.prefix for u in waiting) + max(times) / EPOCHS for a in played.losses)
        least = bound(waiting, needed, workers, played, lost, joins)
        print(
            f"{workers} workers, {lose} lost, {join} join, spread {spread}, {how}: {len(plan.units)} units "
            f"end after {played.ends:.0f} s, lower bound {least:.0f} s (x {played.ends / least:.3f}); "
            f"{100 * played.lost / sum(played.busy):.2f} % of the work done again"
        )
        assert least * (1 - 1e-9) <= played.ends
        assert played.ends <= calm.ends + max(unit.time for unit in waiting)
    more = sum(alone.busy) - sum(calm.busy)
    assert more == pytest.approx(alone.lost, abs=1e-6)
    assert sum(found.busy) <= sum(calm.busy) + found.lost + sum(found.joined) + 1e-6
    assert found.ends <= 1.1 * alone.ends  # in the mean sooner; who is lost while it helps costs time
    assert sum(found.busy) <= 1.04 * sum(alone.busy)


def test_the_table_of_rules(benchmarks):
    """Joining ends sooner than units alone and takes less work than finer ones, with and without losses."""
    from benchmarks.scheduler import lines

    _, _, *rows = (line.strip("| ").split(" | ") for line in lines([8], 2))
    assert len(rows) == 3
    for _, _, *figures in rows:
        whole, _, _, finer, joining, joined = map(float, figures)
        assert joining < whole
        assert joined < finer


def test_every_moment_of_a_loss_keeps_the_books():
    """One worker lost at any time: what was worked is what was needed and what was lost."""
    waiting = [task(2, 3, 5), task(1, 4, name="b"), task(3, 9, 2, 2, name="c")]
    needed = sum(t.time for t in waiting)
    for at, worker, many in itertools.product([i / 4 for i in range(60)], range(2), (0, 2)):
        found = simulate(waiting, 3, helpers=many, lost=[(at, worker)])
        assert sum(found.busy) <= needed + found.lost + sum(found.joined) + 1e-9
        assert many or sum(found.busy) == pytest.approx(needed + found.lost)
        assert set(found.finished.values()) == {1}
        assert len(found.finished) == 6
