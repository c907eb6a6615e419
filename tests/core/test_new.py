"""``harness new``: what it writes works as it is, and it writes over nothing. The guide's code works too."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from core.small import small_images, write_plugin
from harness import plugins
from harness.errors import UsageError
from harness.kit import GROUPS, write_package
from harness.testing import check_backbone, check_dataset, check_strategy

GUIDE = Path(__file__).parents[2] / "docs" / "plugins.md"
QUICK = ("--epochs", "1", "--batch-size", "16", "--threads", "1", "--device", "cpu", "--quiet")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def harness(capsys):
    """Runs a command line that has to succeed; returns its standard output."""
    from click.testing import CliRunner

    from harness.cli import cli

    def run(*arguments):
        found = CliRunner().invoke(
            cli, list(map(str, arguments)), catch_exceptions=False, standalone_mode=False
        )
        assert not found.return_value
        return found.output

    return run


@pytest.fixture
def named(tmp_path):
    """Images whose names say their class."""
    folder = tmp_path / "named"
    folder.mkdir()
    images, labels = small_images(60)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        pixels = image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{'red' if label else 'grey'}_{number:03d}.png")
    return folder


@pytest.fixture
def make(harness, monkeypatch):
    """Writes a package by the command and installs it as pip would; returns its folder."""

    def made(kind, name):
        output = harness("new", kind, name)
        folder = Path(name)
        assert f"python -m pip install ./{name}" in output
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        write_plugin(folder, project["name"], project["entry-points"])
        monkeypatch.syspath_prepend(folder.resolve())
        return folder

    return made


def own_test(folder, *arguments):
    """Runs the test function of the package."""
    (file,) = folder.glob("test_*.py")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.test_it_keeps_the_contract(*arguments)


def test_a_new_strategy_works_as_it_is(harness, make, images, site):
    own_test(make("strategy", "my_probe"))
    assert re.search(r"^my_probe +my-probe-strategy +everything", harness("list", "strategies"), re.M)
    strategies = ("--strategy", "my_probe", "--strategy", "my_probe[scale=0.01]")
    output = harness("run", "--data", f"folder={images}", "--backbone", "small", *strategies, *QUICK)
    assert "my_probe[scale=0.1]" in output
    with pytest.raises(UsageError, match=r"my_probe\[scale=2.0\]: the scale is above 0"):
        plugins.load_strategy("my_probe[scale=2]")[0].recipe((), 1)


def test_a_new_backbone_works_as_it_is(harness, make, images):
    own_test(make("backbone", "my_network"))
    assert re.search(r"^my_network +my-network-backbone$", harness("list", "backbones"), re.M)
    words = ("run", "--data", f"folder={images}", "--backbone", "my_network", "--strategy", "full")
    assert "full" in harness(*words, "--head", "mlp[8]", *QUICK)


def test_weights_of_a_new_backbone_come_from_a_file(make, tmp_path):
    import torch

    make("backbone", "my_other")
    backbone = plugins.load_backbone("my_other")
    module = sys.modules["my_other_backbone"]
    network = module.Network()
    torch.save(network.state_dict(), tmp_path / "net.pth")
    model = backbone.build(str(tmp_path / "net.pth"), 2, "own")
    tensors = dict(model.tensors())
    assert {n for n in tensors if n.startswith("block")} <= model.pretrained
    assert not any(n.startswith("head") for n in model.pretrained)
    kept = {t.numpy().tobytes() for t in network.state_dict().values()}
    assert all(tensors[n].detach().numpy().tobytes() in kept for n in model.pretrained)


def test_a_new_dataset_works_as_it_is(harness, make, named, tmp_path, site):
    own = tmp_path / "own"
    own.mkdir()
    own_test(make("dataset", "my_images"), own)
    assert re.search(r"^my_images +my-images-dataset +images in one", harness("list", "datasets"), re.M)
    words = ("run", "--data", f"my_images={named}", "--backbone", "small", "--strategy", "full")
    assert "full" in harness(*words, *QUICK)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("strategy", "head_only", "the strategy 'head_only' exists: package transfer-harness offers it"),
        ("backbone", "small", "package small-nets offers it"),
        ("backbone", "vgg16", "package transfer-harness offers it"),
        ("backbone", "timm", "package transfer-harness offers it"),
        ("dataset", "folder", "package transfer-harness offers it"),
        *(
            ("strategy", name, f"bad name '{name}'")
            for name in (
                "",
                "My",
                "my-probe",
                "2nd",
                "_mine",
                "mine_",
                "my__probe",
                "../up",
                "a/b",
                "prüfung",
            )
        ),
    ],
)
@pytest.mark.usefixtures("site")
def test_a_name_that_cannot_be_used_is_refused(kind, name, message, tmp_path):
    before = set(tmp_path.iterdir())
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        write_package(kind, name, tmp_path)
    assert "\n" not in str(error.value)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", GROUPS)
def test_nothing_is_written_over(kind, tmp_path):
    mine = tmp_path / "there" / "mine"
    mine.mkdir(parents=True)
    (mine / "README.md").write_text("mine")
    with pytest.raises(UsageError, match=r"there.mine' exists; nothing was written"):
        write_package(kind, "mine", tmp_path / "there")
    assert [(p.name, p.read_text()) for p in mine.iterdir()] == [("README.md", "mine")]


def test_packages_go_where_they_are_asked_to(harness, tmp_path):
    output = harness("new", "strategy", "mine", "--out", "a b/c")
    assert {p.name for p in Path("a b/c/mine").iterdir()} == {
        "pyproject.toml", "README.md", "mine_strategy.py", "test_mine.py",
    }  # fmt: skip
    assert "pip install './a b/c/mine'" in output
    assert f"pip install {tmp_path}/mine" in harness("new", "dataset", "mine", "--out", tmp_path)


def test_no_template_leaves_anything_open(tmp_path):
    for kind in GROUPS:
        folder, files = write_package(kind, f"a_{kind}", tmp_path)
        assert {p.name for p in folder.iterdir()} == set(files)
        assert not [f for f in files if "$" in (folder / f).read_text()]


def test_it_needs_no_torch():
    code = (
        "import sys\nfrom harness.cli import main\n"
        "try: main(['new', 'backbone', 'mine'])\nexcept SystemExit as exit: assert exit.code == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("wrote mine: pyproject.toml, ")


def test_the_code_of_the_guide_keeps_the_contracts(named):
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), flags=re.S)
    strategy, backbone, dataset, *_, checks = (
        blocks  # test_trackers.py has the tracker, test_engines.py the engine
    )
    names = {}
    for block in (strategy, backbone, dataset):
        exec(compile(block, GUIDE.name, "exec"), names)
    for check in ("check_strategy", "check_backbone", "check_dataset"):
        assert check in checks
    check_strategy(names["TopAndTail"]())
    check_backbone(names["Narrow"]())
    check_dataset(names["Named"](), named)
