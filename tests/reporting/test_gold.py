from __future__ import annotations

import pytest

from reports.records import load_records
from reports.render import write_report
from reports.summary import build_report

from .fake_runs import fake_run, original_runs
from .gold import GOLDS, check_gold, page_text


def original(folder):
    """The four cells of the original's table, and a run that failed."""
    return [*original_runs(folder), fake_run(folder, strategy="full", error="RuntimeError: out of memory")]


def seeds(folder):
    """Two settings with two seeds each, one of which collapses once; names that need escaping."""
    matrices = (((90, 10), (5, 45)), ((88, 12), (6, 44)), ((80, 20), (12, 38)), ((100, 0), (50, 0)))
    return [
        fake_run(folder, strategy=strategy, seed=seed, confusion=matrix, val_accuracy=0.9 - i / 50,
                 classes=("cat | <b>", "$dog_"), data={"name": "folder", "target": None},
                 card={"title": "Pets & <others>", "redistributable": True})
        for i, (strategy, seed, matrix) in enumerate(
            zip(("linear_probe", "linear_probe", "full", "full"), (0, 1, 0, 1), matrices, strict=True)
        )
    ]  # fmt: skip


@pytest.fixture(scope="module", params=[original, seeds], ids=lambda runs: runs.__name__)
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.__name__)
    report = build_report(load_records(request.param(folder / "runs")))
    write_report(report, folder / "out")
    return request.param.__name__, folder / "out"


def test_the_markdown_is_what_a_person_has_read(written, tmp_path):
    name, out = written
    check_gold(f"{name}.md", (out / "report.md").read_text("utf-8"), tmp_path)


def test_the_page_says_what_a_person_has_read(written, tmp_path):
    name, out = written
    check_gold(f"{name}.html.txt", page_text((out / "index.html").read_text("utf-8")), tmp_path)


def test_a_gold_that_differs_says_where_the_output_is(tmp_path):
    text = (GOLDS / "original.md").read_text("utf-8") + "One more line, harness 9.9.9\n"
    with pytest.raises(AssertionError, match="differs; what came out is") as failure:
        check_gold("original.md", text, tmp_path)
    assert "+One more line, harness VERSION" in str(failure.value)
    assert (tmp_path / "original.md").read_text("utf-8").endswith("One more line, harness VERSION\n")
