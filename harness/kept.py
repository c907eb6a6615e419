"""Activations kept across commands, in the user's cache folder: named by all that they depend on.

An entry is a folder: ``rows.bin`` (raw, C order) and ``entry.json`` (what it is, its shape and
digest). It is written under a hidden name and renamed when whole, so what is found is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cache_dir import cache_dir
from harness.seal import BLANK, KEY, file_digest, intact, parse, sealed

if TYPE_CHECKING:
    import torch

_ROWS, _ENTRY, _DRAFT = "rows.bin", "entry.json", ".draft-"


@dataclass(frozen=True)
class FeatureKey:
    """What rows of activations depend on, each part in words. ``digest`` names the entry."""

    prefix: str  # digest of the prefix's stages: their modules and their realised tensors
    images: str  # digest of the images' content, in order
    preprocess: str
    decoder: str
    view: str  # plain or mirrored
    numerics: str  # batch shape, dtype, layout, threads, flags, device, versions

    @property
    def digest(self) -> str:
        """24 hex digits."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Entry:
    """One entry as ``harness cache ls`` shows it; ``about`` says in words what it holds."""

    folder: Path
    about: str
    count: int
    nbytes: int
    created: str

    @property
    def name(self) -> str:
        return self.folder.name


@dataclass(frozen=True)
class Draft:
    """Rows being written; :meth:`seal` makes an entry of them, :meth:`drop` forgets them."""

    folder: Path
    rows: torch.Tensor

    def seal(self, key: FeatureKey, about: str) -> None:
        """Writes everything to disk, then gives the entry its name.

        Where another process was first, its entry stays: they hold the same.
        """
        file = self.folder / _ROWS
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())
        entry = {
            "format": 1,
            "about": about,
            "key": asdict(key),
            "shape": list(self.rows.shape),
            "dtype": str(self.rows.dtype).removeprefix("torch."),
            "sha256": file_digest(file),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            KEY: BLANK,
        }
        with (self.folder / _ENTRY).open("w", encoding="utf-8") as handle:
            handle.write(sealed(json.dumps(entry, indent=2)))
            handle.flush()
            os.fsync(handle.fileno())
        if find(key) is None:
            forget(key)  # what is left of an entry that isn't whole would stand in the way
        try:
            self.folder.rename(_root() / key.digest)
        except OSError:
            if find(key) is None:
                raise
            self.drop()

    def drop(self) -> None:
        """Removes the files; rows that are mapped stay readable as long as they are in use."""
        shutil.rmtree(self.folder, ignore_errors=True)


def draft(shape: tuple[int, ...], dtype: torch.dtype) -> Draft:
    """Room for rows on the disk. Raises OSError where there is none."""
    from harness.placement import map_file  # listing entries needs no torch

    _root().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=_root()))
    try:
        return Draft(folder, map_file(folder / _ROWS, shape, dtype))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def find(key: FeatureKey) -> torch.Tensor | None:
    """The kept rows under ``key``, mapped; None where there are none or not a bit is as it was written.

    A change to them stays in memory: the file is mapped copy-on-write.
    """
    import torch

    folder = _root() / key.digest
    entry = _read(folder)
    if entry is None or entry["key"] != asdict(key):
        return None
    shape, dtype = tuple(entry["shape"]), getattr(torch, entry["dtype"])
    file = folder / _ROWS
    try:
        if file.stat().st_size != prod(shape) * dtype.itemsize or file_digest(file) != entry["sha256"]:
            return None
        return torch.from_file(str(file), shared=False, size=prod(shape), dtype=dtype).view(shape)
    except (OSError, RuntimeError):
        return None


def entries() -> Iterator[Entry]:
    """Every entry that is whole, the newest first."""
    found = []
    for folder in sorted(_root().glob("[0-9a-f]*")):
        entry = _read(folder)
        if entry is not None:
            size = sum(f.stat().st_size for f in folder.iterdir())
            found.append(Entry(folder, entry["about"], entry["shape"][0], size, entry["created"]))
    return iter(sorted(found, key=lambda e: e.created, reverse=True))


def drafts() -> Iterator[Path]:
    """Folders that are no entry: rows being written, left by a killed writer, or damaged."""
    found = sorted(_root().iterdir()) if _root().is_dir() else []
    return (folder for folder in found if folder.is_dir() and _read(folder) is None)


def present(key: FeatureKey) -> bool:
    """Whether there is something under ``key``, whole or not."""
    return (_root() / key.digest).exists()


def forget(key: FeatureKey) -> None:
    """Removes an entry."""
    shutil.rmtree(_root() / key.digest, ignore_errors=True)


def damaged(entry: Entry) -> bool:
    """Whether the rows differ from what was written."""
    found = _read(entry.folder)
    return found is None or file_digest(entry.folder / _ROWS) != found["sha256"]


def _root() -> Path:
    return cache_dir() / "features"


def _read(folder: Path) -> Mapping[str, Any] | None:
    try:
        data = (folder / _ENTRY).read_bytes()
        entry = parse(data)
        wanted = {"about", "key", "shape", "dtype", "sha256", "created"}
        whole = isinstance(entry, dict) and wanted <= entry.keys() and intact(data)
        return entry if whole else None
    except (OSError, ValueError):
        return None
