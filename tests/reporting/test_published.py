"""Published figures: their ranges, and the original's four cells by the rules for our own."""

from __future__ import annotations

import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score
from statsmodels.stats.proportion import proportions_ztest

from harness.suites import load_suite
from reports.published import contradictions
from reports.records import load_records
from reports.source_readings import outcome, read_source
from reports.summary import build_report

from .fake_runs import ORIGINAL, fake_run, original_runs

A, B, C, D = (f"{s}, lr {lr}" for s in ("head_only", "last_block") for lr in ("1e-3", "1e-4"))


@pytest.fixture(scope="module")
def references():
    suite = load_suite("celeba30k")
    return [r for r in suite.references if r.source == "original report"]


@pytest.fixture(scope="module")
def reading(references):
    return read_source(references)


def test_a_confusion_matrix_is_a_record_of_its_own(references):
    for reference, (_, _, matrix, _) in zip(references, ORIGINAL, strict=True):
        found = outcome(reference)
        truth = [i for i, row in enumerate(matrix) for n in row for _ in range(n)]
        answers = [j for row in matrix for j, n in enumerate(row) for _ in range(n)]
        assert found.test.n == 3000
        assert found.test.right == matrix[0][0] + matrix[1][1]
        assert found.test.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, answers))
        assert found.test.macro_f1 == pytest.approx(f1_score(truth, answers, average="macro"))
        assert (found.correct, found.val_accuracy) == (None, None)


def test_what_the_original_s_figures_support_and_nothing_else(reading):
    kinds = [s.kind for s in reading.discussion]
    assert kinds == ["best", "worst", "collapsed", "equal", "equal", "caveat", "caveat", "caveat"]
    best, worst, collapsed, equal, stated, *caveats = (s.text for s in reading.discussion)
    assert best == (
        f"Best by test accuracy: {D}. On the test images it reaches 97.73 % [97.14, 98.21]. The test "
        f"confirms that it is better than {A} (by 5.90 points); {B} (by 6.83 points); and {C} (by 40.00 "
        "points); corrected p < 0.0001."
    )
    assert worst.startswith(f"Worst by test accuracy: {C} with 57.73 %")
    assert collapsed.startswith(
        f"{C} collapsed. It answers 'female' for 100.00 % of the test images, whatever they show; that class "
        "is 57.73 % of them. Its accuracy says only how common the classes are"
    )
    assert equal.startswith(f"{A} and {B} are not distinguishable: 91.83 % and 90.90 %.")
    assert "unpaired z 1.29, p = 0.20" in equal
    assert stated == (
        f"The source states 91.38 % for {A} and 90.90 % for {B}, which isn't what its counts give. A test of "
        "the stated figures doesn't tell them apart either: unpaired z 0.65, p = 0.51."
    )
    assert [c.split(".")[0] for c in caveats[1:]] == [
        "Ranked on test: some records hold no validation figures, so the first is a little flattered",
        "Each cell is a single run",
    ]


def test_its_comparisons_against_statsmodels(reading):
    assert len(reading.comparisons) == 6
    for c in reading.comparisons:
        rights = [s.cells[0].test.right for s in (c.first, c.second)]
        z, p = proportions_ztest(rights, [3000, 3000])
        assert (c.z, c.p) == pytest.approx((z, p))
        assert (c.only_first, c.method) == (None, "unpaired z")
        assert c.supported == ({c.first.name, c.second.name} != {A, B})


def test_ours_beside_the_range_of_what_was_published(tmp_path):
    data = build_report(load_records(original_runs(tmp_path)))
    found = data.experiments[0].ranges
    assert [(r.sources, r.low, r.high) for r in found] == [
        (4, 0.9138, 0.9480), (4, 0.9090, 0.9510), (4, 0.9363, 0.9650), (4, 0.9587, 0.9773),
    ]  # fmt: skip
    assert [r.collapsed for r in found] == [None, None, pytest.approx(1732 / 3000), None]
    assert [r.place for r in found] == ["inside"] * 4
    assert all(r.applies for r in found)
    (reading,) = data.experiments[0].readings
    assert reading.source == "original report"


@pytest.mark.parametrize(
    ("strategy", "lr", "confusion", "place"),
    [
        ("last_block", 1e-4, ((1650, 82), (50, 1218)), "inside, given its interval"),  # 95.60, just below
        ("last_block", 1e-4, ((1600, 132), (100, 1168)), "outside"),
        ("last_block", 1e-4, ((1732, 0), (1268, 0)), "outside"),  # no source collapsed there
        ("last_block", 1e-3, ((1680, 52), (60, 1208)), "inside"),  # 96.27, though two sources collapsed
    ],
)
def test_inside_or_not(tmp_path, strategy, lr, confusion, place):
    run = fake_run(tmp_path, strategy=strategy, lr=lr, confusion=confusion, suite="celeba30k")
    (found,) = build_report(load_records([run])).experiments[0].ranges
    assert found.place == place
    assert found.applies


def test_other_data_have_no_place(tmp_path):
    run = fake_run(tmp_path, strategy="head_only", data={"name": "celeba", "limit": 3000})
    (found,) = build_report(load_records([run])).experiments[0].ranges
    assert not found.applies


def test_counts_of_another_number_of_images_are_pointed_out(references):
    odd = type(references[1])(**{**vars(references[1]), "n": 3001})
    (found,) = contradictions(odd)
    assert found == "original report, head_only at 1e-4: its counts are of 3,000 images, its text says 3,001."
