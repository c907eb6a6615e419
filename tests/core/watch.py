"""What a strategy really does to the small network, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from core.small import copies, make_cell, prefix_features, small_images, small_net, train_data
from harness.cell import Cell, Snapshot, TrainData
from harness.features import BATCH
from harness.plugins import load_strategy
from harness.trainer import fit

COUNT, TRAIN = 160, 2 * BATCH  # two steps an epoch
STAGES = ("block1", "block2", "block3", "fc", "head")  # those that have parameters


class Epoch(NamedTuple):
    """Tensors that moved, and the learning rate of each parameter at the epoch's last step."""

    moved: frozenset[str]
    rates: Mapping[str, float]

    @property
    def stages(self) -> set[str]:
        return {name.split(".")[0] for name in self.moved}

    def by_stage(self) -> dict[str, float]:
        """The learning rate of each stage, which must have one only."""
        found: dict[str, set[float]] = {}
        for name, rate in self.rates.items():
            found.setdefault(name.split(".")[0], set()).add(rate)
        return {stage: rate for stage, (rate,) in found.items()}


def cell_of(strategy: str, *, cut: int | None = 0, **settings: object) -> Cell:
    """A cell of the small network as always drawn; batches have the prefix's own size."""
    torch.manual_seed(0)
    given = {"batch_size": BATCH, "epochs": 4, **settings}
    return make_cell(small_net(), load_strategy(strategy)[0], cut=cut, **given)  # type: ignore[arg-type]


def data_of(cell: Cell, mirror: bool = False) -> TrainData:
    """Images at the cell's own cuts."""
    pixels, labels = small_images(COUNT)
    model = cell.model.to(memory_format=torch.channels_last)
    features = prefix_features(model, pixels, sorted(set(cell.cuts)), mirror=mirror)
    found = train_data(features[cell.cuts[0]], labels, range(TRAIN), range(TRAIN, COUNT))
    return TrainData(features, found.labels, found.train, found.val, found.ids, 2)


def watch(cell: Cell) -> list[Epoch]:
    """Trains ``cell``."""
    before, found = copies(cell.model), []
    for state in fit(cell, data_of(cell)):
        now = copies(cell.model)
        run = state._state
        rates = {run.names[id(p)]: g["lr"] for g in run.optimizer.param_groups for p in g["params"]}
        moved = frozenset(n for n, t in now.items() if not torch.equal(t, before[n]))
        found.append(Epoch(moved, rates))
        before = now
    return found


def trained(cell: Cell, data: TrainData, resume: Snapshot | None = None) -> tuple[list, dict]:
    """(history without times, tensors after the end)"""
    history = ()
    for state in fit(cell, data, resume):
        history = state.history
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
    return rows, copies(cell.model)
