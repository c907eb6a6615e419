"""Whole grids on the small network: the same results however they come about."""

import csv
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from core.grids import GRID, ONE, Interrupting, Said, results, run
from core.small import Small, small_net, write_folder
from harness import run_cell, train_cells
from harness.backbones.staged import tensor_digest
from harness.data.decode import load_images
from harness.errors import DataError, Locked, UnknownName, UsageError
from harness.metrics import scores
from harness.spec import DataSpec, TrainSpec

pytestmark = pytest.mark.usefixtures("site")


def test_a_cell_of_a_grid_equals_the_same_cell_alone(tmp_path, images):
    together = results(run(GRID, tmp_path / "grid", images))
    assert len(together) == 4
    assert len({f["digests"]["checkpoint"] for f in together.values()}) == 4
    alone = {}
    for strategy in reversed(GRID.strategies):
        for lr in reversed(GRID.lrs):
            one = replace(GRID, strategies=(strategy,), lrs=(lr,))
            alone |= results(run(one, tmp_path / "alone", images))
    assert alone == together


def test_the_same_command_again_trains_nothing(tmp_path, images):
    first = run(GRID, tmp_path / "runs", images)
    assert [o.trained for o in first] == [True] * 4
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.is_file()}
    second = run(GRID, tmp_path / "runs", images)
    assert [o.trained for o in second] == [False] * 4
    assert [o.record for o in second] == [o.record for o in first]
    unlocked = {p: t for p, t in stamps.items() if p.name != ".lock"}
    assert {p: p.stat().st_mtime_ns for p in unlocked} == unlocked


def test_a_larger_grid_trains_only_what_is_new(tmp_path, images):
    run(ONE, tmp_path / "runs", images)
    said = Said()
    outcomes = run(GRID, tmp_path / "runs", images, said)
    assert [o.trained for o in outcomes] == [True, True, False, True]
    assert any("1 of 4 cells are done already" in line for line in said.lines)
    assert results(outcomes) == results(run(GRID, tmp_path / "other", images))


@pytest.mark.parametrize("after", [1, 2, 4])
def test_an_interrupted_grid_goes_on_to_the_same_bits(tmp_path, images, after):
    grid = replace(GRID, strategies=("last_block",), train=replace(GRID.train, flip=True, select="best"))
    whole = results(run(grid, tmp_path / "whole", images))
    with pytest.raises(KeyboardInterrupt):
        run(grid, tmp_path / "runs", images, Interrupting(after))
    left = [p for p in (tmp_path / "runs").iterdir() if not (p / "result.json").exists()]
    assert len(left) == 1
    assert (left[0] / "resume.safetensors").exists()
    said = Said()
    again = run(grid, tmp_path / "runs", images, said)
    assert any("going on after epoch" in line for line in said.lines)
    assert results(again) == whole
    assert not list((tmp_path / "runs").rglob("resume*"))


def test_a_run_that_stopped_before_its_first_epoch_starts_over(tmp_path, images):
    whole = results(run(ONE, tmp_path / "whole", images))
    with pytest.raises(KeyboardInterrupt):
        run(ONE, tmp_path / "runs", images, Interrupting(0))
    assert results(run(ONE, tmp_path / "runs", images)) == whole


MAIN = "from harness.cli import main; main()"
COMMAND = ("run", "--backbone", "small", "--strategy", "last_block", "--lr", "1e-2", "--epochs", "3",
           "--batch-size", "16", "--threads", "1", "--device", "cpu", "--flip")  # fmt: skip


def test_two_processes_with_cold_caches_give_the_same_bits(tmp_path, images, start):
    """One is this process, the other knows nothing of it and decodes with another number of workers."""
    arguments = ("--data", f"folder={images}", "--out", "other", "--workers", 3)
    other = start(MAIN, *COMMAND, *arguments, env={"HARNESS_CACHE": str(tmp_path / "other-cache")})
    here = results(
        run(replace(ONE, train=replace(ONE.train, flip=True)), tmp_path / "here", images, workers=1)
    )
    output, errors = other.communicate(timeout=120)
    assert other.returncode == 0, errors
    assert "small last_block lr=0.01 seed=0" in output
    (folder,) = (tmp_path / "other").iterdir()
    record = json.loads((folder / "result.json").read_text())
    assert list(here) == [folder.name]
    for key in ("digests", "test", "val", "backbone"):
        assert record[key] == here[folder.name][key], key
    assert (folder / "predictions.csv").read_text() == here[folder.name]["predictions"]
    saved = load_file(folder / "checkpoint.safetensors")
    assert {k: t.numpy().tobytes() for k, t in saved.items()} == here[folder.name]["checkpoint"]


@pytest.mark.parametrize("workers", [2, 5])
def test_the_number_of_workers_changes_nothing(tmp_path, images, workers):
    (one,) = run(ONE, tmp_path / "one", images, workers=1)
    (many,) = run(ONE, tmp_path / "many", images, workers=workers)
    assert results([one]) == results([many])


def test_a_failed_cell_is_recorded_and_the_others_go_on(tmp_path, images):
    grid = replace(GRID, strategies=("last_block",), lrs=(1e-2, 1e30, 1e-3))
    said = Said()
    good, bad, other = run(grid, tmp_path / "runs", images, said)
    assert [o.record["status"] for o in (good, bad, other)] == ["done", "failed", "done"]
    assert bad.record["test"] is bad.record["val"] is None
    assert "diverged" in bad.record["error"]
    assert any("1e+30" in line and "diverged" in line for line in said.lines)
    assert not (bad.folder.path / "predictions.csv").exists()
    alone = results(run(replace(grid, lrs=(1e-2, 1e-3)), tmp_path / "alone", images))
    assert results([good, other]) == alone
    # To diverge is as repeatable as to converge: the same command doesn't try it again.
    assert [o.trained for o in run(grid, tmp_path / "runs", images)] == [False, False, False]


def test_the_test_set_is_touched_once_and_the_trainer_never_gets_it(tmp_path, images, monkeypatch):
    given, asked = [], []

    def fit(cells, data, resume, **options):
        given.append(data)
        return original_fit(cells, data, resume, **options)

    def evaluate(cell, features, rows):
        asked.append(set(rows.tolist()))
        return original_evaluate(cell, features, rows)

    original_fit, original_evaluate = train_cells.fit_together, run_cell.evaluate
    monkeypatch.setattr(train_cells, "fit_together", fit)
    monkeypatch.setattr(run_cell, "evaluate", evaluate)
    (outcome,) = run(ONE, tmp_path / "runs", images)
    (data,) = given
    test = set(range(60)) - set(data.train.tolist()) - set(data.val.tolist())
    assert len(test) == outcome.record["test"]["n"] == 6
    assert sum(bool(rows & test) for rows in asked) == 1
    assert test in asked
    names = {row["id"] for row in predictions(outcome)}
    assert names == {data.ids[row] for row in test}


def predictions(outcome):
    with (outcome.folder.path / "predictions.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_predictions_are_those_of_the_network_that_the_checkpoint_restores(tmp_path, images):
    """Rebuilt here from the base, the checkpoint and the PNG files alone."""
    (outcome,) = run(ONE, tmp_path / "runs", images)
    model = small_net()
    with safe_open(outcome.folder.path / "checkpoint.safetensors", framework="pt") as file:
        saved = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        assert (
            json.loads(file.metadata()["harness"])["checkpoint"]
            == outcome.record["digests"]["checkpoint"]
            == tensor_digest(saved.items())
        )
    assert {n.split(".")[0] for n in saved} == {"block3", "fc", "head"}
    model.parts.load_state_dict(saved, strict=False)
    rows = predictions(outcome)
    pixels = load_images([row["path"] for row in rows], model.preprocess, 1, lambda _: None)
    with torch.inference_mode():
        found = torch.softmax(model.eval()(pixels), 1).double().numpy()
    expected = np.array([[float(row["p0"]), float(row["p1"])] for row in rows])
    assert np.allclose(found, expected, atol=1e-5)
    labels = np.array([int(row["label"]) for row in rows])
    assert [Path(r["path"]).parent.name for r in rows] == [("grey", "red")[label] for label in labels]
    again = scores(labels, np.log(expected), ["grey", "red"])
    assert again["confusion"] == outcome.record["test"]["confusion"]
    assert again["loss"] == pytest.approx(outcome.record["test"]["loss"], rel=1e-5)


def test_select_best_tests_the_epoch_that_validated_best(tmp_path, images):
    train = TrainSpec(epochs=6, batch_size=16, select="best", optimizer="sgd")
    grid = replace(ONE, lrs=(0.3,), train=train)
    (best,) = run(grid, tmp_path / "runs", images)
    rows = [json.loads(line) for line in (best.folder.path / "history.jsonl").read_text().splitlines()]
    expected = max(rows, key=lambda r: (r["val_accuracy"], -r["val_loss"], -r["epoch"]))
    assert best.record["selected_epoch"] == expected["epoch"] < 6
    assert best.record["val"]["accuracy"] == expected["val_accuracy"]
    assert best.record["val"]["loss"] == pytest.approx(expected["val_loss"], rel=1e-5)
    (last,) = run(replace(grid, train=replace(train, select="last")), tmp_path / "runs", images)
    assert last.record["selected_epoch"] == 6
    assert last.record["val"]["loss"] == pytest.approx(rows[-1]["val_loss"], rel=1e-5)
    assert last.record["digests"]["checkpoint"] != best.record["digests"]["checkpoint"]


def test_seeds_change_the_training_and_nothing_else(tmp_path, images):
    outcomes = run(replace(ONE, seeds=(0, 1, 2)), tmp_path / "runs", images)
    digests = [o.record["digests"] for o in outcomes]
    assert len({d["checkpoint"] for d in digests}) == 3
    assert len({d["split"] for d in digests}) == len({d["weights"] for d in digests}) == 1
    tested = [[(row["id"], row["label"]) for row in predictions(o)] for o in outcomes]
    assert tested[0] == tested[1] == tested[2]
    (other,) = run(replace(ONE, data=DataSpec("folder", split_seed=1)), tmp_path / "runs", images)
    assert [(row["id"], row["label"]) for row in predictions(other)] != tested[0]


def test_scratch_starts_without_the_weights(tmp_path, images):
    grid = replace(ONE, strategies=("full", "scratch"), lrs=(1e-3,))
    full, scratch = run(grid, tmp_path / "runs", images)
    # The same weights were asked for, so that a report sets the two beside each other.
    assert scratch.record["spec"]["weights"] == full.record["spec"]["weights"] == "drawn"
    assert scratch.record["digests"]["weights"] != full.record["digests"]["weights"]
    assert full.record["digests"]["base"] != scratch.record["digests"]["base"]
    assert scratch.record["backbone"]["random_stages"] == ["block1", "block2", "block3", "fc", "head"]


def documented(section):
    text = (Path(__file__).parents[2] / "docs" / "run-folder.md").read_text(encoding="utf-8")
    block = re.search(rf"## `{re.escape(section)}`\n+```json\n(.*?)```", text, re.DOTALL)
    return json.loads(block[1])


def missing_keys(expected, found, where=""):
    """Paths of keys that are documented and not there; ``...`` stands for another table."""
    if isinstance(expected, dict) and "..." not in expected:
        for key, value in expected.items():
            if not isinstance(found, dict) or key not in found:
                yield f"{where}.{key}"
            else:
                yield from missing_keys(value, found[key], f"{where}.{key}")
    elif isinstance(expected, list) and expected and isinstance(expected[0], dict):
        yield from missing_keys(expected[0], found[0], f"{where}[0]")


def test_the_files_hold_every_key_that_is_documented(tmp_path, images):
    (outcome,) = run(ONE, tmp_path / "runs", images, argv=("run", "--lr", "1e-2"))
    path = outcome.folder.path
    record = json.loads((path / "result.json").read_text())
    assert list(missing_keys(documented("result.json"), record)) == []
    assert record["spec"] == json.loads((path / "spec.json").read_text())
    assert documented("spec.json").keys() == record["spec"].keys()
    assert documented("spec.json")["train"].keys() == record["spec"]["train"].keys()
    assert documented("spec.json")["data"].keys() == record["spec"]["data"].keys()
    row = json.loads((path / "history.jsonl").read_text().splitlines()[0])
    assert documented("history.jsonl").keys() == row.keys()
    with (path / "predictions.csv").open() as lines:
        assert next(lines).strip() == "id,path,group,label,prediction,p0,p1"
    assert {p.name for p in path.iterdir()} - {".lock"} == {
        "spec.json", "history.jsonl", "predictions.csv", "leakage.json", "checkpoint.safetensors",
        "result.json",
    }  # fmt: skip
    leakage = json.loads((path / "leakage.json").read_text())
    assert documented("leakage.json").keys() == leakage.keys()
    assert leakage["digests"] == {k: record["digests"][k] for k in ("data", "split")}
    assert (leakage["exact"], leakage["groups"], leakage["near"]) == ({}, None, None)


def test_the_record_says_what_happened(tmp_path, images):
    (outcome,) = run(ONE, tmp_path / "runs", images, argv=("run", "--data", "folder=a b"))
    record = outcome.record
    assert record["data"]["class_names"] == ["grey", "red"]
    assert record["data"]["counts"] == {"train": [24, 24], "val": [3, 3], "test": [3, 3]}
    assert record["strategy"]["prefix"] == ["block1", "block2"]
    # 16*8*9+16 and 2*16; 16*16+16; 16*2+2
    assert record["strategy"]["trainable"] == 1168 + 32 + 272 + 34
    stages = {s["name"]: s for s in record["backbone"]["stages"]}
    assert [n for n, s in stages.items() if s["moved"] > 0] == ["block3", "fc", "head"]
    assert [n for n, s in stages.items() if s["random"]] == ["head"]
    assert record["typed"] == "harness run --data 'folder=a b'"
    words = shlex.split(record["command"])
    assert words[:3] == ["harness", "run", "--data"]
    for word in ("--strategy", "last_block", "--lr", "0.01", "--epochs", "3", "--threads", "1", "--no-flip"):
        assert word in words
    assert record["environment"]["threads"] == 1
    assert record["timing"]["prefix_shared_by"] == 1
    if record["memory"]:  # Linux
        assert (record["memory"]["of"], record["memory"]["shared_by"]) == ("process", 1)
        assert record["memory"]["peak_bytes"] > 50e6


def test_a_csv_file_with_groups_and_attributes(tmp_path, images):
    lines = ["path,label,group,bright"]
    for number, path in enumerate(sorted(images.rglob("*.png"))):
        relative = path.relative_to(tmp_path).as_posix()
        lines.append(f"{relative},{path.parent.name},person{number % 20},{number % 2}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    grid = replace(ONE, data=DataSpec("table", group="identity"))
    (outcome,) = run(grid, tmp_path / "runs", tmp_path / "list.csv")
    rows = predictions(outcome)
    assert list(rows[0])[-1] == "attr:bright"
    assert outcome.record["status"] == "done"
    tested = {row["group"] for row in rows}
    assert len(rows) == 3 * len(tested), "a group is on two sides of the split"


def test_other_images_are_another_run(tmp_path, images):
    (first,) = run(ONE, tmp_path / "runs", images)
    copy = write_folder(tmp_path / "copy")
    (same,) = run(ONE, tmp_path / "runs", copy)
    assert not same.trained, "the same images elsewhere are the same run"
    picture = next(iter(sorted(copy.rglob("*.png"))))
    other = sorted(copy.rglob("*.png"))[1]
    picture.write_bytes(other.read_bytes())
    (changed,) = run(ONE, tmp_path / "runs", copy)
    assert changed.trained
    assert changed.record["digests"]["data"] != first.record["digests"]["data"]


LOCK = """
import sys
from pathlib import Path
from harness.store import RunFolder
folder = RunFolder(Path(sys.argv[1]))
folder.lock(wait=False)
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_cell_that_another_process_holds_is_left_to_it(tmp_path, images, start):
    names = [o.folder.name for o in run(GRID, tmp_path / "done", images)]
    other = start(LOCK, tmp_path / "runs" / names[1])
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Locked, match=re.escape(names[1])):
            run(GRID, tmp_path / "runs", images, wait=False)
    finally:
        other.kill()
        other.communicate()
    finished = {p.parent.name for p in (tmp_path / "runs").glob("*/result.json")}
    assert finished >= {n for n in names if "head-only" in n and n != names[1]}
    assert names[1] not in finished
    outcomes = run(GRID, tmp_path / "runs", images)
    assert outcomes[1].trained
    assert [o.folder.name for o in outcomes] == names


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"strategies": ("head_onyl",)}, UnknownName, "did you mean 'head_only'"),
        ({"backbones": ("smal",)}, UnknownName, "did you mean 'small'"),
        ({"data": DataSpec("foldr")}, UnknownName, "did you mean 'folder'"),
        ({"strategies": ("last_k[k=9]",)}, UsageError, "1..3"),
        ({"weights": {"small": "none"}}, UsageError, "--allow-random-frozen"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, images, change, error, text):
    with pytest.raises(error, match=re.escape(text)):
        run(replace(GRID, **change), tmp_path / "runs", images)
    assert not (tmp_path / "runs").exists()


def test_an_unreadable_image_is_named_before_any_training(tmp_path, images):
    broken = sorted(images.rglob("*.png"))[7]
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(DataError, match=broken.name):
        run(ONE, tmp_path / "runs", images)
    assert not list((tmp_path / "runs").glob("*/result.json"))


def test_a_parameter_that_never_trains_fails_its_run_with_its_name(tmp_path, images, monkeypatch):
    """And takes no other cell with it: where the plan freezes it, it may be idle."""

    def build(self, weights, num_classes, head):
        model = small_net(num_classes)
        model.parts["block3"].register_parameter("spare", torch.nn.Parameter(torch.ones(3)))
        model.pretrained |= {"block3.spare"}
        return model

    monkeypatch.setattr(Small, "build", build)
    grid = replace(GRID, lrs=(1e-2,))
    idle, failed = run(grid, tmp_path / "runs", images)
    assert idle.record["status"] == "done"
    assert failed.record["status"] == "failed"
    assert failed.record["error"].startswith("'block3.spare' should train in epochs 1 to 3 but never had")
