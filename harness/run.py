"""The composition root: a grid goes in, run folders come out."""

from __future__ import annotations

import copy
import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from harness import record, runtime
from harness.backbones.staged import StagedModel, tensor_digest
from harness.contracts import StageInfo
from harness.data.prepare import PreparedData, image_source, prepare_data
from harness.errors import HarnessError, Locked
from harness.freezing import audit
from harness.metrics import scores
from harness.planner import CellPlan, Group, group_cells, plan_cell
from harness.plugins import load_backbone, load_strategy
from harness.prefix import Features, available_memory, compute_features
from harness.progress import Progress
from harness.seeding import derive_seed
from harness.spec import FORMAT, Grid, RunSpec
from harness.store import RunFolder, to_json, write_atomic, write_text
from harness.trainer import Cell, EpochState, Snapshot, TrainData, evaluate, fit

_IMAGES_SHARE = 0.25  # of the free memory may hold decoded images
_FEATURES_SHARE = 0.5  # and this much activations


@dataclass(frozen=True)
class RunOptions:
    """How and where a grid runs; nothing here changes a result on one machine type but ``threads``."""

    out: Path = Path("runs")
    data_path: Path | None = None
    device: str = "auto"
    threads: int | None = None
    workers: int | None = None
    wait: bool = True
    allow_random_frozen: bool = False
    argv: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Job:
    """One cell on its way: spec, plan, folder."""

    spec: RunSpec
    strategy: Any
    strategy_name: str
    weights: str  # as given: a tag or a path
    plan: CellPlan
    stages: tuple[StageInfo, ...]
    folder: RunFolder
    digests: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """What came of a cell: its record, and whether it was trained now."""

    folder: RunFolder
    record: Mapping[str, Any]
    trained: bool


def run_grid(grid: Grid, options: RunOptions, progress: Progress) -> list[Outcome]:
    """Trains every cell of ``grid`` that isn't done; returns all of them in the grid's order.

    A cell that fails is recorded as failed and the others go on. Raises Locked where another
    process holds a cell and ``options.wait`` is false.
    """
    threads = options.threads or runtime.default_threads()
    workers = options.workers or threads
    device = runtime.choose_device(options.device)
    runtime.configure(threads, grid.train.precision, grid.train.deterministic)
    data = prepare_data(grid.data, options.data_path, workers)
    jobs = _jobs(grid, data, options)
    done = {j.folder.name: j.folder.result() for j in jobs if j.folder.status() == "done"}
    todo = [j for j in jobs if j.folder.name not in done]
    if done and todo:
        progress.say(f"{len(done)} of {len(jobs)} cells are done already")
    context = _Context(grid, data, options, device, workers, progress)
    for group in group_cells((j, _network(j), j.plan.cut) for j in todo):
        context.run_group(group)
    return [Outcome(j.folder, j.folder.result(), j.folder.name not in done) for j in jobs]


def _network(job: Job) -> tuple[str, ...]:
    return (job.spec.backbone, job.weights, job.spec.head)


def _jobs(grid: Grid, data: PreparedData, options: RunOptions) -> list[Job]:
    """Plans every cell; builds each network once to learn its stages."""
    described: dict[tuple[str, ...], tuple[StagedModel, tuple[StageInfo, ...], str]] = {}
    jobs = []
    for backbone_name, head, text, lr, seed in grid.cells():
        backbone = load_backbone(backbone_name)
        strategy, strategy_name, canonical = load_strategy(text)
        weights = grid.weights.get(backbone_name, backbone.default_weights)
        key = (backbone.name, weights, head)
        if key not in described:
            model = _build(backbone, weights, data, head, seed)
            described[key] = (model, model.describe(), _weights_digest(model))
        model, stages, digest = described[key]
        recipe = strategy.recipe(stages, grid.train.epochs)
        plan = plan_cell(
            recipe,
            stages,
            epochs=grid.train.epochs,
            strategy=canonical,
            cuttable=model.cuttable,
            allow_random_frozen=options.allow_random_frozen,
        )
        if recipe.init == "random":
            weights = "none"
            stages = tuple(
                replace(s, parameters=tuple(replace(p, pretrained=False) for p in s.parameters))
                for s in stages
            )
        label = Path(weights).name if Path(weights).suffix else weights
        spec = RunSpec(data.spec, backbone.name, label, head, canonical, lr, seed, grid.train)
        identity = spec.identity(data.digest + data.split.digest, digest if weights != "none" else "none")
        folder = RunFolder(options.out / spec.folder_name(identity))
        digests = {"data": data.digest, "split": data.split.digest, "weights": digest}
        jobs.append(Job(spec, strategy, strategy_name, weights, plan, stages, folder, digests))
    return jobs


def _build(backbone: Any, weights: str, data: PreparedData, head: str, seed: int) -> StagedModel:
    torch.manual_seed(derive_seed(seed, "init"))
    return backbone.build(weights, len(data.table.class_names), head)


def _weights_digest(model: StagedModel) -> str:
    return tensor_digest((n, t) for n, t in model.tensors() if n in model.pretrained)


@dataclass(frozen=True)
class _Context:
    grid: Grid
    data: PreparedData
    options: RunOptions
    device: torch.device
    workers: int
    progress: Progress

    def run_group(self, group: Group[Job]) -> None:
        """One pass over the images, then every cell; cells that others hold come last."""
        jobs = [j for j in group.cells if j.folder.status() != "done"]
        first = jobs[0]
        initial = self._initial(first)
        self._announce(first, initial)
        features, seconds = self._features(initial, group.cuts)
        held: list[Job] = []
        for position, job in enumerate(jobs, 1):
            if job.spec.seed != first.spec.seed:
                first, initial = job, self._initial(job)
            if not self._try(
                job, initial, features, seconds, len(jobs), f"[{position}/{len(jobs)}]", wait=False
            ):
                held.append(job)
        if held and not self.options.wait:
            raise Locked(
                f"{len(held)} cells are being trained by another process, first '{held[0].folder.name}'"
            )
        for job in held:
            self.progress.say(f"waiting for another process to finish {job.spec.label}")
            self._try(job, self._initial(job), features, seconds, len(jobs), "", wait=True)

    def _initial(self, job: Job) -> StagedModel:
        backbone = load_backbone(job.spec.backbone)
        model = _build(backbone, job.weights, self.data, job.spec.head, job.spec.seed)
        return model.to(self.device).to(memory_format=torch.channels_last)

    def _announce(self, job: Job, model: StagedModel) -> None:
        if not model.cuttable:
            self.progress.say(
                f"{job.spec.backbone} can't be cut into stages: it trains without a shared prefix"
            )
        random = [s.name for s in job.stages if any(not p.pretrained for p in s.parameters)]
        if len(random) > 1 and job.weights != "none":
            self.progress.say(f"at random initialisation (not in the weights): {', '.join(random)}")

    def _features(self, model: StagedModel, cuts: Sequence[int]) -> tuple[dict[int, Features], float]:
        """Activations at every cut, and the seconds they took."""
        count, size = len(self.data.table), model.preprocess.size
        began = time.perf_counter()
        with self.progress.task(f"decoding {count} images", count, "images") as task:
            images_budget = int(available_memory() * _IMAGES_SHARE)
            load = image_source(self.data.table, model.preprocess, self.workers, images_budget, task.advance)
        deepest = model.stage_names[cuts[-1] - 1] if cuts[-1] else "none"
        with self.progress.task(f"frozen prefix up to {deepest}, {size} px", count, "images") as task:
            features = compute_features(
                model,
                cuts,
                count,
                load,
                device=self.device,
                autocast=torch.bfloat16 if self.grid.train.precision == "bf16" else None,
                mirror=self.grid.train.flip,
                budget=int(available_memory() * _FEATURES_SHARE),
                progress=task.advance,
            )
        seconds = time.perf_counter() - began
        self.progress.say(f"{count} images decoded and taken through the frozen prefix in {seconds:.1f} s")
        return features, seconds

    def _try(
        self,
        job: Job,
        initial: StagedModel,
        features: Mapping[int, Features],
        seconds: float,
        shared: int,
        counter: str,
        *,
        wait: bool,
    ) -> bool:
        """Trains a cell under its lock; False where another process has it."""
        try:
            job.folder.lock(wait)
        except Locked:
            return False
        try:
            if job.folder.status() != "done":
                timing = {"prefix_s": seconds, "prefix_shared_by": shared}
                _CellRun(self, job, features[job.plan.cut], timing, counter).run(initial)
            return True
        finally:
            job.folder.unlock()


@dataclass(frozen=True)
class _CellRun:
    context: _Context
    job: Job
    features: Features
    timing: Mapping[str, float]
    counter: str

    def run(self, initial: StagedModel) -> None:
        """Trains, evaluates and records one cell; a failure is recorded as such."""
        began, started = time.perf_counter(), datetime.now(UTC)
        self.job.folder.write_spec(self._spec())
        try:
            found = self._train(initial)
        except HarnessError as error:
            found = {"status": "failed", "error": str(error), "test": None, "val": None}
            self.context.progress.say(f"{self.counter} {self.job.spec.label}: {error}")
        seconds = time.perf_counter() - began
        samples = len(self.context.data.split.train) * self.job.spec.train.epochs
        finished = datetime.now(UTC)
        self.job.folder.write_result(
            {
                **self._head(),
                **found,
                "timing": {
                    **self.timing,
                    "train_s": seconds,
                    "total_s": seconds + self.timing["prefix_s"],
                    "images_per_s": samples / seconds,
                },
                "environment": {
                    **runtime.environment(self.context.device),
                    "started": started.isoformat(timespec="seconds"),
                    "finished": finished.isoformat(timespec="seconds"),
                },
            }
        )

    def _spec(self) -> dict[str, Any]:
        return self.job.spec.as_dict() | {"strategy_name": self.job.strategy_name}

    def _head(self) -> dict[str, Any]:
        c, job = self.context, self.job
        return {
            "format": FORMAT,
            "run": job.folder.name,
            "status": "done",
            "spec": self._spec(),
            "suite": c.grid.suite,
            "digests": dict(job.digests),
            "data": record.data_part(c.data),
            "backbone": None,
            "strategy": record.strategy_part(
                job.strategy_name, job.strategy, job.stages, job.plan.cut, _trainable(job)
            ),
            "selected_epoch": None,
            "command": self._command(),
            "error": None,
        }

    def _command(self) -> str:
        return shlex.join(["harness", *self.context.options.argv])

    def _train(self, initial: StagedModel) -> dict[str, Any]:
        c, job = self.context, self.job
        before = dict(initial.tensors())
        cell = Cell(
            model=copy.deepcopy(initial),
            cut=job.plan.cut,
            recipe=job.plan.recipe,
            assigned=job.plan.assigned,
            lr=job.spec.lr,
            seed=job.spec.seed,
            settings=job.spec.train,
            device=c.device,
        )
        table, split = c.data.table, c.data.split
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
        rows = torch.from_numpy(split.test)
        test = evaluate(cell, self.features, rows).numpy()
        digests = dict(job.digests) | self._write_tensors(cell, before)
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
        """Trains to the end, resuming where an earlier process stopped; returns the selected epoch."""
        c, job = self.context, self.job
        resume = _read_resume(job.folder, cell)
        if resume:
            c.progress.say(f"{self.counter} {job.spec.label}: going on after epoch {resume.epoch}")
        steps = cell.settings.epochs
        selected = resume.best_epoch if resume and cell.settings.select == "best" else steps
        with c.progress.task(f"{self.counter} {job.spec.label}", steps, "epochs") as task:
            task.advance(resume.epoch if resume else 0)
            for state in fit(cell, data, resume):
                selected = state.selected_epoch
                job.folder.write_history(state.history)
                task.advance(1)
                self._keep(state)
                row = state.row
            accuracy = f"validation accuracy {row['val_accuracy']:.4f}" if job.spec.train.epochs else ""
        c.progress.say(f"{self.counter} {job.spec.label}: {accuracy}")
        return selected

    def _keep(self, state: EpochState) -> None:
        """Writes the resume file where it is worth its time."""
        last = state.row["epoch"] == self.job.spec.train.epochs
        size = 3 * sum(t.numel() * t.element_size() for t in state.cell.tensors().values())
        if not last and self.job.folder.wants_resume(size):
            tensors, metadata = _pack(state.snapshot())
            self.job.folder.write_resume(tensors, metadata)

    def _write_tensors(self, cell: Cell, before: Mapping[str, torch.Tensor]) -> dict[str, str]:
        """``checkpoint.safetensors``: the tensors that changed, and the digest of what they started from."""
        from safetensors.torch import save_file

        now = {n: t.detach().cpu().contiguous() for n, t in cell.model.tensors()}
        changed = {n: t for n, t in now.items() if not torch.equal(t, before[n].detach().cpu())}
        base = tensor_digest(before.items())
        checkpoint = tensor_digest(changed.items())
        metadata = {"format": str(FORMAT), "base": base, "tensors": checkpoint, "run": self.job.folder.name}
        write_atomic(
            self.job.folder.path / "checkpoint.safetensors", lambda p: save_file(changed, p, metadata)
        )
        return {"base": base, "checkpoint": checkpoint}


def _trainable(job: Job) -> int:
    trained = {n for a in job.plan.assigned for n, scale in a.items() if scale is not None}
    return sum(p.numel for s in job.stages for p in s.parameters if p.name in trained)


def _pack(snapshot: Snapshot) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    tensors = {f"tensor/{k}": v for k, v in snapshot.tensors.items()}
    tensors |= {f"optimizer/{k}": v for k, v in snapshot.optimizer.items()}
    tensors |= {f"best/{k}": v for k, v in snapshot.best.items()}
    metadata = {
        "epoch": str(snapshot.epoch),
        "best_epoch": str(snapshot.best_epoch),
        "history": json.dumps([json.loads(to_json(row)) for row in snapshot.history]),
    }
    return {k: v.detach().cpu() for k, v in tensors.items()}, metadata


def _read_resume(folder: RunFolder, cell: Cell) -> Snapshot | None:
    found = folder.read_resume()
    if found is None:
        return None
    tensors, metadata = found

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(prefix): v.to(cell.device) for k, v in tensors.items() if k.startswith(prefix)}

    return Snapshot(
        epoch=int(metadata["epoch"]),
        tensors=part("tensor/"),
        optimizer=part("optimizer/"),
        history=tuple(json.loads(metadata["history"])),
        best_epoch=int(metadata["best_epoch"]),
        best=part("best/"),
    )
