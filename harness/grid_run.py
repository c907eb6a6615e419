"""A grid while it runs: what its groups of cells share, and one group after another."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.backbones.staged import StagedModel
from harness.cell import TrainData
from harness.data.prepare import PreparedData
from harness.errors import HarnessError, Locked
from harness.fused import places
from harness.jobs import Job
from harness.networks import Networks
from harness.planner import Group
from harness.pool import FeaturePool, Supply
from harness.progress import Progress
from harness.run_cell import CellRun
from harness.run_options import RunOptions
from harness.runtime import OutOfMemory
from harness.side_by_side import cells_at_once, packed
from harness.spec import Grid
from harness.store import RunFolder
from harness.train_cells import train_cells
from harness.verdicts import DIVERGED

if TYPE_CHECKING:
    from harness.augment import Augmentation


def settled(folder: RunFolder) -> bool:
    """Whether training again would change nothing: it is done, or diverged, which is as repeatable."""
    status = folder.status()
    return status == "done" or (status == "failed" and str(folder.result()["error"]).startswith(DIVERGED))


@dataclass(frozen=True)
class GridRun:
    """A grid with all that its groups of cells share."""

    grid: Grid
    data: PreparedData
    networks: Networks
    pool: FeaturePool
    options: RunOptions
    device: torch.device
    progress: Progress

    def train_group(self, group: Group[Job], before: int, total: int) -> set[str]:
        """One pass over the images, then every cell that no other process holds; names of the trained.

        ``before`` of the grid's ``total`` cells come before these, for whoever watches.
        """
        # By seed: cells of one seed start from one network, built once.
        ready = (job for job in group.cells if job.folder.free() and not settled(job.folder))
        jobs = sorted(ready, key=lambda job: job.spec.seed)
        trained: set[str] = set()
        for job in jobs:
            if job.fault:
                trained |= self.fail([job], job.fault)
        jobs = [job for job in jobs if not job.fault]
        if not jobs:
            return trained
        self.options.world.tell(tuple(job.folder.name for job in jobs))
        prepared = self.prepared(jobs)
        if isinstance(prepared, Exception):  # the other groups go on
            return trained | self.fail(jobs, prepared)
        data, supply = prepared
        initial = self.initial(jobs[0])
        timing = {
            "decode_s": supply.decode_s,
            "prefix_s": supply.prefix_s,
            "prefix_shared_by": sum(job.plan.cuts[0] > 0 for job in jobs),
        }
        done = before + len(trained)
        for batch in self._batches(initial, jobs):
            trained |= self._train(batch, data, timing, (done, total))
            done += len(batch)
        return trained

    def prepared(self, jobs: Sequence[Job]) -> tuple[TrainData, Supply] | Exception:
        """What the suffixes of a group's cells take; or why these can't train, though others may."""
        failed: Exception | None = None
        try:
            initial = self.initial(jobs[0])
            self._announce(jobs[0], initial)
            found = self.train_data(initial, jobs)
        except OutOfMemory as error:
            failed = error
        except (OSError, HarnessError):
            raise
        except Exception as error:  # a plugin's, or memory
            failed = error
        return self.options.world.agreed(failed, self.device) or found

    def _batches(self, initial: StagedModel, jobs: Sequence[Job]) -> list[list[Job]]:
        """Cells that train side by side: what shares batches of augmented images, or small heads."""
        return packed(jobs, lambda job: self._company(initial, job))

    def _company(self, initial: StagedModel, job: Job) -> tuple[tuple[object, ...], int]:
        """What the cells beside ``job`` have in common with it, and how many of its kind fit at once."""
        room = cells_at_once(initial, job.plan.cut, self.device)
        if self.grid.train.augment:
            return (job.spec.seed,), room
        if (places := self._places(initial, job)) > 1:
            return (job.spec.seed, job.plan.cut), min(room, places)
        return (job.folder.name,), 1

    def initial(self, job: Job) -> StagedModel:
        """The network that ``job`` starts from."""
        return self.networks.get(job.network, job.spec.seed)

    def _announce(self, job: Job, model: StagedModel) -> None:
        if not model.cuttable:
            self.progress.say(f"{job.spec.backbone} isn't known in stages: it trains without a shared prefix")
        random = [s.name for s in job.stages if any(not p.pretrained for p in s.parameters)]
        if len(random) > 1 and job.weights != "none" and job.plan.recipe.init == "pretrained":
            self.progress.say(f"at random initialisation (not in the weights): {', '.join(random)}")

    def _places(self, initial: StagedModel, job: Job) -> int:
        count, size = len(self.data.split.train), self.grid.train.batch_size
        return places(
            initial, job.plan, {min(size, count), count % size or size}, self.pool.conditions.autocast
        )

    def train_data(self, initial: StagedModel, jobs: Sequence[Job]) -> tuple[TrainData, Supply]:
        """What the suffixes of ``jobs``, which start from ``initial``, take."""
        table, split = self.data.table, self.data.split
        cuts = tuple(sorted({cut for job in jobs for cut in job.plan.cuts}))
        train, val = torch.from_numpy(split.train), torch.from_numpy(split.val)
        augmented = None
        if self.grid.train.augment:
            augmented = self._augmentation(initial, train)
            began = time.perf_counter()
            supply = Supply(augmented.plain(cuts), self.pool.decode_s, time.perf_counter() - began)
        else:
            supply = self.pool.get(initial, jobs[0].spec.backbone, cuts)
        labels = torch.from_numpy(table.labels)
        classes = len(table.class_names)
        return TrainData(supply.features, labels, train, val, table.ids, classes, augmented), supply

    def _augmentation(self, initial: StagedModel, train: torch.Tensor) -> Augmentation:
        from harness.augment import Augmentation  # torchvision's transforms take their time to import

        if self.options.keep_features:
            self.progress.say(
                "--keep-features: activations of augmented images differ each epoch, none is kept"
            )
        split = self.data.split
        return Augmentation(
            model=initial,
            images=self.pool.images(initial),
            ids=self.data.table.ids,
            train=train,
            rest=torch.from_numpy(np.concatenate([split.val, split.test])),
            names=tuple(self.grid.train.augment.split(",")),
            flip=self.grid.train.flip,
            conditions=self.pool.conditions,
            room=self.pool.placement,
        )

    def _train(
        self, batch: Sequence[Job], data: TrainData, timing: Mapping[str, float], number: tuple[int, int]
    ) -> set[str]:
        """Trains cells under their folders' locks; names of those that no other process has or has done."""
        held = []
        try:
            for job in batch:
                try:
                    job.folder.lock(wait=False)
                except Locked:
                    continue
                held.append(job)
            todo = [job for job in held if not settled(job.folder)]
            if todo:
                self._train_held(todo, data, timing, number)
            return {job.folder.name for job in todo}
        finally:
            for job in held:
                job.folder.unlock()

    def cell_run(
        self,
        job: Job,
        data: TrainData,
        timing: Mapping[str, float],
        title: str,
        beside: int = 1,
        base: str | None = None,
    ) -> CellRun:
        """A cell before its first epoch; ``beside`` cells train side by side, itself included.

        ``base`` is the digest of the network it starts from, where that is known or there is none.
        """
        return CellRun(
            job=job,
            data=self.data,
            train=data,
            base=self.networks.digest(self.initial(job)) if base is None else base,
            # Without a frozen prefix, what was computed for others is not this cell's cost.
            timing={**timing, "prefix_s": timing["prefix_s"] if job.plan.cuts[0] else 0.0},
            device=self.device,
            suite=self.grid.suite,
            argv=self.options.argv,
            progress=self.progress,
            title=title,
            beside=beside,
            micro_batches=self.options.micro_batches,
            world=self.options.world,
        )

    def _train_held(
        self, jobs: Sequence[Job], data: TrainData, timing: Mapping[str, float], number: tuple[int, int]
    ) -> None:
        first, total = number
        initial = self.initial(jobs[0])
        runs = [
            self.cell_run(job, data, timing, f"[{position}/{total}] {job.spec.label}", len(jobs))
            for position, job in enumerate(jobs, first + 1)
        ]
        title = runs[0].title
        if len(runs) > 1:
            title = f"[{first + 1}-{first + len(runs)}/{total}] {len(runs)} cells side by side"
        train_cells(runs, initial, title, fused=not data.augmented and self._places(initial, jobs[0]) > 1)

    def fail(self, jobs: Sequence[Job], error: Exception, wait: bool = False) -> set[str]:
        """Records one reason for cells that share what failed; names of those that no other process has.

        With ``wait`` for those as well: such as what a machine that is gone still seems to hold.
        """
        table, split = self.data.table, self.data.split
        nothing = TrainData(
            {},
            torch.from_numpy(table.labels),
            torch.from_numpy(split.train),
            torch.from_numpy(split.val),
            table.ids,
            len(table.class_names),
        )
        timing = {"decode_s": 0.0, "prefix_s": 0.0, "prefix_shared_by": 0}
        failed = set()
        for job in jobs:
            try:
                job.folder.lock(wait)
            except Locked:
                continue
            try:
                if not settled(job.folder):
                    self.cell_run(job, nothing, timing, job.spec.label, base="").give_up(error)
                    failed.add(job.folder.name)
            finally:
                job.folder.unlock()
        return failed
