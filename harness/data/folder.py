"""Images in class folders, with or without folders for the splits above them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from harness.contracts import UNSTATED, DataCard, SampleTable
from harness.data.listed import SPLIT_NAMES, Missing, require_path
from harness.errors import DataError, UsageError


@dataclass(frozen=True)
class Folder:
    """``CLASS/...`` or ``train/CLASS/...``, ``val/CLASS/...``, ``test/CLASS/...``.

    There are split folders where ``train`` stands beside ``val`` (``valid``, ``validation``) or
    ``test``; other folders beside those are not read. A sample's id is its path relative to the
    root, with slashes; samples are sorted by it. Names that begin with a dot are passed over.
    """

    name: ClassVar[str] = "folder"
    summary: ClassVar[str] = "images in class folders, with or without train/, val/, test/ above"
    default_target: ClassVar[str | None] = None
    default_split: ClassVar[str] = "auto"
    needs_path: ClassVar[bool] = True

    def read(self, path: Path | None, *, target: str | None, missing: Missing) -> SampleTable:
        root = require_path(path, self.name, "a folder of class folders")
        if target is not None:
            raise UsageError(f"the dataset 'folder' has no target '{target}': folders are its labels")
        if not root.is_dir():
            raise DataError(f"{root}: no such folder")
        splits = _split_folders(root)
        if splits:
            samples = _read_splits(root, splits)
        else:
            samples = [(i, label, None) for i, label in _read_classes(root, root)]
        samples.sort()
        classes = sorted({label for _, label, _ in samples})
        if len(classes) < 2:
            raise DataError(f"{root}: only one class folder, '{classes[0]}'; expected at least two")
        index = {label: i for i, label in enumerate(classes)}
        return SampleTable(
            ids=tuple(i for i, _, _ in samples),
            paths=tuple(f"{root}/{i}" for i, _, _ in samples),
            labels=np.array([index[label] for _, label, _ in samples], dtype=np.int64),
            class_names=tuple(classes),
            card=DataCard(
                title=root.resolve().name or str(root),
                description="Images in class folders.",
                labels="The names of the folders that the images lie in.",
                license=UNSTATED,
            ),
            official=tuple(str(split) for _, _, split in samples) if splits else None,
        )


def _visible_folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX")))


def _split_folders(root: Path) -> dict[str, Path]:
    """Split -> its folder; empty where the root holds the classes themselves."""
    folders = {p.name: p for p in _visible_folders(root)}
    splits: dict[str, Path] = {}
    for name in (n for n in SPLIT_NAMES if n in folders):
        split = SPLIT_NAMES[name]
        if split in splits:
            raise DataError(f"{root}: has both '{splits[split].name}' and '{name}' for one split")
        splits[split] = folders[name]
    if "train" in splits and len(splits) > 1:
        return splits
    if splits and set(folders) <= set(SPLIT_NAMES):
        have = ", ".join(sorted(folders))
        raise DataError(f"{root}: needs 'train' and one of 'val', 'test'; there is only: {have}")
    return {}


def _read_splits(root: Path, splits: dict[str, Path]) -> list[tuple[str, str, str | None]]:
    samples: list[tuple[str, str, str | None]] = []
    classes: dict[str, set[str]] = {}
    for split, folder in splits.items():
        found = _read_classes(root, folder)
        classes[split] = {label for _, label in found}
        samples.extend((i, label, split) for i, label in found)
    for split, names in classes.items():
        for other, others in classes.items():
            if names - others:
                name = min(names - others)
                raise DataError(
                    f"{root}: class '{name}' is in '{splits[split].name}' but not in '{splits[other].name}'"
                )
    return samples


def _read_classes(root: Path, folder: Path) -> list[tuple[str, str]]:
    """(id, class) of every image below the class folders of ``folder``."""
    classes = _visible_folders(folder)
    if not classes:
        raise DataError(f"{folder}: holds no class folders")
    extensions = image_extensions()
    samples: list[tuple[str, str]] = []
    for class_folder in classes:
        images = images_below(class_folder, extensions)
        if not images:
            raise DataError(f"{class_folder}: class folder without images")
        samples.extend((image.relative_to(root).as_posix(), class_folder.name) for image in images)
    return samples


def images_below(folder: Path, extensions: frozenset[str]) -> list[Path]:
    """Every file below ``folder`` whose name ends so, hidden ones passed over, in no order."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.extend(
            Path(parent, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in extensions  # noqa: PTH122
        )
    return found


def image_extensions() -> frozenset[str]:
    """The extensions of the formats that Pillow can open, in lower case with their dot."""
    from PIL import Image

    return frozenset(ext for ext, kind in Image.registered_extensions().items() if kind in Image.OPEN)
