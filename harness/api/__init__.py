"""The harness from Python: ``from harness import run, grid, load_run``.

The same names, defaults and values as the options of ``harness run``, and the same run folders: what one has
trained the other goes on with. What goes wrong is a :class:`~harness.errors.HarnessError`; torch's threads,
random state and switches are afterwards what they were.
"""

from harness.api.grids import Grid
from harness.api.report import Report
from harness.api.runs import Run, load_run
from harness.api.train import Options, grid, run

__all__ = ["Grid", "Options", "Report", "Run", "grid", "load_run", "run"]
