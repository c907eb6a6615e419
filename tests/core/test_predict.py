"""``harness predict``: the bits of the run's own test, whatever the images lie beside."""

import csv
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.small import write_folder, write_plugin
from harness import run as harness_run
from harness.data.find_images import find_images
from harness.errors import DataError
from harness.predict import predict
from harness.runtime import configure, preserved
from harness.trained import load_run

SMALL = {"backbone": "small", "epochs": 2, "batch_size": 16, "threads": 1, "device": "cpu", "quiet": True}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run whose test images are more than a batch, and its images: nobody changes these."""
    folder = tmp_path_factory.mktemp("trained")
    site = write_plugin(folder / "site", "small-nets", {"harness.backbones": {"small": "core.small:Small"}})
    images = write_folder(folder / "images", 700)
    with pytest.MonkeyPatch.context() as patch, preserved():
        patch.syspath_prepend(site)
        patch.setenv("HARNESS_CACHE", str(folder / "cache"))
        run = harness_run("last_block", 1e-2, data=f"folder={images}", out=folder / "runs", **SMALL)
    return run.folder, images


@pytest.fixture
def run(trained, site, tmp_path):
    """A copy of that run in its own ``runs``."""
    folder, images = trained
    (tmp_path / "images").symlink_to(images)
    return Path(shutil.copytree(folder, tmp_path / "runs" / folder.name))


def recorded(run):
    with (run / "predictions.csv").open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_the_probabilities_are_those_of_the_record_to_the_last_digit(harness, run, tmp_path):
    wanted = recorded(run)
    assert len(wanted) > 64
    status, output, errors = harness(
        "predict", run, "images", "--format", "csv", "--out", "all.csv", "--quiet"
    )
    assert (status, output) == (0, ""), errors
    with (tmp_path / "all.csv").open(newline="") as file:
        found = {str((tmp_path / row["path"]).resolve()): row for row in csv.DictReader(file)}
    assert len(found) == 700, "in other batches than those of the test"
    for path, row in wanted.items():
        assert (found[path]["p:grey"], found[path]["p:red"]) == (row["p0"], row["p1"])
        assert found[path]["prediction"] == ("grey", "red")[int(row["prediction"])]


def test_another_batch_size_changes_no_more_than_the_last_bits(run):
    paths = sorted(recorded(run))[:20]
    trained = load_run(run)
    configure(1, "fp32", True)
    whole, small = predict(trained, paths), predict(trained, paths, batch_size=3)
    assert small.paths == whole.paths == tuple(paths)
    np.testing.assert_allclose(small.logits, whole.logits, rtol=1e-5, atol=1e-5)
    alone = predict(trained, paths[7:8])
    assert np.array_equal(alone.logits, whole.logits[7:8])


def test_a_table_says_what_the_labels_are(harness, run):
    path, row = next(iter(recorded(run).items()))
    status, output, errors = harness("predict", run.name.rsplit("_", 1)[-1], path)
    assert status == 0
    head, line = output.splitlines()
    assert head.split() == ["image", "class", "probability"]
    best = int(row["prediction"])
    assert line.split() == [path, ("grey", "red")[best], f"{100 * float(row[f'p{best}']):.2f}", "%"]
    assert "what the labels are: The names of the folders" in errors
    assert "what this model is not for: Any decision about a person" in errors
    status, output, _ = harness("predict", run, path, "--top", "9")
    assert output.splitlines()[1].count("%") == 2, "there are two classes"


def test_what_a_model_of_a_sensitive_attribute_is_not_for(harness, run):
    record = json.loads((run / "result.json").read_text())
    record["data"]["card"] |= {"labels": "An annotator's reading.", "not_for": "Classifying gender."}
    del record["seal"]
    (run / "result.json").write_text(json.dumps(record))
    status, output, errors = harness("predict", run, next(iter(recorded(run))), "--format", "json")
    assert status == 0
    assert "not for: Classifying gender." in errors
    assert json.loads(output)["not_for"] == "Classifying gender."
    assert json.loads(output)["labels"] == "An annotator's reading."


def test_bad_images_are_named_and_the_others_done(harness, run, tmp_path):
    good = sorted(recorded(run))[:3]
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "cut.png").write_bytes((tmp_path / "images/grey/000.png").read_bytes()[:200])
    (tmp_path / "new\nline.png").write_bytes(b"")
    names = [good[0], "broken.png", good[1], "cut.png", "new\nline.png", good[2]]
    status, output, errors = harness("predict", run, *names, "--format", "json", "--top", "1")
    assert status == 1
    found = json.loads(output)
    assert [image["path"] for image in found["images"]] == good
    assert [bad["path"] for bad in found["failed"]] == ["broken.png", "cut.png", "new\nline.png"]
    for image in found["images"]:
        ((name, share),) = image["probabilities"].items()
        row = recorded(run)[image["path"]]
        assert name == image["prediction"]
        assert repr(share) == row[f"p{row['prediction']}"]
    left_out = [line for line in errors.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == 3
    assert left_out[0] == "left out: broken.png: not an image in a format that Pillow knows"
    assert left_out[2] == "left out: new line.png: the file is empty"


def test_nothing_to_answer_is_one_line(harness, run, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("broken.png", "broken.gif"):
        (tmp_path / name).write_bytes(b"no image")
    for arguments, status, text in (
        (("broken.png",), 3, "can't decode image broken.png: not an image"),
        (("broken.png", "broken.gif"), 3, "(and none of 1 others)"),
        (("nowhere/*.jpg",), 3, "no image at 'nowhere/*.jpg'"),
        (("empty",), 3, "no image at 'empty'"),
        (("images", "--device", "tpu"), 2, "unknown device 'tpu'"),
        ((), 2, "Missing argument"),
    ):
        found, output, errors = harness("predict", run, *arguments, "--quiet")
        assert found == status, errors
        assert text in errors.splitlines()[-1]
        assert output == ""


def test_a_run_that_is_not_there_or_failed(harness, run):
    assert harness("predict", "nothing", "images")[0] == 2
    record = json.loads((run / "result.json").read_text())
    record |= {"status": "failed", "error": "out of memory"}
    del record["seal"]
    (run / "result.json").write_text(json.dumps(record))
    status, _, errors = harness("predict", run, "images")
    assert status == 3
    assert "out of memory" in errors.splitlines()[-1]


def test_an_image_inside_a_shard(harness, run, tmp_path):
    path, row = next(iter(recorded(run).items()))
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        shard.add(path, "image.png")
    with tarfile.open(tmp_path / "shard.tar") as shard:
        (member,) = shard.getmembers()
    inside = f"shard.tar!/{member.offset_data}+{member.size}/image.png"
    _, output, _ = harness("predict", run, inside, "--format", "csv")
    (found,) = csv.DictReader(io.StringIO(output))
    assert found == {
        "path": inside,
        "prediction": ("grey", "red")[int(row["prediction"])],
        "p:grey": row["p0"],
        "p:red": row["p1"],
    }


def test_top_classes_as_csv(harness, run):
    path = next(iter(recorded(run)))
    _, output, _ = harness("predict", run, path, "--format", "csv", "--top", "2")
    (row,) = csv.DictReader(io.StringIO(output))
    assert list(row) == ["path", "class1", "p1", "class2", "p2"]
    assert float(row["p1"]) >= float(row["p2"])
    assert {row["class1"], row["class2"]} == {"grey", "red"}


def test_files_folders_and_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/b/2.png", "a/1.JPG", "a/.hidden.png", "a/notes.txt", "[odd].png", "z.dat"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(file, "PNG")
    assert find_images(["a"]) == ("a/1.JPG", "a/b/2.png")
    assert find_images(["z.dat", "a/b/2.png", "a"]) == ("z.dat", "a/b/2.png", "a/1.JPG")
    assert find_images(["a/**/*.png"]) == ("a/b/2.png",)
    assert find_images(["[odd].png"]) == ("[odd].png",)
    assert find_images(["[[]odd].png"]) == ("[odd].png",)
    assert find_images([tmp_path / "*.png"]) == (str(tmp_path / "[odd].png"),)
    (tmp_path / "shard.tar").write_bytes(b"")
    assert find_images(["shard.tar!/0+9/a.png", "z.dat"]) == ("shard.tar!/0+9/a.png", "z.dat")
    for nothing in ("b", "*.tiff", "[odd", "gone.tar!/0+9/a.png"):
        with pytest.raises(DataError, match="no image at"):
            find_images([nothing])


def test_names_that_are_not_utf_8_are_written_apart(harness, run, tmp_path):
    """Linux has names of any bytes."""
    image = next((tmp_path / "images").rglob("*.png"))
    odd = tmp_path / "odd"
    odd.mkdir()
    for number in (0xE9, 0xEA):
        shutil.copy(image, os.fsdecode(bytes(odd) + b"/caf%c.png" % number))
    (odd / os.fsdecode(b"bad\xff.png")).write_bytes(b"no image")
    for form in ("table", "csv", "json"):
        status, output, errors = harness("predict", run, "odd", "--format", form, "--quiet")
        assert status == 1, errors
        assert output.count("caf") == 2
        assert errors.splitlines()[-1].startswith("left out: odd/bad")
        harness("predict", run, "odd", "--format", form, "--out", f"answers.{form}", "--quiet")
        assert (tmp_path / f"answers.{form}").read_text("utf-8") == output
    found = json.loads((tmp_path / "answers.json").read_text("utf-8"))
    assert [i["path"] for i in found["images"]] == [r"odd/caf\xe9.png", r"odd/caf\xea.png"]
    assert found["failed"][0]["path"] == r"odd/bad\xff.png"


def test_a_notebook_shows_answers(run, tmp_path):
    answers = load_run(run)
    shown = predict(answers, find_images([tmp_path / "images"])[:12])._repr_html_()
    assert shown.count("<tr>") == 11
    assert shown.endswith("2 more")


def test_a_run_is_found_by_its_digits_beside_others(harness, run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.parent)
    status, output, errors = harness("show", run.name[-10:])
    assert status == 0, errors
    assert run.name in output
    monkeypatch.chdir(tmp_path)
    status, output, _ = harness("runs", "ls", run.parent)
    assert (status, output.count(run.name)) == (0, 1)
