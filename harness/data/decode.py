"""From image files to the pixels a network sees: decode, resize, crop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from harness.contracts import Preprocess
from harness.data.image_file import decode, read_file
from harness.data.resize import resize
from harness.errors import DataError

DECODER_VERSION = 2  # part of every cache key; raised when the same bytes decode to other pixels

_CHUNK = 16
_RESIZED_TOGETHER = 1 << 21  # bytes; more is no faster
_SHOWN = 5


def resize_crop(image: np.ndarray, preprocess: Preprocess) -> torch.Tensor:
    """uint8 ``[h, w, 3]`` -> uint8 ``[3, size, size]``.

    The short side becomes ``preprocess.resize`` pixels (antialiased; nothing is resampled where it
    has them already), then the centre is cropped, padded with black where the image is smaller.
    Sides and offsets are those of torchvision's ``Resize`` and ``CenterCrop``; the pixels are those
    that Pillow's resize gives these or, in at most 1e-5 of CelebA's values, one level off
    (:mod:`harness.data.resize`).
    """
    (pixels,) = resize_crop_each([image], preprocess)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def resize_crop_each(images: Iterable[np.ndarray], preprocess: Preprocess) -> Iterator[np.ndarray]:
    """What :func:`resize_crop` gives for each image, as ``[size, size, 3]``.

    Small images of the same size that follow one another are resized together, which is faster.
    """
    waiting: list[np.ndarray] = []
    for image in images:
        if waiting and (
            image.shape != waiting[0].shape or (len(waiting) + 1) * image.nbytes > _RESIZED_TOGETHER
        ):
            yield from _resize_crop(waiting, preprocess)
            waiting = []
        waiting.append(image)
    if waiting:
        yield from _resize_crop(waiting, preprocess)


def _resize_crop(alike: list[np.ndarray], preprocess: Preprocess) -> np.ndarray:
    images = np.stack(alike)
    height, width = images.shape[1:3]
    short = min(height, width)
    if short != preprocess.resize:
        side = (int(preprocess.resize * height / short), int(preprocess.resize * width / short))
        images = resize(images, side, preprocess.interpolation)
    return _center_crop(images, preprocess.size)


def _center_crop(images: np.ndarray, size: int) -> np.ndarray:
    height, width = images.shape[1:3]
    if height < size or width < size:
        down, right = max(size - height, 0), max(size - width, 0)
        margins = ((0, 0), (down // 2, (down + 1) // 2), (right // 2, (right + 1) // 2), (0, 0))
        images = np.pad(images, margins)
        height, width = images.shape[1:3]
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    return images[:, top : top + size, left : left + size]


def load_images(
    paths: Sequence[str],
    preprocess: Preprocess,
    workers: int,
    progress: Callable[[int], object] | None = None,
) -> torch.Tensor:
    """Decode, resize and crop files on ``workers`` threads: uint8 ``[n, 3, size, size]``, channels last.

    The result doesn't depend on ``workers``. ``progress`` is called with the number of images just
    done. Every file is tried; then one DataError gives the number of those that can't be used, the
    first names and the first reason.
    """
    images, failures = load_readable(paths, preprocess, workers, progress)
    if failures:
        raise _summary(list(failures.values()), len(paths))
    return images


def load_readable(
    paths: Sequence[str],
    preprocess: Preprocess,
    workers: int,
    progress: Callable[[int], object] | None = None,
) -> tuple[torch.Tensor, dict[int, DataError]]:
    """As :func:`load_images`, but what can't be used is told by its position and its row holds anything."""
    size = preprocess.size
    images = np.empty((len(paths), size, size, 3), dtype=np.uint8)

    def load(start: int) -> dict[int, DataError]:
        errors: dict[int, DataError] = {}
        rows: list[int] = []

        def decoded() -> Iterator[np.ndarray]:
            for row in range(start, min(start + _CHUNK, len(paths))):
                try:
                    image = decode(read_file(paths[row]), paths[row])
                except DataError as error:
                    errors[row] = error
                else:
                    rows.append(row)
                    yield image

        for number, pixels in enumerate(resize_crop_each(decoded(), preprocess)):
            images[rows[number]] = pixels
        return errors

    failures: dict[int, DataError] = {}
    with ThreadPoolExecutor(max_workers=max(workers, 1)) as pool:
        starts = range(0, len(paths), _CHUNK)
        for start, errors in zip(starts, pool.map(load, starts), strict=True):
            failures |= errors
            if progress is not None:
                progress(min(_CHUNK, len(paths) - start))
    return torch.from_numpy(images).permute(0, 3, 1, 2), failures


def _summary(failures: list[DataError], total: int) -> DataError:
    if len(failures) == 1:
        return failures[0]
    names = ", ".join(str(f).removeprefix("can't decode image ") for f in failures[:_SHOWN])
    more = ", ..." if len(failures) > _SHOWN else ""
    return DataError(f"can't decode {len(failures)} of {total} images: {names}{more}")
