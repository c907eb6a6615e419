"""Where the training of one cell stands: its optimizer, its rows so far, its best epoch, its witness."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from harness.adaptive import Adaptation, GradientStatistics
from harness.cell import Cell, Row, Snapshot
from harness.freezing import apply_segment
from harness.micro_batches import MicroBatches, changes
from harness.optimizers import export_state, import_state, make_optimizer
from harness.penalty import tapped
from harness.probe import asked_shares
from harness.seeding import derive_seed
from harness.witness import Witness


@dataclass
class CellState:
    """:meth:`begin` before an epoch, :meth:`add` after it; :meth:`snapshot` at any time between.

    ``names`` has the name of each parameter of ``optimizer`` by identity; ``shares`` its share of the
    learning rate in this epoch, by name, where the strategy adapts them.
    """

    cell: Cell
    optimizer: torch.optim.Optimizer
    names: Mapping[int, str]
    segment: int
    micro_batches: MicroBatches
    history: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best_score: tuple[float, float] = (-1.0, -math.inf)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    witness: Witness = field(default_factory=Witness)
    shares: Mapping[str, float] | None = None

    @classmethod
    def start(cls, cell: Cell, resume: Snapshot | None, *, beside: bool = False) -> CellState:
        """At the beginning, or after the epoch that ``resume`` was taken at.

        ``beside`` others it fails where memory runs out, since alone it may have enough.
        """
        before = changes(resume.history if resume else ())
        micro_batches = MicroBatches(cell.micro_batches, beside, before, cell.world)
        cell.model.to(cell.device).to(memory_format=torch.channels_last)
        if resume is None:
            return cls(cell, *_optimizer(cell, 0), 0, micro_batches)
        _restore(cell, resume.tensors)
        segment = cell.recipe.segment_at(max(resume.epoch, 1))
        optimizer, names = _optimizer(cell, segment)
        import_state(optimizer, names, resume.optimizer)
        state = cls(cell, optimizer, names, segment, micro_batches, list(resume.history))
        for row in resume.history:
            if (score := _score(row)) > state.best_score:
                state.best_epoch, state.best_score = int(row["epoch"] or 0), score
        state.best = dict(resume.best)
        state.witness = Witness.from_dict(resume.witness)
        return state

    def begin(self, epoch: int) -> None:
        """Puts the plan of ``epoch`` into effect."""
        if self.cell.recipe.segment_at(epoch) != self.segment:
            self._enter_segment(epoch)
        apply_segment(
            self.cell.model, self.cell.recipe.segments[self.segment], self.cell.assigned[self.segment]
        )
        self.shares = None
        self.witness.begin(self.cell, self.segment, self.optimizer, self.names)

    @property
    def adaptation(self) -> Adaptation | None:
        """What sets the learning rates of this epoch, where something does."""
        return self.cell.recipe.segments[self.segment].adapt

    def adapt(self, adaptation: Adaptation, seen: Mapping[str, GradientStatistics]) -> None:
        """Sets the learning rates of this epoch by what was ``seen`` of the gradients before it."""
        self.shares = asked_shares(adaptation, seen)
        scales, lr = self.cell.assigned[self.segment], _lr(self.cell, self.segment)
        for group in self.optimizer.param_groups:
            (name,) = (self.names[id(parameter)] for parameter in group["params"])
            group["base_lr"] = lr * (scales[name] or 0.0) * self.shares[name]

    def end(self, epoch: int) -> None:
        """Notes what the epoch's steps have touched, while its gradients are still there."""
        self.witness.end(self.cell, self.segment, epoch, self.optimizer, self.names)

    def add(self, row: Row) -> None:
        """Adds an epoch's row; where it is the best so far, the weights are kept if they are asked for."""
        self.history.append(row)
        if (score := _score(row)) > self.best_score:
            self.best_epoch, self.best_score = int(row["epoch"] or 0), score
            if self.cell.settings.select == "best":
                self.best = {n: t.detach().clone() for n, t in self.cell.tensors().items()}

    def select(self) -> None:
        """After the last epoch: puts the weights back that the settings' ``select`` names."""
        if self.cell.settings.select == "best":
            _restore(self.cell, self.best)

    def snapshot(self) -> Snapshot:
        """Copies of everything that a later process needs to go on from here."""
        return Snapshot(
            epoch=len(self.history),
            tensors={n: t.detach().clone() for n, t in self.cell.tensors().items()},
            optimizer=export_state(self.optimizer, self.names),
            history=tuple(self.history),
            best_epoch=self.best_epoch,
            best=dict(self.best),
            witness=self.witness.as_dict(),
        )

    def _enter_segment(self, epoch: int) -> None:
        """A new plan: a new optimizer, which keeps the state of what trained before unless asked not to."""
        kept = export_state(self.optimizer, self.names)
        self.segment = self.cell.recipe.segment_at(epoch)
        keep = self.cell.recipe.segments[self.segment].keep
        if keep is not None:
            draw = torch.Generator().manual_seed(derive_seed(self.cell.seed, "keep", self.segment))
            tapped(self.cell).head.keep(keep, draw)
        self.optimizer, self.names = _optimizer(self.cell, self.segment)
        if not self.cell.recipe.segments[self.segment].fresh_optimizer:
            import_state(self.optimizer, self.names, kept)


def _score(row: Row) -> tuple[float, float]:
    """Validation accuracy, then the smaller loss; one that isn't finite stands as None."""
    loss = row["val_loss"]
    return float(row["val_accuracy"] or 0), -math.inf if loss is None else -float(loss)


def _optimizer(cell: Cell, segment: int) -> tuple[torch.optim.Optimizer, Mapping[int, str]]:
    s, adapt = cell.settings, cell.recipe.segments[segment].adapt
    scales = {n: scale for n, scale in cell.assigned[segment].items() if scale is not None}
    lr = _lr(cell, segment)
    return make_optimizer(s.optimizer, cell.tensors(), scales, lr, s.weight_decay, apart=adapt is not None)


def _lr(cell: Cell, segment: int) -> float:
    return cell.recipe.segments[segment].lr or cell.lr


def _restore(cell: Cell, tensors: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in cell.tensors().items():
            tensor.copy_(tensors[name])
