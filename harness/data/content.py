"""Digests of image files, remembered by path, size and time so that a file is read once.

The memory is one JSON file per image folder (or file that holds images) below the cache folder, replaced
as a whole. Two processes that write it at once lose each other's new entries at worst, never one's
correctness.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from harness.cache_dir import cache_dir
from harness.contracts import SampleTable
from harness.data.members import home_of, read_bytes, split_member
from harness.errors import DataError
from harness.seal import BLANK, KEY, intact, parse, sealed

_CHUNK = 64
_SETTLED_NS = 2_000_000_000  # a file younger than this may change again without a new time stamp

Stamp = tuple[int, int, int]  # size, mtime_ns, ctime_ns: cp -p keeps the second, nothing the third
Memory = dict[str, tuple[Stamp, str]]


@dataclass(frozen=True)
class ContentDigests:
    """sha256 (hex), in the table's order: of ``samples`` (ids, labels, images) and of ``images`` alone.

    ``files`` is the blake2b digest (hex) of each image file.
    """

    samples: str
    images: str
    files: tuple[str, ...]


def content_digests(table: SampleTable, pool: Executor, *, reread: bool = False) -> ContentDigests:
    """Digests of a table and of the content of every image in it.

    ``reread`` reads every file again instead of trusting size and time.
    """
    samples, images = hashlib.sha256(), hashlib.sha256()
    contents = file_digests(table.paths, pool, reread=reread)
    for sample, label, content in zip(table.ids, table.labels.tolist(), contents, strict=True):
        samples.update(f"{sample}\x1f{label}\x1f{content}\x1e".encode())
        images.update(content.encode())
    return ContentDigests(samples.hexdigest(), images.hexdigest(), tuple(contents))


def file_digests(paths: Sequence[str], pool: Executor, *, reread: bool = False) -> list[str]:
    """The blake2b digest (32 hex digits) of each file; raises DataError naming one that can't be read.

    Files are read on ``pool``, which must be of threads or of processes that share these paths.
    """
    rows_of: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        rows_of.setdefault(home_of(path), []).append(row)
    digests = [""] * len(paths)
    for folder, rows in rows_of.items():
        remembered = {} if reread else _load(folder)
        stamps = _stamps(folder, [paths[row] for row in rows])
        unknown: list[int] = []
        for position, row in enumerate(rows):
            known = remembered.get(paths[row])
            if known is not None and known[0] == stamps[position]:
                digests[row] = known[1]
            else:
                unknown.append(position)
        chunks = [unknown[i : i + _CHUNK] for i in range(0, len(unknown), _CHUNK)]
        jobs = [[paths[rows[position]] for position in chunk] for chunk in chunks]
        for chunk, found in zip(chunks, pool.map(_hash_files, jobs), strict=True):
            for position, digest in zip(chunk, found, strict=True):
                digests[rows[position]] = digest
        settled = time.time_ns() - _SETTLED_NS
        fresh = {paths[rows[p]]: (stamps[p], digests[rows[p]]) for p in unknown if stamps[p][1] < settled}
        if fresh:
            _save(folder, _load(folder) | fresh)
    return digests


def _stamps(home: str, paths: Sequence[str]) -> list[Stamp]:
    if inside := split_member(f"{home}/"):
        return [_stamp(inside[0])] * len(paths)
    return [_stamp(path) for path in paths]


def _stamp(path: str) -> Stamp:
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path for each of 200,000 files costs more than the call
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _hash_files(paths: Sequence[str]) -> list[str]:
    return [_hash_file(path) for path in paths]


def _hash_file(path: str) -> str:
    try:
        return hashlib.blake2b(read_bytes(path), digest_size=16).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error


def _memory_file(folder: str) -> Path:
    key = hashlib.blake2b(str(Path(folder).resolve()).encode(), digest_size=12).hexdigest()
    return cache_dir() / "digests" / f"{key}.json"


def _load(folder: str) -> Memory:
    """Path (as it is written in ``folder``'s terms) -> stamp and digest; empty if unusable."""
    try:
        data = _memory_file(folder).read_bytes()
        entries = parse(data)["files"] if intact(data) else {}
        return {
            os.path.join(folder, name): ((int(size), int(mtime), int(ctime)), str(digest))  # noqa: PTH118
            for name, (size, mtime, ctime, digest) in entries.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}


def _save(folder: str, memory: Memory) -> None:
    """Replace the folder's memory; a cache folder that can't be written costs time, not the run."""
    file = _memory_file(folder)
    entries = {p.removeprefix(folder).lstrip("/"): [*stamp, digest] for p, (stamp, digest) in memory.items()}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(sealed(json.dumps({"files": entries, KEY: BLANK})))
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError:
        return
