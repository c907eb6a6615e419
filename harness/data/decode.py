"""From the bytes of an image file to the pixels a network sees: decode, resize, crop."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from PIL import Image, ImageOps

from harness.contracts import Preprocess
from harness.data.resize import resize
from harness.errors import DataError

DECODER_VERSION = 2  # part of every cache key; raised when the same bytes decode to other pixels

_CHUNK = 16
_RESIZED_TOGETHER = 1 << 21  # bytes; more is no faster
_SHOWN = 5
_START_OF_FRAME = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, Huffman-coded
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
_SIXTEEN_BIT = {"I;16", "I;16L", "I;16B", "I;16N"}


def decode(data: bytes, name: str) -> np.ndarray:
    """The pixels of an image file, uint8 ``[h, w, 3]`` in RGB, turned as its EXIF data say.

    Equal to Pillow's ``exif_transpose`` and ``convert("RGB")``; of an animation the first frame.
    16-bit grey is scaled to 8 bits, where Pillow would clip it. Raises DataError naming ``name``
    for what can't be decoded, JPEGs with damaged data and images beyond Pillow's bound on pixels.
    """
    try:
        if not data:
            raise ValueError("the file is empty")
        if _is_plain_jpeg(data):
            return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
        return _decode_with_pillow(data)
    except Exception as error:  # a decoder of a foreign format may raise anything on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "not an image in a format that Pillow knows"
        raise DataError(f"can't decode image {name}: {reason}") from error


def _check_pixels(width: int, height: int) -> None:
    bound = Image.MAX_IMAGE_PIXELS
    if bound is not None and width * height > bound:
        raise ValueError(f"{width} x {height} pixels exceed the bound of {bound}")


def _is_plain_jpeg(data: bytes) -> bool:
    """Is it an 8-bit grey or three-channel JPEG without EXIF or XMP (which may turn the image)?"""
    if not data.startswith(b"\xff\xd8\xff"):
        return False
    plain = False
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF or marker in _NO_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == 0xE1:
            return False
        if marker == 0xDA:
            return plain
        if marker in _START_OF_FRAME and position + 10 <= len(data):
            precision, channels = data[position + 4], data[position + 9]
            plain = precision == 8 and channels in (1, 3)
            height, width = (int.from_bytes(data[position + i : position + i + 2], "big") for i in (5, 7))
            _check_pixels(width, height)
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _decode_with_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        _check_pixels(*opened.size)
        opened.load()
        image = ImageOps.exif_transpose(opened)
        if image.mode in _SIXTEEN_BIT:
            grey = (np.asarray(image) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        if image.mode in ("I", "F"):
            raise ValueError(f"pixels of mode {image.mode} (32 bits) have no set range")
        return np.array(image.convert("RGB"))


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
    size = preprocess.size
    images = np.empty((len(paths), size, size, 3), dtype=np.uint8)

    def load(start: int) -> list[DataError]:
        errors: list[DataError] = []
        rows: list[int] = []

        def decoded() -> Iterator[np.ndarray]:
            for row in range(start, min(start + _CHUNK, len(paths))):
                try:
                    image = decode(_read(paths[row]), paths[row])
                except DataError as error:
                    errors.append(error)
                else:
                    rows.append(row)
                    yield image

        for number, pixels in enumerate(resize_crop_each(decoded(), preprocess)):
            images[rows[number]] = pixels
        return errors

    failures: list[DataError] = []
    with ThreadPoolExecutor(max_workers=max(workers, 1)) as pool:
        starts = range(0, len(paths), _CHUNK)
        for start, errors in zip(starts, pool.map(load, starts), strict=True):
            failures.extend(errors)
            if progress is not None:
                progress(min(_CHUNK, len(paths) - start))
    if failures:
        raise _summary(failures, len(paths))
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"can't decode image {path}: {error.strerror}") from error


def _summary(failures: list[DataError], total: int) -> DataError:
    if len(failures) == 1:
        return failures[0]
    names = ", ".join(str(f).removeprefix("can't decode image ") for f in failures[:_SHOWN])
    more = ", ..." if len(failures) > _SHOWN else ""
    return DataError(f"can't decode {len(failures)} of {total} images: {names}{more}")
