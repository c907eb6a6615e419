"""What processes do that train beside another: rank 0 runs the grid and tells them what with.

They touch no run folder: which cells are missing, whom they wait for and where one stopped is rank 0's
to know. Nor do they print or test.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.cell import TrainData
from harness.grid_run import GridRun
from harness.jobs import Job
from harness.run_cell import make_cell
from harness.train_cells import Shared, named
from harness.trainer import fit_together


def assist(run: GridRun, jobs: Sequence[Job]) -> None:
    """Until rank 0 has nothing more to tell: cells' names to prepare for, or cells to train."""
    by_name = {job.folder.name: job for job in jobs}
    data: TrainData | None = None
    while (told := run.options.world.told()) is not None:
        if isinstance(told, Shared):
            assert data is not None
            initial = run.initial(by_name[told.names[0]])
            cells = [
                make_cell(by_name[name], initial, run.device, run.options.micro_batches, run.options.world)
                for name in told.names
            ]
            try:
                for _ in fit_together(cells, data, told.snapshots, fused=told.fused):
                    pass
            except Exception as error:
                raise named(error, told.names[0], run.options.world) from error
        else:
            prepared = run.prepared([by_name[name] for name in told])
            data = None if isinstance(prepared, Exception) else prepared[0]
