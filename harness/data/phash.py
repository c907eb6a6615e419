"""Whether two images show the same picture, whatever became of their bytes.

Two steps. A perceptual hash (pHash: Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions", 2010) of 256 bits tells what can't be a copy: it is compared for all pairs. Aligned faces are
alike to it, so each candidate is compared again by its details: what is left of the image at 64 x 64
after a blur is taken off, where the same photograph coincides hair by hair and two photographs of one
person don't. Colour, brightness, contrast and compression change neither much; crops are not found.

ImageHash has the same hash (the tests hold this one against it), one image at a time, with PyWavelets for
a hash that is not wanted here, and without the mirror image, which comes here from the same transform.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

VERSION = 1  # part of what is kept: raise it with any change to a hash
BITS = 256
FARTHEST = 48  # bits in which the hashes of two copies may differ
LEAST = 0.8  # correlation of the details of two copies
METHOD = (
    f"pHash of {BITS} bits at most {FARTHEST} apart, then details (64 x 64, less a Gaussian blur of 2 px) "
    f"that correlate by {LEAST} or more; mirror images too"
)
_SIDE, _LOW = 32, 16  # of the image that is transformed, of its low frequencies that make the hash
_DETAIL, _BLUR = 64, 2.0
_BLOCK = 512  # rows compared at once


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs of rows ``a < b`` (int ``[m]``) that the hash takes for copies, with the bits they differ in."""

    a: np.ndarray
    b: np.ndarray
    distance: np.ndarray
    mirrored: bool


def small(image: np.ndarray) -> np.ndarray:
    """uint8 ``[h, w, 3]`` -> the grey uint8 ``[32, 32]`` that is hashed."""
    return _grey(image, _SIDE, Image.Resampling.LANCZOS)


def hashes(smalls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of images (uint8 ``[n, 32, 32]``) and of their mirror images, packed uint8 ``[n, 32]`` each.

    A bit says whether a coefficient of the cosine transform's lowest 16 x 16 is above their median.
    """
    low = dctn(smalls.astype(np.float64), axes=(1, 2))[:, :_LOW, :_LOW]
    mirror = np.where(np.arange(_LOW) % 2, -1.0, 1.0)  # odd cosines change their sign
    return _bits(low), _bits(low * mirror)


def _bits(low: np.ndarray) -> np.ndarray:
    flat = low.reshape(len(low), BITS)
    return np.packbits(flat > np.median(flat, axis=1, keepdims=True), axis=1)


def candidates(
    plain: np.ndarray, mirrored: np.ndarray, advance: Callable[[int], object] = lambda _: None
) -> Iterator[Candidates]:
    """All pairs within :data:`FARTHEST` bits, then those that are only so against a mirror image.

    ``advance`` is told how many rows have been compared with all after them.
    """
    signs, turned = (np.where(np.unpackbits(h, axis=1), 1, -1).astype(np.float32) for h in (plain, mirrored))
    for start in range(0, len(signs), _BLOCK):
        rows = signs[start : start + _BLOCK]
        # Of two vectors of signs the product is the number of bits less twice those that differ: exact.
        straight = rows @ signs[start:].T
        yield _within(straight, start, mirrored=False)
        across = rows @ turned[start:].T
        across[straight >= BITS - 2 * FARTHEST] = 0
        yield _within(across, start, mirrored=True)
        advance(len(rows))


def _within(products: np.ndarray, start: int, *, mirrored: bool) -> Candidates:
    a, b = np.nonzero(products >= BITS - 2 * FARTHEST)
    a, b = a[b > a], b[b > a]
    distance = ((BITS - products[a, b]) / 2).astype(np.int64)
    return Candidates(a + start, b + start, distance, mirrored)


def detail(image: np.ndarray) -> np.ndarray:
    """uint8 ``[h, w, 3]`` -> float32 ``[64, 64]`` of mean 0 and length 1; 0 where there is no detail."""
    grey = _grey(image, _DETAIL, Image.Resampling.BOX).astype(np.float32)
    left = grey - gaussian_filter(grey, _BLUR)
    left -= left.mean()
    length = float(np.linalg.norm(left))
    return left / length if length > 1 else np.zeros_like(left)


def correlation(a: np.ndarray, b: np.ndarray, *, mirrored: bool) -> np.ndarray:
    """Of the details ``[m, 64, 64]`` of pairs, float ``[m]``."""
    return np.einsum("nij,nij->n", a, b[:, :, ::-1] if mirrored else b)


def _grey(image: np.ndarray, side: int, how: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(image).convert("L").resize((side, side), how))
