"""Labels and logits in, named scores out. Knows nothing of where they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.stats import wilson


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, float64 ``[n, classes]``."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponential = np.exp(shifted)
    return exponential / exponential.sum(axis=1, keepdims=True)


def scores(labels: np.ndarray, logits: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """The ``test`` part of a record: accuracy with Wilson's interval, loss (nats), per-class metrics.

    ``labels`` is int64 ``[n]``, ``logits`` float ``[n, classes]``. A class that is never predicted
    has precision 0.
    """
    classes = len(class_names)
    predicted = logits.argmax(axis=1)
    right = int((predicted == labels).sum())
    # Counted here: scikit-learn, which the tests hold this against, takes a second to import.
    confusion = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    hits, support, named = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall, f1 = _share(hits, named), _share(hits, support), _share(2 * hits, support + named)
    chosen = probabilities(logits)[np.arange(len(labels)), labels]
    with np.errstate(divide="ignore"):
        loss = float(-np.log(chosen).mean())
    return {
        "n": len(labels),
        "loss": loss,
        "accuracy": right / len(labels),
        "accuracy_interval": list(wilson(right, len(labels))),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "macro_f1": float(f1[support > 0].mean()),
        "per_class": [
            {
                "name": name,
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
                "right": int(confusion[i, i]),
                "wrong": int(support[i] - confusion[i, i]),
            }
            for i, name in enumerate(class_names)
        ],
        "confusion": confusion.tolist(),
    }


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, 0 where there is nothing to have a part of."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
