"""Cells from their first epoch to their records."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch

from harness import record, runtime
from harness.audit import audit
from harness.backbones.staged import StagedModel
from harness.cell import Cell, Snapshot, TrainData
from harness.checkpoint import read_resume, write_checkpoint, write_resume
from harness.data.prepare import PreparedData
from harness.errors import HarnessError, RecordError
from harness.files import write_text
from harness.freezing import frozen_random
from harness.jobs import Job
from harness.leakage import write_leakage
from harness.metrics import scores
from harness.micro_batches import KEY, Change, changes
from harness.plugins import STRATEGIES, fault
from harness.prefix import probe
from harness.probe import RuleError
from harness.progress import Progress
from harness.spec import FORMAT
from harness.trainer import EpochState, evaluate
from harness.witness import Witness
from harness.world import ALONE, World


@dataclass(eq=False)
class CellRun:
    """A job on its way to its record: samples, what its suffix takes, what their pass has cost.

    :meth:`begin`, :meth:`epoch` after each epoch, then :meth:`finish`; :meth:`fail` instead of any.
    """

    job: Job
    data: PreparedData
    train: TrainData
    base: str  # digest of the network that it starts from
    timing: Mapping[str, float]
    device: torch.device
    suite: str | None
    argv: tuple[str, ...]
    progress: Progress
    title: str
    beside: int = 1  # cells that train side by side with this one, itself included
    micro_batches: tuple[Change, ...] = ()
    world: World = ALONE
    _started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _before: Mapping[str, torch.Tensor] = field(default_factory=dict)
    _witness: Witness = field(default_factory=Witness)
    _selected: int = 0
    _accuracy: float | None = None

    def begin(self, initial: StagedModel) -> tuple[Cell, Snapshot | None]:
        """A cell with a copy of ``initial``, and where an earlier process stopped."""
        job = self.job
        job.folder.write_spec(self._spec())
        self._before = dict(initial.tensors())
        cell = make_cell(job, initial, self.device, self.micro_batches, self.world)
        resume = self._resume(cell.device)
        if resume:
            epochs = cell.settings.epochs
            self._selected = epochs if cell.settings.select == "last" else resume.best_epoch
            self._witness = Witness.from_dict(resume.witness)
            self._accuracy = float(resume.history[-1]["val_accuracy"] or 0)
        return cell, resume

    def epoch(self, state: EpochState) -> None:
        """Writes what an epoch left."""
        self._selected, self._witness = state.selected_epoch, state.witness
        self._accuracy = float(state.row["val_accuracy"] or 0)
        self.job.folder.write_history(state.history)
        self._say_pieces(state)
        self._keep(state)

    def finish(self, cell: Cell) -> None:
        """Tests the trained cell once and writes its record."""
        if self._accuracy is not None:
            self.progress.say(f"{self.title}: validation accuracy {100 * self._accuracy:.2f} %")
        job, table, split = self.job, self.data.table, self.data.split
        audits = audit(cell, self._before, job.stages, self._witness)
        val = evaluate(cell, self.train.features, self.train.val).numpy()
        test = evaluate(cell, self.train.features, torch.from_numpy(split.test)).numpy()
        digests = dict(job.digests) | write_checkpoint(job.folder, cell, self._before, self.base)
        write_text(job.folder.path / "predictions.csv", record.predictions_csv(table, split.test, test))
        write_leakage(job.folder.path, self.data.leakage)
        cut = cell.cuts[-1]
        seen = probe(self.train.features[cut], torch.from_numpy(split.test), cell.device) if cut else None
        digests["predictions"] = record.predictions_digest(table, split.test, test)
        self._write(
            {
                "digests": digests,
                "backbone": record.backbone_part(
                    job.spec.backbone, cell.model.preprocess, job.stages, job.plan.cut, audits
                ),
                "prefix": {"cut": cut, "probe": seen},
                "selected_epoch": self._selected,
                "val": scores(table.labels[split.val], val, table.class_names),
                "test": scores(table.labels[split.test], test, table.class_names),
            }
        )

    def give_up(self, error: Exception) -> None:
        """Records a failure before the first epoch."""
        self.job.folder.write_spec(self._spec())
        self.fail(error)

    def fail(self, error: Exception) -> None:
        """Records a failure with its reason, so that the rest of a grid can go on."""
        if isinstance(error, RuleError):
            name = self.job.strategy_name
            error = fault(STRATEGIES, name, f"strategy '{name}'", f"can't set its learning rates: {error}")
        reason = str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
        self.progress.say(f"{self.title}: {reason}")
        self._write({"status": "failed", "error": reason, "test": None, "val": None})

    def _write(self, found: Mapping[str, Any]) -> None:
        # Epochs that an earlier process trained before it was interrupted count too.
        history = self.job.folder.read_history()
        seconds = sum(float(row["seconds"] or 0) for row in history)
        images = len(self.data.split.train) * self.job.spec.train.epochs
        timing = {
            **self.timing,
            "train_s": seconds,
            "total_s": seconds + self.timing["decode_s"] + self.timing["prefix_s"],
            "images_per_s": images / seconds if seconds else None,
        }
        environment = {
            **runtime.environment(self.device),
            "processes": self.world.size,
            "started": self._started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        peak = runtime.peak_memory(self.device)
        memory = {"of": peak[0], "peak_bytes": peak[1], "shared_by": self.beside} if peak else None
        self.job.folder.write_result(
            {
                **self._asked(),
                **found,
                KEY: [change._asdict() for change in changes(history)],
                "timing": timing,
                "memory": memory,
                "environment": environment,
            }
        )

    def _spec(self) -> dict[str, Any]:
        return self.job.spec.as_dict() | {"strategy_name": self.job.strategy_name}

    def _asked(self) -> dict[str, Any]:
        """The part of a record that is known before training."""
        job = self.job
        return {
            "format": FORMAT,
            "run": job.folder.name,
            "status": "done",
            "spec": self._spec(),
            "suite": self.suite,
            "digests": dict(job.digests),
            "data": record.data_part(self.data),
            "backbone": None,
            "strategy": record.strategy_part(
                job.strategy_name, job.strategy, job.stages, job.plan.cut, job.trainable
            ),
            "selected_epoch": None,
            "command": record.command(
                job.spec,
                self.data,
                job.weights,
                torch.get_num_threads(),
                random_frozen=bool(frozen_random(job.plan.assigned, job.stages)),
                micro_batches=max(
                    self.world.size, *(c.pieces for c in self.micro_batches if c[:2] == (1, 0)), 1
                ),
            ),
            "typed": shlex.join(["harness", *self.argv]),
            "error": None,
        }

    def _resume(self, device: torch.device) -> Snapshot | None:
        """Where an earlier process stopped; a file that can't be read is said and costs only time."""
        try:
            found = read_resume(self.job.folder, device, runtime.conditions(device))
        except RecordError as error:
            self.progress.say(f"{self.title}: starting over, {error}")
            return None
        if found:
            self.progress.say(f"{self.title}: going on after epoch {found.epoch}")
        return found

    def _say_pieces(self, state: EpochState) -> None:
        """Says it in the epoch from which batches are computed in more pieces than were asked for."""
        for epoch, step, pieces in changes(state.history):
            asked = pieces in {change.pieces for change in state.cell.micro_batches}
            if epoch == state.row["epoch"] and not asked:
                size = self.job.spec.train.batch_size
                self.progress.say(
                    f"{self.title}: out of memory in epoch {epoch}, step {step}: from there on each batch of "
                    f"{size} is computed in {pieces} micro-batches, whose gradients are added"
                )

    def _keep(self, state: EpochState) -> None:
        """Writes the resume file where it is worth its time."""
        trained = sum(t.numel() * t.element_size() for t in state.cell.tensors().values())
        # Adam's state is twice the parameters.
        if (
            self.job.folder.wants_resume(3 * trained, self.beside)
            and state.row["epoch"] != self.job.spec.train.epochs
        ):
            write_resume(self.job.folder, state.snapshot(), runtime.conditions(self.device))


def make_cell(
    job: Job,
    initial: StagedModel,
    device: torch.device,
    micro_batches: tuple[Change, ...] = (),
    world: World = ALONE,
) -> Cell:
    """The cell of ``job`` with a copy of ``initial``, the network that it starts from."""
    return Cell(
        model=copy.deepcopy(initial),
        cuts=job.plan.cuts,
        recipe=job.plan.recipe,
        assigned=job.plan.assigned,
        lr=job.spec.lr,
        seed=job.spec.seed,
        settings=job.spec.train,
        device=device,
        origin=dict(initial.tensors()),
        micro_batches=(*micro_batches, Change(1, 0, world.size)),
        world=world,
    )
