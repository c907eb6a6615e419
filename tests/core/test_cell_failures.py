"""A cell that fails is marked with its reason, the grid goes on, the status is 1."""

import json

import pytest
import torch

from core.small import Small, small_net, write_plugin
from harness import run_cell

COMMON = ("--epochs", "2", "--batch-size", "16", "--threads", "1", "--device", "cpu", "--quiet")


def records(tmp_path):
    found = [json.loads(p.read_text()) for p in (tmp_path / "runs").glob("*/result.json")]
    return {(r["spec"]["backbone"], r["spec"]["strategy_name"]): r for r in found}


class Broken(Small):
    """A plugin whose network can't run a batch."""

    name = "broken"

    def build(self, weights, num_classes, head):
        model = small_net(num_classes, covered=weights == "drawn")

        def fail(*_):
            raise ZeroDivisionError("a fault of the plugin")

        model.parts["block1"].register_forward_hook(fail)
        return model


@pytest.fixture
def broken(tmp_path, monkeypatch, site):
    points = {"harness.backbones": {"broken": "core.test_cell_failures:Broken"}}
    monkeypatch.syspath_prepend(write_plugin(tmp_path / "more", "broken-nets", points))


@pytest.mark.usefixtures("broken")
def test_a_network_that_cannot_run_fails_its_own_cells_only(harness, images, tmp_path):
    words = ("--backbone", "broken", "--backbone", "small", "--strategy", "head_only", "--strategy", "full")
    status, output, errors = harness("run", "--data", f"folder={images}", *words, *COMMON)
    assert status == 1
    assert "Traceback" not in output + errors
    found = records(tmp_path)
    assert {k: r["status"] for k, r in found.items()} == {
        ("broken", "head_only"): "failed",
        ("broken", "full"): "failed",
        ("small", "head_only"): "done",
        ("small", "full"): "done",
    }
    for strategy in ("head_only", "full"):
        assert "ZeroDivisionError: a fault of the plugin" in found["broken", strategy]["error"]
    print("failures: 2 cells of a broken network marked, 2 of another trained")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError("no memory")])
@pytest.mark.usefixtures("site")
def test_memory_that_runs_out_fails_one_cell_by_name(harness, images, tmp_path, monkeypatch, error):
    original = run_cell.Cell.suffix

    def suffix(self, segment):
        if self.lr == 1e-3:
            raise error
        return original(self, segment)

    monkeypatch.setattr(run_cell.Cell, "suffix", suffix)
    words = ("--backbone", "small", "--strategy", "full", "--lr", "1e-2", "--lr", "1e-3", "--lr", "1e-4")
    status, output, _ = harness("run", "--data", f"folder={images}", *words, *COMMON)
    assert status == 1
    assert type(error).__name__ in output
    lines = harness("runs", "ls")[1].splitlines()
    assert sorted(line.split()[0] for line in lines) == ["done", "done", "failed"]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
