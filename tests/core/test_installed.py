"""Plugins installed by pip, in a folder of their own, and used by a process of its own."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from core.small import small_images
from harness.kit import GROUPS, write_package

# Looked for and not imported: setuptools puts its own distutils in place of Python's.
BUILDS = all(importlib.util.find_spec(name) for name in ("pip", "setuptools"))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not BUILDS, reason="needs pip and setuptools")]

THIRD_PARTY = Path(__file__).parents[1] / "plugin_pkg"
HARNESS = (sys.executable, "-c", "from harness.cli import main; main()")
PIP = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")


@pytest.fixture(scope="module")
def use(tmp_path_factory):
    """Runs a command in a folder, with the packages installed; returns what it printed."""
    root = tmp_path_factory.mktemp("installed")
    # Building leaves files beside the sources.
    shutil.copytree(THIRD_PARTY, root / "plugin_pkg", ignore=shutil.ignore_patterns("__pycache__"))
    packages = [root / "plugin_pkg", *(write_package(kind, f"my_{kind}", root)[0] for kind in GROUPS)]
    site = root / "site"
    install = (sys.executable, "-m", "pip", "install", *PIP, "--target", site, *packages)
    subprocess.run(install, check=True, cwd=root)
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH", ""))))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HARNESS_")}
    env = {**inherited, "PYTHONPATH": path, "HARNESS_CACHE": str(root / "cache")}

    def run(*words, folder=root):
        found = subprocess.run(
            list(map(str, words)), cwd=folder, env=env, capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    run.root = root
    return run


def test_they_are_listed(use):
    strategies = use(*HARNESS, "list", "strategies")
    assert re.search(
        r"^every_other_block +harness-every-other-block +every other body stage", strategies, re.M
    )
    assert re.search(r"^my_strategy +my-strategy-strategy +\S", strategies, re.M)
    assert re.search(r"^head_only +transfer-harness +\S", strategies, re.M)
    assert re.search(r"^my_backbone +my-backbone-backbone", use(*HARNESS, "list", "backbones"), re.M)
    assert re.search(
        r"^fresh_process +harness-every-other-block +a fresh", use(*HARNESS, "list", "engines"), re.M
    )
    assert re.search(r"^my_dataset +my-dataset-dataset +\S", use(*HARNESS, "list", "datasets"), re.M)


def test_a_third_partys_strategy_runs(use):
    words = ("run", "--strategy", "every_other_block", "--limit", "200", "--epochs", "1", "--threads", "1")
    assert "every_other_block[step=2,scale=1.0]" in use(*HARNESS, *words)


def test_a_third_partys_engine_runs(use):
    words = (
        "run",
        "--strategy",
        "head_only",
        "--lr",
        "1e-3",
        "--lr",
        "1e-2",
        "--limit",
        "200",
        "--epochs",
        "1",
    )
    output = use(
        *HARNESS, *words, "--threads", "1", "--out", "on-engine", "--engine", "fresh_process[retries=1]"
    )
    assert output.count("vgg_tiny head_only") == 2


def test_new_packages_run(use):
    folder = use.root / "images"
    folder.mkdir()
    images, labels = small_images(60)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        pixels = image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{'red' if label else 'grey'}_{number:03d}.png")
    plugins = ("--data", f"my_dataset={folder}", "--backbone", "my_backbone", "--strategy", "my_strategy")
    assert "my_strategy[scale=0.1]" in use(*HARNESS, "run", *plugins, "--epochs", "1", "--threads", "1")


@pytest.mark.parametrize("name", ["plugin_pkg", *(f"my_{kind}" for kind in GROUPS)])
def test_their_own_tests_pass(use, name):
    output = use(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=use.root / name)
    assert re.search(r"\d passed", output)
