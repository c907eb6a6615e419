"""Pinned requirements: complete, with digests, without the address of any index; explained, with licences."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "requirements").glob("*.txt"))
DEPENDENCIES = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
LICENSES = (ROOT / "docs" / "licenses.md").read_text("utf-8")


def maker() -> ModuleType:
    """What makes the files, ``requirements/pin.py``."""
    spec = importlib.util.spec_from_file_location("pin", ROOT / "requirements" / "pin.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PIN = maker()


def pinned(text: str) -> dict[str, tuple[str, int]]:
    """Package -> its version and how many digests stand with it."""
    entries = re.split(r"\n(?=\S)", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    found = {}
    for entry in filter(str.strip, entries):
        match = re.match(r"([a-z0-9-]+)==([^\s;\\]+)", entry.strip())
        assert match, entry
        found[match[1]] = (match[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)))
    return found


def versions(file: Path) -> dict[str, str]:
    return {name: version for name, (version, _) in pinned(file.read_text("utf-8")).items()}


def licensed(text: str) -> dict[str, tuple[str, str, set[str]]]:
    """Package -> version, licence, and the extras that bring it; none where it comes with the core."""
    found = {}
    for row in re.findall(
        r"^\| ([a-z0-9-]+) \| (\d[^|]*) \| ((?:[^|\\]|\\.)+) \|(?: ([^|]+) \|)?$", text, re.M
    ):
        name, version, licence, extras = row
        found[name] = (version, licence, set(re.findall(r"`(\w+)`", extras)))
    return found


def unexplained(wanted: dict[str, list[str]], text: str) -> list[str]:
    """Requirements whose name doesn't stand in ``text``."""
    names = [Requirement(line).name for lines in wanted.values() for line in lines]
    return [n for n in names if not re.search(rf"(?<![\w-]){re.escape(n)}(?![\w-])", text)]


def unlicensed(wanted: dict[str, list[str]], text: str) -> list[str]:
    """Requirements that have no row of licences, or one without the extra that names them."""
    rows, missing = licensed(text), []
    for extra, lines in wanted.items():
        for line in lines:
            name = canonicalize_name(Requirement(line).name)
            extras = rows[name][2] if name in rows else None
            if extras is None or (extras and extra not in extras):
                missing.append(name)
    return missing


def test_there_are_files_of_the_core_and_of_what_users_add() -> None:
    assert {PIN.CORE, PIN.EXTRAS} == set(FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_every_package_is_pinned_with_digests(file: Path) -> None:
    found = pinned(file.read_text("utf-8"))
    assert [name for name, (_, digests) in found.items() if not digests] == []
    wanted = PIN.requirements()
    extras = [e for e in wanted if file == PIN.EXTRAS and e not in PIN.DEVELOPERS]
    for requirement in map(Requirement, [line for extra in {"", *extras} for line in wanted[extra]]):
        assert requirement.specifier.contains(found[canonicalize_name(requirement.name)][0]), requirement


def test_both_files_name_the_same_versions() -> None:
    assert versions(PIN.CORE).items() <= versions(PIN.EXTRAS).items()


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_no_address_is_recorded(file: Path) -> None:
    text = file.read_text("utf-8")
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host|^-i |file:|@ ", text, re.M)


@pytest.mark.parametrize("page", [DEPENDENCIES, LICENSES], ids=["dependencies", "licenses"])
def test_no_page_names_an_index(page: str) -> None:
    assert "://" not in page


def test_every_requirement_is_explained_and_has_its_licence() -> None:
    """``tox -e pins`` makes the page of licences; the reasons are written by hand."""
    assert unexplained(PIN.requirements(), DEPENDENCIES) == []
    assert unlicensed(PIN.requirements(), LICENSES) == []


def test_a_requirement_that_is_not_on_the_pages_is_found() -> None:
    wanted = {"": ["numpy>=1", "left-pad>=1"], "hf": ["torch-scatter>=2"], "ray": ["pyarrow>=1"]}
    assert unexplained(wanted, DEPENDENCIES) == ["left-pad", "torch-scatter"]
    assert unlicensed(wanted, LICENSES) == ["left-pad", "torch-scatter", "pyarrow"]


def test_the_licences_are_those_of_what_is_pinned() -> None:
    rows = licensed(LICENSES)
    developers = {name for name, (_, _, extras) in rows.items() if extras and extras <= set(PIN.DEVELOPERS)}
    assert {n: v for n, (v, _, _) in rows.items() if n not in developers} == versions(PIN.EXTRAS)
    assert {name for name, (_, _, extras) in rows.items() if not extras} == versions(PIN.CORE).keys()


def test_nothing_asks_users_to_publish_their_code() -> None:
    binding = re.compile(r"(?<!L)GPL|General Public|SSPL")
    assert [name for name, (_, text, _) in licensed(LICENSES).items() if binding.search(text)] == []


def test_what_is_imported_is_declared() -> None:
    """Not left to come along with something else."""
    wanted = PIN.requirements()
    declared = {
        canonicalize_name(Requirement(line).name)
        for extra, lines in wanted.items()
        for line in lines
        if extra not in PIN.DEVELOPERS
    }
    declared |= {
        "transfer-harness",
        "pytest",
        "pandas",
    }  # which bring themselves: a plugin, a method's option
    brought = packages_distributions()
    for file in (
        f for package in ("harness", "strategies", "reports") for f in (ROOT / package).rglob("*.py")
    ):
        for module in imported(file) - sys.stdlib_module_names:
            # The modules of extras that aren't installed here are known by their packages' names.
            packages = {canonicalize_name(name) for name in brought.get(module, [module])}
            assert packages & declared, f"{file.relative_to(ROOT)} imports {module}"


def imported(file: Path) -> set[str]:
    """Top-level modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found
