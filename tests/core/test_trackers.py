"""Trackers hold what the run folder holds, once, whatever was interrupted; read with their own readers."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from core.small import write_folder, write_plugin
from harness.cli import main
from harness.contracts import Tracker
from harness.errors import UsageError
from harness.plugins import load_tracker
from harness.store import RunFolder
from harness.trackers.export import Destination, export
from harness.trackers.tensorboard import TensorBoard

SMALL = ("--backbone", "small", "--epochs", "3", "--batch-size", "16", "--threads", "1", "--device", "cpu")
GRID = (*SMALL, "--strategy", "head_only", "--strategy", "full", "--quiet")
TENSORBOARD = Destination("tensorboard", TensorBoard())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of two runs of the small network, trained once for this file."""
    root = tmp_path_factory.mktemp("trained")
    site = write_plugin(root / "site", "small-nets", {"harness.backbones": {"small": "core.small:Small"}})
    images = write_folder(root / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        patch.setenv("HARNESS_CACHE", str(root / "cache"))
        with pytest.raises(SystemExit) as ended:
            main(["run", "--data", f"folder={images}", *GRID, "--out", str(root / "runs")])
    assert ended.value.code == 0
    return root / "runs"


@pytest.fixture(autouse=True)
def experiment(trained, request, monkeypatch):
    """One MLflow store for the file, whose tables take seconds to create; an experiment a test."""
    name = request.node.name
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained.parent / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    return name


@pytest.fixture
def runs(trained, tmp_path, monkeypatch):
    """A copy of the runs, in ``tmp_path``, which is where commands run."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "runs")
    return sorted(p for p in (tmp_path / "runs").iterdir() if p.is_dir())


def history(run):
    return RunFolder(run).read_history()


def interrupted(run, after):
    """A folder as a signal leaves it: no record, and ``after`` epochs; returns a function that ends it."""
    files = {name: (run / name).read_bytes() for name in ("history.jsonl", "result.json")}
    (run / "result.json").unlink()
    rows = history(run)[:after]
    (run / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def finish():
        for name, data in files.items():
            (run / name).write_bytes(data)

    return finish


# --------------------------------------------------------------------------- their own readers


def tensorboard_of(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def steps(accumulator, tag):
    return [event.step for event in accumulator.Scalars(tag)]


def mlflow_runs():
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    found = client.search_runs([experiment.experiment_id])
    return client, sorted(found, key=lambda run: run.data.tags["harness.run"])


def wandb_records(file):
    """The records of a .wandb file: LevelDB's log format with protobufs in it."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, found, parts = file.read_bytes(), 7, [], b""
    while at < len(data):
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


# --------------------------------------------------------------------------- what is exported


def test_tensorboard_shows_what_the_folder_holds(runs):
    for run in runs:
        assert export(TENSORBOARD, run)
        found, record = tensorboard_of(Path("tensorboard") / run.name), RunFolder(run).result()
        rows = history(run)
        for name in ("train_loss", "val_accuracy", "lr"):
            events = found.Scalars(name)
            assert [e.step for e in events] == [1, 2, 3]
            assert [e.value for e in events] == pytest.approx([row[name] for row in rows], rel=1e-6)
        gaps = [b.wall_time - a.wall_time for a, b in pairwise(events)]
        assert gaps == pytest.approx([row["seconds"] for row in rows[1:]], abs=1e-6)
        (last,) = found.Scalars("test/accuracy")
        assert (last.step, last.value) == (3, pytest.approx(record["test"]["accuracy"], rel=1e-6))
        table = found.Tensors("confusion")[0].tensor_proto.string_val[0].decode()
        (a, b), (c, d) = record["test"]["confusion"]
        assert table.splitlines()[2:] == [f"| grey | {a} | {b} |", f"| red | {c} | {d} |"]
        content = found.PluginTagToContent("hparams")["_hparams_/session_start_info"]
        assert record["spec"]["strategy"].encode() in content


def test_mlflow_shows_what_the_folder_holds(runs, harness):
    status, output, _ = harness("track", "--tracker", "mlflow")
    assert (status, output) == (0, "2 runs, 1 trackers: 2 entries written, 0 failed\n")
    client, found = mlflow_runs()
    assert [run.info.run_name for run in found] == [run.name for run in runs]
    for run, shown in zip(runs, found, strict=True):
        record, rows = RunFolder(run).result(), history(run)
        metrics = client.get_metric_history(shown.info.run_id, "val_loss")
        assert [(m.step, m.value) for m in metrics] == [(r["epoch"], r["val_loss"]) for r in rows]
        assert shown.data.metrics["test/accuracy"] == record["test"]["accuracy"]
        assert shown.data.metrics["test/f1/red"] == record["test"]["per_class"][1]["f1"]
        params = shown.data.params
        assert (params["strategy"], params["train.batch_size"]) == (record["spec"]["strategy"], "16")
        assert shown.data.tags["digests.predictions"] == record["digests"]["predictions"]
        assert shown.info.status == "FINISHED"
        assert shown.info.start_time <= metrics[0].timestamp <= shown.info.end_time
        place = Path(shown.info.artifact_uri.removeprefix("file://"))
        assert (place / "result.json").read_bytes() == (run / "result.json").read_bytes()
        assert (place / "confusion.csv").read_text().startswith("true,grey,red\ngrey,")
        assert not (place / "predictions.csv").exists()  # it names images and people


def test_wandb_holds_the_run_offline(runs, harness):
    assert harness("track", "--tracker", "wandb")[0] == 0
    folders = sorted(Path("wandb").glob("offline-run-*"))
    shown = {}
    for folder in folders:
        records = wandb_records(next(folder.glob("*.wandb")))
        items = [
            {i.key or i.nested_key[0]: json.loads(i.value_json) for i in r.history.item} for r in records
        ]
        (begun,) = (r.run for r in records if r.HasField("run"))
        config = {u.key: json.loads(u.value_json) for u in begun.config.update}
        summary = {
            u.key or u.nested_key[0]: json.loads(u.value_json)
            for r in records
            if r.HasField("summary")
            for u in r.summary.update
        }
        shown[begun.display_name] = ([i for i in items if "train_loss" in i], config, summary)
    assert sorted(shown) == [run.name for run in runs]
    for run in runs:
        rows, config, summary = shown[run.name]
        assert [(r["_step"], r["train_loss"]) for r in rows] == [
            (r["epoch"], r["train_loss"]) for r in history(run)
        ]
        assert config["lr"] == 0.001
        assert summary["test/accuracy"] == RunFolder(run).result()["test"]["accuracy"]


# --------------------------------------------------------------------------- nothing twice


@pytest.mark.parametrize("text", ["tensorboard", "mlflow"])
def test_an_interruption_doubles_nothing(runs, text):
    to = Destination(text, load_tracker(text))
    run = runs[0]
    finish = interrupted(run, after=2)
    assert export(to, run)
    assert not export(to, run)
    finish()
    # Another process, which knows nothing, goes on; and one more has nothing to do.
    assert export(Destination(text, load_tracker(text)), run)
    assert not export(to, run)
    if text == "tensorboard":
        found = tensorboard_of(Path("tensorboard") / run.name)
        assert [steps(found, tag) for tag in ("train_loss", "test/accuracy")] == [[1, 2, 3], [3]]
    else:
        client, (shown,) = mlflow_runs()
        history = client.get_metric_history(shown.info.run_id, "train_loss")
        assert sorted(m.step for m in history) == [1, 2, 3]
        assert shown.info.status == "FINISHED"


def test_what_a_killed_writer_left_of_an_event_is_cut_off(runs):
    run = runs[0]
    finish = interrupted(run, after=1)
    export(TENSORBOARD, run)
    (file,) = (Path("tensorboard") / run.name).iterdir()
    whole = file.read_bytes()
    finish()
    export(TENSORBOARD, run)
    complete = file.read_bytes()
    for cut in {len(whole) + 1, len(whole) + 12, (len(whole) + len(complete)) // 2, len(complete) - 1}:
        file.write_bytes(complete[:cut])
        assert export(TENSORBOARD, run)
        assert steps(tensorboard_of(file.parent), "train_loss") == [1, 2, 3]
        assert not export(TENSORBOARD, run)


@pytest.mark.parametrize("text", ["tensorboard", "mlflow"])
def test_another_training_of_a_cell_is_an_entry_of_its_own(runs, text):
    to = Destination(text, load_tracker(text))
    run = runs[0]
    finish = interrupted(run, after=1)
    export(to, run)
    rows = history(run)
    rows[0]["train_loss"] += 0.01  # as with an edited plugin, after harness runs rm
    (run / "history.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert export(to, run)
    finish()
    assert export(to, run)  # goes on with the first, whose rows it has
    assert not export(to, run)
    if text == "tensorboard":
        found = {p.name.removeprefix(run.name): tensorboard_of(p) for p in Path("tensorboard").iterdir()}
        assert {name: steps(f, "train_loss") for name, f in found.items()} == {"": [1, 2, 3], ".2": [1]}
    else:
        assert len(mlflow_runs()[1]) == 2


def test_a_failed_run_says_so(site, images, harness):
    arguments = ("--data", f"folder={images}", *SMALL, "--strategy", "full", "--lr", "1e30", "--quiet")
    assert harness("run", *arguments)[0] == 1
    assert harness("track", "--tracker", "mlflow", "--tracker", "tensorboard")[0] == 0
    _, (shown,) = mlflow_runs()
    assert shown.info.status == "FAILED"
    assert "diverged" in shown.data.tags["error"]
    (folder,) = Path("tensorboard").iterdir()
    assert b"diverged" in tensorboard_of(folder).Tensors("tags")[0].tensor_proto.string_val[0]


def test_a_loss_that_is_not_finite_is_nan(runs):
    run = runs[0]
    interrupted(run, after=3)
    (run / "history.jsonl").write_text(
        (run / "history.jsonl").read_text().replace('"train_loss": ', '"train_loss": null, "x": ')
    )
    for name in ("tensorboard", "mlflow"):
        to = Destination(name, load_tracker(name))
        assert export(to, run)
        assert not export(to, run)  # NaN is what it was
    assert all(
        math.isnan(e.value) for e in tensorboard_of(Path("tensorboard") / run.name).Scalars("train_loss")
    )
    assert math.isnan(mlflow_runs()[1][0].data.metrics["train_loss"])


def test_any_name_of_a_class_can_be_exported(runs):
    run = runs[0]
    names = ["..", "a|b:/é 'c' \N{SNOWMAN}"]
    text = (
        (run / "result.json").read_text().replace('"grey"', f'"{names[0]}"').replace('"red"', f'"{names[1]}"')
    )
    (run / "result.json").write_text(text[: text.rindex('"seal"')].rstrip().rstrip(",") + "}")
    for name in ("tensorboard", "mlflow"):
        to = Destination(name, load_tracker(name))
        assert export(to, run)
    _, (shown,) = mlflow_runs()
    assert len([m for m in shown.data.metrics if m.startswith("test/f1/")]) == 2
    assert not export(to, run)


def test_the_tracker_of_the_guide_does_the_same(runs):
    guide = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text("utf-8")
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", guide, flags=re.S) if "class Lines" in b)
    names = {}
    exec(block, names)
    tracker = names["Lines"]()
    assert isinstance(tracker, Tracker)
    finish = interrupted(runs[0], after=1)
    to = Destination("lines", tracker)
    assert export(to, runs[0])
    finish()
    assert export(to, runs[0])
    assert not export(to, runs[0])
    rows = [json.loads(line) for line in (Path("lines") / runs[0].name).read_text().splitlines()]
    assert [row.get("epoch") for row in rows] == [1, 2, 3, None]
    assert rows[1]["figures"]["val_loss"] == history(runs[0])[1]["val_loss"]


# --------------------------------------------------------------------------- beside a training


def digests(folder):
    found = [RunFolder(p).result()["digests"] for p in sorted(folder.iterdir()) if p.is_dir()]
    return [(d["predictions"], d["checkpoint"]) for d in found]


def test_a_tracked_run_is_exported_when_the_command_ends_and_has_the_same_bits(
    site, images, trained, harness
):
    arguments = ("run", "--data", f"folder={images}", *GRID, "--tracker", "tensorboard")
    assert harness(*arguments)[0] == 0
    assert digests(Path("runs")) == digests(trained)
    shown = sorted(p for p in Path("tensorboard").iterdir())
    assert [p.name for p in shown] == [p.name for p in sorted(Path("runs").iterdir()) if p.is_dir()]
    before = [p.read_bytes() for folder in shown for p in folder.iterdir()]
    assert harness(*arguments)[0] == 0  # all is done: nothing is added
    assert [p.read_bytes() for folder in shown for p in folder.iterdir()] == before


BROKEN = """
class Broken:
    summary, needs, live = "nowhere", (), True
    def held(self, run):
        raise RuntimeError("the server has\\ngone away")
    def write(self, run, key, epochs, end): ...
"""


def test_a_failing_tracker_stops_no_run_and_is_one_line(site, images, tmp_path):
    write_plugin(tmp_path / "broken", "broken-tracker", {"harness.trackers": {"broken": "broken:Broken"}})
    (tmp_path / "broken" / "broken.py").write_text(BROKEN)
    path = os.pathsep.join(map(str, (tmp_path / "broken", site, Path(__file__).parents[1])))
    words = ["run", "--data", f"folder={images}", *GRID, "--tracker", "broken", "--tracker", "tensorboard"]
    done = subprocess.run(
        _command(words),
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "broken" in line]
    assert len(lines) == 1
    assert lines[0].startswith("tracker broken: ")
    assert "RuntimeError: the server has gone away; training goes on without it" in lines[0]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 2


def _command(words):
    return [sys.executable, "-c", f"from harness.cli import main; main({list(map(str, words))!r})"]


def test_what_cannot_be_exported_to_is_said_before_anything_trains(site, images, harness, monkeypatch):
    for text, message in (
        ("tensorbord", "unknown tracker 'tensorbord'; did you mean 'tensorboard'?"),
        ("mlflow[url=x]", "unknown option of mlflow 'url'; did you mean 'uri'?"),
    ):
        status, _, error = harness("run", "--data", f"folder={images}", *GRID, "--tracker", text)
        assert status == 2
        assert message in error
    monkeypatch.setattr(TensorBoard, "needs", ("no_such_module",))
    with pytest.raises(UsageError, match=r"pip install 'transfer-harness\[tensorboard\]'"):
        load_tracker("tensorboard")
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_killed_training_that_is_gone_on_with_is_one_entry(site, images, tmp_path):
    """SIGKILL after some epochs were exported; the exporter ends by itself, the next command goes on."""
    path = os.pathsep.join(map(str, (site, Path(__file__).parents[1])))
    words = ["run", "--data", f"folder={images}", *SMALL, "--epochs", "200", "--strategy", "full"]
    words += ["--tracker", "tensorboard"]
    env = {**os.environ, "PYTHONPATH": path}
    first = subprocess.Popen(_command(words), cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "tensorboard").glob("*/*")):
        assert first.poll() is None
        time.sleep(0.02)
    first.kill()
    first.wait()
    done = subprocess.run(_command(words), cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "going on after epoch" in done.stderr
    (folder,) = (tmp_path / "tensorboard").iterdir()
    found = tensorboard_of(folder)
    assert steps(found, "train_loss") == list(range(1, 201))
    assert steps(found, "test/accuracy") == [200]


@pytest.mark.slow
def test_exporters_at_the_same_time_write_each_run_once(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'own.db'}")
    words = ["track", "--tracker", "tensorboard", "--tracker", "mlflow[uri=sqlite:///own.db]"]
    started = [subprocess.Popen(_command(words), stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [p.communicate()[0] for p in started]
    assert sum(int(o.split(" trackers: ")[1].split()[0]) for o in outputs) == 4
    assert [p.name for p in sorted(Path("tensorboard").iterdir())] == [run.name for run in runs]
    assert len(mlflow_runs()[1]) == 2
