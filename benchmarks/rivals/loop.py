"""The loop that the tuned rivals share: fused Adam, channels last, decoded images in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn import functional as F

from benchmarks.setting import Setting
from benchmarks.work import Cell, CellResult, Phases
from harness.data.decode import load_images

Inputs = Callable[[torch.Tensor], Mapping[int, torch.Tensor]]  # rows -> by cut, what goes into a suffix
Say = Callable[[str], None]


class Trainee:
    """One cell on its way."""

    def __init__(self, setting: Setting, cell: Cell) -> None:
        self._setting, self.cell, self.cut = setting, cell, setting.cut(cell)
        network = setting.network(cell).to(memory_format=torch.channels_last)
        self.prefix, self.suffix = network.prefix, network.suffix
        self._optimizer = torch.optim.Adam(self.suffix.parameters(), lr=cell.lr, fused=True)
        self._sum = torch.zeros((), dtype=torch.float64, device=setting.device)
        self._losses: list[float] = []
        self._accuracies: list[float] = []

    def step(self, x: torch.Tensor, y: torch.Tensor, epoch: int, number: int) -> None:
        self._setting.seed_step(epoch, number)
        with self._setting.autocast():
            logits = self.suffix(x)
        loss = F.cross_entropy(logits.float(), y)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._sum += loss.detach() * len(y)

    def right(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """How many of a batch it gets right; the caller sets the mode."""
        with self._setting.autocast():
            return (self.suffix(x).argmax(1) == y).sum()

    def end_epoch(self, accuracy: float) -> None:
        self._losses.append(float(self._sum) / len(self._setting.train))
        self._accuracies.append(accuracy)
        self._sum.zero_()

    def result(self, test_accuracy: float) -> CellResult:
        return CellResult(self.cell.label, tuple(self._losses), tuple(self._accuracies), test_accuracy)


def decoded(setting: Setting) -> torch.Tensor:
    """All images, uint8 ``[n, size, size, 3]`` on the device."""
    images = load_images(setting.paths, setting.initial.preprocess, setting.work.threads)
    return images.permute(0, 2, 3, 1).contiguous().to(setting.device)


def train(
    setting: Setting, trainees: Sequence[Trainee], inputs: Inputs, phases: Phases, say: Say
) -> list[CellResult]:
    """Trains ``trainees`` side by side on the same batches, validates each epoch, tests at the end."""
    labels, epochs = setting.labels.to(setting.device), setting.work.epochs
    who = trainees[0].cell.label if len(trainees) == 1 else f"{len(trainees)} cells"
    with phases.measure("train"):
        for epoch in range(1, epochs + 1):
            for trainee in trainees:
                trainee.suffix.train()
            for number, rows in setting.batches(epoch):
                rows = rows.to(setting.device)
                found = inputs(rows)
                for trainee in trainees:
                    trainee.step(found[trainee.cut], labels[rows], epoch, number)
            for trainee, accuracy in zip(
                trainees, accuracies(setting, trainees, inputs, labels, setting.val), strict=True
            ):
                trainee.end_epoch(accuracy)
            say(f"{who}: epoch {epoch}/{epochs}")
    with phases.measure("test"):
        scores = accuracies(setting, trainees, inputs, labels, setting.test)
    return [trainee.result(score) for trainee, score in zip(trainees, scores, strict=True)]


def accuracies(
    setting: Setting,
    trainees: Sequence[Trainee],
    inputs: Inputs,
    labels: torch.Tensor,
    rows: torch.Tensor,
) -> list[float]:
    """The share that each gets right of ``rows``."""
    right = torch.zeros(len(trainees), dtype=torch.int64, device=setting.device)
    for trainee in trainees:
        trainee.suffix.eval()
    with torch.no_grad():
        for batch in rows.to(setting.device).split(setting.work.batch_size):
            found = inputs(batch)
            right += torch.stack([t.right(found[t.cut], labels[batch]) for t in trainees])
    return [count / len(rows) for count in right.tolist()]
