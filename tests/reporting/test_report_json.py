"""The report as JSON: its numbers are the report's, its keys the documented ones, its tokens plain JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.leakage import Leakage, belonging, write_leakage
from reports.as_json import FORMAT, report_json, report_values
from reports.records import load_records
from reports.summary import build_report

from .fake_runs import fake_run, original_runs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("runs")
    runs = [*original_runs(folder), fake_run(folder, strategy="full", error="out of memory")]
    digests = belonging({"data": "d" * 64, "split": "5" * 64})
    write_leakage(runs[0], Leakage(digests, {"000001.jpg": ("x",)}, ("000002.jpg",)))
    return build_report(load_records(runs))


def test_the_numbers_are_the_report_s(data) -> None:
    found = json.loads(report_json(data, "names"))
    assert found["format"] == FORMAT
    (experiment,) = found["experiments"]
    (own,) = data.experiments
    for row, cell in zip(experiment["cells"], own.cells, strict=True):
        assert (row["number"], row["name"], row["run"]) == (cell.number, cell.name, cell.record.run)
        assert row["test"]["accuracy"] == cell.test.accuracy
        assert row["test"]["confusion"] == [list(r) for r in cell.test.confusion]
        assert row["interval"] == list(cell.interval)
        assert row["verdict"]["kind"] == cell.verdict.kind
        assert len(row["history"]) == 10
        assert row["result"]["timing"]["train_s"] == 900
    for row, c in zip(experiment["comparisons"], own.comparisons, strict=True):
        assert (row["first"], row["second"], row["p"]) == (c.first.name, c.second.name, c.p)
        assert (row["difference"], row["interval"]) == (c.difference, list(c.interval))
    assert [s["accuracy"]["mean"] for s in experiment["settings"]] == [s.accuracy.mean for s in own.settings]
    assert experiment["leaks"]["copies"] == 1
    assert experiment["leaks"]["rows"][0]["without_copies"]["n"] == 2999
    assert [row["cell"] for row in experiment["published"]] == [p.cell.number for p in own.published]
    assert [s["text"] for s in experiment["discussion"]] == [s.text for s in own.discussion]
    assert [f["error"] for f in found["failed"]] == ["out of memory"]


def test_every_field_of_the_report_is_there(data) -> None:
    found = report_values(data, "names")
    assert {"title", "banners", "experiments", "failed", "signature"} <= found.keys()
    assert found["experiments"][0].keys() == set(data.experiments[0].__dataclass_fields__)


def test_no_test_image_is_named_where_none_is_wanted(data) -> None:
    assert re.search(r'"\d{6}\.jpg"', report_json(data, "names"))
    assert not re.search(r"\d{6}\.jpg", report_json(data, "none"))


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    rows = (run / "history.jsonl").read_text().splitlines()
    rows[-1] = json.dumps(json.loads(rows[-1]) | {"train_loss": None})
    (run / "history.jsonl").write_text("\n".join(rows) + "\n")
    text = report_json(build_report(load_records([run])), "names")

    def refuse(token: str) -> None:
        raise AssertionError(token)

    found = json.loads(text, parse_constant=refuse)
    assert found["experiments"][0]["cells"][0]["history"][-1]["train_loss"] is None
    assert found["experiments"][0]["cells"][0]["verdict"]["kind"] == "diverged"


def test_the_same_bytes_twice_and_no_path_of_this_machine(data, tmp_path: Path) -> None:
    text = report_json(data, "names")
    assert text == report_json(data, "names")
    assert str(data.cells[0].record.folder) not in text


def test_the_documented_keys_are_there(data) -> None:
    page = (ROOT / "docs" / "report-json.md").read_text("utf-8")
    documented = json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])
    assert list(missing(documented, report_values(data, "names"))) == []


def missing(expected: object, found: object, where: str = ""):
    if isinstance(expected, dict):
        for key, value in expected.items():
            if not isinstance(found, dict) or key not in found:
                yield f"{where}.{key}"
            else:
                yield from missing(value, found[key], f"{where}.{key}")
    elif isinstance(expected, list) and expected and isinstance(expected[0], dict):
        yield from missing(expected[0], found[0], f"{where}[0]")
