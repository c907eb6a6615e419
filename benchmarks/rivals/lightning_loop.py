"""pytorch-lightning: a module, a Trainer and its callback for frozen backbones, one fit a cell."""

from __future__ import annotations

import logging
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import BaseFinetuning
from torch.nn import functional as F

from benchmarks.rivals.loop import Say
from benchmarks.rivals.pillow_data import EpochOrder, eval_loader, train_loader
from benchmarks.rivals.tutorial import accuracy, one_by_one
from benchmarks.setting import Setting
from benchmarks.work import Cell, CellResult, Outcome, Work

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
_PRECISION = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed"}


def run(work: Work, say: Say) -> Outcome:
    return one_by_one(work, say, _cell)


class _Module(lightning.LightningModule):
    def __init__(self, setting: Setting, cell: Cell, say: Say) -> None:
        super().__init__()
        self.network = setting.float_network(cell)
        self.setting, self.cell, self.say = setting, cell, say
        self.losses: list[float] = []
        self.accuracies: list[float] = []
        self.total, self.right = 0.0, 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.Adam(trained, lr=self.cell.lr)

    def on_train_epoch_start(self) -> None:
        self.total = 0.0

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.setting.seed_step(self.current_epoch + 1, batch_idx)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        loss = F.cross_entropy(self.network(x), y)
        self.total += loss.item() * len(y)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.right = 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.right += int((self.network(x).argmax(1) == y).sum())

    def on_validation_epoch_end(self) -> None:
        self.accuracies.append(self.right / len(self.setting.val))
        self.losses.append(self.total / len(self.setting.train))
        self.say(f"{self.cell.label}: epoch {self.current_epoch + 1}/{self.setting.work.epochs}")


class _Frozen(BaseFinetuning):
    """``BackboneFinetuning`` for a backbone that is never thawed, at whatever stage it ends."""

    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.network.prefix, train_bn=False)

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """Nothing is ever thawed."""


def _cell(setting: Setting, cell: Cell, say: Say) -> CellResult:
    module = _Module(setting, cell, say)
    trainer = lightning.Trainer(
        max_epochs=setting.work.epochs,
        accelerator="gpu" if setting.device.type == "cuda" else setting.device.type,
        devices=1,
        precision=_PRECISION[setting.work.precision],
        callbacks=[_Frozen()],
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, train_loader(setting, EpochOrder(setting)), eval_loader(setting, setting.val))
    network = module.network.to(setting.device)
    tested = accuracy(setting, network, eval_loader(setting, setting.test))
    return CellResult(cell.label, tuple(module.losses), tuple(module.accuracies), tested)
