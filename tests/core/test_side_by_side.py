"""Cells that train beside each other: the bits of each alone, failures of one alone."""

from dataclasses import replace

import pytest

from core.grids import GRID, Said, results, run
from harness import grid_run, run_cell

pytestmark = pytest.mark.usefixtures("site")

PROBES = replace(GRID, strategies=("linear_probe",), lrs=(1e-2, 1e-3, 1e-4), seeds=(0, 1))


def test_linear_heads_trained_side_by_side_equal_each_alone(tmp_path, images):
    said = Said()
    together = results(run(PROBES, tmp_path / "grid", images, said))
    alone = {}
    for lr in PROBES.lrs:
        for seed in PROBES.seeds:
            one = replace(PROBES, lrs=(lr,), seeds=(seed,))
            alone |= results(run(one, tmp_path / "alone", images))
    assert len(together) == 6
    assert alone == together


@pytest.mark.parametrize("augment", ["", "crop"])
def test_a_cell_that_fails_beside_others_takes_none_with_it(tmp_path, images, monkeypatch, augment):
    grid = replace(PROBES, seeds=(0,), train=replace(PROBES.train, augment=augment))
    expected = results(run(grid, tmp_path / "whole", images))
    original = run_cell.Cell.suffix

    def suffix(self, segment):
        if self.lr == 1e-3:
            raise RuntimeError("a fault of its own")
        return original(self, segment)

    monkeypatch.setattr(run_cell.Cell, "suffix", suffix)
    outcomes = run(grid, tmp_path / "runs", images)
    assert [o.record["status"] for o in outcomes] == ["done", "failed", "done"]
    assert "a fault of its own" in outcomes[1].record["error"]
    found = {o.folder.name: o.record["digests"] for o in outcomes if o.record["status"] == "done"}
    assert found == {name: expected[name]["digests"] for name in found}


def test_memory_bounds_how_many_train_side_by_side(tmp_path, images, monkeypatch):
    sizes, original = [], grid_run.train_cells

    def counting(runs, *rest, **options):
        sizes.append(len(runs))
        return original(runs, *rest, **options)

    monkeypatch.setattr(grid_run, "train_cells", counting)
    whole = results(run(PROBES, tmp_path / "whole", images))
    assert sizes == [3, 3]
    monkeypatch.setattr(grid_run, "cells_at_once", lambda *_: 2)
    assert results(run(PROBES, tmp_path / "pairs", images)) == whole
    assert sizes[2:] == [2, 1, 2, 1]
