"""The runs of a grid, and what came of them as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, overload

from harness.api.report import Report, write
from harness.api.runs import Run
from harness.errors import UsageError


class Grid(Sequence[Run]):
    """The runs of a grid, in its order; those that failed are among them, with their ``error``."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = tuple(runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Grid: ...
    def __getitem__(self, index: int | slice) -> Run | Grid:
        return Grid(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    @property
    def results(self) -> list[dict[str, Any]]:
        """A row a run: ``backbone``, ``head``, ``strategy``, ``lr``, ``seed``; of the test ``accuracy``
        with its 95 % interval (``low``, ``high``) and ``macro_f1``; ``val_accuracy`` (fractions all);
        ``train_s`` (seconds), ``run``, ``error``. Figures of a failed run are None.
        """
        return [_result(run) for run in self]

    def to_frame(self) -> Any:
        """The results as a pandas DataFrame. Raises UsageError where pandas isn't installed."""
        try:
            import pandas as pd
        except ImportError as error:
            raise UsageError("to_frame needs pandas: pip install pandas (results needs nothing)") from error
        return pd.DataFrame(self.results)

    def report(self, out: str | PathLike[str] = "report", **options: Any) -> Report:
        """Writes the report of all runs into folder ``out``; see :meth:`harness.api.Run.report`."""
        return write([run.folder for run in self], Path(out), options)

    def __repr__(self) -> str:
        return "\n".join(
            [f"Grid of {len(self)} runs", *(f"  {run.spec.label}: {run.summary}" for run in self)]
        )

    def _repr_html_(self) -> str:
        from reports.notebook import grid_html

        return grid_html([run.folder for run in self])


def _result(run: Run) -> dict[str, Any]:
    test, val = run.record.get("test") or {}, run.record.get("val") or {}
    low, high = test.get("accuracy_interval") or (None, None)
    return {
        "backbone": run.spec.backbone,
        "head": run.spec.head,
        "strategy": run.spec.strategy,
        "lr": run.spec.lr,
        "seed": run.spec.seed,
        "accuracy": test.get("accuracy"),
        "low": low,
        "high": high,
        "macro_f1": test.get("macro_f1"),
        "val_accuracy": val.get("accuracy"),
        "train_s": (run.record.get("timing") or {}).get("train_s"),
        "run": run.name,
        "error": run.error,
    }
