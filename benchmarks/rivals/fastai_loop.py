"""fastai: a Learner with a frozen group, one fit a cell."""

from __future__ import annotations

from functools import partial

import torch
from fastai.basics import Callback, DataLoaders, Learner, OptimWrapper, params
from torch import nn

from benchmarks.rivals.loop import Say
from benchmarks.rivals.pillow_data import EpochOrder, eval_loader, train_loader
from benchmarks.rivals.tutorial import accuracy, one_by_one
from benchmarks.setting import Network, Setting
from benchmarks.work import Cell, CellResult, Outcome, Work


def run(work: Work, say: Say) -> Outcome:
    if work.precision == "bf16" or work.device != "cpu":
        raise RuntimeError("fastai is measured on a processor in full precision only")
    return one_by_one(work, say, _cell)


class _Streams(Callback):
    """The harness's order and dropout, and plain means where fastai's recorder smooths."""

    def __init__(self, setting: Setting, sampler: EpochOrder, cell: Cell, say: Say) -> None:
        self.setting, self.sampler, self.cell, self.say = setting, sampler, cell, say
        self.losses: list[float] = []
        self.accuracies: list[float] = []
        self.total, self.right = 0.0, 0

    def before_epoch(self) -> None:
        self.sampler.set_epoch(self.epoch)
        self.total, self.right = 0.0, 0

    def before_batch(self) -> None:
        if self.training:
            self.setting.seed_step(self.epoch + 1, self.iter)

    def after_loss(self) -> None:
        if self.training:
            self.total += self.learn.loss.item() * len(self.yb[0])
        else:
            self.right += int((self.pred.argmax(1) == self.yb[0]).sum())

    def after_epoch(self) -> None:
        self.losses.append(self.total / len(self.setting.train))
        self.accuracies.append(self.right / len(self.setting.val))
        self.say(f"{self.cell.label}: epoch {self.epoch + 1}/{self.setting.work.epochs}")


def _groups(network: Network) -> list[list[nn.Parameter]]:
    return [params(network.prefix), params(network.suffix)]


def _cell(setting: Setting, cell: Cell, say: Say) -> CellResult:
    sampler = EpochOrder(setting)
    streams = _Streams(setting, sampler, cell, say)
    learner = Learner(
        DataLoaders(train_loader(setting, sampler), eval_loader(setting, setting.val)),
        setting.float_network(cell),
        loss_func=nn.CrossEntropyLoss(),
        opt_func=partial(OptimWrapper, opt=torch.optim.Adam),
        splitter=_groups,
        train_bn=False,
        cbs=[streams],
    )
    learner.freeze()
    with learner.no_logging():
        learner.fit(setting.work.epochs, lr=cell.lr)
    tested = accuracy(setting, learner.model, eval_loader(setting, setting.test))
    return CellResult(cell.label, tuple(streams.losses), tuple(streams.accuracies), tested)
