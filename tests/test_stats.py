from __future__ import annotations

import math

import pytest

from harness.stats import holm, mcnemar_exact, newcombe_difference, spread, wilson


def test_wilson_by_the_formula():
    right, n, z = 2755, 3000, 1.959963984540054
    p = right / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson(right, n) == pytest.approx((middle - half, middle + half), abs=1e-12)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10)])
def test_wilson_stays_inside_at_the_ends(right, n):
    low, high = wilson(right, n)
    assert 0 <= low < high <= 1


@pytest.mark.parametrize(("right", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_what_is_no_share(right, n):
    with pytest.raises(ValueError, match="not a share"):
        wilson(right, n)


def test_newcombe_gives_the_paper_s_example():
    # Newcombe 1998, table II, example (a): 56/70 against 48/80 by method 10.
    assert newcombe_difference(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_mcnemar_by_hand():
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar_exact(1, 7) == pytest.approx(2 * (1 + 8) / 2**8)
    assert mcnemar_exact(7, 1) == mcnemar_exact(1, 7)


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx((0.06, 0.03, 0.06))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()


def test_spread():
    assert spread([0.5]) == (0.5, None)
    assert spread([1, 2, 3]) == pytest.approx((2, 1))
