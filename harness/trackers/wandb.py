"""Weights & Biases, offline: a folder a run, complete, for ``wandb sync`` to send if anybody wants that."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.tracked import Held, TrackedEnd, TrackedEpoch, TrackedRun

_QUIET = {  # before wandb is imported: nothing on the terminal, no reports of errors to its makers
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
    "WANDB_CONSOLE": "off",
}


@dataclass(frozen=True)
class WandB:
    """History, config, summary and the confusion matrix, below ``dir``/wandb; nothing is ever sent.

    A run appears when it has ended: what is written offline can't be gone on with later.
    """

    summary: ClassVar[str] = "Weights & Biases, offline: folders for wandb sync"
    needs: ClassVar[tuple[str, ...]] = ("wandb",)
    live: ClassVar[bool] = False

    dir: str = "."
    project: str = "harness"

    def held(self, run: TrackedRun) -> tuple[Held, ...]:
        """The offline folders of ``run``, known by their names."""
        found = (Path(self.dir) / "wandb").glob(f"offline-run-*-{_stem(run)}-*")
        return tuple(Held(str(folder), {}, folder.name.rpartition("-")[2]) for folder in found)

    def write(
        self, run: TrackedRun, key: str | None, epochs: Sequence[TrackedEpoch], end: TrackedEnd | None
    ) -> None:
        """Writes a whole run."""
        assert end is not None  # it isn't live
        root = Path(self.dir) / "wandb"
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".") as temporary:
            self._write(Path(temporary), run, epochs, end)
            made = next(Path(temporary).glob("wandb/offline-run-*"))
            made.replace(root / made.name)  # whole or not at all

    def _write(self, place: Path, run: TrackedRun, epochs: Sequence[TrackedEpoch], end: TrackedEnd) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        import wandb

        made = wandb.init(
            mode="offline",
            dir=str(place),
            project=self.project,
            id=f"{_stem(run)}-{end.digest}",
            name=run.name,
            config=dict(run.params),
            tags=[end.status],
            notes=end.tags.get("error"),
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        for row in epochs:
            made.log({**row.figures, "epoch": row.epoch, "_timestamp": row.at}, step=row.epoch)
        made.summary.update({**end.figures, "tags": dict(end.tags)})
        if end.confusion:
            made.log({"confusion": _table(wandb, end)}, step=int(run.params["train.epochs"]))
        made.finish(exit_code=0 if end.status == "done" else 1)


def _stem(run: TrackedRun) -> str:
    return hashlib.sha256(run.name.encode()).hexdigest()[:12]


def _table(wandb: Any, end: TrackedEnd) -> Any:
    """A row a true class, a column a predicted one."""
    rows = [[name, *row] for name, row in zip(end.class_names, end.confusion, strict=True)]
    return wandb.Table(columns=["true", *end.class_names], data=rows)
