"""Suite files: whole ones are read as they were meant, broken ones are one line that names the file."""

from __future__ import annotations

import json
import math
import tomllib
from collections import Counter
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.profile import profile
from fuzz.texts import mutated
from fuzz.told import counted, tell
from harness.errors import HarnessError
from harness.spec import AUGMENTATIONS, CHOICES
from harness.suites import builtin_file, builtin_suites, load_suite
from harness.suites.claims import claims
from harness.suites.grid import overridden, suite_grid
from harness.suites.write import _value as toml

SCHEMA = json.loads((resources.files("harness.suites") / "suite.schema.json").read_text("utf-8"))
WORDS = st.sampled_from(
    ["x", "vgg_tiny", "full", "last_k[k=2]", "a b", "ü", '"', "\\", "a\nb", "#", "'''", "\u2028"]
)
SHARES = st.floats(0, 1)
LRS = st.sampled_from([1e-3, 1e-4, 0.5, 1])


def optional(**found: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=found)


TRAIN = optional(
    epochs=st.integers(1, 99),
    batch_size=st.integers(1, 9999),
    weight_decay=st.floats(0, 9) | st.integers(0, 1),
    flip=st.booleans(),
    augment=st.sampled_from(["", "crop", "erase, crop", *AUGMENTATIONS]),
    deterministic=st.booleans(),
    **{name: st.sampled_from(values) for name, values in CHOICES.items()},
)
GRID = st.fixed_dictionaries(
    {
        "backbones": st.lists(WORDS, min_size=1, max_size=2),
        "strategies": st.lists(WORDS, min_size=1, max_size=3, unique=True),
        "lrs": st.lists(LRS, min_size=1, max_size=2),
    },
    optional={
        "heads": st.lists(WORDS, min_size=1, max_size=2),
        "seeds": st.lists(st.integers(0, 2**70), min_size=1, max_size=2),
        "weights": WORDS,
    },
)
DATA = st.fixed_dictionaries(
    {"name": WORDS},
    optional={
        "target": WORDS,
        "split": st.sampled_from(["auto", "stratified", "official", "group"]),
        "group": WORDS,
        "split_seed": st.integers(0, 2**40),
        "limit": st.integers(1, 9999),
        "missing": st.sampled_from(["error", "skip"]),
    },
)
EDGES = st.tuples(SHARES, SHARES).map(sorted)
BAND = EDGES | st.lists(EDGES, min_size=1, max_size=2)
ACCURACY = BAND | st.lists(EDGES | st.just("majority"), min_size=1, max_size=3)
SPAN = st.tuples(st.integers(1, 9), st.integers(1, 9), LRS).map(list)
EXPECT = st.one_of(
    st.fixed_dictionaries({"accuracy": ACCURACY, "source": st.just("by hand")}, optional={"loss": BAND}),
    optional(parameters=st.integers(0, 10**12), norms=st.lists(WORDS, max_size=2)).filter(bool),
    st.fixed_dictionaries({"trains": st.dictionaries(WORDS, st.lists(SPAN, min_size=1, max_size=2), max_size=2)}),  # noqa: E501
    st.fixed_dictionaries({"prefix": st.tuples(SHARES, SHARES).map(list), "test_ids": WORDS}),
)  # fmt: skip
REFERENCE = st.fixed_dictionaries(
    {"source": WORDS, "strategy": WORDS, "lr": LRS, "accuracy": SHARES},
    optional={"n": st.integers(0, 9), "note": WORDS, "confusion": st.just([[1, 2], [3, 4]])},
)


def written(suite: Mapping[str, Any]) -> str:
    """A suite as a file."""
    lines = [f"{k} = {toml(suite[k])}" for k in ("name", "title") if k in suite]
    for table in ("data", "grid", "train"):
        if table in suite:
            lines += [f"[{table}]", *(f"{k} = {toml(v)}" for k, v in suite[table].items())]
    lines += ['[source."by hand"]', 'text = "x"\ndata = "0"\nsplit = "1"\nrecipe = {}']
    for table in ("reference", "expect"):
        for row in suite.get(table, []):
            lines += [f"[[{table}]]", *(f"{k} = {toml(v)}" for k, v in row.items())]
    return "\n".join(lines) + "\n"


SUITE = st.fixed_dictionaries(
    {"name": WORDS, "data": DATA, "grid": GRID},
    optional={
        "title": WORDS,
        "train": TRAIN,
        "reference": st.lists(REFERENCE, max_size=2),
        "expect": st.lists(EXPECT, max_size=3),
    },
)
TEXTS = {name: builtin_file(name).read_text("utf-8") for name in builtin_suites()}
# The measured parts are long and alike: what is changed should be something else, mostly.
SHORT = {name: text[:1500] for name, text in TEXTS.items()}
BROKEN = st.one_of(
    st.sampled_from([*SHORT.values(), *TEXTS.values()]).flatmap(mutated),
    SUITE.map(written).flatmap(mutated),
    st.text(max_size=200),
    st.binary(max_size=200),
)


def judged(file: Path, content: str | bytes) -> str:
    """Writes the file and reads it as the commands do: what came of it."""
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    name = ""
    try:
        suite = load_suite(file)
        name = suite.name
        grid = suite_grid(suite)
        assert not overridden(grid, suite)
        claims(suite, grid)
    except HarnessError as error:
        assert error.exit_code == 2  # noqa: PT017
        assert file.name in str(error) or (name and f"suite '{name}'" in str(error)), str(error)  # noqa: PT017
        return "refused"
    # What a suite may ask for is what the command line may.
    assert all(math.isfinite(lr) and lr > 0 for lr in grid.lrs)
    assert min(grid.seeds) >= 0
    assert grid.data.split_seed >= 0
    assert grid.data.limit is None or grid.data.limit >= 1
    assert grid.data.split in ("auto", "stratified", "official", "group")
    assert grid.data.missing in ("error", "skip")
    jsonschema.validate(tomllib.loads(file.read_text("utf-8")), SCHEMA)
    return "read"


def broken(tmp_path: Path, count: int) -> Counter[str]:
    found: Counter[str] = Counter()

    @profile(count)
    @given(BROKEN)
    def holds(content: str | bytes) -> None:
        found[judged(tmp_path / "broken.suite.toml", content)] += 1

    holds()
    tell(found.total(), "suite files with something changed", counted(found))
    return found


def whole(tmp_path: Path, count: int) -> None:
    tried = 0

    @profile(count)
    @given(SUITE)
    def holds(suite: dict[str, Any]) -> None:
        nonlocal tried
        file = tmp_path / "whole.suite.toml"
        file.write_text(written(suite), encoding="utf-8")
        found = load_suite(file)
        grid = suite_grid(found)
        given = suite["grid"]
        assert (found.name, grid.data.name) == (suite["name"], suite["data"]["name"])
        assert list(grid.backbones) == given["backbones"]
        assert list(grid.strategies) == given["strategies"]
        assert list(grid.lrs) == given["lrs"]
        assert list(grid.seeds) == given.get("seeds", [0])
        assert len(found.expectations) == len(suite.get("expect", []))
        assert len(found.references) == len(suite.get("reference", []))
        for key, value in suite.get("train", {}).items():
            assert key == "augment" or getattr(grid.train, key) == value
        for key, value in suite["data"].items():
            assert getattr(grid.data, key) == value
        jsonschema.validate(tomllib.loads(file.read_text("utf-8")), SCHEMA)
        tried += 1

    holds()
    tell(tried, "suites written and read")


def test_suites_are_read_as_they_were_written(tmp_path: Path) -> None:
    whole(tmp_path, 25)


def test_a_broken_suite_is_one_line_that_names_it(tmp_path: Path) -> None:
    assert broken(tmp_path, 60)["refused"] > 10


@pytest.mark.slow
@pytest.mark.campaign
def test_many_suites_are_read_as_they_were_written(tmp_path: Path) -> None:
    whole(tmp_path, 400)


@pytest.mark.slow
@pytest.mark.campaign
def test_many_broken_suites_are_one_line_each(tmp_path: Path) -> None:
    found = broken(tmp_path, 1500)
    assert min(found["refused"], found["read"]) > 50
