"""CelebA: aligned celebrity faces with binary attributes, from the folders people keep them in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from harness.contracts import DataCard, SampleTable
from harness.data.attributes import AttributeFile, read_attributes, read_pairs
from harness.data.listed import Missing, keep_present, names_in, require_path
from harness.errors import DataError, UnknownName

_FOLDERS = ("img_align_celeba/img_align_celeba", "img_align_celeba")

# Attribute file -> folders that may hold its images, the likeliest first: torchvision's layout,
# Kaggle's, and the CSV of the first 30,000 images.
_LAYOUTS = {
    "list_attr_celeba.txt": _FOLDERS,
    "list_attr_celeba.csv": _FOLDERS,
    "CelebA30k.csv": ("images/CelebA30k", "CelebA30k", "images", *_FOLDERS, "."),
}
_IDENTITIES = "identity_CelebA.txt"
_PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")
_PARTITION_NAMES = {"0": "train", "1": "val", "2": "test"}
_PROJECT_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"

CELEBA_CARD = DataCard(
    title="CelebA",
    description=(
        "Photographs of celebrities from the web, aligned and cropped to 178 x 218 "
        "(Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015)."
    ),
    labels=(
        "Annotated by a company's workers as binary attributes judged from appearance; "
        "'Male' is an annotator's reading of a picture, not a person's gender identity."
    ),
    license="Non-commercial research only; the images may not be redistributed.",
    not_for="Identifying people or classifying their gender in any product or decision.",
    redistributable=False,
    url=_PROJECT_PAGE,
)
CELEBA30K_CARD = DataCard(
    title="CelebA30k",
    description=f"The first 30,000 images of CelebA by name. {CELEBA_CARD.description}",
    labels=CELEBA_CARD.labels,
    license=CELEBA_CARD.license,
    not_for=CELEBA_CARD.not_for,
    redistributable=False,
    url=_PROJECT_PAGE,
)


def read_celeba(
    root: Path,
    target: str,
    missing: Missing,
    card: DataCard,
    first: int | None = None,
) -> SampleTable:
    """The samples of a folder in one of CelebA's layouts, in the order of its attribute file.

    ``root`` is the folder, or the attribute file itself. Any attribute that the file names is a
    ``target`` (label 1 where the attribute is 1). ``first`` keeps the images named ``000001.jpg``
    to that number. Identities become groups and partitions the official split, where the files
    for them are there. Raises DataError naming what is absent or malformed, UnknownName for a target.
    """
    file = _attribute_file(root)
    listed = read_attributes(file)
    if target not in listed.attributes:
        raise UnknownName("attribute", target, listed.attributes)
    if first is not None:
        listed = _first(listed, first, file)
    folder, present = _image_folder(file, listed.files)
    attributes = {n: np.ascontiguousarray(listed.values[:, i]) for i, n in enumerate(listed.attributes)}
    prefix = f"{folder}/"
    table = SampleTable(
        ids=listed.files,
        paths=tuple([prefix + name for name in listed.files]),
        labels=attributes[target].astype(np.int64),
        class_names=("female", "male") if target == "Male" else (f"not {target}", target),
        card=card,
        target=target,
        groups=_identities(file.parent, listed.files),
        official=_partitions(file.parent, listed.files),
        attributes=attributes,
    )
    return keep_present(table, present, missing, folder)


def _attribute_file(root: Path) -> Path:
    if root.name in _LAYOUTS and root.is_file():
        return root
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    for folder in (root, root / "celeba"):  # torchvision is given the parent of its folder "celeba"
        for name in _LAYOUTS:
            if (folder / name).is_file():
                return folder / name
    raise DataError(
        f"{root}: not a CelebA folder: looked for {', '.join(_LAYOUTS)}; get CelebA from its authors' page, "
        f"{_PROJECT_PAGE} (non-commercial research only)"
    )


def _first(listed: AttributeFile, first: int, file: Path) -> AttributeFile:
    wanted = {f"{number:06d}.jpg" for number in range(1, first + 1)}
    rows = np.flatnonzero([name in wanted for name in listed.files])
    if not rows.size:
        raise DataError(f"{file}: no images left: it lists none of 000001.jpg to {first:06d}.jpg")
    return AttributeFile(tuple([listed.files[i] for i in rows]), listed.attributes, listed.values[rows])


def _image_folder(file: Path, files: tuple[str, ...]) -> tuple[Path, np.ndarray]:
    """The first folder that holds any of ``files``, and which of them it holds, bool ``[n]``."""
    candidates = [file.parent / name for name in _LAYOUTS[file.name]]
    for folder in candidates:
        there = names_in(folder)
        present = np.fromiter((name in there for name in files), dtype=bool, count=len(files))
        if present.any():
            return folder, present
    return next((f for f in candidates if f.is_dir()), candidates[0]), np.zeros(len(files), dtype=bool)


def _identities(folder: Path, files: tuple[str, ...]) -> tuple[str, ...] | None:
    path = folder / _IDENTITIES
    return read_pairs(path, files) if path.is_file() else None


def _partitions(folder: Path, files: tuple[str, ...]) -> tuple[str, ...] | None:
    path = next((folder / name for name in _PARTITIONS if (folder / name).is_file()), None)
    if path is None:
        return None
    values = read_pairs(path, files)
    try:
        return tuple([_PARTITION_NAMES[value] for value in values])
    except KeyError as error:
        name = files[values.index(error.args[0])]
        raise DataError(f"{path}: the partition of {name} is '{error.args[0]}', not 0, 1 or 2") from error


@dataclass(frozen=True)
class CelebA:
    """All of CelebA that is in the folder; any of its attributes is a target."""

    name: ClassVar[str] = "celeba"
    summary: ClassVar[str] = "CelebA, aligned images and their attributes"
    default_target: ClassVar[str | None] = "Smiling"
    default_split: ClassVar[str] = "stratified"
    needs_path: ClassVar[bool] = True

    def read(self, path: Path | None, *, target: str | None, missing: Missing) -> SampleTable:
        root = require_path(path, self.name, "its folder")
        return read_celeba(root, target or "Smiling", missing, CELEBA_CARD)


@dataclass(frozen=True)
class CelebA30k:
    """The first 30,000 images of CelebA by name, from any of its layouts."""

    name: ClassVar[str] = "celeba30k"
    summary: ClassVar[str] = "the first 30,000 images of CelebA, from any of its layouts"
    default_target: ClassVar[str | None] = "Smiling"
    default_split: ClassVar[str] = "stratified"
    needs_path: ClassVar[bool] = True

    def read(self, path: Path | None, *, target: str | None, missing: Missing) -> SampleTable:
        root = require_path(path, self.name, "its folder")
        return read_celeba(root, target or "Smiling", missing, CELEBA30K_CARD, first=30_000)
