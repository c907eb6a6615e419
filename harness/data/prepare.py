"""From a data spec to samples, a split and a source of pixels."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from harness.contracts import Preprocess, SampleTable
from harness.data.content import content_digest
from harness.data.decode import load_images
from harness.data.splits import Split, limit_table, make_split, resolve_kind
from harness.errors import DataError
from harness.plugins import load_dataset
from harness.spec import DataSpec

_CHECKED_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class PreparedData:
    """The samples a grid runs on. ``spec`` is resolved: target and split are the ones in use."""

    spec: DataSpec
    path: Path | None
    table: SampleTable
    split: Split
    digest: str


def prepare_data(spec: DataSpec, path: Path | None, workers: int) -> PreparedData:
    """Reads, limits, splits and hashes; nothing is decoded."""
    dataset = load_dataset(spec.name)
    if spec.missing not in ("error", "skip"):
        raise DataError(f"--missing is 'error' or 'skip', not '{spec.missing}'")
    target = spec.target or dataset.default_target
    table = dataset.read(path, target=target, missing=spec.missing)
    _check_names(table)
    wanted = dataset.default_split if spec.split == "auto" and spec.group is None else spec.split
    kind = resolve_kind(table, wanted, spec.group)
    if spec.limit is not None:
        table = limit_table(table, spec.limit, spec.split_seed, kind)
    split = make_split(table, kind, spec.split_seed, spec.group)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        digest = content_digest(table, pool)
    return PreparedData(replace(spec, target=table.target, split=kind), path, table, split, digest)


def _check_names(table: SampleTable) -> None:
    """Records, reports and digests are UTF-8; a file name that isn't could only be garbled there."""
    for name in table.paths:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"the file name {name!r} isn't valid UTF-8: rename it") from None


def image_source(
    table: SampleTable,
    preprocess: Preprocess,
    workers: int,
    budget: int,
    progress: Callable[[int], object],
) -> Callable[[int, int], torch.Tensor]:
    """A loader of rows ``start:stop`` as uint8 ``[n, 3, size, size]``.

    All images are decoded once now, so that every unreadable one is named before hours of work;
    they stay in memory when they fit ``budget`` bytes and are decoded again when not.
    """
    if len(table) * 3 * preprocess.size**2 <= budget:
        images = load_images(table.paths, preprocess, workers, progress)
        return lambda start, stop: images[start:stop]
    problems: list[str] = []
    for start in range(0, len(table), _CHECKED_AT_ONCE):
        try:
            load_images(table.paths[start : start + _CHECKED_AT_ONCE], preprocess, workers, progress)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("; ".join(problems))
    return lambda start, stop: load_images(table.paths[start:stop], preprocess, workers)
