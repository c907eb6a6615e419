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
def test_a_hundred_runs_of_three_thousand_images(hundred):
    code = "import sys; from harness.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "report", str(hundred / "runs"), "--out", str(hundred / "out")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    # Processor time, since a shared clock says nothing; ru_maxrss is in bytes on macOS.
    seconds, memory = (
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / (1 if sys.platform == "darwin" else 1e-3),
    )
    size = (hundred / "out" / "index.html").stat().st_size
    print(f"100 runs x 3,000 images: {seconds:.1f} s, {memory / 1e6:.0f} MB, page {size / 1e6:.1f} MB")
    assert seconds <= 30
    assert memory <= 1e9
    assert size <= 5e6
