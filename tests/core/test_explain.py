"""``harness explain``: from run folders to heat maps, and from there into the report."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.data.decode import load_images
from harness.errors import DataError, RecordError
from harness.explain import explain_run
from harness.gradcam import cam_layer, grad_cam
from harness.trained import load_run

SMALL = ("--backbone", "small", "--epochs", "1", "--batch-size", "16", "--threads", "1", "--device", "cpu")
FILE = "gradcam.json"


@pytest.fixture
def _captum():
    pytest.importorskip("captum")


@pytest.fixture
def runs(harness, site, images, tmp_path):
    status, _, errors = harness(
        "run", "--data", f"folder={images}", *SMALL, "--strategy", "head_only", "--strategy", "full",
        "--lr", "1e-3",
    )  # fmt: skip
    assert status == 0, errors
    return sorted((tmp_path / "runs").iterdir())


def one_line(errors):
    (line,) = errors.splitlines()
    return line


def rows(run):
    with (run / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("_captum")
def test_the_images_of_the_report_are_explained(harness, runs, tmp_path):
    before = {p: p.read_bytes() for run in runs for p in run.iterdir()}
    status, output, errors = harness("explain", "runs")
    assert status == 0, errors
    files = [tmp_path / line for line in output.splitlines()]
    assert {f.name for f in files} == {FILE}
    first = {f: f.read_bytes() for f in files}
    for path, content in before.items():
        assert path.read_bytes() == content, "nothing else is touched"
    status, _, errors = harness("report", "runs", "--images", "embed")
    assert status == 0, errors
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Grad-CAM on the activations of block3" in page
    assert harness("explain", "runs")[0] == 0
    assert {f: f.read_bytes() for f in files} == first, "the same bytes twice"


@pytest.mark.usefixtures("_captum")
def test_maps_are_those_of_the_trained_network_for_the_class_it_named(runs):
    run = runs[0]
    row = rows(run)[0]
    file = explain_run(run, {row["id"]: Path(row["path"])})
    (entry,) = json.loads(file.read_text())["maps"].values()
    trained = load_run(run)
    pixels = load_images([row["path"]], trained.model.preprocess, 1)
    (wanted,) = grad_cam(trained.model, cam_layer(trained.model), pixels, [int(row["prediction"])]).numpy()
    assert entry["class"] == int(row["prediction"])
    assert entry["peak"] == pytest.approx(wanted.max(), rel=1e-5)
    assert np.allclose(
        np.array(entry["levels"]) / 255, wanted / max(wanted.max(), 1e-9), atol=0.5 / 255 + 1e-6
    )
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("_captum")
def test_an_image_that_was_changed_is_refused(harness, runs):
    for row in rows(runs[0]):
        Image.new("RGB", (32, 32), (255, 0, 0)).save(row["path"])
    with pytest.raises(DataError, match="isn't the image that run") as error:
        explain_run(runs[0], {row["id"]: Path(row["path"]) for row in rows(runs[0])})
    assert "\n" not in str(error.value)
    assert not (runs[0] / FILE).exists()


@pytest.mark.usefixtures("_captum")
def test_an_image_that_the_run_wasn_t_tested_on(runs):
    row = rows(runs[0])[0]
    with pytest.raises(RecordError, match=r"predictions\.csv.*'another'"):
        explain_run(runs[0], {"another": Path(row["path"])})


@pytest.mark.usefixtures("_captum")
def test_a_damaged_checkpoint_is_one_line_that_names_it(harness, runs):
    for run in runs:
        (run / "checkpoint.safetensors").write_bytes(b"broken")
    status, output, errors = harness("explain", runs[0])
    assert status == 1
    assert f"{runs[0].name}/checkpoint.safetensors'" in one_line(errors)
    assert output == ""
    assert not (runs[0] / FILE).exists()


@pytest.mark.usefixtures("_captum")
def test_images_that_are_gone(harness, runs, images):
    shutil.rmtree(images)
    status, _, errors = harness("explain", "runs")
    assert status == 3
    assert "isn't there any more" in one_line(errors)


@pytest.mark.usefixtures("_captum")
def test_nothing_to_explain(harness, runs):
    status, _, errors = harness("explain", "runs", "--examples", "0")
    assert status == 2
    assert "no image to explain" in one_line(errors)


@pytest.mark.usefixtures("_captum")
def test_an_unknown_cell_to_set_beside(harness, runs):
    for command in ("explain", "report"):
        status, _, errors = harness(command, "runs", "--against", "head_onyl")
        assert status == 2
        assert "did you mean 'head_only" in one_line(errors)


@pytest.mark.usefixtures("_captum")
def test_base_weights_elsewhere(harness, runs):
    status, _, errors = harness("explain", "runs", "--weights", "small=none")
    assert status == 1
    assert "with weights 'none'" in errors
    assert harness("explain", "runs", "--weights", "vgg16=none")[0] == 0


def test_without_captum_it_says_what_to_install(harness, runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    status, output, errors = harness("explain", "runs")
    assert status == 2
    assert "pip install 'transfer-harness[explain]'" in one_line(errors)
    assert output == ""
    assert harness("report", "runs")[0] == 0
