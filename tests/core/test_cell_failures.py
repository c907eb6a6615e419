"""A cell that fails is marked with its reason, the grid goes on, the status is 1."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from core.small import Small, small_net, write_plugin
from harness import jobs, run_cell
from harness.contracts import Group, Plan, Recipe, Segment, Selector, train

COMMON = ("--epochs", "2", "--batch-size", "16", "--threads", "1", "--device", "cpu", "--quiet")


def records(tmp_path):
    found = [json.loads(p.read_text()) for p in (tmp_path / "runs").glob("*/result.json")]
    return {(r["spec"]["backbone"], r["spec"]["strategy_name"]): r for r in found}


class Broken(Small):
    """A plugin whose network can't run a batch."""

    name = "broken"
    error: ClassVar[BaseException] = ZeroDivisionError("a fault of the plugin")

    def build(self, weights, num_classes, head):
        model = small_net(num_classes, covered=weights == "drawn")

        def fail(*_):
            raise self.error

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


@pytest.mark.usefixtures("broken")
def test_a_network_that_ends_the_program_does_not_do_so_silently(harness, images, monkeypatch):
    monkeypatch.setattr(Broken, "error", SystemExit(7))
    words = ("--backbone", "broken", "--strategy", "head_only", *COMMON)
    status, _, errors = harness("run", "--data", f"folder={images}", *words)
    assert (status, errors.splitlines()[-1]) == (
        1,
        "harness: internal error: SystemExit: 7 (--debug shows where)",
    )


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


class Faulty:
    """A strategy whose code has a mistake."""

    source = summary = "a test"

    def recipe(self, stages, epochs):
        return {}["learning rate"]


class Nothing(Faulty):
    def recipe(self, stages, epochs):
        return None


class Exiting(Faulty):
    def recipe(self, stages, epochs):
        raise SystemExit(7)


class Long(Faulty):
    def recipe(self, stages, epochs):
        return Recipe(
            (Segment(epochs + 5, Plan((train(role="head"), train(role="body"), train(role="stem")))),)
        )


class Backwards(Faulty):
    def recipe(self, stages, epochs):
        return Recipe((Segment(epochs, Plan((Group(Selector(), -1.0),))),))


class Unbuilt(Small):
    name = "unbuilt"

    def build(self, weights, num_classes, head):
        raise ZeroDivisionError("a fault of the plugin")


class Misnamed(Small):
    name = "another"


@pytest.fixture
def faulty(tmp_path, monkeypatch, site):
    points = {
        "harness.strategies": {
            "faulty": "core.test_cell_failures:Faulty",
            "nothing": "core.test_cell_failures:Nothing",
            "exiting": "core.test_cell_failures:Exiting",
            "long": "core.test_cell_failures:Long",
            "backwards": "core.test_cell_failures:Backwards",
        },
        "harness.backbones": {
            "unbuilt": "core.test_cell_failures:Unbuilt",
            "misnamed": "core.test_cell_failures:Misnamed",
        },
    }
    monkeypatch.syspath_prepend(write_plugin(tmp_path / "more", "faulty-plugins", points))


@pytest.mark.usefixtures("faulty")
def test_a_strategy_that_cannot_be_planned_fails_its_own_cells_only(harness, images, tmp_path):
    fault = "strategy 'faulty' of package faulty-plugins can't be planned: KeyError: 'learning rate'"
    words = ["--backbone", "small"]
    for name in ("faulty", "head_only", "nothing"):
        words += ["--strategy", name]
    given = ("run", "--data", f"folder={images}", *words, *COMMON)
    status, output, errors = harness(*given, "--plan")
    assert status == 1
    assert f"  not faulty lr=0.001 seed=0: {fault}\n" in output
    assert output.count("  not ") == 2
    status, output, errors = harness(*given)
    assert status == 1
    assert "Traceback" not in output + errors
    found = records(tmp_path)
    assert {k[1]: r["status"] for k, r in found.items()} == {
        "faulty": "failed",
        "nothing": "failed",
        "head_only": "done",
    }
    assert found["small", "faulty"]["error"] == fault
    assert found["small", "faulty"]["strategy"]["trainable"] == 0
    assert "strategy 'nothing' of package faulty-plugins" in found["small", "nothing"]["error"]
    assert harness(*given)[0] == 1, "what failed is tried again"
    assert harness("show", "plan", "--backbone", "small", "--strategy", "faulty")[::2] == (
        2,
        f"harness: {fault}\n",
    )


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("exiting", "can't be planned: SystemExit: 7"),
        ("long", "strategy long plans 7 epochs, but 2 were asked for"),
        ("backwards", "strategy backwards multiplies the learning rate by -1.0"),
    ],
)
def test_a_plan_that_makes_no_sense_fails_its_own_cell_only(harness, images, tmp_path, name, reason):
    words = ("--backbone", "small", "--strategy", name, "--strategy", "head_only")
    status, _, errors = harness("run", "--data", f"folder={images}", *words, *COMMON)
    assert status == 1, errors
    found = records(tmp_path)
    assert found["small", "head_only"]["status"] == "done"
    assert found["small", name]["error"].endswith(reason)


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize(
    ("backbone", "text"),
    [
        (
            "unbuilt",
            "backbone 'unbuilt' of package faulty-plugins can't be built: ZeroDivisionError: a fault",
        ),
        ("misnamed", "backbone 'misnamed' of package faulty-plugins calls itself 'another'"),
    ],
)
def test_a_backbone_that_cannot_be_planned_is_one_line(harness, images, backbone, text):
    status, _, errors = harness("run", "--data", f"folder={images}", "--backbone", backbone, *COMMON)
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.startswith(f"harness: {text}")


@pytest.mark.usefixtures("site")
def test_a_done_cell_of_other_code_is_said_and_stays(harness, images, tmp_path, monkeypatch):
    given = ("run", "--data", f"folder={images}", "--backbone", "small", *COMMON[:-1])
    assert "come from other code" not in harness(*given)[2]
    assert "come from other code" not in harness(*given)[2]
    monkeypatch.setattr(jobs, "code_digest", lambda plugins: "0" * 64)
    status, output, errors = harness(*given)
    assert (status, "done before" in output) == (0, True)
    (line,) = [line for line in errors.splitlines() if "come from other code" in line]
    words = line.split("'")[1].split()
    assert words[0] == "harness"
    assert harness(*words[1:])[0] == 0
    status, output, errors = harness(*given)
    assert "done before" not in output
    assert "come from other code" not in errors


class Illegible:
    """A dataset whose reader has a mistake."""

    name = "illegible"
    default_target = None
    default_split = "stratified"
    needs_path = False

    def read(self, path, *, target, missing):
        return {}["labels"]


class Void(Illegible):
    name = "void"

    def read(self, path, *, target, missing):
        return None


class Erratic(Faulty):
    """An adaptive strategy whose rule has a mistake."""

    def recipe(self, stages, epochs):
        return Recipe((Segment(epochs, Plan((train(),)), adapt=NoRule()),))


@dataclass(frozen=True)
class NoRule:
    batches: int = 1

    def shares(self, seen):
        return {"head": 1 / 0}


@dataclass(frozen=True)
class WrongRule(NoRule):
    def shares(self, seen):
        return dict.fromkeys(seen, -1.0)


class Negative(Faulty):
    def recipe(self, stages, epochs):
        return Recipe((Segment(epochs, Plan((train(),)), adapt=WrongRule()),))


@pytest.fixture
def mistaken(tmp_path, monkeypatch, site):
    here = "core.test_cell_failures"
    points = {
        "harness.datasets": {"illegible": f"{here}:Illegible", "void": f"{here}:Void"},
        "harness.strategies": {"erratic": f"{here}:Erratic", "negative": f"{here}:Negative"},
    }
    monkeypatch.syspath_prepend(write_plugin(tmp_path / "mistaken", "mistaken-plugins", points))


@pytest.mark.usefixtures("mistaken")
@pytest.mark.parametrize(
    ("name", "reason"),
    [("illegible", "KeyError: 'labels'"), ("void", "TypeError: read() gave a NoneType, not a SampleTable")],
)
def test_a_dataset_that_cannot_be_read_is_one_line_that_names_its_package(harness, name, reason):
    for words in (["run", "--backbone", "small", *COMMON], ["data", "audit", "--quiet"]):
        assert harness(*words, "--data", name) == (
            2,
            "",
            f"harness: dataset '{name}' of package mistaken-plugins can't be read: {reason}\n",
        )


@pytest.mark.usefixtures("mistaken")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("erratic", "NoRule: ZeroDivisionError: division by zero"),
        ("negative", "WrongRule: the share of"),
    ],
)
def test_a_rule_of_learning_rates_that_fails_names_its_package(harness, images, tmp_path, name, reason):
    words = ("run", "--data", f"folder={images}", "--backbone", "small", "--strategy", name, *COMMON)
    assert harness(*words)[0] == 1
    (record,) = records(tmp_path).values()
    assert record["error"].startswith(
        f"strategy '{name}' of package mistaken-plugins can't set its learning rates: {reason}"
    )
