from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, norm, permutation_test
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint, proportions_ztest

from harness.resampling import (
    accuracy_interval,
    difference_over_seeds,
    group_totals,
    image_draws,
    over_seeds,
    paired_interval,
)
from harness.stats import (
    holm,
    mcnemar_exact,
    newcombe_difference,
    sign_flip_exact,
    smallest_difference,
    unpaired_z,
    wilson,
)


def answers(rng, share, n, rows=None):
    return rng.random((n,) if rows is None else (rows, n)) < share


@pytest.mark.parametrize(("right", "n"), [(2755, 3000), (0, 7), (7, 7), (3, 5)])
def test_wilson_and_newcombe_as_statsmodels_has_them(right, n):
    assert wilson(right, n) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)
    wanted = confint_proportions_2indep(right, n, 2727, 3000, method="newcomb", compare="diff")
    assert newcombe_difference(right, n, 2727, 3000) == pytest.approx(wanted, abs=1e-9)


def test_mcnemar_and_holm_as_statsmodels_has_them():
    for b, c in ((11, 4), (7, 16), (0, 6)):
        assert mcnemar_exact(b, c) == pytest.approx(mcnemar([[5, b], [c, 5]], exact=True).pvalue)
    p = [0.04, 0.001, 0.03, 0.8, 0.011]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_the_original_s_first_two_cells_unpaired():
    counts = unpaired_z(2755 / 3000, 3000, 2727 / 3000, 3000)
    z, p = proportions_ztest([2755, 2727], [3000, 3000])
    assert (counts.z, counts.p) == pytest.approx((z, p))
    assert counts.z == pytest.approx(1.29, abs=0.005)
    assert unpaired_z(0.9138, 3000, 0.9090, 3000).z == pytest.approx(0.65, abs=0.005)
    assert unpaired_z(1.0, 10, 1.0, 20) == (0.0, 0.0, 1.0)


def test_signs_by_hand():
    assert sign_flip_exact([]) == 1
    assert sign_flip_exact([0, 0]) == 1
    # Eight sign patterns of 1, 1 and 3: only all plus and all minus reach 5.
    assert sign_flip_exact([1, 1, 3]) == pytest.approx(2 / 8)
    # 3 - 1 - 1 = 1 is reached by every pattern.
    assert sign_flip_exact([3, -1, -1]) == 1


def test_signs_of_single_images_are_mcnemar():
    for b, c in ((11, 4), (0, 6), (3, 3)):
        assert sign_flip_exact([1] * b + [-1] * c) == pytest.approx(mcnemar_exact(b, c))


def test_signs_against_scipy_s_permutations():
    right, other = np.array([5, 3, 4, 9, 0, 2, 7, 6]), np.array([4, 3, 1, 7, 1, 0, 7, 4])
    wanted = permutation_test(
        (right, other), lambda x, y: np.sum(x - y), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_exact(right - other) == pytest.approx(wanted.pvalue)


def test_groups_are_summed():
    totals, sizes = group_totals(np.array([[1, 0, 1, 1], [0, 0, 0, 1]], dtype=bool), np.array([7, 3, 7, 3]))
    assert (totals.tolist(), sizes.tolist()) == ([[1, 2], [1, 0]], [2, 2])


def test_a_paired_interval_against_scipy_s_bootstrap():
    rng = np.random.default_rng(1)
    a = answers(rng, 0.9, 400)
    b = a ^ answers(rng, 0.1, 400)
    found = paired_interval(a, b)
    wanted = bootstrap((a * 1.0 - b,), np.mean, method="percentile", n_resamples=20_000, vectorized=True)
    assert found == pytest.approx(tuple(wanted.confidence_interval), abs=0.003)
    assert paired_interval(a, b) == found


def test_groups_widen_an_interval_as_the_design_effect_says():
    rng = np.random.default_rng(2)
    once = answers(rng, 0.8, 100)
    correct, groups = np.repeat(once, 9), np.repeat(np.arange(100), 9)
    # Nine copies of an image are one image: the interval is that of 100, three times as wide as of 900.
    low, high = accuracy_interval(correct, groups)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(once.mean() * (1 - once.mean()) / 100), rel=0.05)
    narrow = np.quantile(image_draws(correct[None], None)[:, 0], [0.025, 0.975])
    assert (high - low) / (narrow[1] - narrow[0]) == pytest.approx(3, rel=0.07)


def test_groups_of_unequal_size_are_weighed_by_their_images():
    correct, groups = np.array([1, 1, 1, 0], dtype=bool), np.array([0, 0, 0, 1])
    # Drawn with replacement: the large group twice 1, once each 3/4, the small one twice 0.
    draws = image_draws(correct[None], groups)[:, 0]
    values, counts = np.unique(draws, return_counts=True)
    assert values.tolist() == [0, 0.75, 1]
    assert counts / counts.sum() == pytest.approx([0.25, 0.5, 0.25], abs=0.02)


def test_seeds_and_images_apart():
    rng = np.random.default_rng(3)
    image = answers(rng, 0.7, 1000)
    # Seeds that answer alike add nothing.
    alike = over_seeds(np.stack([image] * 4))
    assert alike.se_seeds == 0
    assert alike.se_images == pytest.approx(np.sqrt(image.mean() * (1 - image.mean()) / 1000), rel=0.05)
    assert alike.se == pytest.approx(alike.se_images, rel=1e-6)
    # Seeds that are wholly right or wholly wrong: images add nothing, three of four are right.
    apart = over_seeds(np.repeat([[True], [True], [False], [True]], 1000, axis=1))
    assert (apart.value, apart.se_images) == (0.75, 0)
    assert apart.se_seeds == pytest.approx(0.5 / np.sqrt(4))
    assert apart.se == pytest.approx(0.25, rel=0.03)
    assert apart.df == pytest.approx(3, rel=0.1)


def test_counts_are_not_pooled_over_seeds():
    rng = np.random.default_rng(4)
    a = answers(rng, 0.80, 300)
    b = a.copy()
    b[np.flatnonzero(a)[:5]] = False  # five images more are wrong: p = 0.06
    assert mcnemar_exact(5, 0) == pytest.approx(2 / 32)
    # Ten seeds that answer alike are no new images; fifty images against none would be p < 1e-14.
    found = difference_over_seeds(np.stack([a] * 10), np.stack([b] * 10), same_seeds=True)
    assert found.value == pytest.approx(5 / 300)
    assert found.p > 0.01


def test_the_same_seeds_are_drawn_as_pairs():
    rng = np.random.default_rng(5)
    shift = np.array([0.95, 0.75, 0.55, 0.85])[:, None]
    a = rng.random((4, 500)) < shift
    b = a & ~answers(rng, 0.05, 500, rows=4)
    paired = difference_over_seeds(a, b, same_seeds=True)
    apart = difference_over_seeds(a, b, same_seeds=False)
    assert [paired.value, apart.value] == pytest.approx([a.mean() - b.mean()] * 2)
    assert paired.se_seeds < apart.se_seeds / 5
    assert paired.p < 0.05 < apart.p


def test_the_smallest_difference_is_found_with_its_power():
    n, share = 3000, 0.10
    size = smallest_difference(np.sqrt(share / n), n)
    assert size == pytest.approx((norm.isf(0.025) + norm.ppf(0.8)) * np.sqrt(0.1 / 3000))
    rng = np.random.default_rng(6)
    counts = rng.multinomial(n, [(share + size) / 2, (share - size) / 2, 1 - share], size=2000)
    power = np.mean([mcnemar_exact(b, c) < 0.05 for b, c, _ in counts])
    assert power == pytest.approx(0.8, abs=0.04)


def test_five_images_never_suffice():
    assert smallest_difference(0.0, 300) == 6 / 300
    assert mcnemar_exact(6, 0) < 0.05 < mcnemar_exact(5, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "between"), [(3, 0.0), (3, 0.3), (5, 0.3)])
def test_intervals_over_seeds_cover(seeds, between):
    """The truth is known: a probit model with effects of seeds, images and their meeting."""
    rng, n, hits, tries = np.random.default_rng(7), 400, 0, 200
    truth = norm.cdf(1.6 / np.sqrt(1.5**2 + 0.8**2 + between**2))
    for _ in range(tries):
        latent = rng.normal(1.6, 1.5, n) + rng.normal(0, between, (seeds, 1)) + rng.normal(0, 0.8, (seeds, n))
        low, high = over_seeds(latent > 0).interval
        hits += low <= truth <= high
    assert hits / tries >= 0.90
