"""Features that don't fit in memory: the run ends all the same, from the mapped file."""

import sys

import pytest

LIMITED = """
import resource, sys
from pathlib import Path
from harness.progress import Progress
from harness.run_grid import run_grid
from harness.run_options import RunOptions
from harness.spec import DataSpec, Grid, TrainSpec
import torch, harness.fused, harness.pool, harness.backbones.vgg_tiny

def allocated():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmData"].split()[0]) * 1024

torch.nn.Conv2d(3, 8, 3)(torch.zeros(64, 3, 64, 64)).sum().backward()
room = 320 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (allocated() + room, allocated() + room))
grid = Grid(data=DataSpec("faces"), strategies=("last_k[k=4]",), train=TrainSpec(epochs=1, flip=True))
options = RunOptions(out=Path(sys.argv[1]), device="cpu", threads=1, cache_budget=int(sys.argv[2]))
try:
    (outcome,) = run_grid(grid, options, Progress())
    print(outcome.record["status"], outcome.record["digests"].get("checkpoint"))
except (MemoryError, RuntimeError) as error:
    print("out of memory:", str(error).splitlines()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA leaves mapped files out on Linux only")
def test_a_grid_whose_features_exceed_the_memory_ends_from_the_mapped_file(start, tmp_path):
    """Two views of 4,000 images at block 1 are 250 MiB; images and training need the rest of 320."""
    enough, _ = start(LIMITED, tmp_path / "mapped", 2**26).communicate(timeout=300)
    assert enough.startswith("done ")
    refused, _ = start(LIMITED, tmp_path / "memory", 2**40).communicate(timeout=300)
    assert refused.startswith(("out of memory", "failed"))
