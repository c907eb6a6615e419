"""What is known of a batch of faces before it is drawn: the scene, the labels, the people."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

ATTRIBUTES = (
    "Arched_Eyebrows", "Bangs", "Big_Lips", "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry",
    "Brown_Hair", "Bushy_Eyebrows", "Eyeglasses", "Gray_Hair", "Mouth_Slightly_Open", "Narrow_Eyes",
    "Oval_Face", "Pale_Skin", "Rosy_Cheeks", "Smiling", "Wearing_Hat",
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """What is drawn, one row per image: float32 ``[n]``, colours float32 ``[n, 3]`` in 0..255.

    Lengths are in face units: the head is about 1.6 units high and one unit is about 29 pixels.
    Switches (bangs, glasses, hat) are 0 or 1.
    """

    shift_x: Floats
    shift_y: Floats
    scale: Floats
    tilt: Floats  # tangent of half the rotation
    turn: Floats  # the head turns: features move sideways against the outline
    head_a: Floats
    head_b: Floats
    jaw: Floats
    hair_thick: Floats
    hair_length: Floats
    hairline: Floats
    part: Floats
    bangs: Floats
    eye_x: Floats
    eye_y: Floats
    eye_a: Floats
    eye_b: Floats
    gaze: Floats
    brow_y: Floats
    brow_thick: Floats
    brow_arch: Floats
    brow_slope: Floats
    nose_w: Floats
    nose_y: Floats
    mouth_x: Floats
    mouth_y: Floats
    mouth_w: Floats
    lift: Floats
    skew: Floats
    lip: Floats
    opening: Floats
    glasses: Floats
    glasses_r: Floats
    hat: Floats
    hat_brim: Floats
    blush: Floats
    light_x: Floats
    light_y: Floats
    exposure: Floats
    blur: Floats
    noise: Floats
    skin: Floats
    hair: Floats
    iris: Floats
    lips: Floats
    clothes: Floats
    hat_colour: Floats
    frame: Floats
    back_top: Floats
    back_bottom: Floats

    def rows(self, start: int, stop: int) -> Scene:
        """The images ``start`` to ``stop``."""
        return Scene(**{f.name: getattr(self, f.name)[start:stop] for f in fields(self)})


@dataclass(frozen=True)
class FaceBatch:
    """A batch of faces before they are drawn.

    ``attributes`` is bool ``[n, len(ATTRIBUTES)]`` as labelled (with the label noise), ``smile``
    bool ``[n]`` the truth behind Smiling; ``grain`` holds a seed for each image's pixel noise.
    """

    scene: Scene
    attributes: NDArray[np.bool_]
    smile: NDArray[np.bool_]
    identities: NDArray[np.int64]
    grain: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.identities)

    def rows(self, start: int, stop: int) -> FaceBatch:
        """The faces ``start`` to ``stop``."""
        return FaceBatch(
            self.scene.rows(start, stop), *(getattr(self, f.name)[start:stop] for f in fields(self)[1:])
        )
