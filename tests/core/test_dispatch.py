"""Units of work against figures worked out by hand, and against every possible partition."""

import itertools
import random
import time

import pytest

from harness.dispatch import CellLoad, GroupLoad, dispatch, finish_times


def group(name, *cells, prefix=0.0):
    """Cells by their suffixes, all after the same pass, or as (suffix, prefix[, shares])."""
    loads = [c if isinstance(c, tuple) else (c, prefix) for c in cells]
    return GroupLoad(name, tuple(CellLoad(f"{name}{i}", *load) for i, load in enumerate(loads)))


def shape(found):
    return [(unit.cells, unit.cost, unit.prefix) for unit in found.units]


def test_one_worker_takes_whole_groups_longest_first():
    found = dispatch([group("a", 1, 2, prefix=3), group("b", 9, prefix=1), group("c")], 1)
    assert shape(found) == [(("b0",), 10, 1), (("a0", "a1"), 6, 3)]
    assert (found.ends, found.ends_whole, found.reasons) == (16, 16, ())


def test_a_free_worker_takes_the_next_unit():
    assert finish_times([5, 4, 3, 2, 1], 2) == (5, 4, 7, 7, 8)
    assert finish_times([5, 4], 8) == (5, 4)
    assert finish_times([], 2) == ()


def test_a_group_is_split_between_idle_workers():
    found = dispatch([group("a", *[1] * 8, prefix=0.5)], 2)
    assert sorted(unit.cost for unit in found.units) == [4.5, 4.5]
    assert (found.ends, found.ends_whole) == (4.5, 8.5)
    assert found.reasons == (
        "a, 8 cells: 2 units are 5.88 % more work, for their passes over the images; "
        "all ends after 52.9 % of the time that one unit takes",
    )


def test_a_pass_that_costs_more_than_idle_workers_is_made_once():
    """In two units 150 to 153 of work instead of 53, to end at 52 instead of 53."""
    found = dispatch([group("a", 1, 1, 1, prefix=50)], 4)
    assert shape(found) == [(("a0", "a1", "a2"), 53, 50)]
    assert found.reasons == (
        "a, 3 cells: one unit though 3 of 4 workers stay idle; two are 94.3 % more work, "
        "another pass over the images, to end after 98.1 % of the time",
    )


def test_only_the_group_is_split_that_leaves_a_worker_idle():
    """Three tens on two workers end at 20; with one of them as 7 and 4, at 10 + 7."""
    found = dispatch([group(name, 3, 3, 3, prefix=1) for name in "abc"], 2)
    assert [unit.cost for unit in found.units] == [10, 10, 7, 4]
    assert (found.ends, found.ends_whole) == (17, 20)


def test_cells_with_a_shallow_cut_stay_without_the_deep_pass():
    """Alone 10 + 20; deep ones 10 + 2, shallow ones 2 + 18; with one of each in a unit 20 and 20."""
    found = dispatch([group("a", (1, 10), (9, 2), (1, 10), (9, 2))], 2)
    assert shape(found) == [(("a1", "a3"), 20, 2), (("a0", "a2"), 12, 10)]
    assert found.ends_whole == 30


def test_what_shares_no_pass_is_split_for_nothing():
    """Augmented images: a pass a seed, so that seeds apart cost what they cost together."""
    seeds = [(1, 5, seed) for seed in (0, 1, 0, 1)]
    found = dispatch([group("a", *seeds)], 2)
    assert sorted(shape(found)) == [(("a0", "a2"), 7, 5), (("a1", "a3"), 7, 5)]
    assert found.ends_whole == 14
    assert "2 units are 0 % more work" in found.reasons[0]


def test_costs_of_nothing_are_no_reason_to_split():
    found = dispatch([group("a", 0, 0)], 3)
    assert shape(found) == [(("a0", "a1"), 0, 0)]
    assert dispatch([], 3).units == ()


def brute(cells, workers):
    """The soonest end of any assignment of one group's cells to workers."""
    best = float("inf")
    for where in itertools.product(range(workers), repeat=len(cells)):
        ends = 0.0
        for worker in range(workers):
            own = [c for c, w in zip(cells, where, strict=True) if w == worker]
            ends = max(ends, sum(c.suffix for c in own) + max((c.prefix for c in own), default=0))
        best = min(best, ends)
    return best


@pytest.mark.parametrize("seed", range(20))
def test_a_split_is_near_the_best_of_all_assignments(seed):
    draw = random.Random(seed)
    cells = [(draw.uniform(1, 10), draw.choice([0.5, 1.0])) for _ in range(7)]
    one = group("a", *cells)
    found = dispatch([one], 3)
    assert brute(one.cells, 3) <= found.ends * (1 + 1e-9) <= 1.25 * brute(one.cells, 3)
    assert sorted(c for unit in found.units for c in unit.cells) == [c.cell for c in one.cells]
    for unit in found.units:
        own = [c for c in one.cells if c.cell in unit.cells]
        assert unit.prefix == pytest.approx(max(c.prefix for c in own))
        assert unit.cost == pytest.approx(unit.prefix + sum(c.suffix for c in own))


@pytest.mark.parametrize("sizes", [[10_000], [100] * 100, [5] * 2000, [9001] + [1] * 999])
def test_ten_thousand_cells_take_little_time(sizes):
    draw = random.Random(0)
    groups = [
        group(f"g{i}-", *(draw.uniform(1, 10) for _ in range(n)), prefix=5) for i, n in enumerate(sizes)
    ]
    began = time.process_time()
    found = dispatch(groups, 64)
    seconds = time.process_time() - began
    print(f"{sum(sizes)} cells in {len(sizes)} groups for 64 workers: {seconds:.2f} s")
    assert seconds < 5
    cells = [c for unit in found.units for c in unit.cells]
    assert len(cells) == len(set(cells)) == sum(sizes)
    assert [u.cost for u in found.units] == sorted((u.cost for u in found.units), reverse=True)
    share = sum(u.cost for u in found.units) / 64
    assert found.ends == pytest.approx(max(finish_times([u.cost for u in found.units], 64)))
    assert share <= found.ends <= 1.2 * share
