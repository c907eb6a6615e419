"""Scores against scikit-learn and against figures worked out by hand."""

import math

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from harness.metrics import probabilities, scores


def logits_for(predicted, classes):
    return np.eye(classes, dtype=np.float32)[predicted] * 3


def test_by_hand():
    # Confusion [[3, 1], [2, 4]]: 7 of 10 right.
    labels = np.array([0] * 4 + [1] * 6)
    predicted = np.array([0, 0, 0, 1, 0, 0, 1, 1, 1, 1])
    found = scores(labels, logits_for(predicted, 2), ["no", "yes"])
    assert found["n"] == 10
    assert found["accuracy"] == 0.7
    assert found["confusion"] == [[3, 1], [2, 4]]
    no, yes = found["per_class"]
    assert (no["precision"], no["recall"]) == (pytest.approx(3 / 5), pytest.approx(3 / 4))
    assert (yes["precision"], yes["recall"]) == (pytest.approx(4 / 5), pytest.approx(4 / 6))
    assert no["f1"] == pytest.approx(2 * 0.6 * 0.75 / 1.35)
    assert (no["support"], no["right"], no["wrong"]) == (4, 3, 1)
    assert (yes["support"], yes["right"], yes["wrong"]) == (6, 4, 2)
    assert found["balanced_accuracy"] == pytest.approx((3 / 4 + 4 / 6) / 2)
    assert found["macro_f1"] == pytest.approx((no["f1"] + yes["f1"]) / 2)
    # Wilson's interval of 7 of 10 at 95 %: e.g. Brown, Cai & DasGupta 2001.
    assert found["accuracy_interval"] == pytest.approx([0.3968, 0.8922], abs=1e-4)
    right, wrong = -math.log(math.exp(3) / (math.exp(3) + 1)), -math.log(1 / (math.exp(3) + 1))
    assert found["loss"] == pytest.approx(0.7 * right + 0.3 * wrong, rel=1e-6)


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    logits = rng.normal(size=(300, 4)).astype(np.float32) + 1.5 * np.eye(4, dtype=np.float32)[labels]
    predicted = logits.argmax(1)
    found = scores(labels, logits, list("abcd"))
    assert found["accuracy"] == metrics.accuracy_score(labels, predicted)
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert found["loss"] == pytest.approx(metrics.log_loss(labels, softmax(logits.astype(float), axis=1)))
    assert found["confusion"] == metrics.confusion_matrix(labels, predicted).tolist()


def test_every_class_to_the_last_bit_as_scikit_learn_has_it():
    rng = np.random.default_rng(1)
    for classes in (2, 3, 7):
        labels, predicted = rng.integers(0, classes, 97), rng.integers(0, classes - 1, 97)
        found = scores(labels, logits_for(predicted, classes), [str(i) for i in range(classes)])
        precision, recall, f1, support = metrics.precision_recall_fscore_support(
            labels, predicted, labels=np.arange(classes), zero_division=0
        )
        rows = zip(precision.tolist(), recall.tolist(), f1.tolist(), support.tolist(), strict=True)
        names = ("precision", "recall", "f1", "support")
        assert [tuple(row[n] for n in names) for row in found["per_class"]] == list(rows)


def test_a_collapse_has_a_value():
    labels = np.array([0, 0, 0, 1])
    found = scores(labels, logits_for(np.zeros(4, int), 2), ["no", "yes"])
    assert found["accuracy"] == 0.75
    assert found["balanced_accuracy"] == 0.5
    assert found["per_class"][1]["precision"] == found["per_class"][1]["f1"] == 0


def test_a_class_without_samples_is_left_out_of_the_means():
    labels = np.array([0, 0, 1, 1])
    found = scores(labels, logits_for(np.array([0, 0, 1, 0]), 3), ["a", "b", "absent"])
    assert found["balanced_accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert found["per_class"][2]["support"] == 0
    assert np.array(found["confusion"]).shape == (3, 3)


def test_probabilities_of_huge_logits():
    found = probabilities(np.array([[1e30, 0.0], [-1e4, 0.0], [0.0, 0.0]], dtype=np.float32))
    assert found.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    assert found.dtype == np.float64


def test_a_certain_mistake_has_an_infinite_loss_and_no_warning(recwarn):
    found = scores(np.array([1, 0]), np.array([[1e30, 0.0], [1.0, 0.0]]), ["a", "b"])
    assert found["loss"] == math.inf
    assert not recwarn.list
