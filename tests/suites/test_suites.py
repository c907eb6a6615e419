from __future__ import annotations

import pytest

from harness.errors import UnknownName, UsageError
from harness.suites import builtin_suites, load_suite

SMALL = """
name = "small"
[data]
name = "faces"
[grid]
backbones = ["vgg_tiny"]
strategies = ["head_only"]
lrs = [1e-3]
"""


def test_the_original_experiment():
    suite = load_suite("celeba30k")
    assert (suite.data.name, suite.data.target, suite.data.split) == ("celeba30k", "Male", "stratified")
    assert suite.grid.backbones == ("vgg16",)
    assert suite.grid.strategies == ("head_only", "last_block")
    assert suite.grid.lrs == (1e-3, 1e-4)
    assert suite.train["epochs"] == 10
    original = {(r.strategy, r.lr): r for r in suite.references if r.source == "original report"}
    assert len(suite.references) == 16
    assert [original[c].accuracy for c in sorted(original)] == [0.9090, 0.9138, 0.9773, 0.5773]
    assert all(sum(map(sum, r.confusion)) == r.n == 3000 for r in original.values())


def test_the_embedded_sample():
    suite = load_suite("faces")
    assert (suite.data.name, suite.grid.backbones, suite.grid.weights) == ("faces", ("vgg_tiny",), "embedded")
    assert not suite.references


def test_every_built_in_suite_is_named_as_its_file():
    assert builtin_suites() == tuple(load_suite(name).name for name in builtin_suites())


def test_a_file(tmp_path):
    file = tmp_path / "mine.suite.toml"
    file.write_text(SMALL)
    suite = load_suite(file)
    assert (suite.title, suite.grid.seeds, suite.grid.heads) == ("small", (0,), ("own",))
    assert not suite.train


def test_an_unknown_name_suggests():
    with pytest.raises(UnknownName, match="unknown suite 'celeba30'; did you mean 'celeba30k'"):
        load_suite("celeba30")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="doesn't exist"):
        load_suite(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL + "oops = ]", r"not valid TOML: .*line 9"),
        (SMALL + "[train]\nepoch = 3", r"unknown key of \[train\].*'epoch'; did you mean 'epochs'"),
        (SMALL.replace("1e-3", '"fast"'), "'grid.lrs' must be a list of numbers"),
        (SMALL.replace('name = "faces"', ""), "'data.name' must be a text; it is missing"),
        (SMALL + '[[reference]]\nsource="x"\nstrategy="a"\nlr=1.0\naccuracy=91.4', "a share between 0 and 1"),
    ],
)
def test_a_malformed_file_in_one_line(tmp_path, text, message):
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_suite(file)
    assert "\n" not in str(caught.value)
    assert "bad.toml" in str(caught.value)
