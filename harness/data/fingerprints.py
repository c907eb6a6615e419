"""What images look like, in a few numbers each: size and perceptual hash, remembered by content.

The memory is one file an image folder below the cache folder, beside that of content digests, and goes
by those digests: what is in it can't be out of date.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.cache_dir import cache_dir
from harness.data import phash
from harness.data.image_file import decode, read_file
from harness.data.members import home_of
from harness.errors import DataError
from harness.files import write_atomic

_CHUNK = 32
_HASH = phash.BITS // 8
# One image: width, height; the hash of it and of its mirror image.
_ENTRY = np.dtype([("size", "<i4", 2), ("plain", "u1", _HASH), ("mirrored", "u1", _HASH)])
_KEPT = np.dtype([("content", "S32"), ("entry", _ENTRY)])


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Row by row of a table: ``size`` int32 ``[n, 2]`` (width, height), hashes uint8 ``[n, 32]``.

    Rows in ``unreadable`` map to the reason and hold zeros.
    """

    size: np.ndarray
    plain: np.ndarray
    mirrored: np.ndarray
    unreadable: dict[int, str]


def fingerprints(
    paths: Sequence[str],
    contents: Sequence[str],
    pool: Executor,
    advance: Callable[[int], object] = lambda _: None,
) -> Fingerprints:
    """The fingerprint of each image; ``contents`` are the files' digests.

    Images are decoded on ``pool`` (threads); ``advance`` is told how many are done.
    """
    found = np.zeros(len(paths), dtype=_ENTRY)
    unreadable: dict[int, str] = {}
    for folder, rows in _by_folder(paths).items():
        known = _load(folder)
        unknown = []
        for row in rows:
            entry = known.get(contents[row].encode())
            if entry is None:
                unknown.append(row)
            else:
                found[row] = entry
        advance(len(rows) - len(unknown))
        chunks = [unknown[i : i + _CHUNK] for i in range(0, len(unknown), _CHUNK)]
        made = pool.map(_look, [[paths[row] for row in chunk] for chunk in chunks])
        for chunk, (entries, reasons) in zip(chunks, made, strict=True):
            found[chunk] = entries
            unreadable |= {chunk[position]: reason for position, reason in reasons.items()}
            advance(len(chunk))
        fresh = [row for row in unknown if row not in unreadable]
        if fresh:
            _save(folder, known | {contents[row].encode(): found[row] for row in fresh})
    return Fingerprints(found["size"], found["plain"], found["mirrored"], dict(sorted(unreadable.items())))


def _by_folder(paths: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        rows.setdefault(home_of(path), []).append(row)
    return rows


def _look(paths: Sequence[str]) -> tuple[np.ndarray, dict[int, str]]:
    """Entries of some images, and for those that can't be decoded the reason by position."""
    entries = np.zeros(len(paths), dtype=_ENTRY)
    reasons: dict[int, str] = {}
    smalls = []
    for position, image in _decoded(paths, reasons):
        entries[position]["size"] = (image.shape[1], image.shape[0])
        smalls.append(phash.small(image))
    read = [position for position in range(len(paths)) if position not in reasons]
    if read:
        plain, mirrored = phash.hashes(np.stack(smalls))
        entries["plain"][read], entries["mirrored"][read] = plain, mirrored
    return entries, reasons


def _decoded(paths: Sequence[str], reasons: dict[int, str]) -> Iterator[tuple[int, np.ndarray]]:
    for position, path in enumerate(paths):
        try:
            yield position, decode(read_file(path), path)
        except DataError as error:
            reasons[position] = str(error).removeprefix(f"can't decode image {path}: ")


def _memory_file(folder: str) -> Path:
    key = hashlib.blake2b(str(Path(folder).resolve()).encode(), digest_size=12).hexdigest()
    return cache_dir() / "fingerprints" / f"{key}-{phash.VERSION}.npy"


def _load(folder: str) -> dict[bytes, np.ndarray]:
    """Content digest -> entry; empty if unusable."""
    try:
        kept = np.load(_memory_file(folder), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return {}
    return dict(zip(kept["content"].tolist(), kept["entry"], strict=True)) if kept.dtype == _KEPT else {}


def _save(folder: str, memory: dict[bytes, np.ndarray]) -> None:
    """Replace the folder's memory; a cache folder that can't be written costs time, not the audit."""
    kept = np.zeros(len(memory), dtype=_KEPT)
    kept["content"] = list(memory)
    kept["entry"] = list(memory.values())
    file = _memory_file(folder)

    def write(path: Path) -> None:
        with path.open("wb") as stream:
            np.save(stream, kept, allow_pickle=False)

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, write)
    except OSError:
        return
