"""What a suite expects: bands, rows, claims and their verdicts, from records made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from harness.errors import UsageError
from harness.stats import Interval
from harness.suites import load_suite
from harness.suites.bands import Band
from harness.suites.claims import Cell, claims, judge
from harness.suites.evidence import ids_digest
from harness.suites.grid import overridden, suite_grid
from harness.suites.lines import line_of
from suites.rows import HEAD, evidence

BAND = """[[expect]]
strategy = "full"
accuracy = ["majority", [0.9, 0.95]]
source = "run"
"""


def suite(tmp_path, text):
    file = tmp_path / "mine.suite.toml"
    file.write_text(HEAD + text)
    return load_suite(file)


def verdicts(tmp_path, text, shown, only=("full",), asked=()):
    loaded = suite(tmp_path, text)
    wanted = claims(loaded, replace(suite_grid(loaded), strategies=only))
    cells = {c for claim in wanted for c in claim.cells}
    return [judge(claim, dict.fromkeys(cells, shown), asked) for claim in wanted]


def verdict(tmp_path, text, shown, asked=()):
    (found,) = verdicts(tmp_path, text, shown, asked=asked)
    return found.verdict


@pytest.mark.parametrize(
    ("value", "inside"),
    [(0.90, True), (0.95, True), (0.8999, False), (0.9501, False), (0.6, True), (0.605, True), (0.606, False),
     (math.nan, False)],
)  # fmt: skip
def test_both_edges_count_and_a_collapse_has_its_value(value, inside):
    assert Band((Interval(0.9, 0.95),), majority=True).holds(value, majority=0.6) is inside


@pytest.mark.parametrize("edge", [0.1 + 0.2, 0.3, 877 / 1000, 1 / 3])
def test_an_edge_that_is_no_binary_fraction_still_counts(edge):
    assert Band((Interval(float(f"{edge:.12f}"), 1.0),)).holds(edge, 0.5)


def test_without_majority_a_collapse_is_outside(tmp_path):
    assert verdict(tmp_path, BAND, evidence(0.6)) == "inside"
    assert (
        verdict(tmp_path, BAND.replace('["majority", [0.9, 0.95]]', "[0.9, 0.95]"), evidence(0.6))
        == "outside"
    )


@pytest.mark.parametrize(
    "other",
    [
        {"digests": {"data": "D", "split": "s", "weights": "w"}},
        {"digests": {"data": "d", "split": "S", "weights": "w"}},
        {"spec": {"train": {"epochs": 3}}},
        {"spec": {"train": {"epochs": 2, "optimizer": "sgd"}}},
    ],
)
def test_a_band_says_nothing_about_other_data_split_or_recipe(tmp_path, other):
    for accuracy in (0.92, 0.2):
        assert verdict(tmp_path, BAND, evidence(accuracy, **other)) == "not applicable"


def test_a_band_may_be_bound_to_weights(tmp_path):
    bound = HEAD.replace('split = "s"', 'split = "s"\nweights = ["v"]')
    file = tmp_path / "w.suite.toml"
    for text, expected in ((bound, "not applicable"), (bound.replace('"v"', '"w"'), "inside")):
        file.write_text(text + BAND)
        loaded = load_suite(file)
        (claim,) = claims(loaded, suite_grid(loaded))
        assert judge(claim, {claim.cells[0]: evidence()}).verdict == expected


def test_with_anything_overridden_nothing_applies(tmp_path):
    loaded = suite(tmp_path, BAND)
    grid = suite_grid(loaded)
    assert overridden(grid, loaded) == ()
    changed = replace(grid, train=replace(grid.train, epochs=3), data=replace(grid.data, limit=50))
    told = overridden(changed, loaded)
    assert told == ("limit 50 instead of None", "epochs 3 instead of 2")
    assert verdict(tmp_path, BAND, evidence(), asked=told) == "not applicable"


def test_audits_and_digests(tmp_path):
    row = '[[expect]]\nstrategy = "full"\n'
    right = [
        "trains = { head = [[1, 2, 1e-3]] }",
        "parameters = 10",
        "norms = []",
        "prefix = [0.5001, 0.5199]",
        f'test_ids = "{ids_digest(["a", "b"])}"',
        'data = "d"',
    ]
    wrong = [
        "trains = { head = [[1, 2, 1e-2]] }",
        "trains = { head = [[1, 2, 1e-3]], block5 = [[1, 2, 1e-3]] }",
        "trains = {}",
        "parameters = 11",
        'norms = ["head"]',
        "prefix = [0.5, 0.5]",
        "prefix = [0.51, 0.52]",
        'test_ids = "x"',
        'data = "D"',
    ]
    assert [verdict(tmp_path, row + line, evidence()) for line in right] == ["inside"] * len(right)
    assert [verdict(tmp_path, row + line, evidence()) for line in wrong] == ["outside"] * len(wrong)


def test_a_failed_run_is_outside_unless_that_error_is_expected(tmp_path):
    failed = evidence(
        status="failed", error="diverged: the training loss was not finite in epoch 1", test=None
    )
    assert verdict(tmp_path, BAND, failed) == "outside"
    error = '[[expect]]\nstrategy = "full"\nerror = "diverged"\n'
    assert verdict(tmp_path, error, failed) == "inside"
    assert verdict(tmp_path, error, "head: diverged") == "inside"
    assert verdict(tmp_path, error, "no such block") == "outside"
    assert verdict(tmp_path, error, evidence()) == "outside"


def test_a_finding_says_what_changed_since_it_was_measured(tmp_path):
    (found,) = verdicts(tmp_path, BAND, evidence(0.2))
    assert found.details == ["since it was measured: torch 2.9 -> 2.10"]


def test_rows_without_selectors_are_about_every_cell(tmp_path):
    loaded = suite(tmp_path, '[[expect]]\nparameters = 3\n[[expect]]\ndata = "d"\n')
    found = claims(loaded, suite_grid(loaded))
    cells = [Cell("vgg_tiny", "own", s, 1e-3, 0) for s in ("head_only", "full")]
    assert [(c.what, c.cells) for c in found] == [
        ("parameters", (cells[0],)), ("parameters", (cells[1],)), ("data", tuple(cells)),
    ]  # fmt: skip
    assert found[0].name == "vgg_tiny-head_only-lr=0.001-seed=0-parameters"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("accuracy = [0.9, 0.95]", "line 17: 'expect.0..accuracy' is a band without a source"),
        ('accuracy = [0.9, 0.95]\nsource = "rum"', r"line 18: 'rum'; did you mean 'run'"),
        ('accuracy = [0.95, 0.9]\nsource = "run"', "line 17: .* lower edge above the upper"),
        ('accuracy = ["minority"]\nsource = "run"', r"line 17: .*must be \[LOW, HIGH\]"),
        ('loss = ["majority", [1, 2]]\nsource = "run"', r"line 17: .*must be \[LOW, HIGH\]"),
        ('strategy = "full"', r"line 16: 'expect.0.' expects nothing"),
        ('acuracy = [1, 2]', "line 17: 'acuracy'; did you mean 'accuracy'"),
        ('strategy = "full"\nerror = "x"\nparameters = 3', "line 18: .* stands alone"),
        ('error = "x"', "line 17: .* needs a strategy"),
        ('trains = { head = 1e-3 }', "line 17: .* must map stages to"),
    ],
)  # fmt: skip
def test_a_malformed_row_is_named_with_its_line(tmp_path, row, message):
    with pytest.raises(UsageError, match=message):
        suite(tmp_path, "[[expect]]\n" + row)


def test_a_row_must_name_a_cell_of_the_grid(tmp_path):
    loaded = suite(tmp_path, '[[expect]]\nstrategy = "bitfit"\nparameters = 3\n')
    with pytest.raises(UsageError, match=r"line 16: .* no cell of the suite's grid"):
        claims(loaded, suite_grid(loaded))


def test_lines_of_keys():
    text = """a = '''
[[x]]
b = 1
'''
[[x]]
b = [
  [1],
  c = 2,
]
[x.y]
b = 1
[[x]]
b = 1 # ]
d = 2
"""
    places = {("", "a"): 1, ("x[0]", "b"): 6, ("x[0]", ""): 5, ("x[1]", "d"): 14, ("x.y", "b"): 11}
    places |= {("x[1]", "z"): 12, ("w", ""): None}
    assert {place: line_of(text, *place) for place in places} == places
