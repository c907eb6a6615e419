"""Heat maps of a finished run's test images, computed from its checkpoint into its folder."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from harness import runtime
from harness.data.decode import load_images
from harness.errors import DataError, RecordError
from harness.gradcam import cam_layer, grad_cam
from harness.heatmaps import HeatMaps, belonging, quantised, write_heatmaps
from harness.metrics import probabilities
from harness.trained import TrainedRun, load_run

# A probability may differ this much from the recorded one, on another machine or with another thread
# count. An image that was changed, or taken for another, differs by more.
_NEAR = {"fp32": 1e-3, "tf32": 0.02, "bf16": 0.05}


def explain_run(run: Path, images: Mapping[str, Path], weights: str | None = None) -> Path:
    """Grad-CAM of ``images`` (id -> file), each for the class that the run predicted.

    ``weights`` says where the base weights lie now. Returns the file written; what it held of the same
    network stays. Raises RecordError for a folder or checkpoint that can't be read, DataError for an
    image that can't be decoded or that the network no longer answers as recorded, UsageError without
    captum or for a network without maps of height and width.
    """
    trained = load_run(run, weights=weights)
    layer = cam_layer(trained.model)
    train = trained.spec.train
    runtime.configure(trained.threads, train.precision, train.deterministic)
    names = sorted(images)
    pixels = load_images([str(images[name]) for name in names], trained.model.preprocess, workers=1)
    classes, wanted = _recorded(trained, names)
    found = probabilities(trained.logits(pixels).numpy())
    for name, far in zip(names, np.abs(found - wanted).max(axis=1), strict=True):
        if not far <= _NEAR[train.precision]:
            raise DataError(
                f"'{images[name]}' isn't the image that run '{trained.folder.name}' was tested on: its "
                "network answers otherwise than recorded"
            )
    maps = grad_cam(trained.model, layer, pixels, classes, trained.autocast).numpy()
    made = HeatMaps(
        run=str(trained.record["run"]),
        digests=belonging(trained.record["digests"]),
        stage=layer.stage,
        versions={name: str(runtime.package_version(name)) for name in ("captum", "torch")},
        maps={n: quantised(m, c) for n, m, c in zip(names, maps, classes, strict=True)},
    )
    trained.folder.lock(wait=True)  # between reading what is there and replacing it
    try:
        return write_heatmaps(run, made)
    finally:
        trained.folder.unlock()


def _recorded(trained: TrainedRun, names: Sequence[str]) -> tuple[list[int], np.ndarray]:
    """The class that was predicted for each of ``names``, and its probabilities ``[n, classes]``."""
    file = trained.folder.path / "predictions.csv"
    columns = [f"p{i}" for i in range(len(trained.class_names))]
    try:
        with file.open(encoding="utf-8", newline="") as handle:
            rows = {row["id"]: row for row in csv.DictReader(handle)}
        found = [rows[name] for name in names]
        return (
            [int(row["prediction"]) for row in found],
            np.array([[float(row[c]) for c in columns] for row in found]),
        )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise RecordError(f"can't read '{file}': {error!r}") from error
