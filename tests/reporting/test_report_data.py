from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import binomtest

from harness.errors import UsageError
from reports.phrases import could_find
from reports.predictions import read_predictions
from reports.records import load_records
from reports.summary import build_report

from .fake_runs import ORIGINAL, fake_run, original_runs


def report(folders, **options):
    return build_report(load_records(folders), **options)


def texts(data, kind):
    return [s.text for s in data.experiments[0].discussion if s.kind == kind]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return report(original_runs(tmp_path_factory.mktemp("original")))


def test_the_original_s_figures(original):
    (experiment,) = original.experiments
    for cell, (_, _, confusion, _) in zip(experiment.cells, ORIGINAL, strict=True):
        right = confusion[0][0] + confusion[1][1]
        assert cell.test.accuracy == pytest.approx(right / 3000)
        wanted = binomtest(right, 3000).proportion_ci(method="wilson")
        assert cell.interval == pytest.approx((wanted.low, wanted.high))
        assert cell.correct.sum() == right


def test_the_original_s_discussion(original):
    (best,) = texts(original, "best")
    assert best.startswith("Best by validation accuracy (97.80 %): last_block, lr 1e-4.")
    assert "better than head_only, lr 1e-3 (by 5.90 points); head_only, lr 1e-4 (by 6.83 points)" in best
    (worst,) = texts(original, "worst")
    assert "last_block, lr 1e-3 with 57.73 %" in worst
    (collapsed,) = texts(original, "collapsed")
    assert collapsed.startswith("last_block, lr 1e-3 collapsed.")
    assert "'female' for 100.00 %" in collapsed
    assert "40.00 points below the first" in collapsed
    (equal,) = texts(original, "equal")
    pair = "head_only, lr 1e-3 and head_only, lr 1e-4"
    assert equal.startswith(f"{pair} are not distinguishable: 91.83 % and 90.90 %")
    assert not texts(original, "verdict")
    assert any("a single run" in text for text in texts(original, "caveat"))


def test_paired_counts_against_the_predictions(original):
    (experiment,) = original.experiments
    assert len(experiment.comparisons) == 6
    for c in experiment.comparisons:
        a, b = (read_predictions(x.cells[0].record) for x in (c.first, c.second))
        right_a, right_b = a.label == a.prediction, b.label == b.prediction
        assert (c.only_first, c.only_second) == ((right_a & ~right_b).sum(), (right_b & ~right_a).sum())
        assert c.difference == pytest.approx(c.first.accuracy.mean - c.second.accuracy.mean)
        assert c.adjusted >= c.p


def test_the_original_beside_itself(original):
    rows = original.experiments[0].published
    assert len(rows) == 16
    own = [r for r in rows if r.reference.source == "original report"]
    assert [round(100 * r.difference, 2) for r in own] == [0.45, 0.0, 0.0, 0.0]
    assert all(r.same_data and not r.differs for r in own)
    assert [r.contradictions for r in own[1:]] == [()] * 3
    (found,) = own[0].contradictions
    assert "its counts give 91.83 % (2,755 of 3,000 right), its text says 91.38 %" in found


def test_other_data_are_said_to_be_other(tmp_path):
    folder = fake_run(tmp_path, data={"name": "celeba", "limit": 3000}, missing=7, train={"epochs": 1})
    row = report([folder]).experiments[0].published[0]
    assert not row.same_data
    assert row.differs == (
        "not run as suite celeba30k", "data celeba instead of celeba30k", "limited to 3,000 images",
        "7 listed images missing", "epochs 1 instead of 10",
    )  # fmt: skip


def test_one_run(tmp_path):
    data = report([fake_run(tmp_path)])
    assert texts(data, "best") == [
        "One cell, head_only, lr 1e-3: 90.00 % [84.16, 93.85]. There is nothing to compare."
    ]
    assert not texts(data, "worst")
    assert not data.experiments[0].comparisons


def test_seeds_are_gathered_and_never_pooled(tmp_path):
    weak, strong, even = ((70, 30), (20, 30)), ((99, 1), (1, 49)), ((95, 5), (5, 45))
    folders = [
        fake_run(tmp_path, strategy=s, seed=seed, confusion=m, val_accuracy=v)
        for seed, (a, b) in enumerate([(strong, weak), (even, even), (strong, weak)])
        for s, m, v in (("last_block", a, 0.95), ("head_only", b, 0.7))
    ]
    data = report(folders)
    (experiment,) = data.experiments
    best, other = experiment.settings
    accuracies = [148 / 150, 140 / 150, 148 / 150]
    assert best.accuracy == pytest.approx((np.mean(accuracies), np.std(accuracies, ddof=1)))
    assert len(best.cells) == len(other.cells) == 3
    (found,) = experiment.comparisons
    assert (found.seeds, found.only_first, found.seed) == ((3, 3), None, None)
    assert found.difference == pytest.approx(best.accuracy.mean - other.accuracy.mean)
    # the middle seed doesn't support it, so nothing is called better
    assert not found.supported
    assert experiment.standing.best == (best.name, other.name)
    assert texts(data, "best")[0].startswith(f"Best group: {best.name}; and {other.name}.")
    why = f"{other.name} (by 21.33 points); it stays in the group because 3 seeds each can't rule out chance"
    assert (
        f"Further behind the first than the choice of test images explains is {why}" in texts(data, "best")[0]
    )
    assert texts(data, "worst")[0].endswith("but no test shows it to be worse than the first.")
    assert any("mean ± standard deviation" in text for text in texts(data, "caveat"))
    assert not any("a single run" in text for text in texts(data, "caveat"))


def test_without_validation_it_is_ranked_on_test(tmp_path):
    folders = [fake_run(tmp_path, strategy=s, val_accuracy=None) for s in ("head_only", "last_block")]
    data = report(folders)
    assert data.experiments[0].ranked_on == "test"
    assert any(text.startswith("Ranked on test") for text in texts(data, "caveat"))


def test_validation_ranks_and_test_contradicts(tmp_path):
    folders = [
        fake_run(tmp_path, strategy="head_only", confusion=((60, 40), (20, 30)), val_accuracy=0.95),
        fake_run(tmp_path, strategy="last_block", confusion=((98, 2), (2, 48)), val_accuracy=0.90),
    ]
    (best,) = texts(report(folders), "best")
    assert best.startswith("First by validation accuracy (94.67 %): head_only")
    assert "contradicts the ranking, so that no best is named: last_block, lr 1e-3 is right more" in best


def test_leaders_that_collapsed_say_so(tmp_path):
    """Two images more or less of ten: the test can't tell one that names the larger class alone."""
    blind, fair = ((6, 0), (4, 0)), ((5, 1), (1, 3))

    def best(*seeds):
        parent = tmp_path / str(len(seeds))
        folders = [
            fake_run(parent, strategy=s, seed=seed, confusion=m, val_accuracy=v)
            for seed in seeds
            for s, m, v in (("full", fair, 0.8), ("scratch", blind if seed == 0 else fair, 0.6))
        ]
        return texts(report(folders), "best")[0]

    said = "Of the group collapsed: scratch, lr 1e-3"
    assert f"{said}; its accuracy says only how common the classes are." in best(0)
    assert f"{said} with 1 of 2 seeds, so that its mean is hardly known." in best(0, 1)


def test_what_could_be_found_leaves_out_settings_that_answer_alike(tmp_path):
    blind, fair = ((100, 0), (50, 0)), ((90, 10), (5, 45))
    folders = [
        fake_run(tmp_path, strategy=s, seed=seed, confusion=m)
        for s, m in (("full", blind), ("scratch", blind), ("head_only", fair))
        for seed in (0, 1)
    ]
    data = report(folders)
    same, *others = sorted(data.experiments[0].comparisons, key=lambda c: c.resolvable)
    assert (same.resolvable, could_find(same)) == (0, "–")
    (found,) = {round(100 * c.resolvable, 1) for c in others}
    (images,) = (text for text in texts(data, "caveat") if text.startswith("What 150 test images can say"))
    assert f"A difference of {found} points between two settings would be found" in images


def test_the_signature_names_the_tests_that_were_made(tmp_path):
    runs = [fake_run(tmp_path, strategy=s, seed=k) for s in ("head_only", "full") for k in (0, 1)]
    assert "bootstrap of images and seeds with Holm" in report(runs).signature
    assert "exact McNemar with Holm" in report(runs[::2]).signature
    assert "Holm" not in report(runs[:1]).signature


def test_other_test_images_are_not_compared(tmp_path):
    folders = [
        fake_run(tmp_path, strategy="head_only", ids=[f"a{i}" for i in range(150)]),
        fake_run(tmp_path, strategy="last_block", ids=[f"b{i}" for i in range(150)]),
    ]
    data = report(folders)
    assert not data.experiments[0].comparisons
    assert "Not tested on the same images" in texts(data, "best")[0]


def test_runs_that_share_nothing_are_apart(tmp_path):
    folders = [fake_run(tmp_path / "a"), fake_run(tmp_path / "b", backbone="timm:resnet18")]
    data = report(folders)
    assert [c.number for c in data.cells] == [1, 2]
    assert len(data.experiments) == 2


def test_what_differs_is_in_the_name(tmp_path):
    folders = [fake_run(tmp_path / str(n), train={"batch_size": n}) for n in (32, 64)]
    folders.append(fake_run(tmp_path / "again", train={"batch_size": 64}))
    names = [c.name for c in report(folders).cells]
    assert names == [
        "head_only, lr 1e-3, batch size 32",
        "head_only, lr 1e-3, batch size 64, run 2",
        "head_only, lr 1e-3, batch size 64, run 3",
    ]


def test_failed_runs_are_kept(tmp_path):
    folders = [fake_run(tmp_path, strategy="full", error="out of memory"), fake_run(tmp_path)]
    data = report(folders)
    assert [r.error for r in data.failed] == ["out of memory"]
    assert len(data.cells) == 1
    assert not report(folders[:1]).experiments


def test_the_embedded_sample_says_so(tmp_path):
    data = report([fake_run(tmp_path, card={"embedded": True, "title": "Drawn faces"})])
    assert data.title.endswith("(embedded sample)")
    (banner,) = data.banners
    assert banner.text.startswith("This is the embedded sample (Drawn faces)")
    assert banner.command == "harness run --suite celeba30k --data celeba30k=PATH"


def test_nothing_to_report_on():
    with pytest.raises(UsageError, match="no finished run"):
        build_report([])


def test_no_torch_is_imported():
    code = "import sys, reports.render, reports.summary, reports.records; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
