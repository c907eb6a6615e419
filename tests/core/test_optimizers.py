"""Optimizers: groups, fused arithmetic, and state that survives an interruption."""

import pytest
import torch
from torch import nn

from harness.errors import UsageError
from harness.optimizers import export_state, import_state, make_optimizer
from harness.spec import CHOICES


def network(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    return model.to(memory_format=torch.channels_last)


def made(name, model, scales=None, lr=1e-2, weight_decay=1e-2):
    tensors = dict(model.named_parameters())
    return make_optimizer(name, tensors, scales or dict.fromkeys(tensors, 1.0), lr, weight_decay)


def steps(model, optimizer, numbers):
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(8, 3, 8, 8, generator=generator).to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", CHOICES["optimizer"])
def test_continued_from_exported_state_equals_uninterrupted_bit_for_bit(name):
    whole = network()
    steps(whole, made(name, whole)[0], range(8))

    first = network()
    optimizer, names = made(name, first)
    steps(first, optimizer, range(4))
    state = export_state(optimizer, names)
    second = network(seed=1)
    second.load_state_dict(first.state_dict())
    optimizer, names = made(name, second)
    import_state(optimizer, names, state)
    steps(second, optimizer, range(4, 8))

    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_without_the_state_the_continuation_differs():
    """What the test above would miss if state did not matter."""
    whole, broken = network(), network()
    steps(whole, made("adam", whole)[0], range(8))
    steps(broken, made("adam", broken)[0], range(4))
    steps(broken, made("adam", broken)[0], range(4, 8))
    assert not torch.equal(whole[0].weight, broken[0].weight)


def test_exported_state_is_a_copy():
    model = network()
    optimizer, names = made("adam", model)
    steps(model, optimizer, range(1))
    state = export_state(optimizer, names)
    kept = {k: v.clone() for k, v in state.items()}
    steps(model, optimizer, range(1, 3))
    assert all(torch.equal(state[k], kept[k]) for k in kept)
    assert set(state) == {f"{n}/{s}" for n in names.values() for s in ("step", "exp_avg", "exp_avg_sq")}


def test_state_of_parameters_that_the_optimizer_does_not_hold_is_left_out():
    model = network()
    optimizer, names = made("adam", model)
    steps(model, optimizer, range(2))
    state = export_state(optimizer, names)
    later, later_names = made("adam", model, {"3.weight": 1.0})
    import_state(later, later_names, state)
    assert {k.split("/")[0] for k in export_state(later, later_names)} == {"3.weight"}
    assert torch.equal(later.state[model[3].weight]["exp_avg"], state["3.weight/exp_avg"])


def test_one_group_a_multiplier_of_the_learning_rate():
    model = network()
    scales = {"0.weight": 0.1, "0.bias": 0.1, "3.weight": 1.0}
    optimizer, _ = made("adam", model, scales, lr=0.5)
    found = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert found == {
        id(model[0].weight): 0.05,
        id(model[0].bias): 0.05,
        id(model[3].weight): 0.5,
    }
    assert len(optimizer.param_groups) == 2


PLAIN = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=1e-2, foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=1e-2, foreach=False),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, weight_decay=1e-2, momentum=0.9, foreach=False),
}


@pytest.mark.parametrize("name", CHOICES["optimizer"])
def test_fused_arithmetic_is_that_of_torchs_plain_optimizers(name):
    ours, plain = network(), network()
    steps(ours, made(name, ours)[0], range(20))
    steps(plain, PLAIN[name](plain.parameters()), range(20))
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CHOICES["optimizer"])
def test_without_torchs_guards_its_fused_optimizers_take_the_same_steps(name):
    classes = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    more = {"momentum": 0.9} if name == "sgd" else {}
    ours, torchs = network(), network()
    steps(ours, made(name, ours)[0], range(20))
    steps(
        torchs,
        classes[name](torchs.parameters(), lr=1e-2, weight_decay=1e-2, fused=True, **more),
        range(20),
    )
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), torchs.parameters(), strict=True))


def test_an_unknown_optimizer_lists_what_exists():
    with pytest.raises(UsageError, match=r"'lamb'.*adam, adamw, sgd"):
        made("lamb", network())
