"""What a trained network says of images, whatever a few of them hold."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from itertools import islice

import numpy as np
import torch
from PIL import Image

from harness.data.decode import load_readable, resize_crop
from harness.errors import DataError, RecordError
from harness.features import BATCH
from harness.metrics import probabilities
from harness.trained import TrainedRun

_SHOWN = 10  # images that a notebook shows
_Loaded = tuple[torch.Tensor, dict[int, DataError]]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Images with a network's answers; ``failed`` maps what couldn't be decoded to the reason.

    ``logits`` is float32 ``[n, classes]``, row i of ``paths[i]``.
    """

    paths: tuple[str, ...]
    logits: np.ndarray
    class_names: tuple[str, ...]
    failed: Mapping[str, str]

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, float64 ``[n, classes]``."""
        return probabilities(self.logits)

    @property
    def classes(self) -> np.ndarray:
        """Index of the most probable class, int64 ``[n]``; the first of equal ones, as in the record."""
        return self.logits.argmax(axis=1)

    def top(self, k: int | None = None) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """Each image with its ``k`` most probable classes (all by default) and their probabilities."""
        shares = self.probabilities
        order = np.argsort(-self.logits, axis=1, kind="stable")[:, :k]
        for path, row, best in zip(self.paths, shares, order, strict=True):
            yield path, [(self.class_names[i], float(row[i])) for i in best]

    def _repr_html_(self) -> str:
        """The first images with their most probable class."""
        rows = "".join(
            f"<tr><td>{escape(path)}</td><td>{escape(name)}</td><td>{100 * share:.2f} %</td></tr>"
            for path, ((name, share),) in islice(self.top(1), _SHOWN)
        )
        more = len(self.paths) - _SHOWN
        notes = [f"{more} more"] * (more > 0) + [f"{len(self.failed)} left out"] * bool(self.failed)
        head = "<tr><th>image</th><th>class</th><th>probability</th></tr>"
        return f"<table>{head}{rows}</table>{', '.join(notes)}"


def predict(
    trained: TrainedRun,
    paths: Sequence[str],
    *,
    batch_size: int = BATCH,
    workers: int = 1,
    progress: Callable[[int], object] = lambda _: None,
) -> Predictions:
    """The answers of ``trained`` to the image files ``paths``, decoded on ``workers`` threads.

    With the default ``batch_size``, under the run's conditions, they are bit for bit those of its
    ``predictions.csv``. ``progress`` is told how many images were done. Raises DataError where not one image
    can be decoded.
    """
    names: list[str] = []
    found: list[torch.Tensor] = []
    failed: dict[str, str] = {}
    for part, (images, errors) in _loaded(trained, paths, batch_size, workers):
        good = [row for row in range(len(part)) if row not in errors]
        if good:
            found.append(trained.logits(images[good], batch_size))
        names += [part[row] for row in good]
        failed |= {part[row]: _reason(error, part[row]) for row, error in errors.items()}
        progress(len(part))
    if failed and not names:
        path, reason = next(iter(failed.items()))
        more = f" (and none of {len(failed) - 1} others)" if len(failed) > 1 else ""
        raise DataError(f"can't decode image {path}: {reason}{more}")
    logits = torch.cat(found) if found else torch.empty(0, len(trained.class_names))
    return Predictions(tuple(names), logits.numpy(), trained.class_names, failed)


def predict_pixels(
    trained: TrainedRun, images: Sequence[Image.Image | np.ndarray], *, batch_size: int = BATCH
) -> Predictions:
    """The answers to images in memory: Pillow's, or uint8 ``[h, w, 3]`` in RGB. Paths are their numbers.

    Raises DataError naming an image that is neither.
    """
    rows = []
    for number, image in enumerate(images):
        pixels = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise DataError(f"image {number} is {pixels.dtype} {list(pixels.shape)}, not uint8 [h, w, 3]")
        rows.append(resize_crop(pixels, trained.model.preprocess))
    logits = (
        trained.logits(torch.stack(rows), batch_size) if rows else torch.empty(0, len(trained.class_names))
    )
    return Predictions(tuple(map(str, range(len(rows)))), logits.numpy(), trained.class_names, {})


def recorded_answers(trained: TrainedRun) -> dict[str, int]:
    """The class that the run's own test gave each test image, by the path it was read from, in its order."""
    file = trained.folder.path / "predictions.csv"
    try:
        with file.open(encoding="utf-8", newline="") as handle:
            return {row["path"]: int(row["prediction"]) for row in csv.DictReader(handle)}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise RecordError(f"can't read '{file}': {error!r}") from error


def _loaded(
    trained: TrainedRun, paths: Sequence[str], size: int, workers: int
) -> Iterator[tuple[Sequence[str], _Loaded]]:
    """Batches of images, the next one decoded while this one is computed."""
    parts = [paths[start : start + size] for start in range(0, len(paths), size)]

    def load(part: Sequence[str]) -> _Loaded:
        return load_readable(part, trained.model.preprocess, workers)

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead: Future[_Loaded] | None = None
        for number, part in enumerate(parts):
            loaded = (ahead or pool.submit(load, part)).result()
            ahead = pool.submit(load, parts[number + 1]) if number + 1 < len(parts) else None
            yield part, loaded


def _reason(error: DataError, path: str) -> str:
    return str(error).removeprefix(f"can't decode image {path}: ")
