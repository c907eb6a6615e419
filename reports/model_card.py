"""One cell as a model card for the Hugging Face Hub: metadata and what a reader of a model must know.

The metadata are written by huggingface_hub's own classes, the text by ``model_card.md.j2``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import UnknownName, UsageError
from harness.stats import Interval
from reports.fields import clean
from reports.model import Cell, Experiment, LeakRow, ReportData
from reports.wording import public_command

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

FILE = "model-card.md"
TASK = "image-classification"


@dataclass(frozen=True, eq=False)
class Card:
    """What the template sees: a cell, its experiment, what training has seen, the YAML block's content."""

    cell: Cell
    experiment: Experiment
    leak: LeakRow | None
    title: str
    metadata: str

    @property
    def command(self) -> str:
        """The command that trains this cell, without a path of this machine."""
        return public_command(self.cell.record)

    @property
    def citation(self) -> tuple[str, ...]:
        """BibTeX of the program that trained and tested it, line by line."""
        version = self.cell.record.environment.get("harness", "")
        return (
            "@software{transfer_harness,",
            "  author = {{The harness authors}},",
            "  title = {harness: an evaluation harness for transfer learning},",
            f"  version = {{{version}}},",
            "}",
        )


def model_card(data: ReportData, wanted: str | None) -> Card:
    """The card of the cell that ``wanted`` names (number, name, strategy or run), else of the best one.

    Raises UnknownName for a cell that isn't there, UsageError where it takes a name to choose one.
    """
    experiment, cell = _chosen(data, wanted)
    leak = None
    if experiment.leaks is not None:
        leak = next(row for row in experiment.leaks.rows if row.cell is cell)
    title = clean(f"{experiment.heading}, {cell.name}")
    return Card(cell, experiment, leak, title, _metadata(experiment, cell, leak))


def _chosen(data: ReportData, wanted: str | None) -> tuple[Experiment, Cell]:
    cells = [(e, c) for e in data.experiments for c in e.cells]
    if not cells:
        raise UsageError("a model card needs a run that ended well")
    if wanted is None:
        if len(data.experiments) > 1:
            raise UsageError(
                f"these runs are {len(data.experiments)} experiments: --cell says which cell's card"
            )
        (experiment,) = data.experiments
        return experiment, experiment.examples.cell
    found = [
        (e, c)
        for e, c in cells
        if wanted in (str(c.number), c.name, c.setting, c.record.spec.strategy_name, c.record.run)
    ]
    if not found:
        raise UnknownName("cell", wanted, (c.name for _, c in cells))
    if len(found) > 1:
        numbers = ", ".join(f"{c.number}: {c.name}" for _, c in found)
        raise UsageError(f"--cell '{wanted}' is more than one cell ({numbers}): name one by its number")
    return found[0]


def _metadata(e: Experiment, cell: Cell, leak: LeakRow | None) -> str:
    """The YAML block, without its fences."""
    from huggingface_hub import ModelCardData

    test, macro = cell.test, {"average": "macro"}
    results = [
        _result(
            e, cell, "accuracy", "Test accuracy", test.accuracy, _interval(cell.interval, test.n, "Wilson")
        ),
        _result(e, cell, "f1", "Macro F1", test.macro_f1, macro),
        _result(e, cell, "recall", "Balanced accuracy", test.balanced_accuracy, macro),
    ]
    if leak is not None and leak.copies.n and leak.without_copies.interval is not None:
        left = leak.without_copies
        method = "Wilson" if cell.groups is None else "cluster bootstrap"
        name = "Test accuracy without images that have a copy in training"
        found = _interval(leak.without_copies.interval, left.n, method)
        results.append(_result(e, cell, "accuracy", name, left.right / left.n, found))
    return ModelCardData(
        model_name=_identifier(cell.record.run),
        eval_results=results,
        license="mit" if e.data.card.embedded else "other",
        pipeline_tag=TASK,
        tags=[TASK, "transfer-learning", _identifier(cell.result.backbone.name.rsplit(":", 1)[-1])],
        metrics=["accuracy", "f1"],
    ).to_yaml(line_break="\n")


def _result(
    e: Experiment, cell: Cell, metric: str, name: str, value: float, more: dict[str, Any]
) -> EvalResult:
    from huggingface_hub import EvalResult

    spec = cell.record.spec
    return EvalResult(
        task_type=TASK,
        dataset_type=_identifier(spec.data),
        dataset_name=clean(e.data.card.title) or _identifier(spec.data),
        dataset_config=clean(spec.target) if spec.target else None,
        dataset_split="test",
        dataset_revision=cell.result.digests.get("data"),
        metric_type=metric,
        metric_name=name,
        metric_value=value,
        metric_args=more,
    )


def _interval(ends: Interval, n: int, method: str) -> dict[str, Any]:
    return {"n": n, "interval_95": [ends.low, ends.high], "interval_method": method}


def _identifier(name: str) -> str:
    """A name as the Hub takes one: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "unnamed"
