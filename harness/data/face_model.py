"""The generative model of the drawn faces: identities, latent variables, attributes, label noise.

Every number is arithmetic (+ - * / and square roots) on uniform draws of PCG64, so that the same
image comes out on every machine. An identity has a stream of its own and so has each of its
images: image 7 is the same image whether ten are drawn or ten thousand. ``docs/faces.md`` tells
the model in words; the constants below are the model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.data.face_scene import ATTRIBUTES, FaceBatch, Scene
from harness.seeding import generator

SMILE_RATE = (0.18, 0.52)  # a person smiles in this share of the images, uniform: 35 % overall
OPEN_RATE = (0.20, 0.75)  # the mouth is open: at rest, with a smile
LABEL_FLIPS = 0.03  # share of the Smiling labels that are wrong
SMILE_LIFT = 0.150  # how far a smile lifts the corners, in face units (about 29 pixels each)
IDENTITY_LIFT = 0.020  # spread (standard deviation) of a person's mouth at rest
IMAGE_LIFT = 0.020  # spread from image to image

_HAIR = np.array([[38, 30, 28], [104, 66, 40], [214, 176, 104], [158, 156, 154]], np.float64)
_HAIR_SHARES = np.array([0.32, 0.62, 0.87, 1.0])  # cumulative: black, brown, blond, gray
_SKIN = np.array([[126, 84, 62], [250, 216, 190]], np.float64)  # darkest, palest
_IRIS = np.array([[70, 45, 30], [60, 96, 140], [84, 112, 64], [40, 30, 26]], np.float64)


def cast(seed: int, counts: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Who is in which image: identity and number within it, int64 ``[sum(counts)]`` each.

    People have two to six images each, and nobody is in two of the parts that ``counts`` sizes.
    """
    who: list[int] = []
    which: list[int] = []
    person = 0
    for size in counts:
        left = size
        while left:
            person += 1
            images = min(left, 2 + int(generator(seed, "images", person).integers(5)))
            who += [person] * images
            which += range(images)
            left -= images
    return np.array(who, np.int64), np.array(which, np.int64)


class _Draws:
    """Columns of uniform draws, handed out one after another; row i belongs to image i."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        self.values = values
        self.at = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
        self.at += 1
        return low + (high - low) * self.values[:, self.at - 1]

    def bell(self, spread: float) -> NDArray[np.float64]:
        """Bell-shaped around 0: the sum of three uniforms, which needs no library's logarithm."""
        total = self.uniform() + self.uniform() + self.uniform()
        return (total - 1.5) * (2.0 * spread)

    def below(self, rate: float | NDArray[np.float64]) -> NDArray[np.bool_]:
        return self.uniform() < rate

    def colour(self, low: float, high: float) -> NDArray[np.float64]:
        return np.stack([self.uniform(low, high) for _ in range(3)], axis=1)


def imagine(seed: int, who: NDArray[np.int64], which: NDArray[np.int64]) -> FaceBatch:
    """The faces of identity ``who[i]``, image ``which[i]`` (int64 ``[n]`` each)."""
    people: dict[int, NDArray[np.float64]] = {}
    persons = np.empty((len(who), 96))
    images = np.empty((len(who), 96))
    grain = np.empty(len(who), np.uint64)
    for row, (person, image) in enumerate(zip(who.tolist(), which.tolist(), strict=True)):
        if person not in people:
            people[person] = generator(seed, "person", person).random(persons.shape[1])
        persons[row] = people[person]
        stream = generator(seed, "image", person, image)
        images[row] = stream.random(images.shape[1])
        grain[row] = stream.integers(1 << 63)
    return _faces(_Draws(persons), _Draws(images), who, grain)


def _faces(p: _Draws, i: _Draws, who: NDArray[np.int64], grain: NDArray[np.uint64]) -> FaceBatch:
    """Latent variables to attributes and scene; ``p`` draws once per person, ``i`` per image."""
    n = len(who)
    smile = i.below(p.uniform(*SMILE_RATE))
    is_open = i.below(np.where(smile, OPEN_RATE[1], OPEN_RATE[0]))
    rest = p.bell(IDENTITY_LIFT)
    lift = rest + i.bell(IMAGE_LIFT) + SMILE_LIFT * smile - 0.35 * SMILE_LIFT

    tone = p.uniform()
    skin = _SKIN[0] + (_SKIN[1] - _SKIN[0]) * np.sqrt(tone)[:, None]
    kind = np.searchsorted(_HAIR_SHARES, p.uniform(), side="right").clip(0, 3)
    hair = _HAIR[kind] + p.uniform(-14, 14)[:, None] + p.colour(-6, 6)
    long_hair = p.uniform()
    oval = p.uniform()
    lips_full, nose, thick, arch = p.uniform(), p.uniform(), p.uniform(), p.uniform()
    bangs = i.below(np.where(p.below(0.3), 0.85, 0.04))
    glasses = i.below(np.where(p.below(0.25), 0.8, 0.03))
    hat = i.below(0.14)
    # a smile raises the cheeks: eyes narrow a little, and are more often labelled narrow
    squint = i.uniform() + 0.12 * smile
    blush = i.uniform() + 0.3 * p.uniform()
    blurry = i.below(0.08)
    light = i.uniform(-1, 1)

    columns = {
        "Arched_Eyebrows": arch > 0.68,
        "Bangs": bangs,
        "Big_Lips": lips_full > 0.7,
        "Big_Nose": nose > 0.7,
        "Black_Hair": kind == 0,
        "Blond_Hair": kind == 2,
        "Blurry": blurry,
        "Brown_Hair": kind == 1,
        "Bushy_Eyebrows": thick > 0.72,
        "Eyeglasses": glasses,
        "Gray_Hair": kind == 3,
        "Mouth_Slightly_Open": is_open,
        "Narrow_Eyes": squint > 0.78,
        "Oval_Face": oval > 0.65,
        "Pale_Skin": tone > 0.72,
        "Rosy_Cheeks": blush > 0.95,
        "Smiling": smile ^ i.below(LABEL_FLIPS),
        "Wearing_Hat": hat,
    }
    scene = {
        "shift_x": i.bell(0.03), "shift_y": i.bell(0.03) - 0.02, "scale": 29.0 + i.bell(0.7),
        "tilt": i.bell(0.02), "turn": i.bell(0.03),
        "head_a": 0.70 - 0.15 * oval + p.bell(0.012), "head_b": 0.80 + 0.06 * oval + p.bell(0.02),
        "jaw": p.uniform(0.02, 0.24),
        "hair_thick": p.uniform(0.05, 0.17), "hair_length": -0.3 + 1.5 * long_hair + i.bell(0.04),
        "hairline": -0.60 + p.bell(0.05), "part": p.uniform(-0.5, 0.5), "bangs": bangs,
        "eye_x": 0.27 + p.bell(0.015), "eye_y": -0.08 + p.bell(0.02), "eye_a": 0.125 + p.bell(0.008),
        "eye_b": 0.10 - 0.065 * squint + p.bell(0.006), "gaze": i.bell(0.025),
        "brow_y": 0.19 + p.bell(0.015) + i.bell(0.012), "brow_thick": 0.012 + 0.05 * thick,
        "brow_arch": -0.02 + 0.14 * arch, "brow_slope": p.bell(0.08) + i.bell(0.06),
        "nose_w": 0.07 + 0.12 * nose, "nose_y": 0.20 + p.bell(0.018),
        "mouth_x": i.bell(0.012), "mouth_y": 0.47 + p.bell(0.025) + i.bell(0.012),
        "mouth_w": 0.28 + p.bell(0.025) + i.bell(0.012) + 0.010 * smile,
        "lift": lift, "skew": i.bell(0.05), "lip": 0.024 + 0.062 * lips_full,
        "opening": is_open * i.uniform(0.04, 0.11),
        "glasses": glasses, "glasses_r": p.uniform(0.15, 0.20), "hat": hat,
        "hat_brim": i.uniform(-0.58, -0.42),
        "blush": (blush - 0.5).clip(0, 1), "light_x": 0.20 * light, "light_y": i.bell(0.06),
        "exposure": 1.0 + i.bell(0.06), "blur": np.where(blurry, 1.0, i.uniform(0.0, 0.25)),
        "noise": i.uniform(2.0, 6.0),
        "skin": skin + p.colour(-6, 6), "hair": hair,
        "iris": _IRIS[(p.uniform() * 4).astype(np.int64).clip(0, 3)],
        "lips": skin * np.array([0.76, 0.40, 0.44]) + p.colour(-10, 10),
        "clothes": i.colour(30, 225), "hat_colour": i.colour(20, 220),
        "frame": np.full((n, 3), 30.0) + i.colour(0, 60),
        "back_top": i.colour(60, 210), "back_bottom": i.colour(60, 210),
    }  # fmt: skip
    rows = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in scene.items()}
    labels = np.stack([columns[name] for name in ATTRIBUTES], axis=1)
    return FaceBatch(Scene(**rows), labels, smile, who, grain)
