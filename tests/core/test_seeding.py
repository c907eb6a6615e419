"""Streams of random numbers: fixed for ever, and independent of each other."""

import numpy as np
import pytest
import torch

from harness.runtime import seed_generators
from harness.seeding import coins, derive_seed, generator


def test_seeds_are_the_same_on_every_machine_and_version():
    assert derive_seed(0, "order", 1) == 3818025765772773313
    assert derive_seed(7, "flip", 3, "000001.jpg") == 8719455033700208299


def test_a_seed_fits_63_bits():
    seeds = [derive_seed(0, i) for i in range(200)]
    assert all(0 <= s < 2**63 for s in seeds)
    assert max(seeds) > 2**62
    assert len(set(seeds)) == 200


@pytest.mark.parametrize(
    "other", [(1, "order", 1), (0, "flip", 1), (0, "order", 2), (0, "order"), (0, "order", 1, 0)]
)
def test_base_and_every_part_of_the_purpose_count(other):
    assert derive_seed(*other) != derive_seed(0, "order", 1)


def test_parts_of_a_purpose_do_not_run_together():
    assert derive_seed(0, "step", 1, 23) != derive_seed(0, "step", 12, 3)
    assert derive_seed(1, "2") != derive_seed(12)


def test_a_generator_repeats_itself_and_differs_by_purpose():
    first = generator(4, "order", 1).permutation(50)
    assert np.array_equal(first, generator(4, "order", 1).permutation(50))
    assert not np.array_equal(first, generator(4, "order", 2).permutation(50))


def test_the_coin_of_an_id_does_not_depend_on_the_other_ids():
    ids = tuple(f"{i}.jpg" for i in range(100))
    whole = coins(3, "flip", 1, ids=ids)
    assert np.array_equal(coins(3, "flip", 1, ids=ids[40:60]), whole[40:60])
    assert np.array_equal(coins(3, "flip", 1, ids=ids[::-1]), whole[::-1])


def test_coins_are_fair_and_fall_differently_in_each_epoch():
    ids = tuple(map(str, range(4000)))
    first, second = coins(0, "flip", 1, ids=ids), coins(0, "flip", 2, ids=ids)
    # Four standard deviations of 4,000 fair coins.
    assert abs(first.mean() - 0.5) < 4 * 0.5 / 4000**0.5
    assert abs((first == second).mean() - 0.5) < 4 * 0.5 / 4000**0.5


def test_torchs_generators_are_seeded_as_torch_seeds_them():
    seed = derive_seed(0, "step", 1, 2)
    torch.manual_seed(seed)
    expected = torch.nn.functional.dropout(torch.ones(100))
    seed_generators(seed, torch.device("cpu"))
    assert torch.equal(torch.nn.functional.dropout(torch.ones(100)), expected)
