"""``[[expect]]`` rows: what a suite's runs must show, and ``[source.NAME]``: who measured it, on what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import UnknownName
from harness.suites.bands import METRICS, Band, read_band
from harness.suites.table import Table, is_number

SELECTORS = ("backbone", "head", "strategy", "lr", "seed")
DIGESTS = ("data", "split", "test_ids")
AUDITS = ("trains", "parameters", "norms", "prefix")
EXPECT_KEYS = (*SELECTORS, *METRICS, *DIGESTS, *AUDITS, "error", "source")
BINDING = ("data", "split", "weights", "recipe")
PROVENANCE = (
    "text", "command", "date", "commit", "code", "harness", "torch", "torchvision", "numpy", "pillow",
    "platform", "device", "device_name", "threads", "seeds", "coverage",
)  # fmt: skip
SOURCE_KEYS = (*PROVENANCE, *BINDING)

Rates = tuple[tuple[int, int, float], ...]  # (first epoch, last epoch, lr)


@dataclass(frozen=True)
class Source:
    """Where bands come from, and what they were measured on: they say nothing about anything else.

    ``data``, ``split`` and ``weights`` are digests of records (of the weights several, one a network;
    none: any weights); ``recipe`` holds every setting of the training that isn't the default. ``told`` is
    whatever else is known of the measurement.
    """

    name: str
    text: str
    data: str
    split: str
    weights: tuple[str, ...]
    recipe: Mapping[str, Any]
    told: Mapping[str, Any]


@dataclass(frozen=True)
class Expectation:
    """One row. The selectors name cells, None stands for every one of the grid.

    ``trains`` maps each stage that trains to its learning rates, ``parameters`` counts what trains,
    ``norms`` names the stages whose norm statistics change, ``prefix`` is the probe of the frozen
    prefix; ``error`` is a part of the message that a cell ends with.
    """

    line: int | None
    backbone: str | None
    head: str | None
    strategy: str | None
    lr: float | None
    seed: int | None
    bands: Mapping[str, Band]
    digests: Mapping[str, str]
    trains: Mapping[str, Rates] | None
    parameters: int | None
    norms: tuple[str, ...] | None
    prefix: tuple[float, float] | None
    error: str | None
    source: Source | None


def read_sources(t: Table) -> dict[str, Source]:
    """The tables below ``[source]``."""
    return {name: _source(t.table(name), name) for name in t.values}


def _source(t: Table, name: str) -> Source:
    t.allow(*SOURCE_KEYS)
    told = {k: _told(t, k) for k in t.values if k not in (*BINDING, "text")}
    return Source(
        name=name,
        text=t.text("text"),
        data=t.text("data"),
        split=t.text("split"),
        weights=t.texts("weights", ()) if "weights" in t.values else (),
        recipe=t.table("recipe").options(),
        told=told,
    )


def _told(t: Table, key: str) -> object:
    if key == "date":
        return t.values[key]  # as TOML's own type, or as text
    if key == "threads":
        return t.integer(key)
    return t.number(key) if key == "coverage" else t.text(key, "")


def read_expectation(t: Table, sources: Mapping[str, Source]) -> Expectation:
    """A row; a band must name its source."""
    t.allow(*EXPECT_KEYS)
    bands = {metric: read_band(t, metric) for metric in METRICS if metric in t.values}
    if bands and "source" not in t.values:
        t.fail(
            next(iter(bands)), "is a band without a source: 'harness bands' measures bands and names theirs"
        )
    if not set(t.values) & {*METRICS, *DIGESTS, *AUDITS, "error"}:
        t.fail("", "expects nothing: give a band, a digest, what trains, or an error")
    error = t.text_or_none("error")
    if error and (bands or set(t.values) & {*DIGESTS, *AUDITS}):
        t.fail("error", "stands alone: a cell that ends with an error has no figures")
    if error and "strategy" not in t.values:
        t.fail("error", "needs a strategy: which cell ends with it")
    return Expectation(
        line=t.line,
        backbone=t.text_or_none("backbone"),
        head=t.text_or_none("head"),
        strategy=t.text_or_none("strategy"),
        lr=t.number("lr") if "lr" in t.values else None,
        seed=t.integer_or_none("seed"),
        bands=bands,
        digests={key: t.text(key) for key in DIGESTS if key in t.values},
        trains=_trains(t) if "trains" in t.values else None,
        parameters=t.integer_or_none("parameters"),
        norms=t.texts("norms", allow_empty=True) if "norms" in t.values else None,
        prefix=_pair(t) if "prefix" in t.values else None,
        error=error,
        source=_named(t, sources),
    )


def _named(t: Table, sources: Mapping[str, Source]) -> Source | None:
    name = t.text_or_none("source")
    if name is not None and name not in sources:
        raise UnknownName(f"source in {t.at('source')}:", name, sources)
    return sources.get(name or "")


def _trains(t: Table) -> dict[str, Rates]:
    """Stage -> its lr in every epoch, or a list of ``[first epoch, last epoch, lr]``; ``{}``: nothing."""
    found: dict[str, Rates] = {}
    rows = t.table("trains")
    for stage, value in rows.values.items():
        spans = value if isinstance(value, list) else [value]
        if not spans or not all(_is_span(v) for v in spans):
            t.fail(
                "trains", f"must map stages to [[first epoch, last epoch, lr], ...]; {stage} has {value!r}"
            )
        found[stage] = tuple((int(a), int(b), float(lr)) for a, b, lr in spans)
    return found


def _pair(t: Table) -> tuple[float, float]:
    numbers = t.numbers("prefix")
    if len(numbers) != 2:
        t.fail("prefix", f"must be the two numbers of a record's probe; it is {list(numbers)!r}")
    return numbers[0], numbers[1]


def _is_span(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(is_number, value))
