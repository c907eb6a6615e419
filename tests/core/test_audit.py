"""The audit: what the plan says beside what optimizers and tensors say."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from core.small import Planned, copies, image_features, make_cell, small_net, train_data
from harness import cell_state
from harness.audit import FrozenMoved, NeverTrained, RateSpan, audit
from harness.contracts import Group, Plan, Segment, Selector, freeze, train
from harness.features import Features
from harness.trainer import fit, fit_together
from harness.witness import Witness

HEAD = Plan((train(role="head"), freeze()))
BLOCK = Plan((train(stage="block3"), freeze()))
ALL = Plan((train(),))


class Run:
    """A cell of the small network under a plan, and the audit of it."""

    def __init__(self, *segments, model=None, cut=0, **settings):
        torch.manual_seed(0)
        self.model = model or small_net()
        self.before = copies(self.model)
        features, labels = image_features(16)
        self.data = train_data(features, labels, range(12), range(12, 16))
        epochs = sum(s.epochs for s in segments)
        self.cell = make_cell(
            self.model, Planned(*segments), cut=cut, epochs=epochs, **{"batch_size": 4, **settings}
        )
        self.witness = None

    def train(self, after=None, resume=None):
        """``after`` is called with each epoch's state; its result, where there is one, ends the training."""
        for state in fit(self.cell, self.data, resume):
            self.witness = state.witness
            stop = after(state) if after else None
            if stop is not None:
                return stop
        return self

    def audit(self):
        return audit(self.cell, self.before, self.model.describe(), self.witness)


def test_rates_and_optimizers_are_those_of_each_segment():
    found = Run(Segment(1, HEAD), Segment(2, ALL, lr=1e-3), Segment(1, HEAD)).train().audit()
    assert found["head"].lr == (RateSpan((1, 1), 1e-2), RateSpan((2, 3), 1e-3), RateSpan((4, 4), 1e-2))
    assert found["block1"].lr == (RateSpan((2, 3), 1e-3),)
    assert found["pool"].lr == ()
    assert all(a.in_optimizer == a.trained for a in found.values())
    assert all(a.still == {} for a in found.values())


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_what_an_earlier_process_saw_counts(optimizer, stop):
    plan = (Segment(2, HEAD), Segment(2, ALL, lr=1e-3))
    whole = Run(*plan, optimizer=optimizer).train()
    first = Run(*plan, optimizer=optimizer)
    snapshot = first.train(lambda s: s.snapshot() if s.row["epoch"] == stop else None)
    seen = Witness.from_dict(json.loads(json.dumps(snapshot.witness)))
    assert seen.as_dict() == snapshot.witness == first.witness.as_dict()
    again = Run(*plan, optimizer=optimizer).train(resume=snapshot)
    assert again.witness.as_dict() == whole.witness.as_dict()
    assert again.audit() == whole.audit()
    assert snapshot.witness == seen.as_dict(), "a snapshot changed afterwards"


def test_norm_statistics_are_hashed_before_and_after():
    found = Run(Segment(1, BLOCK)).train().audit()
    assert found["block1"].norm_statistics.before == found["block1"].norm_statistics.after
    assert found["block3"].norm_statistics.before != found["block3"].norm_statistics.after
    assert found["block1"].norm_statistics.before != found["block3"].norm_statistics.before
    assert found["block2"].norm_statistics is found["head"].norm_statistics is None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("head.linear.weight", lambda t: t[0, 0].add_(1e-6)),
        ("fc.0.bias", lambda t: t[3].copy_(torch.nextafter(t[3], torch.tensor(9.0)))),
        ("block1.1.running_var", lambda t: t[0].mul_(2)),
        ("block1.1.num_batches_tracked", lambda t: t.add_(1)),
    ],
)
@pytest.mark.parametrize("resumed", [False, True])
def test_a_tensor_that_one_segment_freezes_may_not_change_in_it(name, change, resumed):
    """In the second of three segments; before and after it trains."""
    plan = (Segment(1, ALL), Segment(2, BLOCK), Segment(1, ALL))

    def tamper(state):
        if state.row["epoch"] == 2:
            with torch.no_grad():
                change(dict(state.cell.model.tensors())[name])
            return state.snapshot() if resumed else None
        return None

    run = Run(*plan)
    found = run.train(tamper)
    if resumed:
        run = Run(*plan).train(resume=found)
    with pytest.raises(FrozenMoved, match=rf"'{name}' was frozen but changed in epochs 2 to 3"):
        run.audit()


def test_a_change_of_plan_is_no_change_of_a_frozen_tensor():
    run = Run(Segment(1, HEAD), Segment(1, BLOCK), Segment(1, HEAD), Segment(1, ALL)).train()
    assert run.witness.disturbed == {}
    run.audit()


def spare():
    """The small network with a parameter that no forward pass uses."""
    model = small_net()
    model.parts["fc"].register_parameter("spare", nn.Parameter(torch.ones(3)))
    return model


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_parameter_without_a_gradient_is_named(optimizer):
    run = Run(Segment(2, ALL), model=spare(), optimizer=optimizer).train()
    with pytest.raises(NeverTrained, match=r"'fc\.spare' should train in epochs 1 to 2 but never had"):
        run.audit()
    Run(Segment(1, HEAD), model=spare(), optimizer=optimizer).train().audit()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_gradient_in_one_segment_does_not_vouch_for_another(optimizer):
    """SGD is given momentum for what has had no gradient; the state of an optimizer proves nothing."""
    run = Run(Segment(1, ALL), Segment(2, ALL, lr=1e-3), optimizer=optimizer)
    linear = run.model.parts["head"].linear

    def cut_off(state):
        bias = linear.bias
        linear.forward = lambda x: nn.functional.linear(x, linear.weight, bias.detach())

    run.train(cut_off)
    with pytest.raises(NeverTrained, match=r"'head\.linear\.bias' should train in epochs 2 to 3 but never"):
        run.audit()


def test_a_parameter_in_no_optimizer_is_named(monkeypatch):
    make = cell_state.make_optimizer

    def forgetful(name, tensors, scales, *rest, **options):
        kept = {n: s for n, s in scales.items() if n != "block2.0.bias"}
        return make(name, tensors, kept, *rest, **options)

    monkeypatch.setattr(cell_state, "make_optimizer", forgetful)
    run = Run(Segment(1, ALL)).train()
    with pytest.raises(NeverTrained, match=r"'block2\.0\.bias' should .* 1 to 1 but was in no optimizer"):
        run.audit()


def test_what_trains_in_name_only_is_reported():
    zero = Plan((Group(Selector(stage="fc"), 0.0), train()))
    found = Run(Segment(1, zero)).train().audit()
    assert found["fc"].still == {"fc.0.weight": "zero lr", "fc.0.bias": "zero lr"}
    model = small_net()
    model.parts["block3"].register_forward_hook(lambda module, given, out: out * 0)
    found = Run(Segment(2, ALL), model=model).train().audit()
    assert set(found["block2"].still.items()) == {
        ("block2.0.weight", "zero gradient"),
        ("block2.0.bias", "zero gradient"),
    }
    assert found["head"].still == {}
    found = Run(Segment(1, ALL), lr=1e-30).train().audit()
    assert {why for a in found.values() for why in a.still.values()} == {"no movement"}
    assert all(not a.still or not a.moved for a in found.values())


def test_heads_trained_side_by_side_are_watched_each():
    rates = (1e-2, 1e-3)
    runs = [Run(Segment(2, HEAD, mode="eval"), lr=lr) for lr in rates]
    rows = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    data = replace(runs[0].data, features={5: Features(rows)})
    cells = [replace(run.cell, cuts=(5,)) for run in runs]
    seen = {state.cell: state.witness for state in fit_together(cells, data, [None] * 2, fused=True)}
    for cell, run, lr in zip(cells, runs, rates, strict=True):
        found = audit(cell, run.before, run.model.describe(), seen[cell])
        assert found["head"].lr == (RateSpan((1, 2), lr),)
        assert found["head"].in_optimizer == found["head"].trained == 34
        assert found["head"].still == {}
