"""From samples to rows of pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from harness.contracts import Preprocess, SampleTable
from harness.data.decode import load_images
from harness.errors import DataError
from harness.features import Features, FeatureSource
from harness.placement import Placement

_DECODED_AT_ONCE = 2048


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
