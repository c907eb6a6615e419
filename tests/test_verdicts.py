from __future__ import annotations

import math
import re

import pytest

from harness.verdicts import ADVICE, judge, prior_entropy

GOOD = ((90, 10), (8, 92))


def verdict(confusion=GOOD, train=(0.5, 0.22, 0.2), val=(0.5, 0.32, 0.3), **more):
    facts = {"class_names": ("cat", "dog"), "train_counts": (500, 500), **more}
    return judge(train_loss=train, val_loss=val, confusion=confusion, **facts)


def test_healthy():
    found = verdict()
    assert found.kind == "healthy"
    assert "0.300" in found.evidence


def test_healthy_without_any_curve():
    assert verdict(train=(), val=()).kind == "healthy"
    assert verdict(val=(None, None, None)).kind == "healthy"


def test_prior_entropy():
    assert prior_entropy((500, 500)) == pytest.approx(math.log(2))
    assert prior_entropy((10, 0)) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_diverged_names_the_epoch(bad):
    found = verdict(train=(0.5, bad, bad), confusion=((100, 0), (100, 0)))
    assert found.kind == "diverged"
    assert "epoch 2" in found.evidence
    assert verdict(test_loss=bad).kind == "diverged"


def test_collapsed_to_one_class():
    found = verdict(confusion=((1732, 0), (1268, 0)), train=(0.68, 0.68), val=(0.68, 0.68))
    assert found.kind == "collapsed"
    assert found.evidence == (
        "It answers 'cat' for 100.00 % of the test images, whatever they show; that class is 57.73 % of "
        "them; the training loss ends at 0.680, the entropy of the class shares being 0.693."
    )
    blind = verdict(confusion=((1732, 0), (1268, 0)), train=(0.68, 0.5), val=(0.68, 0.68))
    assert "entropy" not in blind.evidence


def test_collapsed_but_for_a_few_images():
    assert verdict(confusion=((1730, 2), (1260, 8))).kind == "collapsed"


def test_collapsed_when_no_better_than_blind():
    found = verdict(confusion=((160, 10), (28, 2)))
    assert found.kind == "collapsed"
    assert "within noise" in found.evidence


def test_one_class_nearly_alone_is_no_collapse():
    assert verdict(confusion=((998, 0), (0, 2))).kind == "healthy"


def test_a_poor_model_that_looks_is_not_collapsed():
    assert verdict(confusion=((70, 30), (35, 65))).kind == "healthy"


def test_underfitting_near_the_prior():
    found = verdict(train=(0.69, 0.68), val=(0.69, 0.68))
    assert found.kind == "underfitting"
    assert "0.693" in found.evidence


def test_underfitting_while_both_losses_fall():
    assert verdict(train=(0.6, 0.5, 0.4), val=(0.6, 0.5, 0.4)).kind == "underfitting"
    assert verdict(train=(0.6, 0.5, 0.4), val=(0.6, 0.5, 0.49)).kind == "healthy"
    # little is left to learn: the last halvings of a small loss are no underfitting
    assert verdict(train=(0.2, 0.1, 0.05), val=(0.2, 0.1, 0.05)).kind == "healthy"


def test_overfitting_needs_a_rise_and_a_fall():
    found = verdict(train=(0.3, 0.2, 0.05), val=(0.3, 0.2, 0.4))
    assert found.kind == "overfitting"
    assert "from 0.200 in epoch 2 to 0.400 in epoch 3" in found.evidence
    assert verdict(train=(0.3, 0.2, 0.05), val=(0.3, 0.2, 0.22)).kind == "healthy"
    assert verdict(train=(0.3, 0.2, 0.21), val=(0.3, 0.2, 0.4)).kind == "healthy"


def test_the_tested_epoch_is_judged():
    assert verdict(train=(0.3, 0.15, 0.05), val=(0.3, 0.28, 0.6), selected_epoch=2).kind == "healthy"


def test_advice_names_options_that_there_are():
    from harness.commands.run import command

    known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    for kind, advice in ADVICE.items():
        named = re.findall(r"--[\w-]+", advice)
        assert set(named) <= known
        assert bool(named) == (kind != "healthy")
    assert verdict(train=(0.3, 0.2, 0.05), val=(0.3, 0.2, 0.4)).advice == ADVICE["overfitting"]


def test_what_learns_slowly_has_not_collapsed():
    """A head at 1e-5: no better than blind yet, within noise, but both losses fall epoch by epoch."""
    falling = {
        "train_loss": [0.648, 0.636, 0.617, 0.611, 0.598],
        "val_loss": [0.704, 0.690, 0.677, 0.668, 0.660],
        "confusion": [[87, 21], [29, 14]],
        "class_names": ["female", "male"],
        "train_counts": [855, 344],
    }
    found = judge(**falling)
    assert found.kind == "underfitting"
    assert "a larger learning rate" in found.advice
    flat = [0.599, 0.600, 0.599, 0.600, 0.599]
    assert judge(**{**falling, "train_loss": flat, "val_loss": flat}).kind == "collapsed"
    assert judge(**{**falling, "val_loss": [0.70, 0.69, 0.68, 0.66, 0.67]}).kind == "collapsed"
    assert judge(**{**falling, "train_loss": [], "val_loss": []}).kind == "collapsed"
