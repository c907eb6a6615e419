"""``harness export``: files that give the trained network's logits, also where there is no harness."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchvision.models import squeezenet1_1

from core.small import small_net
from harness.backbones.adapted import add_adapters, merged_weights
from harness.backbones.timm import TimmBackbone
from harness.contracts import ConvLora
from harness.data.decode import load_images
from harness.export import graphs, write
from harness.trained import load_run

SMALL = ("--backbone", "small", "--epochs", "2", "--batch-size", "16", "--threads", "1", "--device", "cpu")


def needs(form):
    if form == "onnx":
        for module in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(module)


@pytest.fixture
def train(harness, site, images, tmp_path):
    def run(*options):
        words = options if "--backbone" in options else (*SMALL, *options)
        status, _, errors = harness("run", "--data", f"folder={images}", *words, "--lr", "1e-2", "--quiet")
        assert status == 0, errors
        return sorted((tmp_path / "runs").iterdir())

    return run


def recorded(run):
    with (run / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def alone(folder, code):
    """Runs Python in a folder where the harness can't be imported; what it printed."""
    forbidden = "import sys\nfor name in ('harness', 'strategies', 'reports'): sys.modules[name] = None\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", forbidden + code],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown_usage(folder):
    (code,) = re.findall(r"(?ms)^```python\n(.*?)^```", (folder / "README.md").read_text())
    return code


def assert_usage_answers(run, folder):
    """The model card's own lines, run as they stand, give the run's probabilities for a test image."""
    row = recorded(run)[0]
    shutil.copy(row["path"], folder / "photo.jpg")
    answer = eval(alone(folder, shown_usage(folder)))
    assert list(answer) == ["grey", "red"]
    assert list(answer.values()) == pytest.approx([float(row["p0"]), float(row["p1"])], abs=1e-4)
    (folder / "photo.jpg").unlink()


@pytest.mark.parametrize(
    ("strategy", "form"),
    [
        ("last_block", "safetensors"),
        ("head2toe", "torch-export"),
        ("lora_conv", "torch-export"),
        *(
            pytest.param(strategy, form, marks=pytest.mark.slow)
            for strategy, form in (
                ("last_block", "onnx"),
                ("last_block", "torch-export"),
                ("head2toe", "safetensors"),
                ("head2toe", "onnx"),
                ("lora_conv", "onnx"),
            )
        ),
    ],
)
def test_every_kind_of_strategy_in_every_format(harness, train, strategy, form):
    needs(form)
    (run,) = train("--strategy", strategy)
    status, output, errors = harness("export", run, "--to", form, "--out", "out")
    assert status == 0, errors
    said = dict(re.findall(r"(?m)^  (.*?) (\d\S*)", errors))
    assert float(said["largest difference of a logit"]) <= (0 if form == "safetensors" else 1e-5)
    count = len(recorded(run))
    assert f"same class as the run recorded {count} of {count}" in errors
    assert {Path(line).name for line in output.splitlines()} == {"README.md", "export.json"} | {
        p.name for p in Path("out").glob("model.*")
    }


def test_a_safetensors_file_holds_every_tensor_and_what_it_is(harness, train):
    (run,) = train("--strategy", "lora_conv")
    assert harness("export", run, "--to", "safetensors", "--out", "out")[0] == 0
    trained = load_run(run)
    found = load_file("out/model.safetensors")
    wanted = dict(trained.model.tensors())
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert any("lora_a" in name for name in found)
    with safe_open("out/model.safetensors", "pt") as file:
        inside = json.loads(json.loads(file.metadata()["harness"])["export.json"])
    about = json.loads(Path("out/export.json").read_text())
    assert inside["run"] == about["run"] == run.name
    assert about["class_names"] == ["grey", "red"]
    assert about["digests"]["checkpoint"] == trained.record["digests"]["checkpoint"]
    assert about["input"]["preprocess"]["size"] == 32
    assert about["data"]["licence"].startswith("Not stated")
    assert "decision about a person" in about["data"]["not_for"]
    assert about["parity"]["max_abs_difference"] == 0
    assert not re.search(r"/(home|root|tmp)/", Path("out/export.json").read_text())
    card = ModelCard.load("out/README.md")
    assert card.data.model_name.startswith("folder_small_lora_conv")
    assert "## Out-of-scope use" in card.text


@pytest.mark.parametrize("form", ["onnx", pytest.param("torch-export", marks=pytest.mark.slow)])
def test_a_graph_runs_without_the_harness_on_any_number_of_images(harness, train, form, tmp_path):
    needs(form)
    (run,) = train("--strategy", "last_block")
    assert harness("export", run, "--to", form, "--out", "out")[0] == 0
    trained = load_run(run)
    pixels = load_images([row["path"] for row in recorded(run)][:5], trained.model.preprocess, 1)
    wanted = trained.logits(pixels)
    save_file({"images": pixels.contiguous()}, "images.safetensors")
    run_it = {
        "onnx": "import onnxruntime\n"
        "session = onnxruntime.InferenceSession('out/model.onnx')\n"
        "network = lambda x: torch.from_numpy(session.run(None, {'images': x.numpy()})[0])\n"
        "about = session.get_modelmeta().custom_metadata_map['export.json']\n",
        "torch-export": "extra = {'export.json': ''}\n"
        "network = torch.export.load('out/model.pt2', extra_files=extra).module()\n"
        "about = extra['export.json']\n",
    }[form]
    answer = alone(
        tmp_path,
        "import json, torch\nfrom safetensors.torch import load_file, save_file\n" + run_it
        + "x = load_file('images.safetensors')['images']\n"
        "with torch.no_grad():\n"
        "    save_file({str(n): network(x[:n]).contiguous() for n in (1, 2, 5)}, 'logits.safetensors')\n"
        "print(json.loads(about)['run'])\n",
    )  # fmt: skip
    assert answer.strip() == run.name
    for count, logits in load_file("logits.safetensors").items():
        torch.testing.assert_close(logits, wanted[: int(count)], rtol=1e-5, atol=1e-5)
    for file in Path("out").iterdir():
        content = file.read_bytes()
        for path in (b"/harness/backbones", str(tmp_path).encode()):
            assert path not in content, f"{file} holds paths of this machine"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["safetensors", "onnx", "hf"])
def test_the_model_card_s_lines_work_for_a_network_of_torchvision(harness, train, tmp_path, form):
    needs(form)
    save_file(squeezenet1_1().state_dict(), tmp_path / "weights.safetensors")
    run = _library_run(train, tmp_path, "squeezenet1_1", "last_block" if form != "hf" else "lora_conv")
    status, _, errors = harness("export", run, "--to", form, "--out", "out")
    assert status == 0, errors
    assert_usage_answers(run, Path("out"))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["hf", "safetensors"])
def test_the_model_card_s_lines_work_for_a_network_of_timm(harness, train, tmp_path, form):
    network, _, _ = TimmBackbone("test_resnet").native("none")
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    run = _library_run(train, tmp_path, "timm:test_resnet", "last_block")
    status, _, errors = harness("export", run, "--to", form, "--out", "out")
    assert status == 0, errors
    assert_usage_answers(run, Path("out"))
    if form == "hf":
        config = json.loads(Path("out/config.json").read_text())
        assert config["architecture"] == "test_resnet"
        assert config["label_names"] == ["grey", "red"]


def _library_run(train, tmp_path, backbone, strategy):
    (run,) = train(
        "--backbone", backbone, "--weights", tmp_path / "weights.safetensors", "--limit", "20", "--epochs",
        "1", "--threads", "1", "--device", "cpu", "--strategy", strategy,
    )  # fmt: skip
    return run


def test_merged_adapters_compute_the_same():
    model = small_net().eval()
    add_adapters(model, ConvLora(2, 5.0, ("block1", "block3")))
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        for name, tensor in model.tensors():
            if "lora_b" in name:
                tensor.normal_()
        wanted, merged = model(images), merged_weights(model)
        assert merged.keys() == {"block1.0.weight", "block3.0.weight"}
        for name, tensor in model.tensors():
            if name in merged:
                assert not torch.equal(tensor, merged[name])
                tensor.copy_(merged[name])
            elif "lora_b" in name:
                tensor.zero_()
        torch.testing.assert_close(model(images), wanted, rtol=1e-4, atol=1e-4)


def test_what_the_hub_s_libraries_can_t_build_is_refused_with_the_reason(harness, train):
    (run,) = train("--strategy", "head_only")
    status, _, errors = harness("export", run, "--to", "hf")
    assert status == 2
    assert "small is no network of timm or torchvision" in errors.splitlines()[-1]
    assert not Path("exports").exists() or not list(Path("exports").iterdir())


def test_a_file_that_computes_something_else_is_refused(harness, train, monkeypatch):
    (run,) = train("--strategy", "last_block")

    class Wrong(graphs.TorchExport):
        def load(self, network, folder):
            right = super().load(network, folder)
            return lambda images: right(images) * 1.01

    monkeypatch.setitem(write.FORMATS, "torch-export", Wrong())
    status, output, errors = harness("export", run, "--to", "torch-export", "--out", "out")
    assert (status, output) == (1, "")
    assert re.search(r"logits differ by up to \S+, \S+ is allowed; nothing was written", errors)
    assert not Path("out").exists()
    assert not list(Path().glob(".out*")), "nothing half-written is left"
    assert harness("export", run, "--to", "torch-export", "--out", "out", "--tolerance", "0.1")[0] == 0


def test_nothing_is_replaced_without_being_asked_and_only_an_export(harness, train):
    (run,) = train("--strategy", "last_block")
    export = ("export", run, "--to", "safetensors")
    assert harness(*export)[0] == 0
    out = Path("exports") / f"{run.name}_safetensors"
    first = (out / "model.safetensors").read_bytes()
    status, _, errors = harness(*export)
    assert status == 2
    assert "--force replaces it" in errors
    assert harness(*export, "--force")[0] == 0
    assert (out / "model.safetensors").read_bytes() == first, "the same bytes twice"
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    status, _, errors = harness(*export, "--out", "mine", "--force")
    assert status == 2
    assert "no export of the harness" in errors
    assert Path("mine/thesis.txt").read_text() == "years of work"


def test_images_to_check_with(harness, train, images):
    (run,) = train("--strategy", "last_block")
    shutil.move(images, "elsewhere")
    export = ("export", run, "--to", "safetensors", "--out", "out")
    status, _, errors = harness(*export)
    assert status == 3
    assert "name others with --images" in errors
    status, _, errors = harness(*export, "--images", "elsewhere/red", "--images", "elsewhere/grey/*2.png")
    assert status == 0
    assert "checked on 36 images:" in errors
    assert "recorded" not in errors


def test_without_the_extra_it_says_what_to_install(harness, train, monkeypatch):
    (run,) = train("--strategy", "last_block")
    monkeypatch.setattr(write, "find_spec", lambda name: None)
    status, _, errors = harness("export", run, "--to", "onnx")
    assert status == 2
    assert "pip install 'transfer-harness[export]'" in errors
