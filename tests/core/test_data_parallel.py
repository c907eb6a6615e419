"""One cell in two processes (gloo): the bits of one process that computes its batches in two pieces."""

import json
import signal
import socket

import pytest
import torch
from safetensors.torch import load_file

from core.forks import one_line
from harness import launch
from harness.micro_batches import Change, MicroBatches
from harness.world import ALONE, World

CELLS = ("--backbone", "grouped", "--lr", "1e-2", "--epochs", "3", "--batch-size", "16", "--limit", "46",
         "--threads", "1", "--device", "cpu", "--optimizer", "sgd")  # fmt: skip
MANY = ("--strategy", "full", "--strategy", "last_block", "--strategy", "linear_probe", "--strategy", "l2_sp",
        "--strategy", "auto_rgn", "--flip", "--class-weights", "balanced")  # fmt: skip
TOLERANCE = 1e-5  # of a weight, absolute: two processes beside one that takes whole batches


@pytest.fixture
def train(forks, tmp_path):
    """Runs ``harness run`` in ``size`` processes; returns how each ended. Others' environment by rank."""

    def run(out, size, *more, env=({}, {}), fault=None, data=None):
        argv = [*forks.command()[:2], f"folder={forks.images}", *CELLS, *more, "--out", str(tmp_path / out)]
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        requests = []
        for rank in range(size):
            world = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            own = {k: str(v) for k, v in world.items()} if size > 1 else {}
            words = [a if data is None or rank == 0 else a.replace("folder=", data) for a in argv]
            requests.append(
                {
                    "work": f"{tmp_path.name}-{out}{rank}",
                    "argv": words,
                    "env": own | dict(env[rank]),
                    "fault": fault if rank == 0 else None,
                    "watch": str(tmp_path / out),
                }
            )
        return forks.run(*requests)

    return run


def records(folder):
    found = [json.loads(file.read_text()) for file in folder.glob("*/result.json")]
    return {r["spec"]["strategy"]: r for r in found}


def digests(folder):
    return {s: (r["digests"]["checkpoint"], r["digests"]["predictions"]) for s, r in records(folder).items()}


def apart(folder, other):
    """The largest difference of a weight, over all cells."""
    found = 0.0
    for file in folder.glob("*/checkpoint.safetensors"):
        a, b = load_file(file), load_file(other / file.parent.name / file.name)
        assert a.keys() == b.keys()
        found = max([found, *(float((a[n] - b[n]).abs().max()) for n in a)])
    return found


def test_two_processes_train_what_one_trains(train, tmp_path):
    """36 images train, in batches of 16, 16 and 4, in every order that a strategy asks for."""
    first, second = train("two", 2, *MANY)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert (second.out, second.err) == ("", ""), "only rank 0 prints"
    assert train("pieces", 1, *MANY, "--micro-batches", "2")[0].code == 0
    assert train("whole", 1, *MANY)[0].code == 0
    assert len(digests(tmp_path / "two")) == 5
    assert digests(tmp_path / "two") == digests(tmp_path / "pieces")
    distance = apart(tmp_path / "two", tmp_path / "whole")
    assert 0 < distance < TOLERANCE
    two = records(tmp_path / "two")
    assert all(r["environment"]["processes"] == 2 for r in two.values())
    assert two["full"]["micro_batches"] == [{"epoch": 1, "step": 0, "pieces": 2}]
    assert two["linear_probe"]["micro_batches"] == [], "a head's product isn't divided"
    print(f"two processes: the bits of two pieces; {distance:.1e} from whole batches at the most")


def test_a_rank_whose_memory_runs_out_takes_the_other_along(train, tmp_path):
    """With dropout: each piece has its own draws, whichever process computes it."""
    more = ("--strategy", "full")
    drops = {"GROUPED_DROPOUT": "0.3"}
    ended = train("two", 2, *more, env=(drops, drops | {"GROUPED_ROOM": "5"}))
    assert [e.code for e in ended] == [0, 0], ended[0].err + ended[1].err
    assert "out of memory in epoch 1, step 0" in ended[0].err
    assert records(tmp_path / "two")["full"]["micro_batches"] == [{"epoch": 1, "step": 0, "pieces": 4}]
    assert train("pieces", 1, *more, "--micro-batches", "4", env=(drops, {}))[0].code == 0
    # Four pieces: (a + b) + (c + d) beside ((a + b) + c) + d.
    assert apart(tmp_path / "two", tmp_path / "pieces") < TOLERANCE


def test_a_killed_rank_ends_all_and_another_number_of_processes_goes_on(train, tmp_path):
    more = ("--strategy", "full", "--epochs", "30")
    killed, other = train("runs", 2, *more, fault={"at": 40, "signal": signal.SIGKILL})
    assert killed.code == -signal.SIGKILL
    assert other.code == 1
    assert "another process of the group has ended" in one_line(other.err)
    (again,) = train("runs", 1, *more)
    assert (again.code, "going on after epoch" in again.err) == (0, True), again.err
    assert train("whole", 1, *more)[0].code == 0
    assert apart(tmp_path / "runs", tmp_path / "whole") < 10 * TOLERANCE
    (file,) = (tmp_path / "runs").glob("*/history.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert (len(rows), rows[0]["processes"], "processes" in rows[-1]) == (30, 2, False)
    assert all(row["micro_batches"] == [[0, 2]] for row in rows)


@pytest.mark.parametrize(
    ("fate", "status", "line"),
    [
        ("KILLED", -signal.SIGKILL, "another process of the group has ended: "),
        ("BROKEN", 1, "process 1: ZeroDivisionError: a fault of the plugin"),
    ],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_what_happens_to_one_rank_is_said_once_and_leaves_no_record(
    train, tmp_path, fate, status, line, rank
):
    env = [{}, {}]
    env[rank] = {f"GROUPED_{fate}": "4"}
    ended = train("runs", 2, "--strategy", "full", env=env)
    assert (ended[rank].code, ended[1 - rank].code) == (status, 1)
    said = [e.err for e in ended if "harness: " in e.err]
    assert len(said) == 1
    assert line.replace("process 1", f"process {rank}") in one_line(said[0])
    assert not list((tmp_path / "runs").glob("*/result.json")), "it goes on with the next command"


def test_what_one_began_two_go_on_with(train, tmp_path):
    more = ("--strategy", "full", "--epochs", "30")
    assert train("runs", 1, *more, fault={"at": 40, "signal": signal.SIGKILL})[0].code == -signal.SIGKILL
    first, second = train("runs", 2, *more)
    assert (first.code, second.code, "going on after epoch" in first.err) == (0, 0, True), first.err
    (record,) = records(tmp_path / "runs").values()
    ((change,)) = record["micro_batches"]
    assert (change["step"], change["pieces"]) == (0, 2)
    assert change["epoch"] > 1
    assert "out of memory" not in first.err


def test_a_rank_that_fails_ends_all_with_one_line_and_its_status(train):
    ended = train("runs", 2, "--strategy", "full", data="folder=/nowhere")
    assert [e.code for e in ended] == [3, 3]
    said = [e.err for e in ended if "harness: " in e.err]
    assert len(said) == 1
    assert "no such folder" in one_line(said[0])


def test_norm_layers_that_look_at_the_whole_batch_are_refused(train, tmp_path):
    words = ("--backbone", "small", "--strategy", "full", "--strategy", "head_only")
    ended = train("runs", 2, *words)
    assert [e.code for e in ended] == [1, 0]
    found = {r["spec"]["strategy"]: r for r in records(tmp_path / "runs").values()}
    cells = [json.loads(f.read_text()) for f in (tmp_path / "runs").glob("*small*/result.json")]
    assert {r["spec"]["strategy"]: r["status"] for r in cells} == {"full": "failed", "head_only": "done"}
    assert found
    (error,) = (r["error"] for r in cells if r["error"])
    assert "in 2 pieces, as processes or --micro-batches ask for: 'block1.1' takes statistics" in error


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 4, 16])
def test_every_piece_is_one_process_s(size, rows):
    """And each batch the single process's, cut."""
    pieces = MicroBatches(changes=[Change(1, 0, max(size, 2))]).pieces(rows)
    assert [p for rank in range(size) for p in World(rank, size).share(pieces)] == pieces
    assert ALONE.share(pieces) == pieces
    assert ALONE.gathered(torch.ones(2))[0].tolist() == [1, 1]


@pytest.mark.slow
def test_the_option_starts_them_itself(tmp_path, images, site, start, monkeypatch):
    """As real processes: what it says, its exit status, and those of a failure."""
    cell = ("run", "--data", f"folder={images}", "--backbone", "small", "--strategy", "head_only", *CELLS[2:])
    code = "from harness.cli import main; main()"
    process = start(code, *cell, "--processes", "2")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "test accuracy" in output
    (file,) = (tmp_path / "runs").glob("*/result.json")
    assert json.loads(file.read_text())["environment"]["processes"] == 2
    process = start(code, "run", "--data", "folder=nowhere", *cell[3:], "--processes", "2")
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (3, "")
    assert errors == "harness: nowhere: no such folder\n"


@pytest.mark.slow
def test_torchrun_starts_them_too(tmp_path, images, site, start):
    words = ("--nproc-per-node", "2", "-m", "harness", "run", "--data", f"folder={images}")
    words += ("--backbone", "small", "--strategy", "head_only", *CELLS[2:])
    process = start("from torch.distributed.run import main; main()", *words, env={"OMP_NUM_THREADS": "1"})
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    (file,) = (tmp_path / "runs").glob("*/result.json")
    assert json.loads(file.read_text())["environment"]["processes"] == 2


@pytest.mark.parametrize("kernel", [False, True])
def test_a_killed_process_is_named_with_its_signal(capfd, monkeypatch, tmp_path, kernel):
    """What launches them says it: the others only know that a connection is closed. ``kernel``: the system's
    own count of processes that it ended for want of memory goes up meanwhile.
    """
    counts = tmp_path / "vmstat"
    counts.write_text("pgfault 7\noom_kill 3\n")
    monkeypatch.setattr(launch, "_EVENTS", counts)
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").touch()  # or an installed one goes before it
    (tmp_path / "harness" / "__main__.py").write_text(
        "import os, pathlib, signal, sys, time\n"
        "gone = pathlib.Path('gone')\n"
        "while os.environ['RANK'] == '0' and not gone.exists(): time.sleep(0.01)\n"
        "if os.environ['RANK'] == '0': time.sleep(0.3); sys.exit(1)\n"
        f"pathlib.Path('{counts}').write_text('oom_kill {3 + kernel}\\n')\n"
        "gone.touch()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # python -m finds that one first
    assert launch.launch(2, ()) == 1
    line = capfd.readouterr().err
    assert line.startswith("harness: process 1 was killed by SIGKILL")
    assert ("while the system was out of memory" in line) == kernel
    assert ("by somebody, or by a guard" in line) != kernel
    assert line.count("\n") == 1
