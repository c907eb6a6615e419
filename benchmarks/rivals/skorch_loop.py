"""skorch: NeuralNetClassifier over the tutorial's data, one fit a cell."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.helper import predefined_split
from torch import nn

from benchmarks.rivals.loop import Say
from benchmarks.rivals.pillow_data import EpochOrder, PillowImages
from benchmarks.rivals.tutorial import one_by_one
from benchmarks.setting import Setting
from benchmarks.work import Cell, CellResult, Outcome, Work


def run(work: Work, say: Say) -> Outcome:
    if work.precision == "bf16":
        raise RuntimeError("skorch has no autocast of its own")
    return one_by_one(work, say, _cell)


class _Streams(Callback):
    """The harness's order and dropout, so that the curves can be compared."""

    def __init__(self, setting: Setting, order: EpochOrder, cell: Cell, say: Say) -> None:
        self.setting, self.order, self.cell, self.say, self.step = setting, order, cell, say, 0

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        self.order.set_epoch(len(net.history) - 1)
        self.step = 0

    def on_batch_begin(self, net: Any, batch: Any = None, training: bool = False, **_: Any) -> None:
        if training:
            self.setting.seed_step(len(net.history), self.step)
            self.step += 1

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        self.say(f"{self.cell.label}: epoch {len(net.history)}/{self.setting.work.epochs}")


def _cell(setting: Setting, cell: Cell, say: Say) -> CellResult:
    work, order = setting.work, EpochOrder(setting)
    net = NeuralNetClassifier(
        setting.float_network(cell),
        criterion=nn.CrossEntropyLoss,
        classes=sorted(set(setting.labels.tolist())),
        optimizer=torch.optim.Adam,
        lr=cell.lr,
        batch_size=work.batch_size,
        max_epochs=work.epochs,
        train_split=predefined_split(PillowImages(setting, setting.val)),
        iterator_train__sampler=order,
        iterator_train__num_workers=work.loader_workers,
        iterator_valid__num_workers=work.loader_workers,
        callbacks=[_Streams(setting, order, cell, say)],
        device=work.device,
        verbose=0,
    )
    net.fit(PillowImages(setting, setting.train), y=None)
    found = torch.from_numpy(net.predict(PillowImages(setting, setting.test)))
    right = float((found == setting.labels[setting.test]).double().mean())
    return CellResult(
        cell.label, tuple(net.history[:, "train_loss"]), tuple(net.history[:, "valid_acc"]), right
    )
