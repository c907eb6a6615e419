"""A heat map laid over the small copy of its image."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
from PIL import Image

from harness.heatmaps import HeatMap
from reports.record_types import BackboneFacts
from reports.thumbnails import to_jpeg

_STRONGEST = 0.75  # how much of the hottest place is colour; what is cold shows the image itself
_UNSEEN = 0.35  # brightness of what the network's crop left out
_COLOURS = "inferno"  # ordered in lightness too, so that it reads without colour vision


def overlay(jpeg: bytes, heat: HeatMap, network: BackboneFacts) -> bytes:
    """A JPEG as large as ``jpeg``, the whole image in small: grey, with the heat in colour.

    The network saw the centre crop that ``network`` describes; what lies outside is darkened.
    """
    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as opened:
        grey = np.asarray(opened.convert("L"), dtype=np.float64)[:, :, None].repeat(3, axis=2) / 255
    height, width = grey.shape[:2]
    side = max(1, round(min(height, width) * network.size / network.resize))
    heated = Image.fromarray(heat.levels.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    levels = _centred(np.asarray(heated) / 255, height, width)
    colour = matplotlib.colormaps[_COLOURS](np.nan_to_num(levels))[:, :, :3]
    share = (_STRONGEST * np.nan_to_num(levels))[:, :, None]
    mixed = grey * (1 - share) + colour * share
    mixed = np.where(np.isnan(levels)[:, :, None], grey * _UNSEEN, mixed)
    return to_jpeg(Image.fromarray(np.rint(255 * mixed.clip(0, 1)).astype(np.uint8)))


def _centred(square: np.ndarray, height: int, width: int) -> np.ndarray:
    """``square`` in the middle of ``[height, width]``: NaN around it, cut off where it is larger."""
    found = np.full((height, width), np.nan)
    side = len(square)
    tops, lefts = (max(0, (n - side) // 2) for n in (height, width))
    cuts = [max(0, (side - n) // 2) for n in (height, width)]
    part = square[cuts[0] : cuts[0] + height, cuts[1] : cuts[1] + width]
    found[tops : tops + part.shape[0], lefts : lefts + part.shape[1]] = part
    return found
