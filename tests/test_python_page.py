"""``docs/python.md`` runs as it stands, in plain Python and in a notebook."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
CELLS = re.findall(r"(?ms)^```python\n(.*?)^```", PAGE.read_text("utf-8"))


def test_the_page_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in CELLS:
        exec(compile(cell, str(PAGE), "exec"), names)
    assert len(CELLS) >= 5
    assert len(list((tmp_path / "runs").iterdir())) == 8, (
        "four settings, two seeds; the first run is one of them"
    )
    assert len(names["found"]) == 8
    assert names["logits"].shape == (1, 2)
    assert (tmp_path / "report" / "index.html").exists()
    assert "head_only lr=0.001 seed=0" in capsys.readouterr().out


@pytest.mark.slow
def test_the_page_is_a_notebook(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        output["data"]["text/html"]
        for cell in book.cells
        for output in cell.outputs
        if "text/html" in output.get("data", {})
    ]
    assert len(shown) == 2, "the run and the grid; the last lines of other cells are plain"
    assert all("data:image/svg+xml" in html and "<table>" in html for html in shown)
    assert not [o for cell in book.cells for o in cell.outputs if o.output_type == "error"]
