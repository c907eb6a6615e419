"""``harness show plan``: stages, rates by epoch, prefix, arithmetic; against figures worked out by hand."""

import re
from xml.etree import ElementTree

import pytest

from core.small import small_net, write_plugin
from harness.contracts import Group, Plan, Recipe, Segment, Selector, freeze, train
from harness.freezing import assignments
from harness.stage_plan import stage_plans

HEAD = Plan((train(role="head"), freeze()))


class Slow:
    """First the head, then everything, the body slower, the head at the first rate throughout."""

    source = summary = "a test"

    def recipe(self, stages, epochs):
        slow = Plan((Group(Selector(role="body"), 0.1), train()))
        return Recipe((Segment(2, HEAD), Segment(0, Plan((train(),))), Segment(epochs - 2, slow)))


def planned(*segments, lr=1e-2, cuts=None, stages=None):
    recipe, stages = Recipe(segments), stages or small_net().describe()
    assigned = assignments(recipe, stages)
    found = stage_plans(recipe, assigned, cuts or (0,) * len(segments), stages, lr, None)
    return {stage.name: stage for stage in found}


def test_rates_by_epoch_join_what_is_equal_and_leave_out_what_is_frozen():
    everything = Plan(
        (Group(Selector(stage="fc", bias=True), 0.5), Group(Selector(stage="fc"), 0.1), train())
    )
    found = planned(
        Segment(2, HEAD), Segment(1, everything), Segment(3, HEAD), Segment(2, everything, lr=1e-3)
    )
    assert found["head"].lr == ((1, 6, 1e-2), (7, 8, 1e-3))
    assert found["block1"].lr == ((3, 3, 1e-2), (7, 8, 1e-3))
    assert found["fc"].lr == ((3, 3, 5e-3), (7, 8, 5e-4)), "the largest where parameters differ"
    assert found["pool"].lr == ()


def test_what_trains_is_counted_once_and_a_segment_without_epochs_is_none():
    found = planned(Segment(1, HEAD), Segment(0, Plan((train(),))), Segment(1, HEAD), cuts=(5, 3, 3))
    assert found["head"].trained == found["head"].parameters == 34
    assert found["head"].lr == ((1, 2, 1e-2),)
    assert found["block1"].lr == ()
    assert [found[n].prefix for n in ("block1", "block3", "pool", "fc", "head")] == [2, 2, 1, 1, 0]


def table(output):
    """Stage -> (role, parameters, trained, rates, prefix, GMAC); columns are two spaces apart."""
    rows = [re.split(r" {2,}", line) for line in output.splitlines()[1:]]
    return {row[0]: row[1:] for row in rows}


def test_vgg16s_last_block(harness):
    status, output, errors = harness("show", "plan", "--backbone", "vgg16", "--strategy", "last_block")
    assert (status, errors) == (0, "")
    assert output.startswith("last_block, 10 epochs\n")
    found = table(output)
    assert found["block4"] == ["body", "5,899,776", "0", "frozen", "yes", "4.624"]
    assert found["block5"] == ["body", "7,079,424", "7,079,424", "1e-3", "1.387"]
    assert found["fc6"] == ["classifier", "102,764,544", "102,764,544", "1e-3", "0.103"]
    assert found["all"] == ["134,268,738", "126,633,474", "15.466"]
    assert "weights cover all but the head" in output


@pytest.mark.usefixtures("site")
def test_a_strategy_of_several_segments_with_a_figure(harness, tmp_path, monkeypatch):
    points = {"harness.strategies": {"slow": "core.test_show_plan:Slow"}}
    monkeypatch.syspath_prepend(write_plugin(tmp_path / "plugin", "slow-plugin", points))
    words = (
        "--backbone",
        "small",
        "--strategy",
        "slow",
        "--epochs",
        5,
        "--lr",
        "1e-2",
        "--figure",
        "new/a.svg",
    )
    status, output, errors = harness("show", "plan", *words)
    assert (status, errors) == (0, "")
    found = table(output)
    assert found["block1"] == ["body", "240", "240", "3-5: 1e-3", "epochs 1-2", "0.000"]
    assert found["fc"] == ["classifier", "272", "272", "3-5: 0.01", "epochs 1-2", "0.000"]
    assert found["head"] == ["head", "34", "34", "0.01", "0.000"]
    text = (tmp_path / "new" / "a.svg").read_text()
    words = [e.text for e in ElementTree.fromstring(text).iter() if e.tag.endswith("text")]
    assert "slow on small" in words
    assert "block1 (240)" in words
    assert "1e-3" in words


@pytest.mark.usefixtures("site")
def test_with_weights_the_prefix_ends_before_what_they_do_not_cover(harness):
    words = ("show", "plan", "--backbone", "small", "--strategy", "linear_probe")
    status, output, _ = harness(*words, "--weights", "drawn")
    assert status == 0
    assert table(output)["fc"][3:5] == ["frozen", "yes"]
    status, output, _ = harness(*words, "--weights", "other")
    assert status == 0
    assert table(output)["fc"][3:] == ["frozen", "0.000"]
    assert "frozen at random initialisation (not in the weights): block1, block2, block3, fc" in output


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--strategy head_onyl", "did you mean 'head_only'"),
        ("--backbone smal", "did you mean 'small'"),
        ("--backbone small --strategy last_k[k=9]", "1..3"),
        ("--backbone small --lr fast", "bad lr 'fast'"),
        ("--backbone small --lr 1e-5:1e-2:7", "--lr '1e-5:1e-2:7'"),
        ("--backbone small --head big", "unknown head 'big'"),
        ("--backbone small --figure plan.png", "'plan.png' should end in .svg"),
        ("--backbone small --epochs 0", "--epochs"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(harness, arguments, text, tmp_path):
    status, output, errors = harness("show", "plan", *arguments.split())
    assert (status, output) == (2, "")
    assert text in errors
    assert errors.startswith("harness: ")
    assert errors.count("\n") == 1


@pytest.mark.usefixtures("site")
def test_its_options_come_from_the_file_and_the_environment(harness, tmp_path, monkeypatch):
    (tmp_path / "harness.toml").write_text('["show plan"]\nbackbone = "small"\nepochs = 4\n')
    assert harness("show", "plan")[1].startswith("head_only, 4 epochs")
    monkeypatch.setenv("HARNESS_SHOW_PLAN_EPOCHS", "3")
    assert harness("show", "plan")[1].startswith("head_only, 3 epochs")
    status, _, errors = harness("show", "plan.")
    assert status == 2
    assert "no finished run 'plan.'" in errors
