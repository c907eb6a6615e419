"""Drawing faces with NumPy: soft-edged shapes from signed distances, a chunk of images at a time.

All arithmetic on pixels is elementwise float32 with + - * / and square roots, which IEEE 754
rounds the same everywhere, and ends in a rounding to bytes: no sine, no exponential, no sum
whose order could differ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.data.face_canvas import SIDE, Canvas, column, ellipse
from harness.data.face_scene import FaceBatch, Floats, Scene

CHUNK = 16  # images at a time: their planes fit a core's cache


def draw(faces: FaceBatch, chunk: int = CHUNK) -> NDArray[np.uint8]:
    """The images, uint8 ``[n, 64, 64, 3]``; ``chunk`` changes the speed and nothing else."""
    out = np.empty((len(faces), SIDE, SIDE, 3), np.uint8)
    for start in range(0, len(faces), chunk):
        stop = min(start + chunk, len(faces))
        picture = _paint(faces.scene.rows(start, stop))
        noise = faces.scene.noise[start:stop]
        for row in range(stop - start):
            grains = np.random.Generator(np.random.PCG64(int(faces.grain[start + row])))
            grain = grains.integers(0, 256, size=(SIDE, SIDE, 3), dtype=np.uint8)
            # uniform bytes have a standard deviation of 73.9
            speckle = (grain.astype(np.float32) - np.float32(127.5)) * (noise[row] / np.float32(73.9))
            pixels = picture[:, row].transpose(1, 2, 0) + speckle
            out[start + row] = np.rint(pixels.clip(0, 255)).astype(np.uint8)
    return out


def _paint(s: Scene) -> Floats:
    """The planes of a chunk, float32 ``[3, b, 64, 64]`` in 0..255, before the noise."""
    canvas = Canvas.backdrop(s)
    x, y = canvas.x, canvas.y
    a, b = column(s.head_a), column(s.head_b)
    shade = _shade(canvas, s)

    _body(canvas, s, shade)
    thick = column(s.hair_thick)
    crown = ellipse(x, y + np.float32(0.12), a + thick, b + thick)
    sides = np.maximum(np.abs(x) - a - thick * np.float32(0.9), np.maximum(-y, y - column(s.hair_length)))
    hair = canvas.cover(np.minimum(crown, sides))
    # short hair ends beside the ears
    hair = hair * ((column(s.hair_length) + np.float32(0.25) - y) * canvas.scale).clip(0, 1)
    canvas.fill(hair, s.hair, np.float32(0.82) * shade)

    neck = np.maximum(np.abs(x) - np.float32(0.26), np.maximum(np.float32(0.4) - y, y - np.float32(1.12)))
    canvas.fill(canvas.cover(neck), s.skin, np.float32(0.80) * shade)
    ear = ellipse(np.abs(x) - a, y - np.float32(0.04), 0.09, 0.15)
    canvas.fill(canvas.cover(ear), s.skin, np.float32(0.88) * shade)
    narrowed = x * (1 + column(s.jaw) * y.clip(0, 1))
    outline = ellipse(narrowed, y, a, b)
    head = canvas.cover(outline)
    rim = (outline * 4 + 1).clip(0, 1)
    canvas.fill(head, s.skin, shade * (1 - np.float32(0.16) * rim))

    _cheeks(canvas, s, head)
    _nose(canvas.band(16, 52), s)
    _mouth(canvas.band(28, 64), s)
    _eyes(canvas.band(10, 48), s)
    _fringe(canvas, s, outline, shade)
    _glasses(canvas.band(10, 48), s)
    _hat(canvas.band(0, 40), s)
    return _finish(canvas.planes, s)


def _shade(canvas: Canvas, s: Scene) -> Floats:
    """The light: a factor that grows towards one side."""
    return 1 + column(s.light_x) * canvas.x + column(s.light_y) * canvas.y


def _turned(canvas: Canvas, s: Scene) -> Floats:
    """``x`` of what lies on the face and moves when the head turns."""
    return canvas.x - column(s.turn)


def _body(canvas: Canvas, s: Scene, shade: Floats) -> None:
    shoulders = ellipse(canvas.x, canvas.y - np.float32(1.55), 1.05, 0.62)
    canvas.fill(canvas.cover(shoulders), s.clothes, shade)


def _cheeks(canvas: Canvas, s: Scene, head: Floats) -> None:
    mirrored = np.abs(_turned(canvas, s))
    u, v = (mirrored - np.float32(0.36)) * 5, (canvas.y - np.float32(0.22)) * 6
    glow = (1 - u * u - v * v).clip(0, 1) * head * column(s.blush) * np.float32(0.6)
    red = s.skin * np.array([1.0, 0.62, 0.64], np.float32)
    canvas.fill(glow, red)


def _nose(canvas: Canvas, s: Scene) -> None:
    turned, shade = _turned(canvas, s), _shade(canvas, s)
    w = column(s.nose_w)
    down = canvas.y - column(s.nose_y)
    # the bridge is a soft shadow on one side, the tip a lit ellipse over a dark one
    bridge = ellipse(turned - w * np.float32(0.55), down + np.float32(0.16), 0.03, 0.19)
    canvas.fill(canvas.cover(bridge) * np.float32(0.5), s.skin, np.float32(0.80) * shade)
    under = ellipse(turned, down - np.float32(0.022), w, w * np.float32(0.55))
    canvas.fill(canvas.cover(under), s.skin, np.float32(0.66) * shade)
    tip = ellipse(turned, down + np.float32(0.008), w * np.float32(0.95), w * np.float32(0.55))
    canvas.fill(canvas.cover(tip), s.skin, np.float32(0.97) * shade)


def _mouth(canvas: Canvas, s: Scene) -> None:
    turned, shade = _turned(canvas, s), _shade(canvas, s)
    w, lift, lip, opening = (column(v) for v in (s.mouth_w, s.lift, s.lip, s.opening))
    off = turned - column(s.mouth_x)
    u = off / w
    arch = (1 - u * u).clip(0, 1)
    # the middle line of the mouth: corners are lifted by 2/3, the middle lowered by 1/3 of `lift`
    line = canvas.y - column(s.mouth_y) - column(s.skew) * off + lift * (u * u - np.float32(1 / 3))
    gap = opening * arch * np.float32(0.5)
    beyond = np.abs(off) - w
    upper = np.maximum(-line - gap - lip * arch * np.float32(0.8), line)
    lower = np.maximum(line - gap - lip * arch * np.float32(1.2), -line)
    lips = canvas.cover(np.maximum(np.minimum(upper, lower), beyond))
    canvas.fill(lips, s.lips, shade)
    inside = canvas.cover(np.maximum(np.abs(line) - gap - np.float32(0.015), beyond))
    dark = s.lips * np.float32(0.30)
    canvas.fill(inside, dark, shade)
    teeth = canvas.cover(np.maximum(np.abs(line + gap * np.float32(0.3)) - gap * np.float32(0.6), beyond))
    wide = (opening * 60 - 1).clip(0, 1)
    canvas.fill(teeth * wide * np.float32(0.9), np.full_like(s.lips, 232.0))


def _eyes(canvas: Canvas, s: Scene) -> None:
    turned, shade = _turned(canvas, s), _shade(canvas, s)
    across = np.abs(turned) - column(s.eye_x)
    down = canvas.y - column(s.eye_y)
    a, b = column(s.eye_a), column(s.eye_b)
    lid = ellipse(across, down + np.float32(0.012), a + np.float32(0.015), b + np.float32(0.018))
    canvas.fill(canvas.cover(lid), s.skin, np.float32(0.55) * shade)
    ball = canvas.cover(ellipse(across, down, a, b))
    canvas.fill(ball, np.full_like(s.iris, 238.0), shade)
    # both irises move the same way, so the mirrored coordinate gets the gaze with its sign
    looked = across - column(s.gaze) * np.sign(turned)
    iris = ellipse(looked, down, 0.062, 0.062)
    canvas.fill(ball * canvas.cover(iris), s.iris)
    pupil = ellipse(looked, down, 0.028, 0.028)
    canvas.fill(ball * canvas.cover(pupil), np.full_like(s.iris, 15.0))

    half = np.float32(0.17)
    v = across / half
    bow = column(s.brow_arch) * (1 - v * v) + column(s.brow_slope) * across
    height = down + column(s.brow_y) + bow
    brow = np.maximum(np.abs(height) - column(s.brow_thick), np.abs(across) - half)
    canvas.fill(canvas.cover(brow) * np.float32(0.9), s.hair, 0.62)


def _fringe(canvas: Canvas, s: Scene, outline: Floats, shade: Floats) -> None:
    x, y = canvas.x, canvas.y
    aside = x - column(s.part) * np.float32(0.5)
    swept = column(s.hairline) + aside * aside * np.float32(0.55)
    bangs = np.float32(-0.36) + x * x * np.float32(0.5)
    edge = swept + column(s.bangs) * (bangs - swept)
    # a little beyond the head's edge, or its skin would shine through between front and back hair
    front = np.maximum(y - edge, outline - np.float32(0.06))
    canvas.fill(canvas.cover(front), s.hair, shade)


def _glasses(canvas: Canvas, s: Scene) -> None:
    mirrored = np.abs(_turned(canvas, s))
    r = column(s.glasses_r)
    across = mirrored - column(s.eye_x)
    down = canvas.y - column(s.eye_y) - np.float32(0.02)
    rim = np.abs(ellipse(across, down, r, r * np.float32(0.82))) - np.float32(0.020)
    inner = column(s.eye_x) - r
    bridge = np.maximum(np.abs(down + np.float32(0.03)) - np.float32(0.018), mirrored - inner)
    outer = column(s.eye_x) + r
    arm = np.maximum(
        np.abs(down + np.float32(0.03)) - np.float32(0.018),
        np.maximum(outer - mirrored, mirrored - column(s.head_a)),
    )
    cover = canvas.cover(np.minimum(rim, np.minimum(bridge, arm))) * column(s.glasses)
    canvas.fill(cover, s.frame)


def _hat(canvas: Canvas, s: Scene) -> None:
    x, y, shade = canvas.x, canvas.y, _shade(canvas, s)
    low = column(s.hat_brim)
    wide = column(s.head_a) + column(s.hair_thick) * np.float32(0.8)
    dome = np.maximum(ellipse(x, y - low, wide, np.full_like(wide, 0.72)), y - low)
    cover = column(s.hat)
    canvas.fill(canvas.cover(dome) * cover, s.hat_colour, shade)
    brim = np.maximum(np.abs(y - low) - np.float32(0.055), np.abs(x) - wide - np.float32(0.10))
    canvas.fill(canvas.cover(brim) * cover, s.hat_colour, np.float32(0.72) * shade)


def _finish(planes: Floats, s: Scene) -> Floats:
    """Exposure, then a 3x3 blur mixed in by each image's share."""
    planes *= s.exposure[None, :, None, None]
    share = s.blur[None, :, None, None]
    rows = planes.copy()
    rows[:, :, 1:-1] = (planes[:, :, :-2] + planes[:, :, 1:-1] + planes[:, :, 2:]) / np.float32(3)
    soft = rows.copy()
    soft[..., 1:-1] = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / np.float32(3)
    planes += share * (soft - planes)
    return planes
