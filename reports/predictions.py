"""The predictions of a run on its test images."""

from __future__ import annotations

import csv
import io

import numpy as np

from harness.errors import RecordError
from reports.fields import clean
from reports.files import read_text
from reports.record_types import Predictions, Record


def read_predictions(record: Record, *, attributes: bool = False) -> Predictions:
    """``predictions.csv`` of a run that ended well, checked against its confusion matrix.

    The attributes of the images, most of the file, are read only where ``attributes`` asks for them.
    """
    file = record.folder / "predictions.csv"
    if record.result is None:
        raise RecordError(f"{file}: a failed run has no predictions")
    test, classes = record.result.test, len(record.result.data.class_names)
    rows = list(csv.reader(io.StringIO(read_text(file), newline="")))
    head = rows.pop(0) if rows else []
    chances = [f"p{i}" for i in range(classes)]
    wanted = ["id", "path", "group", "label", "prediction", *chances]
    if head[: len(wanted)] != wanted:
        raise RecordError(f"{file}: the first columns should be {', '.join(wanted)}")
    if any(len(row) != len(head) for row in rows) or len(rows) != test.n:
        raise RecordError(f"{file}: {test.n} rows of {len(head)} columns are expected")
    named = [name for name in head[len(wanted) :] if attributes and name.startswith("attr:")]
    at = {name: i for i, name in enumerate(head)}
    columns = {name: tuple(row[at[name]] for row in rows) for name in (*wanted, *named)}
    try:
        label = np.array(columns["label"]).astype(np.int64)
        prediction = np.array(columns["prediction"]).astype(np.int64)
        probabilities = np.array([columns[c] for c in chances]).astype(np.float64).T
        found = {clean(name.removeprefix("attr:")): np.array(columns[name]).astype(np.int8) for name in named}
    except ValueError as error:
        raise RecordError(f"{file}: {error}") from error
    confusion = np.zeros((classes, classes), dtype=np.int64)
    inside = (label >= 0) & (label < classes) & (prediction >= 0) & (prediction < classes)
    np.add.at(confusion, (label[inside], prediction[inside]), 1)
    if not np.array_equal(confusion, np.array(test.confusion)):
        raise RecordError(f"{file}: its counts are not those of the confusion matrix in result.json")
    return Predictions(
        columns["id"], columns["path"], columns["group"], label, prediction, probabilities, found
    )
