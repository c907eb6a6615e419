"""Starts measured jobs, one after the other, and says how far it got."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import JobResult
from benchmarks.rivals import OURS, RIVALS
from benchmarks.work import Work
from harness.cli import SPINS

ROOT = Path(__file__).parents[1]
# glibc then reuses large blocks instead of giving them back at every free, and threads that wait go to sleep
# soon; the harness asks for the same by itself, and those who are called tuned shall not lose for want of it.
_SPINS = {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPINS)}
_TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), **_SPINS}


def run_jobs(rivals: Sequence[str], work: Work, repeats: int, folder: Path) -> list[JobResult]:
    """Every rival once, and that ``repeats`` times: what slows a machine down for a while hits all."""
    results: list[JobResult] = []
    total = repeats * len(rivals)
    for repeat in range(1, repeats + 1):
        for rival in rivals:
            title = f"[{len(results) + 1}/{total}] repeat {repeat}, {RIVALS[rival].title}"
            print(title, file=sys.stderr, flush=True)
            results.append(run_job(rival, work, folder))
            print(f"  {_summary(results[-1])}", file=sys.stderr, flush=True)
    return results


def run_job(rival: str, work: Work, folder: Path) -> JobResult:
    """A fresh process with a cache folder of its own, so that nothing is left from the job before."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".job-") as scratch:
        threads = str(work.threads)
        env = {
            **os.environ,
            **(_TUNED if RIVALS[rival].tuned else {}),
            **(_SPINS if rival == OURS else {}),
            "HARNESS_CACHE": scratch,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
        }
        command = [sys.executable, "-m", "benchmarks.job", rival, work.to_json()]
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return JobResult(rival, error=f"its process ended with {done.returncode}")
    return JobResult.from_json(lines[-1])


def _summary(result: JobResult) -> str:
    return result.error or f"{result.wall_s:.1f} s, import {result.import_s:.1f} s"
