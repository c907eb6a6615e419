from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from statsmodels.stats.contingency_tables import mcnemar

from harness.commands.compare import command
from harness.errors import UsageError
from reports.predictions import read_predictions
from reports.records import load_records

from .fake_runs import fake_run

WEAK, STRONG = ((70, 30), (20, 30)), ((96, 4), (3, 47))


def compare(*arguments):
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    if result.exception:
        raise result.exception
    return result.output


def with_groups(folder, size):
    """Writes a person into the predictions for every ``size`` images in a row."""
    file = folder / "predictions.csv"
    with file.open(newline="") as source:
        rows = list(csv.DictReader(source))
    with file.open("w", newline="") as target:
        out = csv.DictWriter(target, rows[0])
        out.writeheader()
        out.writerows(row | {"group": f"person {i // size}"} for i, row in enumerate(rows))
    return folder


@pytest.fixture
def pair(tmp_path):
    return (
        fake_run(tmp_path, strategy="last_block", confusion=STRONG),
        fake_run(tmp_path, strategy="head_only", confusion=WEAK),
    )


def test_two_runs_by_folder_name_and_digits(pair, tmp_path):
    text = compare(*pair)
    assert text == compare(pair[0].name, pair[1].name, "--out", tmp_path)
    assert "A  last_block, lr 1e-3\n   test accuracy 95.33 % [90.68, 97.72], 143 of 150 right" in text
    assert "A - B  +28.67 points [" in text
    assert text.splitlines()[-1].startswith("A is better: last_block, lr 1e-3. That is about these two")


def test_the_figures_against_statsmodels(pair):
    found = json.loads(compare(*pair, "--json"))
    a, b = (p.label == p.prediction for p in map(read_predictions, load_records(pair)))
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    assert (found["only_first"], found["only_second"]) == (table[0][1], table[1][0])
    assert found["p"] == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert found["difference"] == pytest.approx(43 / 150)
    # The normal interval of a paired difference; the bootstrap's is near it.
    half = 1.96 * np.std(a * 1.0 - b) / np.sqrt(150)
    assert found["interval"] == pytest.approx([43 / 150 - half, 43 / 150 + half], abs=0.012)


def test_no_winner_without_support(tmp_path):
    runs = [
        fake_run(tmp_path, strategy=s, confusion=((90, 10), (5, 45))) for s in ("head_only", "last_block")
    ]
    assert "Not distinguishable" in compare(*runs)
    assert "A is better" not in compare(*runs)
    assert "B is better" not in compare(*runs)


def test_groups_are_exchanged_whole(pair):
    alone = json.loads(compare(*pair, "--json"))
    for folder in pair:
        with_groups(folder, 30)
    found = json.loads(compare(*pair, "--json"))
    assert (found["groups"], found["method"]) == (5, "exact sign flips by group")
    # All five people are in A's favour: of 32 sign patterns only two go that far.
    assert found["p"] == pytest.approx(2 / 32)
    assert not found["supported"]
    assert alone["supported"]
    assert "Of 150 images of 5 groups" in compare(*pair)


def test_all_seeds(tmp_path):
    runs = [
        fake_run(tmp_path, strategy=s, seed=seed, confusion=m)
        for seed in (0, 1, 2)
        for s, m in (("last_block", STRONG), ("head_only", WEAK))
    ]
    fake_run(tmp_path, strategy="last_block", seed=9, lr=1e-4, confusion=STRONG)
    text = compare(runs[0], runs[1], "--seeds")
    assert "seeds 0, 1, 2" in text
    assert "over new seeds and images [" in text
    assert "bootstrap of images and 3 seeds, p " in text
    assert text.splitlines()[-1].endswith("That holds for new seeds and new images alike.")
    found = json.loads(compare(runs[0], runs[1], "--seeds", "--json"))
    assert found["only_first"] is None
    assert found["first"]["seeds"] == found["second"]["seeds"] == [0, 1, 2]


def test_two_seeds_of_one_setting_are_told_apart(tmp_path):
    runs = [fake_run(tmp_path, seed=seed) for seed in (0, 1)]
    text = compare(*runs)
    assert "A  head_only, lr 1e-3, seed 0" in text
    assert "B  head_only, lr 1e-3, seed 1" in text


def test_a_verdict_is_told(tmp_path, pair):
    collapsed = fake_run(tmp_path, strategy="full", confusion=((100, 0), (50, 0)))
    assert "collapsed: It answers 'female' for 100.00 %" in compare(pair[0], collapsed)


def test_it_is_drawn(pair, tmp_path):
    text = compare(*pair, "--figure", tmp_path / "compare.svg")
    assert text.endswith("compare.svg\n")
    svg = (tmp_path / "compare.svg").read_text()
    assert "A: last_block" in svg
    assert "A is better" in svg
    with pytest.raises(UsageError, match=r"should end in \.svg"):
        compare(*pair, "--figure", tmp_path / "compare.png")


def test_what_can_t_be_compared(pair, tmp_path):
    with pytest.raises(UsageError, match="with itself"):
        compare(pair[0], pair[0])
    with pytest.raises(UsageError, match="failed"):
        compare(pair[0], fake_run(tmp_path, name="failed", error="out of memory"))
    other = fake_run(tmp_path, strategy="full", ids=[f"other{i}" for i in range(150)])
    with pytest.raises(UsageError, match="weren't tested on the same images"):
        compare(pair[0], other)
    with pytest.raises(UsageError, match="no finished run 'nothing'"):
        compare(pair[0], "nothing", "--out", tmp_path)
