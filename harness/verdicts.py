"""The verdict of one cell: what its curves and its confusion matrix say, with the evidence.

The checks go from the gravest to the mildest and the first that applies decides: diverged,
collapsed, underfitting, overfitting, healthy. The thresholds are the module's constants. Each verdict
but the last comes with what to try, in options of ``harness run``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from harness.stats import wilson

Kind = Literal["healthy", "overfitting", "underfitting", "collapsed", "diverged"]
DIVERGED: Kind = "diverged"  # also how the reason of a run begins that failed for it

# Collapsed: nearly every answer is one class ...
COLLAPSED_SHARE = 0.995
# ... unless nearly every image is of that class, when the same answers would be right.
DOMINANT_CLASS = 0.99
# A training loss this close, relatively, to the entropy of the class shares has learned those alone.
AT_THE_PRIOR = 0.02
# Standard errors that a balanced accuracy may lie from 1/K and still be no better than blind.
NOISE_Z = 1.96

# ... unless both losses fell in every one of so many epochs, in the last one by this share: slow, not blind.
EPOCHS_FALLING = 3
STILL_LEARNING = 0.005

# Underfitting: the training loss is still this share of what the class shares alone give, ...
UNLEARNED = 0.90
# ... or both losses still fell by this share in the last epoch, with much left to learn.
STILL_FALLING = 0.10
LEFT_TO_LEARN = 0.25

# Overfitting: the validation loss rose to this multiple of its minimum and by this many nats,
# while the training loss fell by this share over the same epochs.
RISE_FACTOR = 1.25
RISE_NATS = 0.03
TRAIN_FALL = 0.10


@dataclass(frozen=True)
class Verdict:
    """A kind, one sentence of evidence, and one of advice (empty where nothing is wrong)."""

    kind: Kind
    evidence: str
    advice: str = ""


ADVICE: Mapping[Kind, str] = {
    "diverged": "Try a smaller learning rate (--lr) and --precision fp32.",
    "collapsed": "Try a learning rate ten times smaller (--lr), a strategy that trains less, and other seeds "
    "(--seed): whether a cell collapses can depend on them.",
    "underfitting": "Try more epochs (--epochs), a larger learning rate (--lr), or a strategy that trains "
    "more.",
    "overfitting": "Try --select best, more varied images (--flip, --augment), --weight-decay, or a "
    "strategy that trains less.",
    "healthy": "",
}


def judge(
    *,
    train_loss: Sequence[float | None],
    val_loss: Sequence[float | None],
    confusion: Sequence[Sequence[int]],
    class_names: Sequence[str],
    train_counts: Sequence[int],
    test_loss: float | None = None,
    selected_epoch: int | None = None,
) -> Verdict:
    """The verdict of a cell.

    Losses are mean cross-entropies in nats, one an epoch from epoch 1; a loss that was not finite
    is ``nan`` or infinite, ``None`` means that none was taken. ``confusion`` has true classes as
    rows, ``train_counts`` the training images of each class, ``selected_epoch`` counts from 1 and
    defaults to the last.
    """
    last = selected_epoch or len(train_loss)
    train, val = list(train_loss)[:last], list(val_loss)[:last]
    entropy = prior_entropy(train_counts)
    found = (
        _diverged(train_loss, val_loss, test_loss)
        or _collapsed(
            np.asarray(confusion), class_names, _prior_loss(train, entropy), learning=_learning(train, val)
        )
        or _underfitting(train, val, entropy)
        or _overfitting(train, val)
        or _healthy(train, val)
    )
    return replace(found, advice=ADVICE[found.kind])


def prior_entropy(counts: Sequence[int]) -> float:
    """Entropy of the class shares in nats: the loss of a model that knows nothing but them."""
    shares = np.asarray([c for c in counts if c > 0], dtype=float)
    shares /= shares.sum() or 1.0
    return float(-(shares * np.log(shares)).sum())


def _diverged(
    train: Sequence[float | None], val: Sequence[float | None], test_loss: float | None
) -> Verdict | None:
    for name, losses in (("training", train), ("validation", val)):
        for epoch, loss in enumerate(losses, start=1):
            if loss is not None and not math.isfinite(loss):
                return Verdict("diverged", f"The {name} loss is not a finite number from epoch {epoch} on.")
    if test_loss is not None and not math.isfinite(test_loss):
        return Verdict("diverged", "The loss on the test set is not a finite number.")
    return None


def _prior_loss(train: Sequence[float | None], entropy: float) -> str:
    """What the last training loss says of a collapse; empty where it says nothing."""
    last = train[-1] if train else None
    if last is None or entropy <= 0 or abs(last / entropy - 1) > AT_THE_PRIOR:
        return ""
    return f"; the training loss ends at {last:.3f}, the entropy of the class shares being {entropy:.3f}"


def _learning(train: Sequence[float | None], val: Sequence[float | None]) -> bool:
    """Whether both losses fell from epoch to epoch to the end, as they do at too small a learning rate."""
    if min(len(train), len(val)) <= EPOCHS_FALLING:
        return False
    falls = [_fall(*pair) for losses in (train, val) for pair in pairwise(losses[-EPOCHS_FALLING - 1 :])]
    return all(fall is not None and fall > 0 for fall in falls) and all(
        (_fall(*losses[-2:]) or 0) >= STILL_LEARNING for losses in (train, val)
    )


def _collapsed(confusion: np.ndarray, names: Sequence[str], loss: str, *, learning: bool) -> Verdict | None:
    n, classes = int(confusion.sum()), len(confusion)
    if n == 0 or classes < 2:
        return None
    truth, answers = confusion.sum(axis=1), confusion.sum(axis=0)
    top = int(answers.argmax())
    share, true_share = answers[top] / n, truth[top] / n
    if share >= COLLAPSED_SHARE and true_share < DOMINANT_CLASS:
        return Verdict(
            "collapsed",
            f"It answers '{names[top]}' for {_pct(share)} of the test images, whatever they show; "
            f"that class is {_pct(true_share)} of them{loss}.",
        )
    present = truth > 0
    right = int(np.trace(confusion))
    majority = truth.max() / n
    balanced = float((np.diag(confusion)[present] / truth[present]).mean())
    blind = 1 / int(present.sum())
    answer_share = answers[present] / n
    noise = math.sqrt(float((answer_share * (1 - answer_share) / truth[present]).sum())) * blind
    low, high = wilson(right, n)
    at_chance = present.sum() > 1 and abs(balanced - blind) <= NOISE_Z * noise
    if at_chance and low <= majority <= high and not learning:
        return Verdict(
            "collapsed",
            f"Its balanced accuracy, {_pct(balanced)}, is within noise of the {_pct(blind)} of a model "
            f"that doesn't look, and its accuracy, {_pct(right / n)}, of the {_pct(majority)} of naming the "
            f"largest class always{loss}.",
        )
    return None


def _underfitting(
    train: Sequence[float | None], val: Sequence[float | None], entropy: float
) -> Verdict | None:
    if not train or train[-1] is None or entropy <= 0:
        return None
    if train[-1] >= UNLEARNED * entropy:
        return Verdict(
            "underfitting",
            f"The training loss ends at {train[-1]:.3f}, where knowing nothing but the class shares "
            f"gives {entropy:.3f}.",
        )
    if len(train) < 2 or len(val) < 2 or train[-1] <= LEFT_TO_LEARN * entropy:
        return None
    falls = [_fall(losses[-2], losses[-1]) for losses in (train, val)]
    if all(fall is not None and fall >= STILL_FALLING for fall in falls):
        return Verdict(
            "underfitting",
            f"Training stopped early: in the last epoch the training loss still fell by "
            f"{100 * (falls[0] or 0):.0f} % and the validation loss by {100 * (falls[1] or 0):.0f} %.",
        )
    return None


def _overfitting(train: Sequence[float | None], val: Sequence[float | None]) -> Verdict | None:
    known = [(loss, i) for i, loss in enumerate(val) if loss is not None]
    if len(known) < 2 or len(train) < len(val):
        return None
    lowest, at = min(known)
    end = val[-1]
    fall = _fall(train[at], train[len(val) - 1])
    if end is None or fall is None:
        return None
    if end >= RISE_FACTOR * lowest and end - lowest >= RISE_NATS and fall >= TRAIN_FALL:
        return Verdict(
            "overfitting",
            f"The validation loss rose from {lowest:.3f} in epoch {at + 1} to {end:.3f} in epoch {len(val)}, "
            f"while the training loss fell from {train[at]:.3f} to {train[len(val) - 1]:.3f}.",
        )
    return None


def _healthy(train: Sequence[float | None], val: Sequence[float | None]) -> Verdict:
    if train and val and train[-1] is not None and val[-1] is not None:
        lowest = min(v for v in val if v is not None)
        return Verdict(
            "healthy",
            f"The training loss ends at {train[-1]:.3f} and the validation loss at {val[-1]:.3f}, "
            + ("its lowest." if val[-1] <= lowest else f"near its lowest, {lowest:.3f}."),
        )
    return Verdict("healthy", "Nothing in the record speaks against it; it holds no validation curve.")


def _fall(before: float | None, after: float | None) -> float | None:
    """The relative fall from one loss to the next, ``None`` where it can't be told."""
    if before is None or after is None or before <= 0:
        return None
    return (before - after) / before


def _pct(share: float) -> str:
    return f"{100 * share:.2f} %"
