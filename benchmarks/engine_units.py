"""Units for ``benchmarks/engines.py``, in a module that workers can import."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from harness.work import Stop, Unit


@dataclass(frozen=True)
class Timed:
    """A unit that leaves the seconds of its call, without the way to and from the worker."""

    unit: Unit
    file: Path

    @property
    def cells(self) -> tuple[str, ...]:
        return self.unit.cells

    def __call__(self) -> Stop | None:
        began = time.perf_counter()
        stop = self.unit()
        self.file.write_text(json.dumps([os.getpid(), time.perf_counter() - began]), encoding="utf-8")
        return stop


@dataclass(frozen=True)
class Nothing:
    """A unit without cells, for which a worker needs no torch."""

    cells: tuple[str, ...] = ()

    def __call__(self) -> Stop | None:
        return None
