"""Which cells share what, and which plans are refused."""

from __future__ import annotations

import pytest

from harness.contracts import ParameterInfo, Plan, Recipe, Segment, StageInfo, freeze, train
from harness.errors import UsageError
from harness.planner import Group, group_cells, plan_cell


def stage(name, role, pretrained=True):
    return StageInfo(
        name, role, (ParameterInfo(f"{name}.weight", name, role, "Conv2d", (2, 2), False, pretrained),)
    )


STAGES = (stage("a", "body"), stage("b", "body"), StageInfo("pool", "neck"), stage("head", "head", False))


def planned(*segments, stages=STAGES, cuttable=True, allow=False, epochs=None, init="pretrained"):
    recipe = Recipe(tuple(segments), init)
    return plan_cell(
        recipe,
        stages,
        epochs=epochs or recipe.epochs,
        strategy="s",
        cuttable=cuttable,
        allow_random_frozen=allow,
    )


HEAD = Plan((train(role="head"), freeze()))
LAST = Plan((freeze(stage="a"), train()))


def test_groups_keep_the_order_in_which_networks_and_cells_appear():
    found = group_cells([(1, ("x",)), (2, ("y",)), (3, ("x",))])
    assert found == (Group(("x",), (1, 3)), Group(("y",), (2,)))


def test_a_segments_cut_is_the_first_stage_that_trains_in_it_or_before():
    assert planned(Segment(1, HEAD)).cuts == (3,)
    assert planned(Segment(1, LAST)).cuts == (1,)
    assert planned(Segment(1, HEAD), Segment(1, LAST)).cuts == (3, 1)
    assert planned(Segment(1, LAST), Segment(1, HEAD)).cuts == (1, 1), "what trained once is no prefix"
    assert planned(Segment(1, Plan((train(),)))).cuts == (0,)
    assert planned(Segment(1, HEAD), Segment(1, Plan((train(),)))).cut == 0


def test_what_cannot_be_cut_has_no_prefix():
    assert planned(Segment(1, HEAD), cuttable=False).cut == 0


def test_freezing_random_layers_is_refused_unless_allowed():
    stages = (stage("a", "body"), stage("b", "body", False), *STAGES[2:])
    with pytest.raises(UsageError, match=r"random: b; .*--allow-random-frozen"):
        planned(Segment(1, HEAD), stages=stages)
    assert planned(Segment(1, HEAD), stages=stages, allow=True).cut == 1, "b differs from seed to seed"
    assert planned(Segment(1, LAST), stages=stages).cut == 1  # b trains


def test_a_recipe_lasts_as_long_as_the_training_and_trains_something():
    with pytest.raises(UsageError, match="plans 2 epochs, but 3"):
        planned(Segment(2, HEAD), epochs=3)
    with pytest.raises(UsageError, match="trains nothing"):
        planned(Segment(1, HEAD), Segment(1, Plan((freeze(),))))
