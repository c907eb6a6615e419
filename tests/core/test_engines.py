"""Grids on engines: the same bits wherever they run, and a reason for what is lost."""

import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from core.engines import deaths, spare
from core.grids import GRID, Said, results, run
from core.small import write_plugin
from harness.engine_run import JOINING
from harness.errors import DataError, HarnessError, Locked, UnknownName, UsageError
from harness.plugins import load_engine
from harness.run_grid import train_unit
from harness.run_options import RunOptions
from harness.units import Join, Joinable, UnitTask
from harness.work import Engine

TESTS = Path(__file__).parents[1]
KILLED = "its worker was ended by SIGKILL, perhaps for want of memory"
GRID8 = replace(GRID, seeds=(0, 1))


@pytest.fixture(autouse=True)
def site(tmp_path, monkeypatch):
    points = {
        "harness.backbones": {"small": "core.small:Small", "deadly": "core.engines:Deadly"},
        "harness.engines": {"inline": "core.engines:Inline"},
    }
    folder = write_plugin(tmp_path / "site", "small-nets", points)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.syspath_prepend(TESTS)  # for workers
    return folder


def grid_on(engine, tmp_path, images, grid=GRID8, **options):
    said = Said()
    return run(grid, tmp_path / "runs", images, said, engine=engine, **options), said.lines


@pytest.mark.parametrize("text", ["local", "local[workers=3]", "inline", "slurm[cluster=local]"])
def test_an_engine_is_a_plugin_that_keeps_the_contract(text):
    assert isinstance(load_engine(text)[0], Engine)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("lokal", "unknown engine 'lokal'; did you mean 'local'"),
        ("local[workers=x]", "bad option local\\[workers=x\\]: 'x' is not a int"),
        ("local[workes=2]", "unknown option of local 'workes'; did you mean 'workers'"),
        ("local[workers=0]", "workers are 1 or more"),
        ("ray[workers=0]", "workers are 1 or more"),
        ("slurm[cluster=here]", "one of slurm, local, debug"),
        ("slurm", "submitted"),
    ],
)
def test_what_an_engine_can_not_do_is_said_before_anything_trains(tmp_path, images, text, error):
    if text.startswith(("ray", "slurm")):
        pytest.importorskip({"r": "ray", "s": "submitit"}[text[0]])
    with pytest.raises((UsageError, UnknownName), match=error):
        grid_on(text, tmp_path, images)
    assert not list((tmp_path / "runs").glob("*/*"))


@pytest.mark.parametrize(("engine", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_whose_extra_is_not_installed_names_it(engine, module, monkeypatch):
    monkeypatch.setattr("harness.plugins.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf"engine {engine} needs {module}: .*transfer-harness\[{engine}\]"):
        load_engine(engine)


def test_units_are_trained_to_the_same_bits_with_a_line_for_each_cell(tmp_path, images):
    there, lines = grid_on("inline", tmp_path, images)
    assert [o.trained for o in there] == [True] * 8
    assert lines[0] == "engine inline, 2 workers of 1 thread: 8 cells in 2 units"
    assert lines[1].startswith("group 1, 8 cells: 2 units are ")
    cells = [line for line in lines if line.startswith("[")]
    assert [line.split()[0] for line in cells] == [f"[{i}/8]" for i in range(1, 9)]
    assert {line.split("] ")[1].split(" lr=")[0] for line in cells} == {"head_only", "last_block"}
    assert results(there) == results(run(GRID8, tmp_path / "here", images))
    again, lines = grid_on("inline", tmp_path, images)
    assert [o.trained for o in again] == [False] * 8
    assert lines == []


def test_any_engine_goes_on_with_what_another_began(tmp_path, images):
    expected = results(run(GRID8, tmp_path / "whole", images))
    run(replace(GRID8, seeds=(1,), lrs=(1e-3,)), tmp_path / "runs", images)
    outcomes, lines = grid_on("inline", tmp_path, images)
    assert "2 of 8 cells are done already" in lines
    assert sum(o.trained for o in outcomes) == 6
    assert results(outcomes) == expected


def test_a_lost_unit_is_tried_cell_by_cell_and_what_is_lost_again_fails_with_the_reason(tmp_path, images):
    outcomes, lines = grid_on("inline[loses=last_block_lr0.001_s1]", tmp_path, images)
    status = {o.folder.name: o.record["status"] for o in outcomes}
    failed = [name for name, found in status.items() if found == "failed"]
    assert len(failed) == 1
    assert "last_block_lr0.001_s1" in failed[0]
    assert next(o.record["error"] for o in outcomes if o.folder.name == failed[0]) == "it had to be"
    assert any("each by itself now" in line for line in lines)
    assert all(o.trained for o in outcomes)
    healed, _ = grid_on("inline", tmp_path, images)
    assert results(healed) == results(run(GRID8, tmp_path / "here", images))


def test_an_engine_that_leaves_what_it_says_is_done_is_not_asked_for_ever(tmp_path, images):
    with pytest.raises(HarnessError, match="8 cells aren't trained, though the engine ended"):
        grid_on("inline[lies=true]", tmp_path, images)


def test_who_joins_trains_what_nobody_has_begun_to_the_same_bits(tmp_path, images, monkeypatch):
    """Before any unit here, so that it finds all cells, and the units none."""
    calls, call = [], UnitTask.__call__
    monkeypatch.setattr(UnitTask, "__call__", lambda unit: calls.append(len(unit.cells)) or call(unit))
    outcomes, lines = grid_on("inline[joins_first=true]", tmp_path, images)
    assert (calls[0], sum(calls[1:])) == (8, 8)
    assert JOINING in lines
    assert results(outcomes) == results(run(GRID8, tmp_path / "here", images))
    rows = [(o.folder.path / "history.jsonl").read_text().splitlines() for o in outcomes]
    assert {len(r) for r in rows} == {GRID8.train.epochs}


def test_nobody_joins_cells_that_can_not_train(tmp_path, images, monkeypatch):
    """Two groups, as many as workers, of nothing but a strategy's mistakes."""
    points = {"harness.strategies": {"faulty": "core.test_cell_failures:Faulty"}}
    monkeypatch.syspath_prepend(write_plugin(tmp_path / "more", "faulty-plugins", points))
    grid = replace(GRID8, strategies=("faulty",), heads=("own", "linear"))
    outcomes, lines = grid_on("inline", tmp_path, images, grid=grid)
    assert [o.record["status"] for o in outcomes] == ["failed"] * 8
    assert JOINING not in lines


def test_who_joins_goes_where_most_waits_and_leaves_what_was_begun(tmp_path):
    """Group a: 3 + 3 + 3 wait behind a pass of 5, group b: 9 + 9 behind 8, group c: 4 + 4 behind 7.

    So b (10), a (4), and not c (1, less than two tenths of 7). A cell of b was begun, one isn't left by then.
    """
    told = []

    def train(grid, options, cells):
        told.append((grid.only, cells))
        for name in cells:
            (options.out / name).mkdir(parents=True)
            (options.out / name / "spec.json").touch()

    def group(name, suffixes, prefix):
        cells = tuple(f"{name}{i}" for i in range(len(suffixes)))
        unit = UnitTask(cells, train, GRID, RunOptions(out=tmp_path / "runs"), tmp_path, ())
        return Joinable(unit, tuple(("b", "h", "s", 0.1, c) for c in cells), suffixes, (prefix,) * len(cells))

    train(GRID, RunOptions(out=tmp_path / "runs"), ["b1"])
    told.clear()
    groups = (group("a", (3.0,) * 3, 5.0), group("b", (9.0, 50.0, 9.0), 8.0), group("c", (4.0, 4.0), 7.0))
    assert Join(groups)() is None
    assert [cells for _, cells in told] == [("b0", "b2"), ("a0", "a1", "a2")]
    assert told[0][0] == {("b", "h", "s", 0.1, "b0"), ("b", "h", "s", 0.1, "b2")}
    assert Join(groups)() is None
    assert len(told) == 2


def test_what_stops_a_worker_stops_the_grid(tmp_path, images, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", "/full")

    monkeypatch.setattr("harness.grid_run.GridRun.train_group", full)
    with pytest.raises(HarnessError, match="/full: No space left on device") as caught:
        grid_on("inline", tmp_path, images)
    assert caught.value.exit_code == 1


def test_a_worker_that_sees_other_data_says_so(tmp_path, images):
    options = RunOptions(out=tmp_path / "runs", data_path=images, threads=1)
    with pytest.raises(DataError, match="there is no cell 'elsewhere'"):
        train_unit(GRID, options, ["elsewhere"])


def test_a_cell_that_another_process_holds_is_left_to_it(tmp_path, images):
    outcomes, _ = grid_on("inline", tmp_path, images, grid=GRID)
    folder = outcomes[0].folder
    (folder.path / "result.json").unlink()
    folder.lock(wait=False)
    try:
        with pytest.raises(Locked, match="1 cells are being trained"):
            grid_on("inline", tmp_path, images, grid=GRID, wait=False)
    finally:
        folder.unlock()


def test_processes_share_the_memory_of_a_machine(tmp_path, images, monkeypatch):
    budgets = []
    monkeypatch.setattr("harness.run_grid.shared_budget", lambda *given: budgets.append(given) or None)
    grid_on("inline[beside=4]", tmp_path, images, grid=GRID, cache_budget=4000)
    assert {(budget, processes) for _, budget, processes in budgets} == {(4000, 4)}


@pytest.mark.parametrize(
    ("grid", "half"),
    [
        (replace(GRID, strategies=("last_block",), lrs=(1e-2,), seeds=(0, 1)), 1),
        pytest.param(GRID8, 4, marks=pytest.mark.slow),
    ],
)
def test_local_workers_that_kill_themselves_end_with_the_same_bits(tmp_path, images, monkeypatch, grid, half):
    grid = replace(grid, backbones=("deadly",))
    expected = results(run(grid, tmp_path / "whole", images))
    spare(monkeypatch, tmp_path / "notes", 1)
    outcomes, _ = grid_on("local[workers=2,retries=4]", tmp_path, images, grid=grid)
    assert sorted(deaths(tmp_path / "notes").values()) == [1] * half
    assert all(o.trained for o in outcomes)
    assert results(outcomes) == expected


@pytest.mark.slow
def test_a_cell_that_kills_every_worker_fails_and_the_others_are_trained(tmp_path, images, monkeypatch):
    grid = replace(GRID, backbones=("deadly",), strategies=("last_block",), seeds=(0, 1))
    spare(monkeypatch, tmp_path / "notes", 99)
    outcomes, lines = grid_on("local[workers=2,retries=1]", tmp_path, images, grid=grid)
    assert any(re.fullmatch(rf"a unit of \d cells?: {KILLED}; attempt 2 of 2", line) for line in lines), lines
    for outcome in outcomes:
        odd = outcome.record["spec"]["seed"] == 1
        assert outcome.record["status"] == ("failed" if odd else "done")
        assert not odd or outcome.record["error"] == KILLED


COMMAND = """
import sys
from harness.cli import main
main(sys.argv[1:])
"""


def children(pid):
    """Of all threads: each counts those it started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def killed(process):
    """What a process said that goes on for ever: what it writes has no end until it has."""
    process.kill()
    return process.communicate()[1]


def until(condition, seconds=60):
    ends = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < ends:
        time.sleep(0.02)
    return found


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see children")
@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_no_worker_outlives_a_stopped_command(tmp_path, images, start, sent):
    out = tmp_path / "runs"
    process = start(
        COMMAND, "run", "--data", f"folder={images}", "--backbone", "small", "--strategy", "full",
        "--lr", "1e-3", "--lr", "1e-2", "--epochs", "100000", "--threads", "1", "--out", out,
        "--engine", "local[workers=2]",
    )  # fmt: skip
    assert until(lambda: len(list(out.glob("*/history.jsonl"))) == 2), killed(process)
    workers = children(process.pid)
    assert len(workers) == 2
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert until(lambda: not any(map(alive, workers)), 20)
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert "stopped: 0 of 2 cells are done" in errors
        assert "goes on where it stopped" in errors
    assert not list(out.glob("*/.owner")), "they gave their locks back"
