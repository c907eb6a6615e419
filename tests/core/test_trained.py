"""A trained network from its run folder."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import squeezenet1_1

from core.small import write_folder
from harness.backbones.staged import tensor_digest
from harness.data.decode import load_images
from harness.errors import RecordError, WeightsError
from harness.features import BATCH
from harness.metrics import probabilities
from harness.runtime import configure
from harness.trained import load_run

SMALL = ("--backbone", "small", "--epochs", "2", "--batch-size", "16", "--threads", "1", "--device", "cpu")


@pytest.fixture
def train(harness, site, images, tmp_path):
    def run(*options):
        status, _, errors = harness("run", "--data", f"folder={images}", *SMALL, "--lr", "1e-2", *options)
        assert status == 0, errors
        return sorted((tmp_path / "runs").iterdir())

    return run


def predicted(run):
    """Paths and probabilities of the test images, as the run wrote them."""
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["path"] for row in rows], np.array([[float(row["p0"]), float(row["p1"])] for row in rows])


def assert_gives_its_predictions(run):
    trained = load_run(run)
    configure(trained.threads, trained.spec.train.precision, trained.spec.train.deterministic)
    paths, wanted = predicted(run)
    logits = trained.logits(load_images(paths, trained.model.preprocess, workers=1))
    assert np.array_equal(probabilities(logits.numpy()), wanted)
    return trained


@pytest.mark.parametrize(
    "options",
    [
        ("--strategy", "head_only"),
        ("--strategy", "last_k[k=2]", "--select", "best"),
        ("--strategy", "full", "--seed", "3", "--flip"),
        ("--strategy", "scratch"),
        ("--strategy", "lp_ft", "--precision", "bf16"),
    ],
    ids=lambda options: options[1],
)
def test_it_gives_the_probabilities_of_the_record_bit_for_bit(train, options):
    (run,) = train(*options)
    trained = assert_gives_its_predictions(run)
    assert trained.class_names == ("grey", "red")
    assert not trained.model.training


def test_more_test_images_than_a_batch_holds(harness, site, tmp_path):
    folder = write_folder(tmp_path / "many", 700)
    status, _, errors = harness("run", "--data", f"folder={folder}", *SMALL, "--strategy", "last_block")
    assert status == 0, errors
    (run,) = (tmp_path / "runs").iterdir()
    assert BATCH < len(predicted(run)[0]) < 2 * BATCH
    assert_gives_its_predictions(run)


@pytest.mark.slow
def test_the_embedded_network_on_the_embedded_faces(harness, tmp_path):
    status, _, errors = harness(
        "run",
        "--limit",
        "700",
        "--epochs",
        "1",
        "--strategy",
        "last_block",
        "--threads",
        "1",
        "--device",
        "cpu",
    )
    assert status == 0, errors
    (run,) = (tmp_path / "runs").iterdir()
    assert_gives_its_predictions(run)


def test_a_folder_may_be_moved_and_renamed(train, tmp_path):
    (run,) = train()
    assert_gives_its_predictions(shutil.move(run, tmp_path / "elsewhere"))


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-100])


def without_metadata(file):
    save_file(load_file(file), file)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (flip_a_byte, "isn't what its run recorded"),
        (cut_short, "can't read"),
        (without_metadata, "can't read"),
        (lambda file: file.unlink(), "is gone"),
    ],
)
def test_a_damaged_checkpoint_is_one_line_that_names_it(train, damage, text):
    (run,) = train()
    damage(run / "checkpoint.safetensors")
    with pytest.raises(RecordError, match=text) as error:
        load_run(run)
    assert str(run / "checkpoint.safetensors") in str(error.value)
    assert "\n" not in str(error.value)


def test_the_checkpoint_of_another_run_is_told_apart(train):
    one, other = train("--strategy", "full", "--seed", "0", "--seed", "1")
    shutil.copy(other / "checkpoint.safetensors", one / "checkpoint.safetensors")
    with pytest.raises(RecordError, match=r"checkpoint\.safetensors' isn't what its run recorded"):
        load_run(one)


def test_tensors_that_fit_no_stage(train):
    (run,) = train()
    file, record = run / "checkpoint.safetensors", json.loads((run / "result.json").read_text())
    tensors = {"head.linear.weight": torch.zeros(2, 17)}
    save_file(tensors, file, {"harness": json.dumps({"base": record["digests"]["base"]})})
    record["digests"]["checkpoint"] = tensor_digest(tensors.items())
    del record["seal"]
    (run / "result.json").write_text(json.dumps(record))
    with pytest.raises(RecordError, match=r"checkpoint\.safetensors' doesn't fit .*head\.linear\.weight"):
        load_run(run)


def test_other_base_weights_are_told_apart(train):
    (run,) = train()
    with pytest.raises(RecordError, match="another network than small with weights 'none'"):
        load_run(run, weights="none")


def changed(run, change):
    record = json.loads((run / "result.json").read_text())
    change(record)
    del record["seal"]
    (run / "result.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda r: r.update(status="failed", error="out of memory"), "failed.*: out of memory"),
        (lambda r: r["spec"].pop("lr"), "'lr'"),
        (lambda r: r["spec"]["train"].update(wings=2), "wings"),
        (lambda r: r["spec"]["train"].update(epochs="two"), "epochs"),
        (lambda r: r["digests"].pop("base"), "'base'"),
        (lambda r: r.update(command="harness run"), "--weights"),
        (lambda r: r["backbone"]["preprocess"].update(resize=40), "preprocessed"),
    ],
)
def test_a_record_that_can_t_be_followed_is_one_line_that_names_it(train, change, text):
    (run,) = train()
    changed(run, change)
    with pytest.raises(RecordError, match=text) as error:
        load_run(run)
    assert run.name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_record_from_before_there_was_augmentation(train):
    (run,) = train()
    changed(run, lambda r: r["spec"]["train"].pop("augment"))
    assert load_run(run).spec.train.augment == ""


def test_base_weights_that_moved(harness, images, tmp_path):
    file, moved = tmp_path / "here.safetensors", tmp_path / "there.safetensors"
    save_file(squeezenet1_1().state_dict(), file)
    status, _, errors = harness(
        "run", "--data", f"folder={images}", "--limit", "20", "--backbone", "squeezenet1_1",
        "--weights", file, "--epochs", "1", "--threads", "1", "--device", "cpu",
    )  # fmt: skip
    assert status == 0, errors
    (run,) = (tmp_path / "runs").iterdir()
    file.rename(moved)
    with pytest.raises(WeightsError, match=f"run '{run.name}' needs its base weights: .*here.safetensors"):
        load_run(run)
    assert load_run(run, weights=str(moved)).spec.backbone == "torchvision:squeezenet1_1"
