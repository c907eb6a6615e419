"""Imports point downward only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("harness", "strategies", "reports")
LIGHT = (
    "contracts",
    "adaptive",
    "recipes",
    "stage_info",
    "errors",
    "seeding",
    "spec",
    "plugins",
    "stage_plan",
    "stats",
    "resampling",
    "ranking",
    "calibration",
    "heatmaps",
    "leakage",
    "code_digest",
    "suites.claims",
    "export.notes",
    "seal",
    "verify",
    "simulation",
    "simulation_events",
    "tracked",
    "trackers.read",
    "trackers.export",
    "trackers.follow",
    "trackers.tensorboard",
    "trackers.mlflow",
    "trackers.wandb",
    "dispatch",
    "work",
    "engines.frames",
    "engines.local",
    "engines.local_worker",
    "engines.ray",
    "engines.slurm",
    "engines.trials",
)


def modules(package: str) -> dict[str, Path]:
    """Dotted name -> file of every module of a package."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path, deep: bool = True) -> Iterator[str]:
    """Dotted names that a module imports; with ``deep`` false only those that importing it imports.

    What stands under ``if TYPE_CHECKING`` counts where ``deep`` is true.
    """
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join(filter(None, [*parents, base]))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif not deep and (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            or (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING")
        ):
            continue
        else:
            pending.extend(ast.iter_child_nodes(node))


def below(names: Iterator[str], *tops: str) -> set[str]:
    return {n for n in names if any(n == t or n.startswith(f"{t}.") for t in tops)}


HARNESS, STRATEGIES, REPORTS = modules("harness"), modules("strategies"), modules("reports")


def test_there_is_something_to_look_at():
    assert len(HARNESS) > 20
    assert len(STRATEGIES) > 4
    assert len(REPORTS) > 2
    assert "harness.trainer" in set(imported("harness.run_cell", HARNESS["harness.run_cell"]))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_imports_the_contracts_and_the_errors_only(name):
    found = below(imported(name, STRATEGIES[name]), "harness", "strategies", "reports", "torch", "numpy")
    allowed = below(iter(found), "harness.contracts", "harness.errors")
    assert found <= allowed


@pytest.mark.parametrize("name", HARNESS)
def test_the_harness_reaches_strategies_through_entry_points_alone(name):
    assert not below(imported(name, HARNESS[name]), "strategies")


@pytest.mark.parametrize("name", HARNESS)
def test_only_commands_import_reports_and_nothing_imports_the_command_line(name):
    found = set(imported(name, HARNESS[name]))
    if not name.startswith(("harness.commands", "harness.pytest_plugin", "harness.api")):
        assert not below(iter(found), "reports", "harness.commands")
    assert name == "harness.__main__" or not below(iter(found), "harness.cli")


@pytest.mark.parametrize("name", LIGHT)
def test_the_light_modules_need_no_torch(name):
    """Nor does anything that importing them imports."""
    pending, seen = [f"harness.{name}"], set()
    while pending:
        module = pending.pop()
        if module in seen:
            continue
        seen.add(module)
        found = set(imported(module, HARNESS[module], deep=False))
        assert not below(iter(found), "torch", "torchvision", "timm"), module
        pending.extend(found & HARNESS.keys())


@pytest.mark.parametrize("name", [n for n in HARNESS if n.startswith("harness.commands")])
def test_commands_import_torch_only_when_they_run(name):
    found = set(imported(name, HARNESS[name], deep=False))
    assert not below(
        iter(found), "torch", "torchvision", "timm", "harness.run_grid", "harness.backbones", "reports"
    )


@pytest.mark.parametrize("name", REPORTS)
def test_reports_never_import_torch(name):
    found = set(imported(name, REPORTS[name]))
    assert not below(
        iter(found), "torch", "torchvision", "timm", "strategies", "harness.cli", "harness.run_grid"
    )


@pytest.mark.parametrize(
    "name",
    [
        "trainer",
        "cell",
        "cell_state",
        "freezing",
        "micro_batches",
        "witness",
        "audit",
        "optimizers",
        "schedules",
        "prefix",
    ],
)
def test_the_trainer_knows_no_files_no_command_line_no_plots(name):
    found = set(imported(f"harness.{name}", HARNESS[f"harness.{name}"]))
    upper = (
        "store",
        "record",
        "run_grid",
        "run_cell",
        "checkpoint",
        "jobs",
        "progress",
        "commands",
        "plugins",
        "data",
    )
    assert not below(iter(found), "click", "matplotlib", "jinja2", *(f"harness.{m}" for m in upper))


def test_metrics_know_nothing_of_storage_or_torch():
    found = set(imported("harness.metrics", HARNESS["harness.metrics"]))
    assert not below(iter(found), "torch", "harness.store", "harness.record", "pathlib")


def test_every_import_of_our_own_leads_somewhere():
    """Also those that only a command makes when it runs."""
    own = {**HARNESS, **STRATEGIES, **REPORTS}
    for name, path in own.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and below(iter([node.module]), *TOPS):
                assert node.module in own, f"{name} imports {node.module}, which doesn't exist"


def test_no_module_takes_the_name_of_a_function_of_the_package():
    """``from harness import run`` would give whichever of them was imported last."""
    assert not {"run", "grid", "load_run"} & {n.removeprefix("harness.") for n in HARNESS}


def test_no_import_goes_in_a_circle():
    graph = {n: set(imported(n, p, deep=False)) & HARNESS.keys() for n, p in HARNESS.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in graph[name] - {name}:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
