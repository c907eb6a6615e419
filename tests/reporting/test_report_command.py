from __future__ import annotations

import webbrowser

import pytest
from click.testing import CliRunner

from harness.commands.report import command

from .fake_runs import fake_run


@pytest.fixture
def report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(command, words)


def test_it_says_what_was_written_and_what_was_left_out(report, tmp_path):
    for lr in (1e-3, 1e-4):
        fake_run(tmp_path / "runs", lr=lr, epochs=2)
    fake_run(tmp_path / "runs", strategy="full", error="out of memory")
    begun = tmp_path / "runs" / "begun"
    begun.mkdir()
    (begun / "spec.json").write_text("{}")
    found = report()
    assert found.exit_code == 0, found.output
    files = len(list((tmp_path / "report" / "report_files").iterdir()))
    assert found.stdout.splitlines() == [
        "report on 2 cells, 1 failed run:",
        "report/index.html",
        "report/report.md",
        f"{files} files in report/report_files",
    ]
    assert found.stderr == "not finished, left out: runs/begun; the same harness run goes on with it\n"


def test_the_page_is_opened_when_asked(report, tmp_path, monkeypatch):
    fake_run(tmp_path / "runs", epochs=2)
    shown = []
    monkeypatch.setattr(webbrowser, "open", lambda address: not shown.append(address))
    assert report("--title", "Mine", "--out", "there").exit_code == 0
    assert shown == []
    assert report("--title", "Mine", "--out", "there", "--open").exit_code == 0
    assert shown == [(tmp_path / "there" / "index.html").as_uri()]
    assert "<h1>Mine</h1>" in (tmp_path / "there" / "index.html").read_text()
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    assert "no browser could be started" in str(report("--open").exception)
    assert "--open goes with --format html" in str(report("--open", "--format", "md").exception)
