"""Learning-rate schedules, step by step against torch's."""

import pytest
import torch

from harness.errors import UsageError
from harness.schedules import schedule


def torch_rates(make, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return rates


@pytest.mark.parametrize("steps", [2, 3, 7, 10, 100, 375])
def test_one_cycle_is_that_of_torch(steps):
    expected = torch_rates(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 1.0, total_steps=steps, cycle_momentum=False), steps
    )
    factor = schedule("one-cycle", steps)
    assert [factor(s) for s in range(steps)] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 9, 100])
def test_cosine_is_that_of_torch(steps):
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, steps), steps)
    factor = schedule("cosine", steps)
    assert [factor(s) for s in range(steps)] == pytest.approx(expected, rel=1e-7, abs=1e-12)


def test_constant():
    assert [schedule("constant", 5)(s) for s in range(5)] == [1.0] * 5


@pytest.mark.parametrize("name", ["cosine", "one-cycle"])
def test_one_step_is_enough(name):
    assert 0 < schedule(name, 1)(0) <= 1


def test_an_unknown_schedule_lists_what_exists():
    with pytest.raises(UsageError, match=r"'linear'.*constant, cosine, one-cycle"):
        schedule("linear", 5)
