"""Specs and grids: the same after a trip through JSON, told apart wherever they differ, refused by one line."""  # noqa: E501

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.lines import BAD_LRS, BAD_STRATEGIES, STRATEGIES
from fuzz.profile import profile
from fuzz.texts import ODD
from fuzz.told import tell
from harness.backbones.heads import check_head
from harness.errors import HarnessError, UsageError
from harness.plugins import load_strategy
from harness.spec import AUGMENTATIONS, CHOICES, DataSpec, Grid, RunSpec, TrainSpec, parse_lr

WORDS = st.sampled_from(
    ["x", "faces", "vgg16", "timm:vit.a", "last_k[k=2]", "é", "a/b", "..", ".", "x" * 400, "a b", ""]
)
LRS = st.floats(1e-12, 1e3) | st.sampled_from([5e-324, 1e-3, 1.0, 1e300])
TRAIN = st.builds(
    TrainSpec,
    epochs=st.integers(1, 2**70),
    batch_size=st.integers(1, 2**70),
    weight_decay=st.floats(0, 1e300) | st.integers(0, 3),
    flip=st.booleans(),
    augment=st.lists(st.sampled_from(AUGMENTATIONS)).map(", ".join),
    deterministic=st.booleans(),
    **{name: st.sampled_from(values) for name, values in CHOICES.items()},
)
DATA = st.builds(
    DataSpec,
    name=WORDS,
    target=st.none() | WORDS,
    split=st.sampled_from(["auto", "stratified", "official", "group"]),
    group=st.none() | WORDS,
    split_seed=st.integers(0, 2**70),
    limit=st.none() | st.integers(1, 2**70),
)
SPEC = st.builds(
    RunSpec, data=DATA, backbone=WORDS, weights=WORDS, head=WORDS, strategy=WORDS, lr=LRS,
    seed=st.integers(0, 2**70), train=TRAIN,
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(ODD), inner, max_size=2),
    max_leaves=4,
)


def specs(count: int) -> None:
    tried = 0

    @profile(count)
    @given(SPEC, SPEC, st.data())
    def holds(spec: RunSpec, other: RunSpec, data: st.DataObject) -> None:
        nonlocal tried
        again = RunSpec.from_dict(json.loads(json.dumps(spec.as_dict())))
        assert again == spec
        own = spec.identity("data", "weights")
        assert again.identity("data", "weights") == own == spec.identity("data", "weights")
        assert replace(spec, weights="elsewhere.pth").identity("data", "weights") == own
        assert own not in (spec.identity("other", "weights"), spec.identity("data", "other"))
        field = data.draw(st.sampled_from([f.name for f in fields(RunSpec) if f.name != "weights"]))
        changed = replace(spec, **{field: getattr(other, field)})
        assert (changed.identity("data", "weights") == own) == (changed == spec)
        name = spec.folder_name(own)
        assert name.endswith(f"_{own}")
        assert len(name.encode()) <= 255, "longer than a file system takes"
        assert "/" not in name
        assert not name.startswith(".")
        tried += 1

    holds()
    tell(tried, "specs through JSON and back")


def edited(count: int) -> None:
    """A ``spec.json`` edited by hand is a spec or one of the documented errors."""
    tried = 0

    @profile(count)
    @given(SPEC, st.sampled_from([("data", f.name) for f in fields(DataSpec)] + [("train", f.name) for f in fields(TrainSpec)]  # noqa: E501
                                 + [("", f.name) for f in fields(RunSpec)]), JSON, st.booleans())  # fmt: skip
    def holds(spec: RunSpec, place: tuple[str, str], value: Any, absent: bool) -> None:
        nonlocal tried
        found = json.loads(json.dumps(spec.as_dict()))
        table = found[place[0]] if place[0] else found
        if absent:
            del table[place[1]]
        else:
            table[place[1]] = value
        try:  # noqa: SIM105
            RunSpec.from_dict(found)
        except (KeyError, TypeError, UsageError):
            pass
        tried += 1

    holds()
    tell(tried, "specs edited by hand")


TEXT = st.sampled_from(STRATEGIES.split()) | st.sampled_from(BAD_STRATEGIES.split()) | st.sampled_from(ODD)
OPTION = st.builds(
    "{}[{}{}]".format,
    st.sampled_from([t.split("[")[0] for t in STRATEGIES.split()]),
    st.sampled_from(["k", "block", "decay", "mult", "at", "r", "weight", "keep", "threshold", "alpha", "blocks", "x"]),  # noqa: E501
    st.sampled_from(["=", "=1", "=0", "=-1", "=0.5", "=nan", "=inf", "=-inf", "=1e400", "=None", "=True", "=(1,", "=" + "9" * 5000,  # noqa: E501
                     "= 2 ", "=1,k=1", "=[[]]", "", "==1", "=\u0663", "=1_0", "=0x1"]),
)  # fmt: skip


def strategies(count: int) -> tuple[int, int]:
    good = bad = 0

    @profile(count)
    @given(TEXT | OPTION)
    def holds(text: str) -> None:
        nonlocal good, bad
        try:
            strategy, name, canonical = load_strategy(text)
        except UsageError as error:
            bad += 1
            assert "\n" not in str(error) or "\n" in text  # noqa: PT017
            return
        good += 1
        again = load_strategy(canonical)
        assert again[1:] == (name, canonical)
        assert again[0] == strategy

    holds()
    tell(good + bad, "strategies", f"{bad} refused")
    return good, bad


def rates(count: int) -> None:
    tried = 0
    number = st.floats(0, 10).map(str) | st.sampled_from(
        ["nan", "inf", "-1", "x", "", "1e400", "1e9", "3", "2.5"]
    )
    written = st.one_of(
        number, st.lists(number, max_size=4).map(":".join), st.sampled_from([*BAD_LRS.split(), *ODD])
    )
    whole = st.builds("{}:{}:{}".format, st.floats(1e-9, 9), st.floats(1e-9, 9), st.integers(2, 50))

    @profile(count)
    @given(written | whole)
    def holds(text: str) -> None:
        nonlocal tried
        tried += 1
        try:
            found = parse_lr(text)
        except UsageError:
            return
        assert all(math.isfinite(lr) and lr > 0 for lr in found)
        assert Grid(lrs=found).lrs == found
        parts = text.split(":")
        if len(parts) == 3:
            low, high = float(parts[0]), float(parts[1])
            assert len(found) == int(float(parts[2]))
            assert math.isclose(found[0], low, rel_tol=1e-5)
            assert math.isclose(found[-1], high, rel_tol=1e-5)
            steps = [math.log(b / a) for a, b in zip(found, found[1:], strict=False)]  # noqa: RUF007
            assert all(math.isclose(s, math.log(high / low) / len(steps), abs_tol=1e-5) for s in steps)
        else:
            assert found == (float(text),)

    holds()
    tell(tried, "learning rates and ranges")


def grids(count: int) -> None:
    tried = 0
    names = st.lists(WORDS, min_size=1, max_size=3)

    @profile(count)
    @given(
        names,
        names,
        names,
        st.lists(LRS, min_size=1, max_size=3),
        st.lists(st.integers(0, 9), min_size=1, max_size=3),
    )
    def holds(
        backbones: Sequence[str], heads: Sequence[str], chosen: Sequence[str], lrs: Sequence[float], seeds: Sequence[int]  # noqa: E501
    ) -> None:  # fmt: skip
        nonlocal tried
        columns = (backbones, heads, chosen, lrs, seeds)
        grid = Grid(
            backbones=tuple(backbones), heads=tuple(heads), strategies=tuple(chosen), lrs=tuple(lrs), seeds=tuple(seeds)  # noqa: E501
        )  # fmt: skip
        cells = list(grid.cells())
        assert len(cells) == math.prod(len(set(column)) for column in columns)
        assert [list(dict.fromkeys(column)) for column in zip(*cells, strict=True)] == [
            list(dict.fromkeys(column)) for column in columns
        ]
        kept = frozenset(cells[::2])
        assert list(replace(grid, only=kept).cells()) == cells[::2]
        tried += 1

    holds()
    tell(tried, "grids")


def heads(count: int) -> None:
    tried = 0

    @profile(count)
    @given(st.text("mlp[]0123456789, ownliear", max_size=30) | st.sampled_from(ODD))
    def holds(text: str) -> None:
        nonlocal tried
        tried += 1
        try:
            found = check_head(text)
        except HarnessError:
            return
        assert check_head(found) == found

    holds()
    tell(tried, "heads")


def test_specs_grids_and_strategies() -> None:
    specs(25)
    edited(25)
    good, bad = strategies(40)
    assert min(good, bad) > 5
    rates(25)
    grids(10)
    heads(10)


@pytest.mark.slow
@pytest.mark.campaign
def test_many_specs_grids_and_strategies() -> None:
    specs(500)
    edited(1000)
    strategies(600)
    rates(600)
    grids(100)
    heads(200)
