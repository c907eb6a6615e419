"""An engine in this very process that loses what it is told to, and a network whose workers die."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from core.small import Small
from harness import run_cell
from harness.contracts import Ended, Need, Unit
from harness.trainer import EpochState

DEADLY = "HARNESS_DEADLY"  # a folder for notes, the process that is spared, how often others die


@dataclass(frozen=True)
class Inline:
    """``count`` workers that aren't there; whatever has, or may join, a cell with ``loses`` in its
    name is lost.
    """

    summary: ClassVar[str] = "this process, in tests"
    needs: ClassVar[tuple[str, ...]] = ()
    elsewhere: ClassVar[bool] = False

    count: int = 2
    beside: int = 2
    loses: str = "nothing"
    raises: str = ""
    lies: bool = False
    joins_first: bool = False  # as a cluster may that keeps no order

    @contextlib.contextmanager
    def open(self, need: Need) -> Iterator[Inline]:
        assert need.folder.is_absolute()
        yield self

    def run(self, units: Sequence[Unit]) -> Iterator[Ended | None]:
        for unit in sorted(units, key=lambda unit: bool(unit.cells)) if self.joins_first else units:
            yield None
            joined = [cell for group in getattr(unit, "groups", ()) for cell in group.unit.cells]
            if self.lies:
                yield Ended(unit)
            elif any(self.loses in cell for cell in (*unit.cells, *joined)):
                yield Ended(unit, lost="it had to be")
            else:
                yield Ended(unit, stop=pickle.loads(pickle.dumps(unit))())


class Deadly(Small):
    """The small network: in processes other than the one that is spared, odd seeds' cells end with SIGKILL
    after their first epoch, so often as :data:`DEADLY` says.
    """

    name = "deadly"


def spare(monkeypatch, notes: Path, times: int) -> None:
    notes.mkdir()
    monkeypatch.setenv(DEADLY, f"{notes}:{os.getpid()}:{times}")


def deaths(notes: Path) -> dict[str, int]:
    """Cells -> how often a worker died of them."""
    return {file.name: len(file.read_text()) for file in notes.iterdir()}


_EPOCH = run_cell.CellRun.epoch


def _epoch(run: run_cell.CellRun, state: EpochState) -> None:
    _EPOCH(run, state)
    if DEADLY not in os.environ or run.job.spec.backbone != "deadly":
        return
    folder, spared, times = os.environ[DEADLY].split(":")
    note = Path(folder) / run.job.folder.name
    died = len(note.read_text()) if note.exists() else 0
    if run.job.spec.seed % 2 and os.getpid() != int(spared) and died < int(times):
        note.write_text("x" * (died + 1))
        os.kill(os.getpid(), signal.SIGKILL)


run_cell.CellRun.epoch = _epoch  # type: ignore[method-assign]
