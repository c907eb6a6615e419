"""WebDataset shards: tar files whose members of one key are one sample.

The format is tar and a rule for names, so ``tarfile`` reads it; the webdataset library streams shards front
to back, and gives no sample by its place. It is the oracle of the tests.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.contracts import UNSTATED, DataCard, SampleTable
from harness.data.columns import LABEL_NAMES, Found, Sample, as_table, split_of
from harness.data.listed import Missing, require_path
from harness.data.members import tar_member
from harness.data.tar_index import ShardSample, shard_samples
from harness.errors import DataError, UnknownName

_BRACES = re.compile(r"\{([^{}]*)\}")
_MOST_SHARDS = 1_000_000


@dataclass(frozen=True)
class WebDataset:
    """A ``.tar`` file, a folder of them, or a range of them, ``shards/train-{000..063}.tar``.

    A key's image is its one member with an image's extension; its label the text of ``.cls``, else the
    field ``label`` of ``.json``, else ``.txt``. ``target`` names another field of ``.json``, or one of
    these members. Other fields of ``.json`` that are 0/1 are attributes, ``group`` or ``identity`` the
    groups. Shards whose names speak of train, val and test are the official split.
    """

    name: ClassVar[str] = "webdataset"
    summary: ClassVar[str] = "WebDataset tar shards: webdataset=FOLDER or webdataset=shard-{000..063}.tar"
    default_target: ClassVar[str | None] = None
    default_split: ClassVar[str] = "auto"
    needs_path: ClassVar[bool] = True

    def read(self, path: Path | None, *, target: str | None, missing: Missing) -> SampleTable:
        pattern = require_path(path, self.name, "a .tar file, a folder of them, or shard-{000..003}.tar")
        shards = [(shard, shard_samples(shard)) for shard in _shards(pattern)]
        where = str(pattern)
        flat = [(shard, sample) for shard, samples in shards for sample in samples]
        if not flat:
            raise DataError(f"{where}: holds no samples")
        fields = [_fields(shard, sample) for shard, sample in flat]
        label = _label(flat[0], fields[0], target)
        samples = [
            Sample(
                name=sample.name or sample.key,
                own=f"{_shown(shard, pattern)}/{sample.name or sample.key}",
                file=shard.name,
                path=tar_member(str(shard), sample.offset, sample.size, sample.name),
                place=f"{shard}, key {sample.key}",
                label=_value(told, sample, label),
                split=split_of(_shown(shard, pattern)),
                absent=not sample.name,
            )
            for (shard, sample), told in zip(flat, fields, strict=True)
        ]
        names = dict.fromkeys(name for told in fields for name in told if name != label)
        others = {name: [told.get(name) for told in fields] for name in names}
        card = DataCard(
            title=_BRACES.sub("", pattern.stem).strip("-_. ") or pattern.stem,
            description="Images in tar shards.",
            labels=f"'{label}' of each sample.",
            license=UNSTATED,
        )
        return as_table(Found(samples, others), where, card, label, missing)


def _shown(shard: Path, pattern: Path) -> str:
    """A shard's name below the folder that was given, or below the part of a range that has no braces."""
    whole = [part for part in pattern.parent.parts if "{" not in part]
    root = pattern if pattern.is_dir() else Path(*whole) if len(whole) == len(pattern.parent.parts) else None
    return shard.relative_to(root).as_posix() if root else shard.as_posix()


def expand(pattern: str) -> list[str]:
    """``a-{000..002}.tar`` and ``{train,val}.tar`` as a shell expands them."""
    parts = _BRACES.split(pattern)
    choices = [[part] if i % 2 == 0 else _choices(part, pattern) for i, part in enumerate(parts)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > _MOST_SHARDS:
        raise DataError(f"{pattern}: means {count} shards, more than {_MOST_SHARDS}")
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _choices(text: str, pattern: str) -> list[str]:
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if ends is None:
        if "," not in text:
            raise DataError(f"{pattern}: '{{{text}}}' is no range: expected {{000..063}} or {{a,b}}")
        return text.split(",")
    first, last = int(ends[1]), int(ends[2])
    width = max(map(len, ends.groups())) if any(e.startswith("0") for e in ends.groups()) else 0
    if abs(last - first) >= _MOST_SHARDS:
        raise DataError(f"{pattern}: means more than {_MOST_SHARDS} shards")
    step = 1 if last >= first else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]


def _shards(pattern: Path) -> list[Path]:
    if pattern.is_dir():
        found = sorted(p for p in pattern.rglob("*.tar") if not p.name.startswith("."))
        if not found:
            raise DataError(f"{pattern}: holds no .tar files")
        return found
    found = [Path(text) for text in expand(str(pattern))]
    for shard in found:
        if shard.suffix.lower() != ".tar":
            raise DataError(f"{shard}: expected a .tar file that isn't compressed")
        if not shard.is_file():
            raise DataError(f"{shard}: no such shard")
    return found


def _fields(shard: Path, sample: ShardSample) -> dict[str, object]:
    text = sample.texts.get("json")
    if text is None:
        return {}
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shard}, key {sample.key}: its .json can't be read: {error}") from error
    if not isinstance(told, dict):
        raise DataError(f"{shard}, key {sample.key}: its .json is no object of fields")
    # Lists and objects (boxes, captions) are neither label nor attribute.
    return {str(k): v for k, v in told.items() if isinstance(v, bool | int | str)}


def _label(first: tuple[Path, ShardSample], fields: dict[str, object], target: str | None) -> str:
    """The label's name: a member's extension or a field of ``.json``, by what the first sample has."""
    shard, sample = first
    members: Sequence[str] = [m for m in ("cls", "txt") if m in sample.texts]
    if target is not None:
        if target not in (*members, *fields):
            raise UnknownName("label", target, [*members, *fields])
        return target
    for name in _preferred(members, fields):
        return name
    raise DataError(
        f"{shard}, key {sample.key}: no label: expected a member .cls or .txt, or .json with the field "
        "'label' (--target names another field)"
    )


def _preferred(members: Sequence[str], fields: dict[str, object]) -> Iterator[str]:
    yield from (m for m in ("cls",) if m in members)
    yield from (f for f in LABEL_NAMES if f in fields)
    yield from (m for m in ("txt",) if m in members)


def _value(fields: dict[str, object], sample: ShardSample, label: str) -> object:
    """A label; texts that are numbers stay texts, whose classes are sorted by value."""
    return fields.get(label) if label in fields else sample.texts.get(label)
