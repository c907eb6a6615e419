"""The sample that the package draws itself: cartoon faces in a folder laid out like CelebA's.

4,000 JPEG images of 64 x 64 pixels with eighteen of CelebA's attributes are drawn at first use
into the user's cache folder and read from there by CelebA's own reader. The model behind them
(:mod:`harness.data.face_model`; in words: ``docs/faces.md``):

- about 1,000 people of two to six images, none of them in two parts of the official split
  (2,400 to train, 400 to validate, 1,200 to test); a person's proportions, hair and skin are fixed,
  pose, light, expression, glasses, hat and background vary from image to image;
- ``Smiling``: a person smiles in 18 to 52 % of the images; a smile lifts the corners of the mouth
  against its middle by about four pixels, on top of what the person and the image bring by
  themselves; 3 % of the labels are flipped, so no classifier should do better than about 97 %;
- ``Mouth_Slightly_Open`` goes with it (75 % of the smiles, 20 % else),
  ``Narrow_Eyes`` a little; the other attributes are independent of it.

The pixels are the same on every machine; the bytes of the files also depend on the version of
libjpeg-turbo that Pillow was built with.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from harness.cache_dir import cache_dir
from harness.contracts import DataCard, SampleTable
from harness.data.celeba import read_celeba
from harness.data.face_drawing import draw
from harness.data.face_model import cast, imagine
from harness.data.face_scene import ATTRIBUTES, FaceBatch
from harness.data.listed import Missing
from harness.errors import DataError, UsageError

VERSION = 1  # part of the folder's name: raise it with any change to what is drawn
SEED = 1
COUNTS = (2400, 400, 1200)  # train, val, test
QUALITY = 90
_SLICE = 100  # images that a thread draws and writes in one go

Progress = Callable[[int, int], None]

CARD = DataCard(
    title="Drawn faces",
    description="Cartoon faces drawn by the package from a documented random model; nobody is depicted.",
    labels="The random model's own variables; 3 % of the Smiling labels are flipped on purpose.",
    license="MIT, as the package",
    not_for="Any conclusion about photographs: it is made to show how an experiment runs.",
    redistributable=True,
    embedded=True,
)


def write_faces(
    folder: Path,
    counts: tuple[int, int, int] = COUNTS,
    seed: int = SEED,
    progress: Progress | None = None,
    chunk: int = 16,
    workers: int | None = None,
) -> None:
    """Draw faces into ``folder`` in CelebA's layout; ``counts`` sizes train, val and test.

    ``progress`` is called with the number of images done and the number of all. ``chunk`` and
    ``workers`` (threads) change the speed and not a byte.
    """
    who, which = cast(seed, counts)
    faces = imagine(seed, who, which)
    images = folder / "img_align_celeba"
    images.mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(1, len(faces) + 1)]

    def make(start: int) -> int:
        part = faces.rows(start, start + _SLICE)
        for name, pixels in zip(names[start : start + _SLICE], draw(part, chunk), strict=True):
            # full chroma resolution: at half of it lips would bleed into skin
            Image.fromarray(pixels).save(images / name, "JPEG", quality=QUALITY, subsampling=0)
        return len(part)

    done = 0
    with ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1)) as pool:
        for count in pool.map(make, range(0, len(faces), _SLICE)):
            done += count
            if progress:
                progress(done, len(faces))
    _write_lists(folder, names, faces, counts)


def _write_lists(folder: Path, names: list[str], faces: FaceBatch, counts: tuple[int, int, int]) -> None:
    values = np.where(faces.attributes, "1", "-1")
    rows = [f"{name} {' '.join(f'{v:>2}' for v in row)}\n" for name, row in zip(names, values, strict=True)]
    _write(folder / "list_attr_celeba.txt", f"{len(names)}\n{' '.join(ATTRIBUTES)}\n" + "".join(rows))
    parts = np.repeat(np.arange(3), counts).tolist()
    _write(folder / "list_eval_partition.txt", _pairs(names, parts))
    _write(folder / "identity_CelebA.txt", _pairs(names, faces.identities.tolist()))


def _pairs(names: list[str], values: list[int]) -> str:
    return "".join(f"{name} {value}\n" for name, value in zip(names, values, strict=True))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def faces_folder(cache: Path | None = None, progress: Progress | None = None) -> Path:
    """The folder with the drawn faces, drawn now if it isn't there yet.

    It appears whole or not at all: it is drawn beside its place and renamed. Of two processes
    that draw at once the second one's work is thrown away. Raises DataError where the cache
    folder can't be written.
    """
    cache = cache or cache_dir()
    folder = cache / f"faces-v{VERSION}"
    if folder.is_dir():
        return folder
    draft = cache / f".{folder.name}-{uuid.uuid4().hex[:12]}"
    try:
        draft.mkdir(parents=True)
        write_faces(draft, progress=progress)
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    except OSError as error:
        raise DataError(
            f"{cache}: can't draw the sample images there ({error.strerror or error}); "
            "set HARNESS_CACHE to a folder that can be written"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


@dataclass(frozen=True)
class Faces:
    """Cartoon faces that come with the package: no path, no download."""

    name: ClassVar[str] = "faces"
    summary: ClassVar[str] = "cartoon faces that the package draws, no path"
    default_target: ClassVar[str | None] = "Smiling"
    default_split: ClassVar[str] = "official"
    needs_path: ClassVar[bool] = False

    def read(self, path: Path | None, *, target: str | None, missing: Missing) -> SampleTable:
        if path is not None:
            raise UsageError("the dataset 'faces' is drawn by the package and takes no path")
        if not (cache_dir() / f"faces-v{VERSION}").is_dir():
            print(f"drawing {sum(COUNTS):,} sample images, once, into {cache_dir()}", file=sys.stderr)
        folder = faces_folder()
        try:
            return read_celeba(folder, target or "Smiling", missing, CARD)
        except DataError as error:
            raise DataError(f"{error}; without '{folder}' the sample is drawn again") from error
