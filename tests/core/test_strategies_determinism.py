"""Every strategy: the same bits from cached activations, and after an interruption anywhere."""

from dataclasses import replace

import pytest
import torch

from core.grids import GRID, run
from core.small import copies
from core.watch import cell_of, data_of, trained
from harness.plugins import STRATEGIES, find
from harness.trainer import fit

EPOCHS = 4
OPTIONS = {
    "surgical": "surgical[block=2]",
    "freeze_unfreeze": "freeze_unfreeze[at=2]",
    "lp_ft": "lp_ft[lr_ft=1e-3]",
    "gradual_unfreeze": "gradual_unfreeze[per_epoch=2]",
    "backbone_finetuning": "backbone_finetuning[at=1]",
    "l2_sp": "l2_sp[weight=1.0]",
}
NAMES = [OPTIONS.get(name, name) for name in find(STRATEGIES)]


def same(a, b):
    return a[0] == b[0] and a[1].keys() == b[1].keys() and all(torch.equal(a[1][k], b[1][k]) for k in a[1])


@pytest.mark.parametrize("name", NAMES)
def test_cached_at_its_own_cuts_equals_the_whole_network(name):
    found = []
    for cut in (None, 0):
        cell = cell_of(name, cut=cut, epochs=EPOCHS, flip=True)
        found.append(trained(cell, data_of(cell, mirror=True)))
    assert same(*found)


@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd", "schedule": "one-cycle"}], ids=["adam", "sgd"])
@pytest.mark.parametrize("name", NAMES)
def test_going_on_after_any_epoch_equals_not_having_stopped(name, settings):
    def cell():
        return cell_of(name, cut=None, epochs=EPOCHS, **settings)

    first = cell()
    data, snapshots = data_of(first), []
    for state in fit(first, data):
        snapshots.append(state.snapshot())
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in state.history]
    whole = rows, copies(first.model)
    for snapshot in snapshots[:-1]:
        assert same(trained(cell(), data, resume=snapshot), whole), snapshot.epoch


def test_cuts_follow_what_has_trained_so_far():
    cuts = {name: cell_of(name, cut=None, epochs=EPOCHS).cuts for name in NAMES}
    assert cuts["lp_ft[lr_ft=1e-3]"] == (5, 0)
    assert cuts["surgical[block=2]"] == (1,)
    assert cuts["freeze_unfreeze[at=2]"] == cuts["fine_tune"] == (4, 0)
    assert cuts["gradual_unfreeze[per_epoch=2]"] == (4, 1, 0)
    assert cuts["backbone_finetuning[at=1]"] == (4, 0, 0, 0)


@pytest.mark.usefixtures("site")
def test_all_of_them_end_with_a_record_in_one_grid(tmp_path, images):
    settings = replace(GRID.train, epochs=EPOCHS)
    grid = replace(GRID, strategies=tuple(NAMES), lrs=(1e-3,), train=settings)
    records = [outcome.record for outcome in run(grid, tmp_path / "runs", images)]
    assert [(r["strategy"]["name"], r["error"]) for r in records if r["status"] != "done"] == []
    assert {r["strategy"]["name"] for r in records} == {n.split("[")[0] for n in NAMES} - {"last_k"} | {
        "last_block"
    }
