"""Where each sample of a tar shard lies: read once, remembered by path, size and time.

The memory is one JSON file a shard below the cache folder, replaced as a whole. What is in it is image
offsets and the texts that come with images, so a known shard is not opened to list its samples.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.cache_dir import cache_dir
from harness.data.folder import image_extensions
from harness.errors import DataError
from harness.files import write_text
from harness.seal import BLANK, KEY, intact, parse, sealed

VERSION = 1  # raised when the same shard gives other samples
TEXTS = ("cls", "json", "txt")
_MOST_TEXT = 1 << 20  # bytes of one text
_BLOCK = 512
_META = re.compile(r"(^|/)__[^/]*__(/|$)")


@dataclass(frozen=True)
class ShardSample:
    """One sample: its key, the member that is its image (bytes ``size`` at ``offset``), texts by extension.

    ``name`` is "" where there is no image.
    """

    key: str
    name: str
    offset: int
    size: int
    texts: dict[str, str]


def shard_samples(shard: Path) -> list[ShardSample]:
    """The samples of a shard, in its order. Raises DataError naming shard and key where it is malformed."""
    try:
        status = shard.stat()
    except OSError as error:
        raise DataError(f"{shard}: can't be read: {error.strerror}") from error
    stamp = [VERSION, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    memory = _memory_file(shard)
    known = _load(memory, stamp)
    if known is not None:
        return known
    samples = _scan(shard)
    _save(memory, stamp, samples)
    return samples


def split_name(name: str) -> tuple[str, str] | None:
    """Key and extension, at the first dot of the file's name; None where it has none or begins with one."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return (f"{folder}{slash}{stem}", extension.lower()) if stem and dot else None


@dataclass
class _Open:
    """A sample whose members are still coming."""

    key: str
    images: list[tuple[str, int, int]]
    texts: dict[str, str]


def _scan(shard: Path) -> list[ShardSample]:
    kinds = {extension.removeprefix(".") for extension in image_extensions()}
    found: dict[str, _Open] = {}
    for member, data in _members(shard):
        parts = split_name(member.name)
        if parts is None or _META.search(member.name):
            continue
        key, extension = parts
        sample = found.setdefault(key, _Open(key, [], {}))
        if data is not None:
            if extension in sample.texts:
                raise DataError(f"{shard}, key {key}: two members .{extension}")
            sample.texts[extension] = data
        elif extension.rpartition(".")[2] in kinds:
            sample.images.append((member.name, member.offset_data, member.size))
    for sample in found.values():
        if len(sample.images) > 1:
            names = ", ".join(name for name, _, _ in sample.images)
            raise DataError(f"{shard}, key {sample.key}: two images for one key: {names}")
    none = ("", 0, 0)
    return [ShardSample(s.key, *(s.images or [none])[0], s.texts) for s in found.values()]


def _members(shard: Path) -> Iterator[tuple[tarfile.TarInfo, str | None]]:
    """The files of a shard, those of :data:`TEXTS` with their text."""
    try:
        # Not compressed: in a compressed file no image can be found by its offset.
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                parts = split_name(member.name)
                if not member.isreg() or member.issparse():
                    continue
                text = parts is not None and parts[1] in TEXTS
                yield member, _text(shard, archive, member) if text else None
            end = archive.offset
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        kind = "compressed: unpack it" if _compressed(shard) else f"not a whole tar file: {error}"
        raise DataError(f"{shard}: {kind}") from error
    # tarfile takes a damaged header for the end: what follows would be lost without a word.
    with shard.open("rb") as stream:
        stream.seek(end)
        if stream.read(_BLOCK) != bytes(_BLOCK):
            raise DataError(f"{shard}: damaged or cut off at byte {end}: no end of archive there")


def _text(shard: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > _MOST_TEXT:
        raise DataError(f"{shard}, {member.name}: {member.size} bytes are too many for a label")
    stream = archive.extractfile(member)
    assert stream is not None
    try:
        return stream.read().decode("utf-8").strip()
    except UnicodeDecodeError:
        raise DataError(f"{shard}, {member.name}: not UTF-8 text") from None


def _compressed(shard: Path) -> bool:
    with shard.open("rb") as stream:
        return stream.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"))


def _memory_file(shard: Path) -> Path:
    key = hashlib.blake2b(str(shard.resolve()).encode("utf-8", "surrogateescape"), digest_size=12)
    return cache_dir() / "shards" / f"{key.hexdigest()}.json"


def _load(memory: Path, stamp: list[int]) -> list[ShardSample] | None:
    try:
        data = memory.read_bytes()
        if not intact(data):
            return None
        content = parse(data)
        return [ShardSample(**s) for s in content["samples"]] if content["stamp"] == stamp else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(memory: Path, stamp: list[int], samples: list[ShardSample]) -> None:
    """A cache folder that can't be written costs time, not the run."""
    content = {"stamp": stamp, "samples": [asdict(s) for s in samples], KEY: BLANK}
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_text(memory, sealed(json.dumps(content)))
    except OSError:
        return
