"""Where activations lie: in the device's memory, in memory, in a mapped file, or nowhere."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from harness.cache_dir import cache_dir
from harness.errors import UsageError

_DISK_SHARE = 0.9
SHARE = 0.5  # of what is free may hold activations; the rest is for training
_GUESS = 4 * 2**30  # bytes that are free, where nothing says
_V2, _V1 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/memory"
_MEMORY_GROUPS = (  # a container's limit, use and statistics: control groups of version 2 and 1
    (f"{_V2}.max", f"{_V2}.current", f"{_V2}.stat", "inactive_file"),
    (f"{_V1}.limit_in_bytes", f"{_V1}.usage_in_bytes", f"{_V1}.stat", "total_inactive_file"),
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass
class Placement:
    """Hands out room for rows: the device's memory first, then memory, then a mapped file.

    ``device_left`` and ``memory_left`` are bytes that may still be used.
    """

    device: torch.device
    device_left: int
    memory_left: int

    def choose(self, nbytes: int) -> str:
        """``device``, ``memory``, ``file`` or ``nowhere``, and takes the room.

        A tenth of the free disk stays for the runs themselves.
        """
        if self.device.type == "cuda" and nbytes <= self.device_left:
            self.device_left -= nbytes
            return "device"
        if nbytes <= self.memory_left:
            self.memory_left -= nbytes
            return "memory"
        return "file" if nbytes <= _DISK_SHARE * _free_disk() else "nowhere"

    def allocate(
        self, shape: tuple[int, ...], dtype: torch.dtype, views: int = 1
    ) -> tuple[list[torch.Tensor], str]:
        """Uninitialised rows, one tensor a view, all in one place, and which; none where there is no room."""
        where = self.choose(prod(shape) * dtype.itemsize * views)
        if where == "nowhere":
            return [], where
        if where == "file":
            try:
                return [_mapped(shape, dtype) for _ in range(views)], where
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
                    raise
                return [], "nowhere"
        device = self.device if where == "device" else torch.device("cpu")
        return [torch.empty(shape, dtype=dtype, device=device) for _ in range(views)], where


def make_placement(device: torch.device, budget: int | None) -> Placement:
    """Room by ``budget`` bytes, device and memory together, or by what is free where it is None."""
    on_device = 0 if device.type != "cuda" else int(free_memory(device) * SHARE)
    if budget is None:
        return Placement(device, on_device, int(available_memory() * SHARE))
    on_device = min(budget, on_device)
    return Placement(device, on_device, budget - on_device)


def shared_budget(device: torch.device, budget: int | None, processes: int) -> int | None:
    """One process's part of a budget that ``processes`` share, or of the memory that is free.

    None, by what is free, on a GPU: its memory belongs to one of them.
    """
    if budget is None:
        return None if device.type == "cuda" else int(available_memory() * SHARE) // processes
    return budget // processes


def parse_bytes(text: str) -> int:
    """``500M``, ``8G`` or a number of bytes; units are powers of 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise UsageError(f"bad size '{text}': a number of bytes, with K, M, G or T, such as 8G")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def show_bytes(count: float) -> str:
    """``301 MiB``."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if count < 100 else f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.3g} GiB" if count < 100 else f"{count:.0f} GiB"


def available_memory() -> int:
    """Bytes of memory that are free to use now: the system's and, in a container, its own limit's."""
    found = []
    for limit, used, statistics, reclaimable in _MEMORY_GROUPS:
        try:
            free = int(Path(limit).read_text()) - int(Path(used).read_text())
            known = dict(line.split() for line in Path(statistics).read_text().splitlines())
        except (OSError, ValueError):  # not there, or "max"
            continue
        # Files read lately count as used but are given up when memory is wanted.
        found.append(max(free + int(known.get(reclaimable, 0)), 0))
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        pass
    return min(found, default=_GUESS)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on ``device``; the system's where it shares them or doesn't say."""
    if device.type != "cuda":
        return available_memory()
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + idle


def _free_disk() -> int:
    folder = cache_dir()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _mapped(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    folder = cache_dir() / "features"
    folder.mkdir(parents=True, exist_ok=True)
    # Unlinked as soon as it is mapped: the space goes back when the process ends, however it ends.
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        return map_file(Path(file.name), shape, dtype)


def map_file(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Rows that live in a new file at ``path``, whose whole size is taken from the disk now."""
    nbytes = prod(shape) * dtype.itemsize
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, not a signal later
            os.posix_fallocate(file.fileno(), 0, nbytes)
        else:
            file.truncate(nbytes)
    return torch.from_file(str(path), shared=True, size=prod(shape), dtype=dtype).view(shape)
