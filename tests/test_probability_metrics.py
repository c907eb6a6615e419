"""Ranking and calibration against scikit-learn, a count of pairs, and figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from harness.calibration import brier, log_loss, reliability
from harness.ranking import macro, ranking


def sample(n: int, classes: int, seed: int, digits: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that know a little of them and often tie."""
    rng = np.random.default_rng(seed)
    label = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[label]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return label, np.round(shares, digits) / np.round(shares, digits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("digits", [1, 2, 12])
@pytest.mark.parametrize("n", [12, 300])
def test_curves_and_areas_against_scikit_learn(n, digits):
    label, shares = sample(n, 2, seed=n, digits=digits)
    positive, scores = label == 1, shares[:, 1]
    found = ranking(scores, positive)
    fpr, tpr, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose([found.fpr, found.tpr], [fpr, tpr])
    precision, recall, _ = metrics.precision_recall_curve(positive, scores)
    np.testing.assert_allclose(found.precision, precision[:-1][::-1])
    np.testing.assert_allclose(found.recall, recall[:-1][::-1])
    assert found.auroc == pytest.approx(metrics.roc_auc_score(positive, scores))
    assert found.average_precision == pytest.approx(metrics.average_precision_score(positive, scores))


def test_auroc_is_the_share_of_pairs_in_order():
    label, shares = sample(60, 2, seed=3, digits=1)
    above, below = shares[label == 1, 1][:, None], shares[label == 0, 1][None]
    wanted = np.mean((above > below) + 0.5 * (above == below))
    assert ranking(shares[:, 1], label == 1).auroc == pytest.approx(wanted)


def test_a_curve_by_hand():
    """Ranked: right, wrong, then a tie of right and wrong."""
    found = ranking(np.array([0.9, 0.8, 0.5, 0.5]), np.array([True, False, True, False]))
    assert found.tpr.tolist() == [0, 0.5, 0.5, 1]
    assert found.fpr.tolist() == [0, 0, 0.5, 1]
    assert found.auroc == pytest.approx(0.625)  # of four pairs: two in order, one tie, one not
    assert found.average_precision == pytest.approx(0.5 * 1 + 0.5 * 0.5)


@pytest.mark.parametrize("positive", [[True, True], [False, False]])
def test_one_kind_of_image_has_no_curve(positive):
    assert ranking(np.array([0.1, 0.9]), np.array(positive)) is None


def test_the_mean_over_classes_against_scikit_learn():
    label, shares = sample(900, 5, seed=1)
    curves = [ranking(shares[:, k], label == k) for k in range(5)]
    mean = macro(curves)
    wanted = metrics.roc_auc_score(label, shares, multi_class="ovr", average="macro")
    assert np.mean([c.auroc for c in curves]) == pytest.approx(wanted)
    assert mean.auroc == pytest.approx(wanted, abs=1e-3)
    wanted = metrics.average_precision_score(np.eye(5)[label], shares, average="macro")
    assert np.mean([c.average_precision for c in curves]) == pytest.approx(wanted)
    assert mean.average_precision == pytest.approx(wanted, abs=5e-3)
    assert (np.diff(mean.tpr) >= 0).all()


def test_calibration_error_by_hand():
    """Five bins: two images in the third, which holds 0.6, and three in the fifth, which holds 1."""
    confidence = np.array([0.5, 0.6, 0.9, 0.9, 1.0])
    found = reliability(confidence, np.array([True, False, True, True, False]), bins=5)
    assert found.count.tolist() == [0, 0, 2, 0, 3]
    np.testing.assert_allclose(found.edges, [0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(found.confidence, [np.nan, np.nan, 0.55, np.nan, 2.8 / 3])
    np.testing.assert_allclose(found.accuracy, [np.nan, np.nan, 0.5, np.nan, 2 / 3])
    assert found.ece == pytest.approx(2 / 5 * 0.05 + 3 / 5 * 0.8 / 3)


@pytest.mark.parametrize("edge", [0.0, 1 / 15, 7 / 15, 1.0])
def test_every_image_is_in_one_bin(edge):
    confidence = np.array([edge, edge, 0.5, 0.51])
    assert reliability(confidence, np.ones(4, bool)).count.sum() == 4


def test_what_true_probabilities_show_by_chance():
    """Answers drawn with the stated probabilities: their error is the one said to come by chance."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, size=400)
    found = [reliability(confidence, rng.random(400) < confidence) for _ in range(100)]
    assert np.mean([r.ece for r in found]) == pytest.approx(found[0].chance, rel=0.1)
    filled = found[0].count > 0
    inside = [(r.low <= r.accuracy) & (r.accuracy <= r.high) for r in found]
    assert 0.92 <= np.mean([row[filled] for row in inside]) <= 0.99


def test_scoring_rules_against_scikit_learn():
    label, shares = sample(200, 2, seed=5)
    both = brier(shares, label)
    assert both == pytest.approx(2 * metrics.brier_score_loss(label, shares[:, 1]))  # ours: over both classes
    label, shares = sample(200, 4, seed=6, digits=12)
    assert log_loss(shares, label) == pytest.approx(metrics.log_loss(label, shares))
    assert brier(np.eye(4)[[2]], np.array([1])) == 2
    assert log_loss(np.eye(4)[[2]], np.array([1])) == np.inf
