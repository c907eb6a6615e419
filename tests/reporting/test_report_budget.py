"""What a report on a hundred runs may cost, measured in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from .fake_runs import fake_run

STRATEGIES = ("head_only", "last_block", "full", "linear_probe", "surgical")
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
# Processor time, since a shared clock says nothing; the peak by /proc, since a child's resource usage begins
# with its parent's.
REPORT = """
import sys, time
from pathlib import Path
from harness.cli import main
try:
    main()
finally:
    peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    print(time.process_time(), 1024 * int(peak), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def hundred(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hundred")
    rng = np.random.default_rng(0)
    for strategy in STRATEGIES:
        for lr in RATES:
            for seed in range(4):
                a, b = (int(n) for n in rng.integers(30, 200, 2))
                matrix = ((1732 - a, a), (b, 1268 - b))
                val = 1 - (a + b) / 3000
                fake_run(
                    folder / "runs", strategy=strategy, lr=lr, seed=seed, confusion=matrix, val_accuracy=val
                )
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells a process's own peak on Linux only")
def test_a_hundred_runs_of_three_thousand_images(hundred):
    command = [sys.executable, "-c", REPORT, "report", str(hundred / "runs"), "--out", str(hundred / "out")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    child = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True
    )
    assert child.returncode == 0
    seconds, memory = map(float, child.stderr.split()[-2:])
    size = (hundred / "out" / "index.html").stat().st_size
    print(f"100 runs x 3,000 images: {seconds:.1f} s, {memory / 1e6:.0f} MB, page {size / 1e6:.1f} MB")
    assert seconds <= 30
    assert memory <= 1e9
    assert size <= 5e6
