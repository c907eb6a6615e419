"""Real Ray clusters and submitit's executors: workers and nodes that are lost, the same bits as here."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from core.engines import deaths, spare
from core.grids import GRID, results, run
from core.small import write_plugin
from core.test_engines import COMMAND, GRID8, TESTS, alive, children, grid_on, killed, until
from harness.errors import HarnessError
from harness.plugins import load_engine
from harness.work import Need

DEADLY8 = replace(GRID8, backbones=("deadly",))


@pytest.fixture(autouse=True)
def site(tmp_path, monkeypatch):
    points = {"harness.backbones": {"small": "core.small:Small", "deadly": "core.engines:Deadly"}}
    folder = write_plugin(tmp_path / "site", "small-nets", points)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(TESTS)]))  # of nodes and jobs
    return folder


@pytest.mark.slow
def test_ray_workers_that_kill_themselves_end_with_the_bits_of_local(
    tmp_path, images, monkeypatch, ray, capsys
):
    """Two logical GPUs on CPUs: eight cells, the first attempts at half of them end with SIGKILL."""
    expected = results(run(DEADLY8, tmp_path / "local", images))
    spare(monkeypatch, tmp_path / "notes", 1)
    room = {"num_cpus": 2, "num_gpus": 2, "object_store_memory": 2**27}
    ray.init("local", include_dashboard=False, log_to_driver=False, **room)  # no other that may run here
    outcomes, lines = grid_on("ray[retries=4]", tmp_path, images, grid=DEADLY8, device="auto")
    assert lines[0] == "engine ray, 2 workers of 1 thread: 8 cells in 2 units"
    assert sorted(deaths(tmp_path / "notes").values()) == [1, 1, 1, 1]
    assert results(outcomes) == expected
    assert all(o.trained for o in outcomes)
    assert ray.is_initialized(), "a cluster that was there stays"
    assert "raylet" not in capsys.readouterr().out
    print(f"ray: {len(outcomes)} cells, 4 of their first attempts killed, the same digests as local")


@pytest.mark.slow
def test_a_ray_cluster_of_its_own_ends_with_the_command(tmp_path, images, ray):
    expected = results(run(GRID, tmp_path / "local", images))
    outcomes, lines = grid_on("ray[workers=2]", tmp_path, images, grid=GRID)
    assert results(outcomes) == expected
    assert [line.split()[0] for line in lines if line.startswith("[")] == [f"[{i}/4]" for i in range(1, 5)]
    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_ray_node_that_goes_and_one_that_comes(tmp_path, images, monkeypatch, ray):
    from ray.cluster_utils import Cluster

    grid = replace(GRID8, train=replace(GRID.train, epochs=40))
    expected = results(run(grid, tmp_path / "local", images))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 2**27})
    try:
        node = cluster.add_node(num_cpus=2, object_store_memory=2**27)
        cluster.wait_for_nodes()

        class Removing(list):
            """Takes the only node away, and adds another, when the first cell has been trained."""

            def append(self, line):
                super().append(line)
                if line.startswith("[1/"):
                    cluster.remove_node(node, allow_graceful=False)
                    cluster.add_node(num_cpus=2, object_store_memory=2**27)

        said = Removing()
        from core.grids import Said

        progress = Said()
        progress.lines = said
        outcomes = run(grid, tmp_path / "runs", images, progress, engine=f"ray[address={cluster.address}]")
        assert sum(line.startswith("[") for line in said) == 8
        assert results(outcomes) == expected
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_says_so_and_takes_its_cluster_with_it(tmp_path, images, ray, start, sent, code):
    out = tmp_path / "runs"
    process = start(
        COMMAND, "run", "--data", f"folder={images}", "--backbone", "small", "--strategy", "full",
        "--epochs", "100000", "--threads", "1", "--device", "cpu", "--out", out,
        "--engine", "ray[workers=1]",
    )  # fmt: skip
    assert until(lambda: list(out.glob("*/history.jsonl")), 120), killed(process)
    started = children(process.pid)
    assert started
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "stopped: 0 of 1 cells are done" in errors
    assert until(lambda: not any(map(alive, started)), 20)


@pytest.mark.slow
def test_nobody_without_the_token_is_let_in(tmp_path, ray):
    engine, _ = load_engine("ray[workers=1]")
    code = "import ray; ray.init(address={!r}, log_to_driver=False, logging_level='CRITICAL')"
    with engine.open(Need(1, "cpu", tmp_path)):
        connect = [sys.executable, "-c", code.format(ray.get_runtime_context().gcs_address)]
        for change, welcome in (
            ({}, True),
            ({"RAY_AUTH_TOKEN": "f" * 64}, False),
            ({"RAY_AUTH_MODE": "disabled"}, False),
        ):
            done = subprocess.run(connect, env={**os.environ, **change}, capture_output=True, text=True)
            assert (done.returncode == 0) == welcome, (change, done.stderr)


@pytest.mark.slow
def test_a_ray_cluster_that_is_not_there_is_named(tmp_path, images, ray):
    with pytest.raises(HarnessError, match=r"no Ray cluster answers at '127.0.0.1:9'"):
        grid_on("ray[address=127.0.0.1:9]", tmp_path, images, grid=GRID)


@pytest.fixture
def submitit():
    return pytest.importorskip("submitit", reason="the extra slurm isn't installed")


def test_the_debug_executor_trains_the_same_bits(tmp_path, images, submitit):
    outcomes, lines = grid_on("slurm[cluster=debug,jobs=2]", tmp_path, images, grid=GRID)
    assert lines[0] == "engine slurm, 2 workers of 1 thread: 4 cells in 2 units"
    assert results(outcomes) == results(run(GRID, tmp_path / "local", images))


@pytest.mark.slow
def test_jobs_that_die_are_submitted_again_and_end_with_the_bits_of_local(
    tmp_path, images, monkeypatch, submitit
):
    expected = results(run(DEADLY8, tmp_path / "local", images))
    spare(monkeypatch, tmp_path / "notes", 1)
    outcomes, _ = grid_on("slurm[cluster=local,jobs=2,retries=4]", tmp_path, images, grid=DEADLY8)
    assert sorted(deaths(tmp_path / "notes").values()) == [1, 1, 1, 1]
    assert results(outcomes) == expected


def test_what_slurm_is_asked_for(tmp_path, monkeypatch, submitit):
    """Slurm's own commands replaced as submitit's tests do, the script that it is given read."""
    from submitit.slurm.test_slurm import mocked_slurm

    engine, _ = load_engine(
        "slurm[partition=gpu,hours=2,memory=32,jobs=1,account=lab,qos=low,constraint=a100]"
    )
    with mocked_slurm(), engine.open(Need(6, "auto", tmp_path)) as workers:
        running = workers.run([_Nothing(("a",)), _Nothing(("b",))])
        assert next(running) is None
        scripts = {file.read_text() for file in (tmp_path / ".slurm").glob("*.sh")}
    assert workers.count == 1
    assert workers.beside == 1
    (script,) = scripts
    for line in ("partition=gpu", "time=120", "mem=32GB", "account=lab", "qos=low", "constraint=a100",
                 "cpus-per-task=6", "gpus-per-node=1", "job-name=harness", "array=0-1%1"):  # fmt: skip
        assert f"#SBATCH --{line}\n" in script, script


def test_why_a_job_can_not_run_its_unit_is_the_end_of_its_trace(tmp_path, submitit):
    engine, _ = load_engine("slurm[cluster=local]")
    with engine.open(Need(1, "cpu", tmp_path)) as workers:
        (ended,) = filter(None, workers.run([_Nothing(("a",), raises=True)]))
    assert ended.stop is not None
    assert re.fullmatch(r"job \d+ can't run the unit: ZeroDivisionError: division by zero", ended.stop.text)


@pytest.mark.slow
def test_jobs_of_this_machine_that_are_cancelled_say_nothing(tmp_path, images, site, submitit):
    """As a terminal's Ctrl-C does it, which reaches every process of the group at once."""
    out = tmp_path / "runs"
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "run", "--data", f"folder={images}", "--backbone", "small",
         "--strategy", "full", "--lr", "1e-3", "--epochs", "100000", "--threads", "1", "--out", out,
         "--engine", "slurm[cluster=local,jobs=2]"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert until(lambda: list(out.glob("*/history.jsonl"))), killed(process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped: 0 of 1 cells are done" in errors
    assert "Traceback" not in errors


def test_a_job_that_is_preempted_is_queued_again_with_its_unit(submitit):
    from harness.engines.slurm import _Requeued

    unit = _Nothing(("a",))
    again = _Requeued().checkpoint(unit)
    assert (again.function.__class__, again.args) == (_Requeued, (unit,))
    assert _Requeued()(unit) is None


class _Nothing:
    def __init__(self, cells, raises=False):
        self.cells, self.raises = cells, raises

    def __call__(self):
        return 1 / 0 if self.raises else None


def test_an_engine_is_refused_where_there_is_no_slurm(tmp_path, monkeypatch, submitit):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    engine, _ = load_engine("slurm")
    with pytest.raises(HarnessError, match=r"engine slurm: .*slurm\[cluster=local\]"):
        engine.open(Need(1, "cpu", tmp_path)).__enter__()
