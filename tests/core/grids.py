"""A small grid, how tests train it, and what must not depend on how that came about."""

import json
from dataclasses import replace

from safetensors.torch import load_file

from harness.progress import Progress
from harness.run_grid import run_grid
from harness.run_options import RunOptions
from harness.spec import DataSpec, Grid, TrainSpec

GRID = Grid(
    data=DataSpec("folder"),
    backbones=("small",),
    strategies=("head_only", "last_block"),
    lrs=(1e-2, 1e-3),
    train=TrainSpec(epochs=3, batch_size=16),
)
ONE = replace(GRID, strategies=("last_block",), lrs=(1e-2,))


class Said(Progress):
    """Keeps what was said."""

    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def say(self, text):
        self.lines.append(text)


class Interrupting(Said):
    """Ctrl-C after so many epochs, counted over all cells."""

    def __init__(self, epochs):
        super().__init__()
        self.left = epochs

    def task(self, text, total, unit):
        outer, context = self, super().task(text, total, unit)

        class Counting:
            def __enter__(self):
                task = context.__enter__()
                advance = task.advance

                def counting(count):
                    advance(count)
                    if unit == "epochs":
                        outer.left -= count
                        if outer.left <= 0:
                            raise KeyboardInterrupt

                task.advance = counting
                return task

            def __exit__(self, *details):
                return context.__exit__(*details)

        return Counting()


def run(grid, out, images, progress=None, **options):
    settings = RunOptions(out=out, data_path=images, **{"device": "cpu", "threads": 1, **options})
    return run_grid(grid, settings, progress or Said())


def results(outcomes):
    """Folder -> what must not depend on how it came about."""
    found = {}
    for outcome in outcomes:
        path = outcome.folder.path
        rows = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
        for row in rows:
            del row["seconds"]
        found[path.name] = {
            "history": rows,
            "predictions": (path / "predictions.csv").read_text(),
            "checkpoint": {
                k: t.numpy().tobytes() for k, t in load_file(path / "checkpoint.safetensors").items()
            },
            **{k: outcome.record[k] for k in ("digests", "test", "val", "selected_epoch", "backbone")},
        }
    return found
