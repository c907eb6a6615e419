"""How and where a grid runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.micro_batches import Change
from harness.world import ALONE, World


@dataclass(frozen=True)
class RunOptions:
    """How and where a grid runs; nothing here changes a result on one machine type but ``threads`` and, by
    rounding and by what dropout draws, ``micro_batches``, from when on batches are computed in pieces, and
    ``world``, the processes that train each cell together.

    ``cache_budget`` bounds the bytes of memory for activations (None: by what is free); ``processes``
    of one machine share it.
    """

    out: Path = Path("runs")
    data_path: Path | None = None
    device: str = "auto"
    threads: int | None = None
    workers: int | None = None
    cache_budget: int | None = None
    keep_features: bool = False
    wait: bool = True
    allow_random_frozen: bool = False
    micro_batches: tuple[Change, ...] = ()
    world: World = ALONE
    argv: tuple[str, ...] = ()
    engine: str = "local"
    processes: int = 1
