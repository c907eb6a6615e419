"""From the bytes of an image file to its pixels; no torch."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from harness.data.members import read_bytes
from harness.errors import DataError

_START_OF_FRAME = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, Huffman-coded
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
_THINNEST = 100  # sides that differ more than so many times: the short one's size makes gigabytes of it
_SIXTEEN_BIT = {"I;16", "I;16L", "I;16B", "I;16N"}


def read_file(path: str) -> bytes:
    """The bytes of an image, a file or part of one; raises DataError naming one that can't be read."""
    try:
        return read_bytes(path)
    except OSError as error:
        raise DataError(f"can't decode image {path}: {error.strerror}") from error


def decode(data: bytes, name: str) -> np.ndarray:
    """The pixels of an image file, uint8 ``[h, w, 3]`` in RGB, turned as its EXIF data say.

    Equal to Pillow's ``exif_transpose`` and ``convert("RGB")``; of an animation the first frame.
    16-bit grey is scaled to 8 bits, where Pillow would clip it. Raises DataError naming ``name``
    for what can't be decoded, JPEGs with damaged data, images beyond Pillow's bound on pixels and those
    over a hundred times as long as wide.
    """
    try:
        if not data:
            raise ValueError("the file is empty")
        if _is_plain_jpeg(data):
            pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
        else:
            pixels = _decode_with_pillow(data)
        height, width = pixels.shape[:2]
        if max(height, width) > _THINNEST * min(height, width):
            raise ValueError(f"{width} x {height} pixels: one side is over {_THINNEST} times the other")
        return pixels
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
