"""Plans: which parameters a selector names, and which group decides."""

import subprocess
import sys

import pytest

from harness.contracts import (
    Group,
    ParameterInfo,
    Plan,
    Recipe,
    Segment,
    Selector,
    StageInfo,
    body_blocks,
    freeze,
    train,
)
from harness.errors import UsageError

CONV = ParameterInfo("block1.0.weight", "block1", "body", "Conv2d", (8, 3, 3, 3))
BIAS = ParameterInfo("block1.0.bias", "block1", "body", "Conv2d", (8,))
NORM = ParameterInfo("block2.1.weight", "block2", "body", "BatchNorm2d", (8,), norm=True)
HEAD = ParameterInfo("head.weight", "head", "head", "Linear", (2, 8), pretrained=False)
STAGES = (
    StageInfo("block1", "body", (CONV, BIAS)),
    StageInfo("block2", "body", (NORM,)),
    StageInfo("shuffle", "body"),
    StageInfo("head", "head", (HEAD,)),
)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (Selector(), {CONV, BIAS, NORM, HEAD}),
        (Selector(stage="block1"), {CONV, BIAS}),
        (Selector(stage="block*"), {CONV, BIAS, NORM}),
        (Selector(stage="BLOCK1"), set()),
        (Selector(role="head"), {HEAD}),
        (Selector(name="*.weight"), {CONV, NORM, HEAD}),
        (Selector(name="block?.0.*"), {CONV, BIAS}),
        (Selector(kind="BatchNorm*"), {NORM}),
        (Selector(bias=True), {BIAS}),
        (Selector(bias=False), {CONV, NORM, HEAD}),
        (Selector(norm=True), {NORM}),
        (Selector(norm=False), {CONV, BIAS, HEAD}),
        (Selector(stage="block1", bias=True), {BIAS}),
        (Selector(stage="block2", bias=True), set()),
    ],
)
def test_a_selector_matches_what_agrees_with_all_of_its_fields(selector, expected):
    assert {p for p in (CONV, BIAS, NORM, HEAD) if selector.matches(p)} == expected


def test_the_first_group_that_matches_decides():
    plan = Plan((freeze(bias=True), Group(Selector(stage="block1"), 0.1), train(role="head"), freeze()))
    assert plan.assign(STAGES) == {
        "block1.0.weight": 0.1,
        "block1.0.bias": None,
        "block2.1.weight": None,
        "head.weight": 1.0,
    }


def test_order_of_groups_matters():
    assert set(Plan((freeze(), train(role="head"))).assign(STAGES).values()) == {None}


def test_a_parameter_that_no_group_names_is_an_error():
    with pytest.raises(UsageError, match=r"'block2\.1\.weight'"):
        Plan((train(stage="block1"), freeze(role="head"))).assign(STAGES)


def test_last_blocks_count_body_stages_that_have_parameters():
    assert [s.name for s in body_blocks(STAGES)] == ["block1", "block2"]


def test_sizes():
    assert CONV.numel == 216
    assert STAGES[0].numel == 224
    assert STAGES[2].numel == 0


def test_segments_cover_the_epochs_in_order():
    plan = Plan((train(),))
    recipe = Recipe((Segment(2, plan), Segment(3, plan)))
    assert recipe.epochs == 5
    assert [recipe.segment_at(e) for e in range(1, 6)] == [0, 0, 1, 1, 1]
    with pytest.raises(IndexError):
        recipe.segment_at(6)


def test_a_strategy_can_be_written_without_torch():
    code = "import harness.contracts, harness.plugins, harness.spec, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
