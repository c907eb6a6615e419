"""What goes to an engine's workers: units of a grid, and looks for what a worker without a unit can join."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.dispatch import worth_joining
from harness.errors import HarnessError
from harness.run_options import RunOptions
from harness.spec import Grid
from harness.store import RunFolder
from harness.work import Stop

TrainUnit = Callable[[Grid, RunOptions, Sequence[str]], None]
CellKey = tuple[str, str, str, float, int]  # as ``Grid.only`` has it


@dataclass(frozen=True)
class UnitTask:
    """Cells of one group, as a process of any machine can train them: ``train`` (an importable function)
    gets their own small grid. ``folder`` is where relative paths begin.
    """

    cells: tuple[str, ...]
    train: TrainUnit
    grid: Grid
    options: RunOptions
    folder: Path
    environment: tuple[tuple[str, str], ...]

    def __call__(self) -> Stop | None:
        """Trains them; an error that concerns the whole grid comes back as what stopped it."""
        os.environ.update(self.environment)
        if self.folder.is_dir():  # records name data and weights as they were typed
            os.chdir(self.folder)
        try:
            self.train(self.grid, self.options, self.cells)
        except HarnessError as error:
            return Stop(str(error), error.exit_code)
        except OSError as error:
            return Stop(f"{error.filename or 'system'}: {error.strerror or error}", 1)
        except Exception as error:
            return Stop(f"internal error in a worker: {type(error).__name__}: {error}", 1)
        return None


@dataclass(frozen=True)
class Joinable:
    """Cells of one group, as a unit, and by cell: its key, and what its training and its pass cost."""

    unit: UnitTask
    keys: tuple[CellKey, ...]
    suffixes: tuple[float, ...]
    prefixes: tuple[float, ...]

    def open(self, tried: set[str]) -> list[int]:
        """The cells that nobody has begun and that weren't ``tried``; files tell, no network is built."""
        out = self.unit.folder / self.unit.options.out
        names = enumerate(self.unit.cells)
        return [i for i, n in names if n not in tried and not RunFolder(out / n).begun()]

    def worth(self, cells: Sequence[int]) -> float:
        """By how much what waits in ``cells`` exceeds the pass over the images; 0 where that doesn't pay."""
        waiting = sum(self.suffixes[i] for i in cells)
        prefix = max((self.prefixes[i] for i in cells), default=0.0)
        return waiting - prefix if worth_joining(waiting, prefix) else 0.0

    def part(self, cells: Sequence[int]) -> UnitTask:
        """A unit of some of the cells."""
        grid = replace(self.unit.grid, only=frozenset(self.keys[i] for i in cells))
        return replace(self.unit, cells=tuple(self.unit.cells[i] for i in cells), grid=grid)


@dataclass(frozen=True)
class Join:
    """For a worker that no unit is left for: trains beside others what they haven't begun, while that pays.

    Run folders alone say what that is, and their locks whose a cell is, so that those others needn't know.
    What was begun is left to a lost worker's unit: a cell that kills its worker kills no second one here.
    """

    groups: tuple[Joinable, ...]
    cells: tuple[str, ...] = ()  # none for which it would have to be run again

    def __call__(self) -> Stop | None:
        """Group by group, first where most waits."""
        tried: set[str] = set()
        while True:
            found = [(group, group.open(tried)) for group in self.groups]
            group, cells = max(found, key=lambda pair: pair[0].worth(pair[1]))
            if not group.worth(cells):
                return None
            part = group.part(cells)
            tried.update(part.cells)
            if stop := part():
                return stop
