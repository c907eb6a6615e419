"""Accuracy by attribute and by group against SciPy and statsmodels, and what a report makes of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import fisher_exact
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from harness.errors import UnknownName
from harness.resampling import group_correlation, mean_group_size
from harness.stats import wilson, wilson_effective
from reports import figures
from reports.records import load_records
from reports.render import write_report
from reports.summary import build_report

from .fake_runs import fake_run

CONFUSION = ((290, 10), (90, 210))


def attributes(n=600):
    """Hats hide the truth, glasses don't matter, hardly anybody has a mask; all have a nose."""
    rng = np.random.default_rng(0)
    hats = np.zeros(n, int)
    hats[300:480] = 1  # of the second class, which is wrong twice as often
    return {"Hat": hats.tolist(), "Glasses": rng.integers(2, size=n).tolist(),
            "Mask": [int(i < 7) for i in range(n)], "Nose": [1] * n}  # fmt: skip


def experiment(folders, **options):
    (found,) = build_report(load_records(folders), **options).experiments
    return found


def test_slices_against_scipy_and_statsmodels(tmp_path):
    columns = attributes()
    e = experiment([fake_run(tmp_path, confusion=CONFUSION, attributes=columns)])
    found, correct = e.slices, e.cells[0].correct
    assert {s.label for s in found.rows} == {
        f"{a}: {v}" for a in ("Hat", "Glasses", "Mask") for v in ("yes", "no")
    }
    assert [s.accuracy for s in found.rows] == sorted(s.accuracy for s in found.rows)
    expected = {}
    for s in found.rows:
        inside = np.array(columns[s.name]) == (s.value == "yes")
        right, others = correct[inside].sum(), correct[~inside]
        assert (s.n, s.right) == (inside.sum(), right)
        assert s.rest == pytest.approx(others.mean())
        assert s.interval == pytest.approx(proportion_confint(right, s.n, method="wilson"))
        table = [[right, s.n - right], [others.sum(), len(others) - others.sum()]]
        expected[s.name] = fisher_exact(table).pvalue
        assert s.p == pytest.approx(expected[s.name])
        assert s.small == (s.n < 30)
    assert found.tests == 3
    corrected = dict(zip(expected, multipletests(list(expected.values()), method="holm")[1], strict=True))
    for s in found.rows:
        assert s.adjusted == pytest.approx(corrected[s.name])
        assert s.differs == (corrected[s.name] < 0.05)
    assert {s.name for s in found.rows if s.differs} == {"Hat"}


def test_by_chance_alone_a_slice_is_rarely_called_weak(tmp_path):
    """Forty attributes that have nothing to do with the answers: some pass 5 %, none after Holm."""
    rng = np.random.default_rng(3)
    noise = {f"a{i}": rng.integers(2, size=600).tolist() for i in range(40)}
    rows = experiment([fake_run(tmp_path, confusion=CONFUSION, attributes=noise)]).slices.rows
    assert min(s.p for s in rows) < 0.05
    assert not any(s.differs for s in rows)


def test_images_of_a_group_count_for_less(tmp_path):
    """Each image twice: everything is as if there were half as many."""
    columns = {"Hat": [i // 2 % 3 == 0 for i in range(600)]}
    columns = {k: list(map(int, v)) for k, v in columns.items()}
    folder = fake_run(
        tmp_path, confusion=CONFUSION, attributes=columns, groups=[f"p{i // 2}" for i in range(600)]
    )
    lines = (folder / "predictions.csv").read_text().splitlines()
    for i in range(1, 601, 2):  # the second of a pair gets the first one's answer
        first, second = lines[i].split(","), lines[i + 1].split(",")
        lines[i + 1] = ",".join([*second[:4], *first[4:7], *second[7:]])
    (folder / "predictions.csv").write_text("\n".join(lines) + "\n")
    wrong = [int(a.split(",")[3] != a.split(",")[4]) for a in lines[1:]]
    matrix = np.zeros((2, 2), int)
    for line in lines[1:]:
        matrix[int(line.split(",")[3]), int(line.split(",")[4])] += 1
    record = json.loads((folder / "result.json").read_text())
    record["test"]["confusion"], record["test"]["accuracy"] = matrix.tolist(), 1 - np.mean(wrong)
    (folder / "result.json").write_text(json.dumps(record))
    found = experiment([folder]).slices
    assert found.correlation == pytest.approx(1)
    for s in found.rows:
        assert s.interval == pytest.approx(wilson(s.right // 2, s.n // 2))
        others, others_right = (600 - s.n) // 2, round(s.rest * (600 - s.n)) // 2
        table = [[s.right // 2, s.n // 2 - s.right // 2], [others_right, others - others_right]]
        assert s.p == pytest.approx(fisher_exact(table).pvalue)


def test_groups_are_slices_where_they_are_large_or_asked_for(tmp_path):
    large = fake_run(tmp_path, confusion=CONFUSION, groups=[f"g{i % 5}" for i in range(600)], name="large")
    found = experiment([large]).slices
    assert {s.label for s in found.rows} == {f"group: g{i}" for i in range(5)}
    assert found.tests == 5
    for s in found.rows:  # of one group: image by image
        assert s.interval == pytest.approx(wilson(s.right, s.n))
    small = fake_run(tmp_path, confusion=CONFUSION, groups=[f"g{i % 300}" for i in range(600)], name="small")
    assert experiment([small]).slices is None
    assert len(experiment([small], slices=["GROUP"]).slices.rows) == 300


def test_one_attribute_as_asked(tmp_path):
    folder = fake_run(tmp_path, confusion=CONFUSION, attributes=attributes())
    found = experiment([folder], slices=["glasses"]).slices
    assert [s.name for s in found.rows] == ["Glasses", "Glasses"]
    assert found.tests == 1
    assert found.rows[0].adjusted == found.rows[0].p
    with pytest.raises(UnknownName, match=r"unknown attribute to slice by 'Hats'; did you mean 'Hat'\?"):
        experiment([folder], slices=["Hats"])


def test_records_without_attributes_still_report(tmp_path):
    assert experiment([fake_run(tmp_path)]).slices is None


def test_the_section_says_which_slices_differ(tmp_path):
    runs = [fake_run(tmp_path / "runs", confusion=CONFUSION, attributes=attributes())]
    write_report(build_report(load_records(runs)), tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text().replace("\u00a0", " ")
    for text in ("Accuracy by attribute", "Hat: yes and Hat: no differ from the other images beyond chance",
                 "Holm's correction for 3 comparisons", "few images"):  # fmt: skip
        assert text in page or text.replace("'", "&#39;") in page, text
    data = build_report(load_records(runs)).experiments[0]
    drawn = figures.slice_figure(1, data.slices)
    worst = data.slices.rows[0]
    assert worst.label in drawn.alt
    assert "beyond chance" in drawn.alt


def test_an_effective_size_is_wilson_s_between_whole_numbers():
    assert wilson_effective(0.25, 40) == pytest.approx(wilson(10, 40))
    assert wilson_effective(0, 12) == pytest.approx(wilson(0, 12))
    assert wilson_effective(1, 12) == pytest.approx(wilson(12, 12))
    between = wilson_effective(0.25, 42)
    assert wilson(10, 40).low < between.low < wilson(11, 44).low


def test_the_correlation_within_groups():
    groups = np.repeat(np.arange(500), 4)
    rng = np.random.default_rng(1)
    people = rng.random(500) < 0.7
    assert group_correlation(people[groups], groups) == pytest.approx(1)
    assert group_correlation(rng.random(2000) < 0.7, groups) < 0.05
    half = np.where(rng.random(2000) < 0.5**0.5, people[groups], rng.random(2000) < 0.7)
    assert group_correlation(half, groups) == pytest.approx(0.5, abs=0.1)
    assert group_correlation(np.ones(2000, bool), groups) == 0
    assert mean_group_size(np.array([0, 0, 0, 1])) == pytest.approx((9 + 1) / 4)
