"""A: the loop of torch's transfer learning tutorial, run once a cell.

Pillow and transforms in a DataLoader each epoch, the whole network forward each step, torch's default
layout and its default Adam.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.rivals.loop import Say
from benchmarks.rivals.pillow_data import EpochOrder, eval_loader, train_loader
from benchmarks.setting import Network, Setting, open_setting
from benchmarks.work import Cell, CellResult, Outcome, Phases, Work


def run(work: Work, say: Say) -> Outcome:
    return one_by_one(work, say, _cell)


def one_by_one(work: Work, say: Say, train: Callable[[Setting, Cell, Say], CellResult]) -> Outcome:
    """Every cell from the start, whatever ``train`` does of it counted as training."""
    phases = Phases()
    setting = open_setting(work)
    with phases.measure("train"):
        results = tuple(train(setting, cell, say) for cell in work.cells)
    return Outcome(results, phases.seconds)


def _cell(setting: Setting, cell: Cell, say: Say) -> CellResult:
    model = setting.float_network(cell)
    optimizer = torch.optim.Adam(model.suffix.parameters(), lr=cell.lr)
    order = EpochOrder(setting)
    loader, val = train_loader(setting, order), eval_loader(setting, setting.val)
    losses, accuracies = [], []
    for epoch in range(1, setting.work.epochs + 1):
        order.set_epoch(epoch - 1)
        model.train()
        total = 0.0
        for step, (x, y) in enumerate(loader):
            x, y = x.to(setting.device), y.to(setting.device)
            setting.seed_step(epoch, step)
            optimizer.zero_grad()
            with setting.autocast():
                loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
        losses.append(total / len(setting.train))
        accuracies.append(accuracy(setting, model, val))
        say(f"{cell.label}: epoch {epoch}/{setting.work.epochs}")
    tested = accuracy(setting, model, eval_loader(setting, setting.test))
    return CellResult(cell.label, tuple(losses), tuple(accuracies), tested)


def accuracy(
    setting: Setting, model: Network, loader: torch.utils.data.DataLoader[tuple[torch.Tensor, int]]
) -> float:
    """The share that ``model`` gets right."""
    model.eval()
    right = seen = 0
    with torch.no_grad():
        for x, y in loader:
            x, y = x.to(setting.device), y.to(setting.device)
            with setting.autocast():
                right += int((model(x).argmax(1) == y).sum())
            seen += len(y)
    return right / seen
