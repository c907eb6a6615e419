"""From a data spec to samples, a split and rows of pixels."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from harness.contracts import Preprocess, SampleTable
from harness.data.content import content_digests
from harness.data.decode import load_images
from harness.data.splits import Split, limit_table, make_split, resolve_kind
from harness.errors import DataError
from harness.features import Features, FeatureSource
from harness.placement import Placement
from harness.plugins import load_dataset
from harness.spec import DataSpec

_DECODED_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class PreparedData:
    """The samples a grid runs on. ``spec`` is resolved: target and split are the ones in use.

    ``digest`` is of ids, labels and images in order, ``images_digest`` of the images alone.
    """

    spec: DataSpec
    path: Path | None
    table: SampleTable
    split: Split
    digest: str
    images_digest: str


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
        digests = content_digests(table, pool)
    resolved = replace(spec, target=table.target, split=kind)
    return PreparedData(resolved, path, table, split, digests.samples, digests.images)


def _check_names(table: SampleTable) -> None:
    """Records, reports and digests are UTF-8; a file name that isn't could only be garbled there."""
    for name in table.paths:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"the file name {name!r} isn't valid UTF-8: rename it") from None


def read_images(
    table: SampleTable,
    preprocess: Preprocess,
    workers: int,
    room: Placement,
    progress: Callable[[int], object] = lambda _: None,
) -> tuple[FeatureSource, str]:
    """The images as rows uint8 ``[n, size, size, 3]``, wherever there is room for them, and where.

    All are decoded now, so that every unreadable one is named before hours of work; where there is
    no room they are decoded again whenever they are wanted.
    """
    count, size = len(table), preprocess.size
    found, where = room.allocate((count, size, size, 3), torch.uint8)
    rows = found[0] if found else None
    problems: list[str] = []
    for start in range(0, count, _DECODED_AT_ONCE):
        chunk = table.paths[start : start + _DECODED_AT_ONCE]
        try:
            images = load_images(chunk, preprocess, workers, progress)
        except DataError as error:
            problems.append(str(error))
            continue
        if rows is not None:
            rows[start : start + len(chunk)].copy_(images.permute(0, 2, 3, 1))
    if problems:
        raise DataError("; ".join(problems))
    return Files(table.paths, preprocess, workers) if rows is None else Features(rows), where


@dataclass(frozen=True)
class Files:
    """Images that are decoded whenever they are wanted."""

    paths: tuple[str, ...]
    preprocess: Preprocess
    workers: int

    def batch(
        self, index: torch.Tensor, device: torch.device, mirror: torch.Tensor | None = None
    ) -> torch.Tensor:
        """See :class:`~harness.features.FeatureSource`."""
        images = load_images([self.paths[i] for i in index.tolist()], self.preprocess, self.workers)
        rows = Features(images.permute(0, 2, 3, 1))
        return rows.batch(torch.arange(len(index)), device, mirror)
