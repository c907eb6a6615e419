"""From a run's record and its predictions to a cell: what it got right, its interval, its verdict."""

from __future__ import annotations

import hashlib

import numpy as np

from harness.resampling import accuracy_interval
from harness.stats import wilson
from harness.verdicts import judge
from reports.model import Cell
from reports.predictions import read_predictions
from reports.probabilities import probability_scores
from reports.record_types import Predictions, Record, Result


def make_cell(number: int, name: str, setting: str, record: Record, result: Result) -> Cell:
    """The cell of a run that ended well. Its predictions are read here, and checked.

    Raises :class:`~harness.errors.RecordError` where they can't be read.
    """
    predictions = read_predictions(record)
    test, groups = result.test, _groups(predictions)
    correct = predictions.label == predictions.prediction
    return Cell(
        number=number,
        name=name,
        setting=setting,
        record=record,
        result=result,
        seed=record.spec.seed,
        test=test,
        val_accuracy=None if result.val is None else result.val.accuracy,
        interval=wilson(test.right, test.n),
        verdict=judge(
            train_loss=[e.train_loss for e in record.history],
            val_loss=[e.val_loss for e in record.history],
            confusion=test.confusion,
            class_names=result.data.class_names,
            train_counts=result.data.counts.get("train", ()),
            test_loss=test.loss,
            selected_epoch=result.selected_epoch,
        ),
        correct=correct,
        images=_images(predictions),
        probabilities=probability_scores(predictions),
        groups=groups,
        group_interval=None if groups is None else accuracy_interval(correct, groups),
    )


def _images(p: Predictions) -> str:
    """A digest of the test images with their order and labels."""
    digest = hashlib.blake2b("\x00".join(p.ids).encode("utf-8", "surrogatepass"), digest_size=16)
    digest.update(p.label.tobytes())
    return digest.hexdigest()


def _groups(p: Predictions) -> np.ndarray | None:
    """A number for the group of each image; ``None`` where no two share one."""
    if not any(p.groups):
        return None
    # An image without a group is one of its own.
    _, codes = np.unique([g or f"\x00{i}" for i, g in enumerate(p.groups)], return_inverse=True)
    return codes if len(set(codes.tolist())) < len(codes) else None
