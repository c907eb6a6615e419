"""Suites: grids of runs with their published references, one TOML file each.

A suite has ``name``, ``title``, ``[data]``, ``[grid]``, ``[train]`` and any number of
``[[reference]]`` rows: figures that somebody published for a cell. They are shown beside a run's
own figures and never decide whether it passes; ``[[expect]]`` rows do (:mod:`harness.suites.expect`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from harness.errors import UnknownName, UsageError
from harness.spec import TrainSpec
from harness.suites.expect import Expectation, Source, read_expectation, read_sources
from harness.suites.table import Table

SUFFIX = ".suite.toml"
SPLITS = ("auto", "stratified", "official", "group")
KEYS = {
    "": ("name", "title", "data", "grid", "train", "reference", "source", "expect"),
    "data": ("name", "target", "split", "group", "split_seed", "limit", "missing"),
    "grid": ("backbones", "weights", "heads", "strategies", "lrs", "seeds"),
    "train": (
        "epochs", "batch_size", "optimizer", "weight_decay", "schedule", "class_weights", "flip", "augment",
        "precision", "select", "deterministic",
    ),
    "reference": (
        "source", "target", "backbone", "strategy", "lr", "accuracy", "n", "confusion", "per_class", "note",
    ),
    "per_class": ("name", "precision", "recall", "f1"),
}  # fmt: skip

Option = str | int | float | bool


@dataclass(frozen=True)
class SuiteData:
    """Which samples, and how they are split; the fields are those of a run's data."""

    name: str
    target: str | None = None
    split: str | None = None
    group: str | None = None
    split_seed: int = 0
    limit: int | None = None
    missing: str = "error"


@dataclass(frozen=True)
class SuiteGrid:
    """The grid: every combination of its columns is one cell."""

    backbones: tuple[str, ...]
    strategies: tuple[str, ...]
    lrs: tuple[float, ...]
    weights: str | None = None
    heads: tuple[str, ...] = ("own",)
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class ReferenceClass:
    """Published figures of one class, as fractions."""

    name: str
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Reference:
    """One published cell. ``accuracy`` is a fraction; rows of ``confusion`` are true classes."""

    source: str
    target: str | None
    backbone: str
    strategy: str
    lr: float
    accuracy: float
    n: int | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None
    per_class: tuple[ReferenceClass, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Suite:
    """A grid of runs with the recipe of its training, its references and what it must show.

    ``file`` is the path it was read from, None for one that comes with the program.
    """

    name: str
    title: str
    data: SuiteData
    grid: SuiteGrid
    train: Mapping[str, Option]
    references: tuple[Reference, ...]
    sources: Mapping[str, Source]
    expectations: tuple[Expectation, ...]
    file: Path | None = None


def builtin_suites() -> tuple[str, ...]:
    """Names of the suites that come with the program, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(f.name.removesuffix(SUFFIX) for f in files if f.name.endswith(SUFFIX)))


def load_suite(name_or_path: str | Path) -> Suite:
    """The suite of that name, or the one in that file (a path that ends in ``.toml``).

    Raises :class:`~harness.errors.UnknownName` for a name that doesn't exist and
    :class:`~harness.errors.UsageError`, naming the file, for one that can't be read.
    """
    name = str(name_or_path)
    if name in builtin_suites():
        return parse_suite(
            (resources.files(__name__) / f"{name}{SUFFIX}").read_text("utf-8"), f"{name}{SUFFIX}"
        )
    if not name.endswith(".toml"):
        raise UnknownName("suite", name, builtin_suites())
    try:
        text = Path(name).read_text("utf-8")
    except FileNotFoundError:
        raise UsageError(f"suite file '{name}' doesn't exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"suite file '{name}' can't be read: {error}") from error
    return replace(parse_suite(text, name), file=Path(name))


def builtin_file(name: str) -> Path:
    """Where a suite that comes with the program lies."""
    return Path(str(resources.files(__name__) / f"{name}{SUFFIX}"))


def parse_suite(text: str, file: str) -> Suite:
    """A suite from its text; ``file`` is what errors call it."""
    try:
        root = Table(file, "", tomllib.loads(text), text)
    except (ValueError, RecursionError) as error:  # TOML's own message ends in "(at line L, column C)"
        raise UsageError(f"suite file '{file}' is not valid TOML: {error}") from error
    root.allow(*KEYS[""])
    sources = read_sources(root.table("source", optional=True))
    data, grid = _data(root.table("data")), _grid(root.table("grid"))
    return Suite(
        name=root.text("name"),
        title=root.text("title", root.text("name")),
        data=data,
        grid=grid,
        train=_train(root.table("train", optional=True)),
        references=tuple(_reference(row, data, grid) for row in root.tables("reference")),
        sources=sources,
        expectations=tuple(read_expectation(row, sources) for row in root.tables("expect")),
    )


def _data(t: Table) -> SuiteData:
    t.allow(*KEYS["data"])
    return SuiteData(
        name=t.text("name"),
        target=t.text_or_none("target"),
        split=t.choice("split", SPLITS),
        group=t.text_or_none("group"),
        split_seed=t.integer("split_seed", 0, least=0),
        limit=t.integer_or_none("limit", least=1),
        missing=t.choice("missing", ("error", "skip")) or "error",
    )


def _grid(t: Table) -> SuiteGrid:
    t.allow(*KEYS["grid"])
    return SuiteGrid(
        backbones=t.texts("backbones"),
        weights=t.text_or_none("weights"),
        heads=t.texts("heads", ("own",)),
        strategies=t.texts("strategies"),
        lrs=t.numbers("lrs", positive=True),
        seeds=t.integers("seeds", (0,)),
    )


def _train(t: Table) -> Mapping[str, Option]:
    t.allow(*KEYS["train"])
    found = t.options()
    for key, value in found.items():
        try:
            TrainSpec(**{key: value})  # type: ignore[arg-type]
        except UsageError as error:
            raise UsageError(f"{t.at(key)}: {error}") from error
    return found


def _reference(t: Table, data: SuiteData, grid: SuiteGrid) -> Reference:
    t.allow(*KEYS["reference"])
    return Reference(
        source=t.text("source"),
        target=t.text_or_none("target") or data.target,
        backbone=t.text("backbone", grid.backbones[0]),
        strategy=t.text("strategy"),
        lr=t.number("lr"),
        accuracy=t.fraction("accuracy"),
        n=t.integer_or_none("n"),
        confusion=t.matrix("confusion"),
        per_class=tuple(_reference_class(row) for row in t.tables("per_class")),
        note=t.text("note", ""),
    )


def _reference_class(t: Table) -> ReferenceClass:
    t.allow(*KEYS["per_class"])
    return ReferenceClass(
        name=t.text("name"),
        precision=t.fraction("precision"),
        recall=t.fraction("recall"),
        f1=t.fraction("f1"),
    )
