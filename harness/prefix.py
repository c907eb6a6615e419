"""Activations of a frozen prefix: computed once for all cells that share it.

Arithmetic depends on the shape of a batch, so a prefix always runs at one fixed batch shape, the
last batch padded; then a row doesn't depend on the rows beside it, and a deeper cut derived on the
way equals the same cut computed alone, bit for bit.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.backbones.staged import StagedModel
from harness.cache_dir import cache_dir

BATCH = 64
ImageLoader = Callable[[int, int], torch.Tensor]  # rows start:stop -> uint8 [n, 3, s, s]


@dataclass(frozen=True)
class Features:
    """Rows of what goes into a suffix: activations at a cut, or the images themselves at cut 0.

    ``rows`` is ``[n, height, width, channels]`` (or ``[n, features]``), in the order of the sample
    table; ``flipped`` holds the same for mirrored images where they are needed.
    """

    rows: torch.Tensor
    flipped: torch.Tensor | None = None

    def batch(
        self, index: torch.Tensor, device: torch.device, mirror: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The rows at ``index`` (int64 ``[b]``) as a suffix takes them, channels last in memory.

        ``mirror`` (bool ``[b]``) picks the mirrored view of a row.
        """
        picked = self.rows[index]
        if mirror is not None and bool(mirror.any()):
            if self.flipped is None:  # cut 0: mirroring an image is cheap
                picked[mirror] = picked[mirror].flip(2)
            else:
                picked[mirror] = self.flipped[index[mirror]]
        picked = picked.to(device, non_blocking=True)
        return picked.permute(0, 3, 1, 2) if picked.dim() == 4 else picked

    @property
    def nbytes(self) -> int:
        views = [self.rows] if self.flipped is None else [self.rows, self.flipped]
        return sum(v.numel() * v.element_size() for v in views)


def compute_features(
    model: StagedModel,
    cuts: Sequence[int],
    count: int,
    load: ImageLoader,
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
    mirror: bool = False,
    budget: int,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[int, Features]:
    """One pass over ``count`` images: the activations at every cut, each derived from the one before.

    A cut is the number of stages before it; 0 keeps the images (uint8). ``budget`` bytes stay in
    memory, what goes beyond lies in a memory-mapped temporary file. ``progress`` is told how many
    images were done. ``autocast`` runs the prefix, and keeps its activations, in that dtype.
    """
    ordered = sorted(set(cuts))
    store = _Stores(count, budget)
    model.eval()
    sections = [
        (cut, model.section(last, cut) if cut else None)
        for last, cut in zip([0, *ordered], ordered, strict=False)
    ]
    for start, images in _batches(count, load):
        size = min(BATCH, count - start)
        for view in (False, True) if mirror else (False,):
            x = (images.flip(3) if view else images).contiguous(memory_format=torch.channels_last)
            if len(x) < BATCH:
                x = torch.cat([x, x[-1:].expand(BATCH - len(x), -1, -1, -1)]).contiguous(
                    memory_format=torch.channels_last
                )
            x = x.to(device)
            for cut, section in sections:
                if section is not None:
                    with (
                        torch.inference_mode(),
                        torch.autocast(device.type, dtype=autocast, enabled=autocast is not None),
                    ):
                        x = section(x)
                if not (view and cut == 0):
                    store.put(cut, view, start, x[:size])
        progress(size)
    return {cut: Features(store.rows(cut), store.mirrored(cut)) for cut in ordered}


def _batches(count: int, load: ImageLoader) -> Iterator[tuple[int, torch.Tensor]]:
    """Batches of images, the next one decoded while this one is computed."""
    starts = range(0, count, BATCH)
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead: Future[torch.Tensor] | None = None
        for start in starts:
            images = (ahead or pool.submit(load, start, min(start + BATCH, count))).result()
            following = start + BATCH
            ahead = pool.submit(load, following, min(following + BATCH, count)) if following < count else None
            yield start, images


class _Stores:
    """Where activations go: memory while the budget lasts, then memory-mapped temporary files."""

    def __init__(self, count: int, budget: int) -> None:
        self._count = count
        self._left = budget
        self._tensors: dict[tuple[int, bool], torch.Tensor] = {}

    def put(self, cut: int, view: bool, start: int, x: torch.Tensor) -> None:
        rows = x.permute(0, 2, 3, 1) if x.dim() == 4 else x
        if (cut, view) not in self._tensors:
            self._tensors[cut, view] = self._allocate((self._count, *rows.shape[1:]), rows.dtype)
        self._tensors[cut, view][start : start + len(rows)].copy_(rows)

    def rows(self, cut: int) -> torch.Tensor:
        return self._tensors[cut, False]

    def mirrored(self, cut: int) -> torch.Tensor | None:
        return self._tensors.get((cut, True))

    def _allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        count = 1
        for side in shape:
            count *= side
        nbytes = count * dtype.itemsize
        if nbytes <= self._left:
            self._left -= nbytes
            return torch.empty(shape, dtype=dtype)
        folder = cache_dir() / "features"
        folder.mkdir(parents=True, exist_ok=True)
        # Unlinked as soon as it is mapped: the space goes back when the process ends, however it ends.
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error here, not a signal later
                os.posix_fallocate(file.fileno(), 0, nbytes)
            else:
                file.truncate(nbytes)
            return torch.from_file(file.name, shared=True, size=count, dtype=dtype).view(shape)


def available_memory() -> int:
    """Bytes of memory that are free to use now: the system's and, in a container, its own limit's."""
    found = [4 * 2**30]  # a guess, where neither says
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")] or found
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        if limit != "max":
            found.append(max(int(limit) - int(used), 0))
    except (OSError, ValueError):
        pass
    return min(found)
