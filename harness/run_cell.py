"""One cell from its first epoch to its record."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from harness import record, runtime
from harness.backbones.staged import StagedModel
from harness.cell import Cell, Snapshot, TrainData
from harness.checkpoint import read_resume, write_checkpoint, write_resume
from harness.data.prepare import PreparedData
from harness.errors import HarnessError, RecordError
from harness.freezing import audit
from harness.jobs import Job
from harness.metrics import scores
from harness.prefix import Features
from harness.progress import Progress
from harness.spec import FORMAT
from harness.store import write_text
from harness.trainer import EpochState, evaluate, fit


@dataclass(frozen=True)
class CellRun:
    """A job with all it needs: samples, features at its cut, and what their pass has cost."""

    job: Job
    data: PreparedData
    features: Features
    timing: Mapping[str, float]
    device: torch.device
    suite: str | None
    argv: tuple[str, ...]
    progress: Progress
    title: str

    def run(self, initial: StagedModel) -> None:
        """Trains a copy of ``initial``, tests it once, and writes its record.

        A failure is recorded with its reason, so that the rest of a grid can go on; what the disk
        refuses to take is not, since neither would the record.
        """
        started = datetime.now(UTC)
        folder = self.job.folder
        folder.write_spec(self._spec())
        try:
            found = self._train(initial)
        except OSError:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
            found = {"status": "failed", "error": reason, "test": None, "val": None}
            self.progress.say(f"{self.title}: {reason}")
        # Epochs that an earlier process trained before it was interrupted count too.
        seconds = sum(float(row["seconds"] or 0) for row in self.job.folder.read_history())
        images = len(self.data.split.train) * self.job.spec.train.epochs
        timing = {
            **self.timing,
            "train_s": seconds,
            "total_s": seconds + self.timing["prefix_s"],
            "images_per_s": images / seconds if seconds else None,
        }
        environment = {
            **runtime.environment(self.device),
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        folder.write_result({**self._asked(), **found, "timing": timing, "environment": environment})

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
            "command": record.command(job.spec, self.data, job.weights, torch.get_num_threads()),
            "typed": shlex.join(["harness", *self.argv]),
            "error": None,
        }

    def _train(self, initial: StagedModel) -> dict[str, Any]:
        job, table, split = self.job, self.data.table, self.data.split
        before = dict(initial.tensors())
        cell = Cell(
            model=copy.deepcopy(initial),
            cut=job.plan.cut,
            recipe=job.plan.recipe,
            assigned=job.plan.assigned,
            lr=job.spec.lr,
            seed=job.spec.seed,
            settings=job.spec.train,
            device=self.device,
        )
        data = TrainData(
            features=self.features,
            labels=torch.from_numpy(table.labels),
            train=torch.from_numpy(split.train),
            val=torch.from_numpy(split.val),
            ids=table.ids,
            num_classes=len(table.class_names),
        )
        selected = self._epochs(cell, data)
        audits = audit(cell.model, before, job.plan.assigned, job.stages)
        val = evaluate(cell, self.features, data.val).numpy()
        test = evaluate(cell, self.features, torch.from_numpy(split.test)).numpy()
        digests = dict(job.digests) | write_checkpoint(job.folder, cell, before)
        write_text(job.folder.path / "predictions.csv", record.predictions_csv(table, split.test, test))
        digests["predictions"] = record.predictions_digest(table, split.test, test)
        return {
            "digests": digests,
            "backbone": record.backbone_part(
                job.spec.backbone, cell.model.preprocess, job.stages, job.plan.cut, audits
            ),
            "selected_epoch": selected,
            "val": scores(table.labels[split.val], val, table.class_names),
            "test": scores(table.labels[split.test], test, table.class_names),
        }

    def _epochs(self, cell: Cell, data: TrainData) -> int:
        """Trains to the end, from where an earlier process stopped; returns the selected epoch."""
        resume = self._resume(cell.device)
        total = cell.settings.epochs
        selected = total if cell.settings.select == "last" or not resume else resume.best_epoch
        history = resume.history if resume else ()
        with self.progress.task(self.title, total, "epochs") as task:
            task.advance(resume.epoch if resume else 0)
            for state in fit(cell, data, resume):
                selected, history = state.selected_epoch, state.history
                self.job.folder.write_history(history)
                self._keep(state)
                task.advance(1)
        accuracy = 100 * float(history[-1]["val_accuracy"] or 0)
        self.progress.say(f"{self.title}: validation accuracy {accuracy:.2f} %")
        return selected

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

    def _keep(self, state: EpochState) -> None:
        """Writes the resume file where it is worth its time."""
        trained = sum(t.numel() * t.element_size() for t in state.cell.tensors().values())
        # Adam's state is twice the parameters.
        if self.job.folder.wants_resume(3 * trained) and state.row["epoch"] != self.job.spec.train.epochs:
            write_resume(self.job.folder, state.snapshot(), runtime.conditions(self.device))
