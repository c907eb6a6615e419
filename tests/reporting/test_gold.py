from __future__ import annotations

import pytest

from reports.records import load_records
from reports.render import write_report
from reports.summary import build_report

from .fake_runs import fake_run, original_runs
from .gold import check_gold, page_text


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


@pytest.mark.parametrize("runs", [original, seeds])
def test_a_whole_report_is_what_a_person_has_read(tmp_path, runs):
    report = build_report(load_records(runs(tmp_path / "runs")))
    write_report(report, tmp_path / "out")
    texts = {
        f"{runs.__name__}.md": (tmp_path / "out" / "report.md").read_text("utf-8"),
        f"{runs.__name__}.html.txt": page_text((tmp_path / "out" / "index.html").read_text("utf-8")),
    }
    for name, text in texts.items():
        check_gold(name, text, tmp_path)


def test_a_gold_that_differs_says_where_the_output_is(tmp_path):
    with pytest.raises(AssertionError, match="differs; what came out is") as failure:
        check_gold("original.md", "# Something else, harness 9.9.9\n", tmp_path)
    assert "+# Something else, harness VERSION" in str(failure.value)
    assert (tmp_path / "original.md").read_text() == "# Something else, harness VERSION\n"
