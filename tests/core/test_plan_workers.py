"""What a grid takes on several GPUs: against figures worked out by hand, and by command."""

import re
import time
from dataclasses import replace

import pytest
import torch

from core.small import small_net
from harness.costs import CostModel
from harness.loads import group_loads
from harness.plan_workers import plan_workers, workers_text
from harness.planner import group_cells
from harness.progress import Progress
from harness.run_grid import prepare, run_grid
from harness.run_options import RunOptions
from harness.spec import DataSpec, Grid, TrainSpec
from harness.throughput import measured_rate

GRID = Grid(
    data=DataSpec("folder"),
    backbones=("small",),
    strategies=("head_only", "last_block", "full"),
    lrs=(1e-2, 1e-3),
    train=TrainSpec(epochs=2, batch_size=16),
)
QUIET = Progress(quiet=True)


@pytest.fixture
def options(tmp_path, images):
    return RunOptions(out=tmp_path / "runs", data_path=images, device="cpu", threads=1)


@pytest.mark.usefixtures("site")
def test_seconds_are_operations_by_the_rate(options):
    plan = plan_workers(GRID, options, QUIET, 1, tflops=1e-6)  # a million operations a second
    run, jobs = prepare(GRID, options, QUIET)
    (load,) = group_loads(run, group_cells((job, job.network) for job in jobs))
    work = sum(cell.suffix for cell in load.cells) + max(cell.prefix for cell in load.cells)
    assert plan.ends == plan.work == pytest.approx(work / 1e6)
    assert plan.bound == pytest.approx(plan.ends)
    longest = max(load.cells, key=lambda cell: cell.suffix + cell.prefix)
    assert plan.path == (
        f"small {longest.cell.spec.label}",
        pytest.approx((longest.suffix + longest.prefix) / 1e6),
    )
    assert "full" in plan.path[0]
    assert not options.out.exists()


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("workers", [3, 64])
def test_more_workers_end_sooner_and_each_cell_is_in_one_unit(options, workers):
    alone, plan = (plan_workers(GRID, options, QUIET, n, tflops=1e-6) for n in (1, workers))
    assert plan.bound <= plan.ends < alone.ends
    assert plan.between[0] <= plan.between[1]
    labels = [job.spec.label for unit in plan.dispatched.units for job in unit.cells]
    assert sorted(labels) == sorted(job.spec.label for job in prepare(GRID, options, QUIET)[1])
    assert set(plan.played.finished.values()) == {1}
    assert plan.ends == pytest.approx(plan.dispatched.ends)


@pytest.mark.usefixtures("site")
def test_what_is_done_is_not_planned_again(options):
    run_grid(replace(GRID, lrs=(1e-2,), strategies=("head_only",)), options, QUIET)
    plan = plan_workers(GRID, options, QUIET, 2, tflops=1.0)
    assert (plan.done, plan.groups[0].cells) == (1, 5)
    assert "1 done already" in workers_text(plan)
    rest = replace(GRID, lrs=(1e-2,), strategies=("head_only",))
    assert "nothing left to train" in workers_text(plan_workers(rest, options, QUIET, 2, tflops=1.0))


def test_the_rate_is_of_the_network_and_leaves_it_as_it_was():
    model = small_net()
    before = {name: (tensor.clone(), tensor.requires_grad) for name, tensor in model.tensors()}
    rate = measured_rate(model, CostModel(model), 16, None)
    assert 1e6 < rate < 1e13
    assert all(torch.equal(t, before[n][0]) and t.requires_grad == before[n][1] for n, t in model.tensors())
    assert all(t.grad is None for _, t in model.tensors())


@pytest.mark.usefixtures("site")
def test_the_command(harness, images, tmp_path):
    asked = ["run", "--data", f"folder={images}", "--backbone", "small", "--lr", "1e-4:1e-1:40",
             "--strategy", "head_only", "--strategy", "full", "--seed", "0", "--seed", "1", "--epochs", "2",
             "--device", "cpu", "--threads", "1", "--plan"]  # fmt: skip
    status, text, error = harness(*asked, "--gpus", 8, "--tflops", "1e-6", "--price", 3.6)
    assert status == 0, error
    assert text.startswith("160 cells in 1 group, 8 GPUs\n")
    assert "TFLOP/s a GPU, given" in text
    held, price = re.search(r"held for ([\d.]+) min: ([\d.,]+) at 3.6 a GPU-hour", text).groups()
    assert float(price) == pytest.approx(float(held) * 60 / 1000, rel=0.02)
    assert re.search(r"group 1, 160 cells: \d+ units are [\d.]+ % more work", text)
    assert "not\nreading and decoding images" in text
    assert len(text.splitlines()) < 20
    status, text, _ = harness(*asked, "--gpus", 64)
    assert status == 0
    assert "measured on this machine's cpu" in text
    assert not (tmp_path / "runs").exists()
    assert harness(*asked[:-1], "--gpus", 8)[0] == 2
    assert harness(*asked, "--price", 8)[0] == 2


@pytest.mark.usefixtures("site")
def test_ten_thousand_cells_are_planned_in_seconds(options):
    """CPU time from the command to the estimate, imports apart."""
    rates = tuple(10 ** (-5 + 4 * i / 499) for i in range(500))
    strategies = ("head_only", "last_block", "full", "linear_probe", "last_k[k=2]")
    grid = replace(GRID, strategies=strategies, lrs=rates, seeds=(0, 1, 2, 3))
    began = time.process_time()
    plan = plan_workers(grid, options, QUIET, 64, tflops=1e-6)
    seconds = time.process_time() - began
    print(f"10,000 cells for 64 workers planned in {seconds:.1f} s of CPU time")
    assert sum(group.cells for group in plan.groups) == 10_000
    assert seconds < 20
    assert plan.ends <= 1.1 * plan.bound
    assert len(workers_text(plan).splitlines()) < 25
