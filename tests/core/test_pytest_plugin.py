"""The pytest plugin, in pytest processes of its own, on the small network."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from core.small import write_folder, write_plugin

TESTS = Path(__file__).parents[1]
SUITE = """name = "small"
[data]
name = "folder"
[grid]
backbones = ["small"]
strategies = ["linear_probe", "last_block"]
lrs = [1e-2]
[train]
epochs = 1
[[expect]]
strategy = "linear_probe"
trains = { head = [[1, 1, 0.01]] }
parameters = 1
[[expect]]
strategy = "last_block"
parameters = 1
"""


@pytest.fixture
def run(tmp_path):
    """Runs pytest on a suite file: (exit status, output, folders of the runs it trained)."""
    write_folder(tmp_path / "images")
    write_plugin(tmp_path / "site", "small-nets", {"harness.backbones": {"small": "core.small:Small"}})
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "small.suite.toml").write_text(SUITE)
    path = os.pathsep.join(map(str, [tmp_path / "site", TESTS]))
    own = {"PYTHONPATH": path, "HARNESS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HARNESS_", "PYTEST_"))} | own

    def pytest_process(*options, data=True):
        words = [sys.executable, "-m", "pytest", "small.suite.toml", f"--basetemp={tmp_path / 'base'}"]
        words += ["--harness-threads=1", *([f"--harness-data=folder={tmp_path / 'images'}"] if data else [])]
        found = subprocess.run([*words, *options], cwd=tmp_path, env=env, capture_output=True, text=True)
        trained = sorted(p.name.split("_")[2] for p in (tmp_path / "base" / "harness").glob("*/*/"))
        return found.returncode, found.stdout + found.stderr, trained

    return pytest_process


def test_it_is_installed_and_imports_nothing_heavy():
    assert [e.value for e in entry_points(group="pytest11", name="harness")] == ["harness.pytest_plugin"]
    heavy = "[m for m in ('torch', 'numpy', 'click') if m in sys.modules]"
    code = f"import pytest, sys, harness.pytest_plugin; print({heavy})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_each_expectation_is_a_test_only_what_is_selected_trains_and_a_failure_is_readable(run):
    code, out, trained = run("-q", "-k", "linear_probe")
    assert (code, trained) == (1, ["linear"]), out
    assert "1 failed, 1 passed, 1 deselected" in out
    lines = [line.strip() for line in out.splitlines()]
    assert "small linear_probe lr=0.01 seed=0: parameters is outside" in lines
    assert "expected: 1" in lines
    assert "Traceback" not in out


@pytest.mark.slow
def test_workers_share_the_work(run):
    code, out, trained = run("-q", "-n", "2")
    assert (code, trained) == (1, ["last", "linear"]), out
    assert "2 failed, 1 passed" in out


def test_a_malformed_suite_is_one_line(run, tmp_path):
    (tmp_path / "small.suite.toml").write_text(SUITE.replace("epochs", "epoch"))
    code, out, _ = run("-q")
    assert code == 2
    assert "line 9: 'epoch'; did you mean 'epochs'" in " ".join(out.split())
    assert "Traceback" not in out


def test_absent_data_skip_with_the_reason(run, tmp_path):
    text = SUITE.replace('name = "folder"', 'name = "celeba30k"').replace('["small"]', '["vgg16"]')
    (tmp_path / "small.suite.toml").write_text(text)
    code, out, _ = run("-q", "-rs", data=False)
    assert code == 0
    assert "set HARNESS_CELEBA_ROOT" in out
    assert "3 skipped" in out
    (tmp_path / "small.suite.toml").write_text(SUITE)
    code, out, _ = run("-q", "-rs", data=False)
    assert (code, out.count("needs a path: --harness-data folder=PATH")) == (0, 1)
