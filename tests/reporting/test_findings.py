"""Stability, costs, shared mistakes, probabilities: from run folders to what a report says of them."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from sklearn import metrics

from harness.verdicts import DIVERGED
from reports import figures
from reports.figures.parts import short
from reports.figures.stability import edge
from reports.overlap import MOST_CELLS
from reports.records import load_records
from reports.summary import build_report

from .fake_runs import fake_run

GOOD, FAIR, ALL_ONE = ((90, 10), (5, 45)), ((80, 20), (10, 40)), ((100, 0), (50, 0))
LOST = f"{DIVERGED}: the training loss was not finite in epoch 2 (try a smaller lr)"


def experiment(folders):
    (found,) = build_report(load_records(folders)).experiments
    return found


@pytest.fixture
def grid(tmp_path):
    """Two strategies, three rates, two seeds; one cell is missing and two runs failed."""

    def run(strategy, lr, seed, confusion=GOOD, **more):
        trained = {"head_only": 10, "last_block": 20}[strategy]
        return fake_run(tmp_path, strategy=strategy, lr=lr, seed=seed, confusion=confusion,
                        trainable=trained, **more)  # fmt: skip

    return [
        run("last_block", 1e-4, 0), run("last_block", 1e-4, 1, FAIR),
        run("last_block", 1e-3, 0), run("last_block", 1e-3, 1, ALL_ONE),
        run("last_block", 1e-2, 0, error=LOST), run("last_block", 1e-2, 1, error=LOST),
        run("head_only", 1e-4, 0), run("head_only", 1e-3, 0),
        run("head_only", 1e-3, 1, error="out of memory"),
    ]  # fmt: skip


def test_the_map_of_a_grid_with_holes(grid):
    found = experiment(grid).stability
    assert found.rows == ("head_only", "last_block")  # by what they train
    assert found.rates == (1e-4, 1e-3, 1e-2)
    (h4, h3, h2), (l4, l3, l2) = found.cells
    assert (h4.accuracy, h4.finished, h4.safe) == (0.9, 1, True)
    assert (h3.finished, h3.failed, h3.safe, h3.fallen) == (1, 1, True, False)
    assert h2 is None
    assert l4.accuracy == pytest.approx((135 + 120) / 300)
    assert (l3.finished, l3.collapsed, l3.safe, l3.fallen) == (2, 1, False, True)
    assert l3.accuracy == pytest.approx((135 + 100) / 300)
    assert (l2.accuracy, l2.finished, l2.diverged, l2.failed, l2.verdict) == (None, 0, 2, 0, "diverged")
    assert (h3.seeds, l3.seeds, l2.seeds) == (2, 2, 2)


def test_the_map_says_in_words_what_it_shows(grid):
    drawn = figures.stability_map(1, experiment(grid).stability)
    assert "head_only learns at 1e-4 (90.00 %) and 1e-3 (90.00 %)." in drawn.alt
    assert "last_block learns at 1e-4 (85.00 %), collapses or diverges at 1e-3 and 0.01." in drawn.alt
    for text in ("85.0 ✓", "1 of 2 collapsed", "not run", "1 of 2 failed", ">diverged<"):
        assert text in drawn.drawn, text
    assert drawn.drawn.count('stroke-width="4"') == 2  # the two sides below


def test_the_edge_of_collapse_lies_between_what_is_safe_and_what_fell(grid):
    under_head_only_at_1e_3, right_of_last_block_at_1e_4 = [(1, 1), (2, 1)], [(1, 1), (1, 2)]
    assert list(edge(experiment(grid).stability)) == [under_head_only_at_1e_3, right_of_last_block_at_1e_4]


def test_a_run_of_other_data_is_not_on_the_map(grid, tmp_path):
    other = fake_run(tmp_path, lr=1.0, error=LOST, name="other", data={"limit": 50})
    assert experiment([*grid, other]).stability.rates == (1e-4, 1e-3, 1e-2)
    same = fake_run(tmp_path, lr=1.0, error=LOST, name="same")
    found = experiment([*grid, same]).stability
    assert found.rates == (1e-4, 1e-3, 1e-2, 1.0)


def test_a_failed_record_without_its_strategy_keeps_the_name_asked_for(grid, tmp_path):
    folder = fake_run(tmp_path, strategy="last_block", lr=1.0, error=LOST, name="old")
    record = json.loads((folder / "result.json").read_text())
    del record["strategy"]
    (folder / "result.json").write_text(json.dumps(record))
    assert experiment([*grid, folder]).stability.cells[1][3].diverged == 1


def test_one_rate_has_no_map(tmp_path):
    runs = [fake_run(tmp_path, strategy=s) for s in ("head_only", "last_block")]
    assert experiment(runs).stability is None


def test_costs_and_what_nothing_beats(tmp_path):
    def run(strategy, seconds, trained, confusion, seed=0, peak=None):
        timing = {"decode_s": 2.0, "prefix_s": 10.0, "prefix_shared_by": 4, "train_s": seconds}
        memory = {"of": "process", "peak_bytes": peak, "shared_by": 1} if peak else None
        return fake_run(tmp_path, strategy=strategy, seed=seed, confusion=confusion, trainable=trained,
                        timing=timing, memory=memory)  # fmt: skip

    best = ((98, 2), (2, 48))
    e = experiment([
        run("a", 100.0, 500, best, peak=4000), run("a", 140.0, 500, best, seed=1, peak=5000),
        run("b", 50.0, 200, GOOD, peak=2000), run("b", 50.0, 200, GOOD, seed=1, peak=2000),
        run("c", 60.0, 100, FAIR, peak=3000), run("d", 1.0, 1, ALL_ONE, peak=100),
    ])  # fmt: skip
    rows = {c.strategy: c for c in e.costs.rows}
    a = rows["a"]
    assert (a.train_s.mean, a.shared_s, a.seconds) == (120.0, 3.0, 123.0)
    assert a.train_s.sd == pytest.approx(np.std([100, 140], ddof=1))
    assert (a.pass_s, a.shared_by, a.peak_bytes, a.trainable) == (12.0, 4, 5000, 500)
    assert a.accuracy == pytest.approx(146 / 150)
    assert {name: c.front for name, c in rows.items()} == {
        "a": {"seconds", "parameters", "memory"},
        "b": {"seconds", "parameters", "memory"},
        "c": {"parameters"},  # slower and worse than b, but trains less
        "d": frozenset(),  # collapsed: what it reached is no achievement
    }
    assert e.costs.machines == ("cpu, 2 threads",)
    drawn = figures.cost_figure(1, e.costs)
    assert "peak memory of the process" in drawn.drawn
    assert "In trained parameters and accuracy: a" in drawn.alt.replace("a, lr 1e-3", "a")


def test_marks_that_lie_on_each_other_share_their_number(tmp_path):
    same = {"timing": {"train_s": 50.0}, "trainable": 200}
    runs = [
        fake_run(tmp_path, strategy=s, confusion=m, val_accuracy=v, **(more or same))
        for s, m, v, more in (
            ("a", GOOD, 0.9, {"timing": {"train_s": 5000.0}, "trainable": 1000}),
            ("b", ALL_ONE, 0.6, None),
            ("c", ALL_ONE, 0.5, None),
        )
    ]
    drawn = figures.cost_figure(1, experiment(runs).costs).drawn
    assert drawn.count(">2, 3<") == 2  # once a panel
    assert not re.search(">[23]<", drawn)


def test_long_names_keep_what_tells_them_apart():
    long = "backbone_finetuning[at=none,train_norm=no], lr 1e-3, seed 1"
    assert short(long, 34) == "backbone_finetun…, lr 1e-3, seed 1"
    assert len(short(long, 34)) == 34
    assert short("head_only, lr 1e-3", 18) == "head_only, lr 1e-3"


def test_memory_is_compared_only_where_all_have_it(tmp_path):
    memory = {"of": "process", "peak_bytes": 10, "shared_by": 1}
    found = experiment(
        [fake_run(tmp_path, strategy="a", memory=memory), fake_run(tmp_path, strategy="b")]
    ).costs
    assert [c.peak_bytes for c in found.rows] == [None, None]
    assert not any("memory" in c.front for c in found.rows)


def test_shared_mistakes_by_hand(tmp_path):
    e = experiment([fake_run(tmp_path, strategy=s, confusion=m) for s, m in (("a", GOOD), ("b", FAIR))])
    found = e.overlap
    wrong = [~c.correct for c in found.cells]
    both, either = (wrong[0] & wrong[1]).sum(), (wrong[0] | wrong[1]).sum()
    assert found.shared.tolist() == [[15, both], [both, 30]]
    assert found.jaccard[0, 1] == pytest.approx(metrics.jaccard_score(*wrong))
    assert (found.everyone, found.anyone, found.n) == (both, either, 150)
    assert (
        f"{both} images are wrong in all of them, {either} in at least one"
        in figures.overlap_matrix(1, found).alt
    )


def test_many_cells_are_stood_for_by_the_best_of_each_setting(tmp_path):
    runs = [
        fake_run(tmp_path, lr=lr, seed=seed, confusion=FAIR if seed else GOOD, val_accuracy=0.9 - seed / 10)
        for lr in np.geomspace(1e-5, 1e-2, 11)
        for seed in (0, 1)
    ]
    found = experiment(runs).overlap
    assert (found.of, len(found.cells)) == (22, 11)
    assert {c.seed for c in found.cells} == {0}
    assert len(experiment(runs[:MOST_CELLS]).overlap.cells) == MOST_CELLS
    assert experiment(runs[:1]).overlap is None


def _with_probabilities(folder, shares):
    """The run's predictions with other probabilities, ``shares`` of the class that is named."""
    file = folder / "predictions.csv"
    rows = list(csv.reader(file.open()))
    k = len(rows[0]) - 5
    for row, share in zip(rows[1:], shares, strict=True):
        row[5:] = [
            repr(float(share)) if str(j) == row[4] else repr((1 - float(share)) / (k - 1)) for j in range(k)
        ]
    csv.writer(file.open("w", newline="")).writerows(rows)
    label = np.array([int(row[3]) for row in rows[1:]])
    return label, np.array([row[5:] for row in rows[1:]], dtype=float)


MATRICES = {2: ((60, 40), (20, 30)), 4: ((30, 5, 5, 0), (4, 20, 3, 3), (2, 6, 25, 0), (1, 1, 1, 9))}


@pytest.mark.parametrize("classes", [2, 4])
def test_probability_figures_against_scikit_learn(tmp_path, classes):
    names = tuple("abcd"[:classes])
    folder = fake_run(tmp_path, confusion=MATRICES[classes], classes=names)
    n = sum(map(sum, MATRICES[classes]))
    label, shares = _with_probabilities(
        folder, np.random.default_rng(0).uniform(0.55, 0.99, n).round(2) + 0.001
    )
    e = experiment([folder])
    scores, truth = e.cells[0].probabilities, np.eye(classes)[label]
    aurocs = metrics.roc_auc_score(truth, shares, average=None)
    precisions = metrics.average_precision_score(truth, shares, average=None)
    assert scores.class_auroc == pytest.approx(aurocs)
    assert scores.class_ap == pytest.approx(precisions)
    if classes == 2:
        assert (scores.auroc, scores.average_precision) == pytest.approx((aurocs[1], precisions[1]))
        assert e.probabilities.positive == "b"
    else:
        assert scores.auroc == pytest.approx(metrics.roc_auc_score(label, shares, multi_class="ovr"))
        assert scores.average_precision == pytest.approx(precisions.mean())
        assert e.probabilities.positive is None
    assert scores.log_loss == pytest.approx(metrics.log_loss(label, shares))
    assert scores.brier == pytest.approx(((shares - truth) ** 2).sum(axis=1).mean())
    right = shares.argmax(axis=1) == label
    bins = np.ceil(shares.max(axis=1) * 15)
    gaps = [abs(right[bins == b].sum() - shares.max(axis=1)[bins == b].sum()) for b in np.unique(bins)]
    assert scores.ece == pytest.approx(sum(gaps) / n)
    (shown,) = e.probabilities.shown
    assert shown.confidences.rights == right.sum()
    assert shown.confidences.wrong_median == pytest.approx(np.median(shares.max(axis=1)[~right]))
    assert shown.confidences.right.sum() == pytest.approx(1)
    alt = figures.ranking(1, e.probabilities).alt
    assert f"AUROC {scores.auroc:.3f}, AP {scores.average_precision:.3f}" in alt
    assert ("of 'b'" if classes == 2 else "the mean over 4 classes") in alt


def test_probabilities_that_are_no_numbers_have_no_figures(tmp_path):
    folder = fake_run(tmp_path)
    text = (folder / "predictions.csv").read_text()
    (folder / "predictions.csv").write_text(text.replace("0.9,0.1", "nan,nan"))
    e = experiment([folder, fake_run(tmp_path, strategy="full")])
    assert [c.probabilities is None for c in e.cells] == [True, False]
    assert [s.cell.number for s in e.probabilities.shown] == [2]


def test_a_lone_class_has_no_ranking(tmp_path):
    e = experiment([fake_run(tmp_path, confusion=((90, 10), (0, 0)))])
    assert e.cells[0].probabilities.auroc is None
    assert figures.ranking(1, e.probabilities) is None
    assert figures.reliability(1, e.probabilities) is not None
