"""The contract of a strategy as tests: built-in ones pass, and each planted fault is found."""

from dataclasses import dataclass, replace

import pytest

from harness import cell_state, freezing, plugins
from harness.contracts import Group, Plan, Recipe, Segment, Selector, freeze, train
from harness.errors import UsageError
from harness.testing import check_strategy

BUILT_IN = [n for n, f in plugins.find(plugins.STRATEGIES).items() if f.package == "transfer-harness"]
NEEDED = {"freeze_unfreeze": "[at=2]", "surgical": "[block=2]"}


@pytest.mark.parametrize("text", [*(n + NEEDED.get(n, "") for n in BUILT_IN), "last_k[k=2]", "last_k[k=5]"])
def test_built_in_strategies(text):
    check_strategy(plugins.load_strategy(text)[0])


def recipe(*groups, **options):
    return lambda stages, epochs: Recipe((Segment(epochs, Plan(groups), **options),))


@dataclass(frozen=True)
class Given:
    """A strategy with the faults of ``answer``."""

    answer: object
    source: str = "a test"
    summary: str = "a fault"

    def recipe(self, stages, epochs):
        return self.answer(stages, epochs)


def test_a_strategy_that_moves_from_segment_to_segment():
    def in_two(stages, epochs):
        if epochs == 1:
            raise UsageError("two parts need two epochs")
        head = Segment(1, Plan((train(role="head"), freeze())), mode="eval", lr=1e-9)
        return Recipe((head, Segment(epochs - 1, Plan((Group(Selector(norm=False), 0.5), freeze())))))

    check_strategy(Given(in_two))


def unsteady():
    answers = iter(range(10**6))
    return lambda stages, epochs: recipe(Group(Selector(), 1.0 + next(answers)))(stages, epochs)


def refuses(reason):
    def answer(stages, epochs):
        raise UsageError(reason)

    return answer


def fails(stages, epochs):
    return stages[7]


ALL = Plan((train(),))
FAULTY = {
    "too short": (lambda s, e: Recipe((Segment(1, ALL),)), "for 2 epochs: the recipe lasts 1 epochs"),
    "empty": (lambda s, e: Recipe((Segment(0, ALL), Segment(e, ALL))), "segment 1 lasts 0 epochs"),
    "a backward span": (lambda s, e: Recipe((Segment(-1, ALL), Segment(e + 1, ALL))), "lasts -1 epochs"),
    "no lr": (recipe(train(), lr=0.0), r"segment 1 has the learning rate 0\.0"),
    "no init": (lambda s, e: replace(recipe(train())(s, e), init="zeros"), "init is 'zeros'"),
    "a gap": (recipe(train(role="head")), r"no group of the plan names parameter 'block1\.0\.weight'"),
    "a gap for norms": (recipe(train(norm=False)), r"batch norm.*no group of the plan names parameter"),
    "nothing trains": (recipe(freeze()), "segment 1: nothing trains"),
    "a multiplier of zero": (recipe(Group(Selector(), 0.0)), r"the multiplier of '.*' is 0\.0"),
    "uphill": (recipe(Group(Selector(), -1.0)), r"the multiplier of '.*' is -1\.0"),
    "not a number": (recipe(Group(Selector(), float("nan"))), r"the multiplier of '.*' is nan"),
    "too little": (
        recipe(Group(Selector(role="head"), 1e-30), train()),
        r"'head\.bias' trains \(multiplier 1e-30\) but didn't move",
    ),
    "unsteady": (unsteady(), "called again, gave another recipe"),
    "no recipe": (lambda s, e: ALL, "gave a Plan, not a Recipe"),
    "a fault": (fails, r"raised IndexError: .*is a UsageError"),
    "no reason": (refuses(" "), "refused without a reason"),
    "never": (refuses("only for transformers"), "refuses every network .* only for transformers"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_strategy_is_found_out(fault):
    answer, message = FAULTY[fault]
    with pytest.raises(AssertionError, match=message):
        check_strategy(Given(answer))


@pytest.mark.parametrize("words", [{"source": ""}, {"summary": "two\nlines"}, {"summary": None}])
def test_a_strategy_without_words_is_found_out(words):
    with pytest.raises(AssertionError, match=rf"Given\.{next(iter(words))} is .*one line of text"):
        check_strategy(Given(recipe(train()), **words))


def test_a_frozen_tensor_that_moves_is_found_out(monkeypatch):
    def careless(model, segment, assignment):
        freezing.apply_segment(model, segment, assignment)
        model.train()  # norm layers that are frozen go on counting

    monkeypatch.setattr(cell_state, "apply_segment", careless)
    with pytest.raises(
        AssertionError, match=r"batch norm.*frozen, but moved: block1\.1\.num_batches_tracked"
    ):
        check_strategy(Given(recipe(train(role="head"), freeze())))
