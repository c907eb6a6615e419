"""The package's own tests, as they would be in a repository of its own."""

import pytest
from every_other_block import EveryOtherBlock

from harness.contracts import ParameterInfo, StageInfo
from harness.errors import UsageError
from harness.testing import check_strategy


def stage(name, role):
    return StageInfo(name, role, (ParameterInfo(f"{name}.weight", name, role, "Conv2d", (4, 4, 3, 3)),))


STAGES = (
    *(stage(f"block{n}", "body") for n in range(1, 6)),
    stage("fc", "classifier"),
    stage("head", "head"),
)


def assigned(strategy):
    (segment,) = strategy.recipe(STAGES, 4).segments
    return {name.split(".")[0]: scale for name, scale in segment.plan.assign(STAGES).items()}


@pytest.mark.parametrize("strategy", [EveryOtherBlock(), EveryOtherBlock(step=1), EveryOtherBlock(3, 0.1)])
def test_it_keeps_the_contract(strategy):
    check_strategy(strategy)


@pytest.mark.parametrize(
    ("step", "trained"),
    [(1, {"block1", "block2", "block3", "block4", "block5"}), (2, {"block1", "block3", "block5"}),
     (3, {"block2", "block5"}), (9, {"block5"})],
)  # fmt: skip
def test_blocks_are_counted_from_the_end(step, trained):
    found = assigned(EveryOtherBlock(step, 0.5))
    assert {name for name, scale in found.items() if scale == 0.5} == trained
    assert {name for name, scale in found.items() if scale == 1.0} == {"fc", "head"}


@pytest.mark.parametrize("options", [{"step": 0}, {"scale": 0.0}, {"scale": float("nan")}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match="step is at least 1, scale above 0"):
        EveryOtherBlock(**options).recipe(STAGES, 4)
