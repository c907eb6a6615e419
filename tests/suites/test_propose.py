"""Bands from measurement, and the part of a suite's file that is theirs."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from harness.errors import UsageError
from harness.suites import parse_suite
from harness.suites.claims import Cell
from harness.suites.propose import Prior, each_coverage, prediction_interval, propose
from harness.suites.write import BEGIN, END, merged, section, shared_digests
from suites.rows import HEAD, evidence

COUNTS = {"counts": {"train": [4000, 6000], "test": [400, 600]}}
CELL = Cell("vgg_tiny", "own", "full", 1e-3, 0)


def measured(*accuracies):
    """Runs of 1,000 test images, 600 of them of the largest class."""
    return [
        evidence(a, test=evidence(a).record["test"] | {"loss": 1 - a, "n": 1000}, data=COUNTS)
        for a in accuracies
    ]


def test_the_interval_is_that_of_one_more_observation():
    values = [0.91, 0.93, 0.92, 0.95, 0.90]
    low, high = prediction_interval(values, 0.9)
    half = 2.1318467863 * statistics.stdev(values) * (1 + 1 / 5) ** 0.5  # t table, 4 degrees, 95 %
    assert (low, high) == pytest.approx((0.922 - half, 0.922 + half), abs=1e-9)


def test_it_covers_what_it_says():
    rng = np.random.default_rng(1)
    draws = rng.normal(0.8, 0.02, (4000, 11))
    inside = [low <= x[-1] <= high for x in draws for low, high in [prediction_interval(list(x[:-1]), 0.9)]]
    assert stats.binomtest(sum(inside), len(inside), 0.9).pvalue > 0.001


def test_all_bands_together_cover_what_the_suite_says():
    """Twenty cells of ten seeds at 95 % together: one more run of all of them is wholly inside that often."""
    rng = np.random.default_rng(2)
    each, whole = each_coverage(0.95, 20), 0
    for _ in range(400):
        x = rng.normal(0.8, 0.02, (20, 11))
        bands = [prediction_interval(list(row[:-1]), each) for row in x]
        whole += all(low <= row[-1] <= high for (low, high), row in zip(bands, x, strict=True))
    assert whole / 400 >= 0.95 - 3 * (0.05 * 0.95 / 400) ** 0.5


@pytest.mark.parametrize("degrees", [4.0, math.inf])
def test_what_cells_have_in_common_is_found_and_keeps_the_coverage(degrees):
    """Variances drawn around 0.02^2 with ``degrees`` of freedom; intervals that know them are narrower."""
    rng = np.random.default_rng(3)
    scale = 1.0 if math.isinf(degrees) else degrees / rng.chisquare(degrees, 3000)
    x = 0.8 + 0.02 * np.sqrt(scale * np.ones(3000))[:, None] * rng.standard_normal((3000, 6))
    prior = Prior.fit([list(row[:-1]) for row in x])
    assert prior.degrees > 50 if math.isinf(degrees) else prior.degrees == pytest.approx(degrees, rel=0.3)
    assert prior.variance == pytest.approx(0.02**2, rel=0.15)
    widths = []
    for known in (Prior(), prior):
        found = [prediction_interval(list(row[:-1]), 0.99, prior=known) for row in x]
        inside = sum(low <= row[-1] <= high for (low, high), row in zip(found, x, strict=True))
        assert stats.binomtest(inside, len(x), 0.99).pvalue > 0.001
        widths.append(statistics.fmean(high - low for low, high in found))
    assert widths[1] < 0.9 * widths[0]


def test_equal_values_leave_room_for_rounding():
    low, high = prediction_interval([0.9] * 5, 0.95, resolution=0.01)
    assert 0.89 < low < 0.9 < high < 0.91


def test_a_collapse_is_a_component_of_its_own():
    (found,) = propose({CELL: measured(0.90, 0.91, 0.92, 0.91, 0.6)}, 0.95)
    band = found.bands["accuracy"]
    assert band.majority
    assert band.intervals[0].low > 0.85
    assert "loss" not in found.bands  # a collapse has no loss of its own
    assert found.left_out == ("loss, train_accuracy, moved: 1 of 5 seeds collapsed",)
    (found,) = propose({CELL: measured(0.6, 0.6, 0.6)}, 0.95)
    assert (found.bands["accuracy"].majority, found.bands["accuracy"].intervals) == (True, ())
    (found,) = propose({CELL: measured(0.6, 0.6, 0.6, 0.9)}, 0.95)
    assert not found.bands
    assert found.left_out == ("accuracy: 3 of 4 seeds collapsed, too few did not",)


def test_an_accuracy_that_is_the_largest_share_by_chance_is_no_collapse():
    runs = measured(0.61, 0.62, 0.6)
    runs[2].record["test"]["confusion"] = [[20, 20], [20, 40]]
    (found,) = propose({CELL: runs}, 0.95)
    assert found.bands.keys() == {"accuracy", "loss", "train_accuracy", "moved"}
    assert not found.bands["accuracy"].majority


def test_a_band_that_says_nothing_is_no_band():
    (found,) = propose({CELL: measured(0.2, 0.5, 0.9)}, 0.999)
    assert found.bands.keys() == {"moved", "train_accuracy"}
    assert "spread over all there is" in found.left_out[0]


def test_edges_are_rounded_outward_and_stay_shares():
    (found,) = propose({CELL: measured(0.99, 0.995, 0.998)}, 0.95)
    (interval,) = found.bands["accuracy"].intervals
    exact = prediction_interval([0.99, 0.995, 0.998], each_coverage(0.95, 4), 1e-3)
    assert interval.low <= exact.low < interval.low + 1e-4
    assert interval.high == 1.0


def test_a_distance_has_a_band_of_factors():
    """Values a factor 1.1 apart around 0.1: in logarithms mean log 0.1 and standard deviation log 1.1."""
    runs = measured(0.9, 0.91, 0.92)
    for run, moved in zip(runs, (0.1 / 1.1, 0.1, 0.1 * 1.1), strict=True):
        run.record["backbone"]["stages"][0]["moved"] = moved
    (found,) = propose({CELL: runs}, 0.95)
    half = stats.t.ppf(1 - 0.05 / 4 / 2, 2) * math.sqrt(1 + 1 / 3)
    (band,) = found.bands["moved"].intervals
    assert band == pytest.approx((0.1 * 1.1**-half, 0.1 * 1.1**half), rel=1e-4)
    runs[0].record["backbone"]["stages"][0]["moved"] = 0.0
    assert "moved" not in propose({CELL: runs}, 0.95)[0].bands


def test_facts_are_what_all_seeds_share():
    (found,) = propose({CELL: measured(0.9, 0.91, 0.92)}, 0.95)
    same = {"parameters": 10, "prefix": [0.5, 0.52], "norms": ()}
    assert found.facts == {"trains": {"head": ((1, 2, 1e-3),)}} | same
    runs = measured(0.9, 0.91, 0.92)
    runs[1].record["backbone"]["stages"][0]["lr"][0]["lr"] = 2e-3  # chosen by the strategy, seed by seed
    (found,) = propose({CELL: runs}, 0.95)
    assert found.facts == same


def test_seeds_that_all_fail_alike_are_an_error_to_expect():
    failed = evidence(status="failed", error="diverged: not finite in epoch 1", test=None)
    (found,) = propose({CELL: [failed] * 3}, 0.95)
    assert (found.error, found.bands) == ("diverged", {})
    (found,) = propose({CELL: [failed, *measured(0.9, 0.9)]}, 0.95)
    assert (found.error, found.bands) == ("", {})
    assert "1 of 3 seeds failed" in found.left_out[0]


def part():
    runs = measured(0.9, 0.905, 0.91)
    source = {"text": 'a "quoted" text', "data": "d", "split": "s", "recipe": {"epochs": 2, "flip": True}}
    return section(propose({CELL: runs}, 0.95), shared_digests(runs), source, ("strategy", "lr"))


def test_what_is_written_is_read_again_and_the_rest_stays_to_the_letter():
    mine = HEAD + "\n# my own\n[[expect]]   # remark\nparameters = 10\n"
    once = merged(mine, part(), "f")
    assert once.startswith(mine)
    suite = parse_suite(once, "f")
    assert [sorted(e.bands) for e in suite.expectations] == [
        [],
        [],
        ["accuracy", "loss", "moved", "train_accuracy"],
    ]
    assert suite.sources["measured"].recipe == {"epochs": 2, "flip": True}
    assert suite.sources["measured"].text == 'a "quoted" text'
    later = once.replace(BEGIN, "# above\n" + BEGIN) + "# below\n"
    assert merged(later, part(), "f") == later


@pytest.mark.parametrize("text", [BEGIN + "\n", END + "\n", END + "\n" + BEGIN + "\n"])
def test_a_damaged_part_is_not_guessed_at(text):
    with pytest.raises(UsageError, match="must begin and end once"):
        merged(HEAD + text, part(), "f")
