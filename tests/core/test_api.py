"""The harness from Python: the command line's names and defaults, its errors, and nothing left changed."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import harness
from core.small import write_folder
from harness import grid, load_run, run
from harness.api import Options
from harness.api.train import _words
from harness.commands.run import command
from harness.errors import DataError, HarnessError, RecordError, UnknownName, UsageError

ASKED = {"epochs": 2, "batch_size": 16, "threads": 1, "device": "cpu", "quiet": True}


@pytest.fixture
def data(site, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return {"data": f"folder={images}", **ASKED}


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, harness\n"
        "print(sorted({'torch', 'numpy', 'click', 'harness.api'} & set(sys.modules)))\n"
        "print(harness.__all__, {'run', 'grid', 'load_run'} <= set(dir(harness)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["[]", "['grid', 'load_run', 'run'] True"]
    with pytest.raises(AttributeError, match="no attribute 'wings'"):
        harness.wings  # noqa: B018


def test_every_option_of_the_command_has_its_argument():
    own = {"strategy", "lr", "seed", "backbone", "head", "data", "suite"}
    options = {p.name for p in command.params} - {"plan", "gpus", "tflops", "price", "processes"}
    assert options == own | Options.__annotations__.keys()


def test_a_run_is_that_of_the_command_line_and_its_record_says_how(harness, data):
    found = run("last_block", 1e-2, 3, backbone="small", flip=True, **data)
    words = [f"--{k.replace('_', '-')}={v}" for k, v in ASKED.items() if k != "quiet"]
    status, output, errors = harness(
        "run", "--strategy", "last_block", "--lr", "1e-2", "--seed", "3", "--backbone", "small", "--flip",
        "--data", data["data"], *words,
    )  # fmt: skip
    assert status == 0, errors
    assert "done before" in output, "the same cell, so there is nothing to train"
    assert found.record["typed"].startswith("harness run --strategy last_block --lr 0.01 --seed 3")
    typed = found.record["typed"].split()[2:]
    assert command.make_context("run", typed).params["flip"] is True
    assert list(_words({"flip": False, "fast": True, "keep_features": False, "limit": None})) == [
        "--no-flip",
        "--fast",
    ]


def test_what_a_run_holds(data):
    found = run("last_block", 1e-2, backbone="small", **data)
    assert found.class_names == ("grey", "red")
    assert [row["epoch"] for row in found.history] == [1, 2]
    p = found.predictions
    assert p.label.dtype == p.prediction.dtype == np.int64
    assert p.probabilities.shape == (len(p.ids), 2)
    assert found.metrics["accuracy"] == (p.label == p.prediction).mean()
    assert np.trace(found.confusion) == (p.label == p.prediction).sum()
    assert found.spec.strategy == "last_k[k=1]" or found.spec.strategy == "last_block"
    assert load_run(found.name).record == found.record
    assert load_run(found.folder).folder == found.folder
    assert f"{100 * found.metrics['accuracy']:.2f} %" in repr(found)


def test_its_network_answers_as_it_did(data, monkeypatch):
    found = run("last_block", 1e-2, backbone="small", **data)
    p = found.predictions
    answers = found.predict(p.paths)
    assert np.array_equal(answers.probabilities, p.probabilities)
    assert np.array_equal(answers.classes, p.prediction)
    in_memory = found.predict([Image.open(p.paths[0]), np.asarray(Image.open(p.paths[1]))])
    assert np.array_equal(in_memory.probabilities, p.probabilities[:2])
    assert in_memory.paths == ("0", "1")
    assert len(found.predict("images").paths) == 60
    with pytest.raises(DataError, match="no image at 'nowhere'"):
        found.predict("nowhere")
    with pytest.raises(DataError, match=r"image 0 is float64 \[3, 3\], not uint8"):
        found.predict([np.zeros((3, 3))])
    network = found.model()
    assert not network.training
    with torch.no_grad():
        next(network.parameters()).zero_()
    assert not torch.equal(next(network.parameters()), next(found.model().parameters())), "a new one"


def test_a_grid_shares_and_keeps_its_order_and_failures(data):
    found = grid(["linear_probe", "full"], [1e-2, 1e30], backbones=["small"], weights="drawn", **data)
    assert [r.spec.strategy for r in found] == ["linear_probe", "linear_probe", "full", "full"]
    failed = [r for r in found if r.error]
    assert failed, "at such a rate a loss is no number"
    assert len(found.results) == len(found) == 4
    assert found[0].record["timing"]["prefix_shared_by"] == 2
    for row, r in zip(found.results, found, strict=True):
        assert (row["lr"], row["run"], row["error"]) == (r.spec.lr, r.name, r.error)
        assert (row["accuracy"] is None) == (r.error is not None)
    with pytest.raises(RecordError, match="failed, so it has no 'test'"):
        failed[0].metrics  # noqa: B018
    with pytest.raises(HarnessError, match="failed: "):
        run(failed[0].spec.strategy, 1e30, backbone="small", **data)
    assert [type(part) for part in (found[:2], found[0])] == [type(found), type(found[0])]
    html = found._repr_html_()
    assert html.count("data:image/svg+xml;base64,") == 1
    assert "<th>reason</th>" in html
    frame = pytest.importorskip("pandas") and found.to_frame()
    assert list(frame["run"]) == [r.name for r in found]


def test_frames_need_pandas(data, monkeypatch):
    found = grid(backbones=["small"], **data)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        found.to_frame()


def test_a_notebook_shows_names_from_data_as_text(site, tmp_path, monkeypatch):
    """IPython's own formatter takes the HTML; a class called like a tag stays a name."""
    monkeypatch.chdir(tmp_path)
    folder = write_folder(tmp_path / "images")
    (folder / "red").rename(folder / "<script>alert(1)<")
    found = run(backbone="small", data=f"folder={folder}", **ASKED)
    html = found._repr_html_()
    assert "<script" not in html
    assert re.findall(r"<img src=\"data:image/svg\+xml;base64,[A-Za-z0-9+/=]+\" alt=\"[^\"]*\"", html)
    assert "Not for." in html
    formatters = pytest.importorskip("IPython.core.formatters")
    assert formatters.HTMLFormatter()(found) == html
    page = found.report("report")._repr_html_()
    assert page.startswith("<iframe srcdoc=")
    assert 'sandbox="allow-scripts"' in page
    assert "<script" not in page, "it is all within the attribute"


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        ({"strategy": "head_onyl"}, UnknownName, "did you mean 'head_only'"),
        ({"wings": 2}, UnknownName, "unknown option 'wings'"),
        ({"plan": True}, UnknownName, "unknown option 'plan'"),
        ({"epochs": "three"}, UsageError, "epochs='three'"),
        ({"epochs": 0}, UsageError, "epochs=0"),
        ({"optimizer": "lion"}, UsageError, "'adam', 'adamw', 'sgd'"),
        ({"lr": -1}, UsageError, "bad lr"),
        ({"device": "tpu"}, UsageError, "unknown device"),
        ({"data": "folder=nowhere"}, DataError, "nowhere: no such folder"),
        ({"data": "folder="}, UsageError, "NAME=PATH"),
    ],
)
def test_a_mistake_is_an_error_of_the_harness(data, asked, error, text):
    with pytest.raises(error, match=re.escape(text)) as found:
        run(**{**data, "backbone": "small", **asked})
    assert "\n" not in str(found.value)


def test_a_text_is_no_list(data):
    for asked in ({"strategies": "full"}, {"lrs": "1e-3"}):
        with pytest.raises(UsageError, match="is a list of values"):
            grid(**asked, **data)


def test_no_run_of_that_name(data):
    with pytest.raises(UsageError, match="no finished run 'nothing'"):
        load_run("nothing")


def test_nothing_of_torch_is_left_changed(data):
    torch.manual_seed(5)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(False)
    cudnn = torch.backends.cudnn

    def state():
        return (
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            cudnn.benchmark,
            cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
            torch.is_grad_enabled(),
            torch.random.get_rng_state().sum().item(),
        )

    before = state()
    found = run(backbone="small", **data)
    assert state() == before
    found.predict(found.predictions.paths)
    found.model()
    assert state() == before
    with pytest.raises(HarnessError):
        run(backbone="small", **{**data, "data": "folder=nowhere"})
    assert state() == before
