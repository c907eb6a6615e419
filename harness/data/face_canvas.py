"""Colour planes for a chunk of images, and soft-edged shapes from signed distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.face_scene import Floats, Scene

SIDE = 64


def column(values: Floats) -> Floats:
    """One number per image, shaped to meet planes ``[b, 64, 64]``."""
    return values[:, None, None]


@dataclass
class Canvas:
    """Three colour planes ``[3, b, 64, 64]`` and the grid of face coordinates they are drawn on."""

    x: Floats  # [b, 64, 64], to the right
    y: Floats  # [b, 64, 64], downwards
    scale: Floats  # [b, 1, 1], pixels per face unit
    planes: Floats

    @classmethod
    def backdrop(cls, s: Scene) -> Canvas:
        scale = column(s.scale)
        grid = np.arange(SIDE, dtype=np.float32) - np.float32(SIDE / 2 - 0.5)
        x = grid[None, None, :] / scale - column(s.shift_x)
        y = grid[None, :, None] / scale - column(s.shift_y)
        t = column(s.tilt)
        cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
        x, y = cos * x + sin * y, cos * y - sin * x
        planes = np.empty((3, *x.shape), np.float32)
        ramp = (y * np.float32(0.35) + x * np.float32(0.2) + np.float32(0.5)).clip(0, 1)
        for c in range(3):
            top, bottom = column(s.back_top[:, c]), column(s.back_bottom[:, c])
            planes[c] = top + (bottom - top) * ramp
        return cls(x, y, scale, planes)

    def band(self, top: int, bottom: int) -> Canvas:
        """The pixel rows ``top`` to ``bottom`` of the same planes, for what can't lie elsewhere."""
        rows = slice(top, bottom)
        return Canvas(self.x[:, rows], self.y[:, rows], self.scale, self.planes[:, :, rows])

    def cover(self, distance: Floats) -> Floats:
        """Signed distance (face units, negative inside) to coverage in 0..1, one pixel soft."""
        return (np.float32(0.5) - distance * self.scale).clip(0, 1)

    def fill(self, cover: Floats, colour: Floats, shade: Floats | float = 1.0) -> None:
        """Lay ``colour`` (``[b, 3]``, times ``shade``) over the planes where ``cover`` is."""
        for c in range(3):
            self.planes[c] += cover * (column(colour[:, c]) * shade - self.planes[c])


def ellipse(x: Floats, y: Floats, a: Floats | float, b: Floats | float) -> Floats:
    """Signed distance to an ellipse around the origin, exact on its edge."""
    inner = np.minimum(np.float32(a), np.float32(b)) if isinstance(a, float) else np.minimum(a, b)
    u, v = x / a, y / b
    return (np.sqrt(u * u + v * v) - np.float32(1)) * inner
