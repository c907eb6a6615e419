"""A trained network from its run folder: record, base weights and checkpoint, each verified."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from harness.backbones.staged import StagedModel
from harness.checkpoint import read_checkpoint
from harness.errors import RecordError, UsageError, WeightsError
from harness.features import BATCH, run_prefix
from harness.networks import NetworkKey, Networks
from harness.plugins import load_strategy
from harness.spec import RunSpec
from harness.store import RESULT, RunFolder


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run that ended well, and its network with the weights that were tested."""

    folder: RunFolder
    record: Mapping[str, Any]
    spec: RunSpec
    model: StagedModel
    class_names: tuple[str, ...]

    @property
    def threads(self) -> int:
        """Threads of the machine that trained it; the same number gives the same bits."""
        return int(self.record["environment"]["threads"])

    @property
    def autocast(self) -> torch.dtype | None:
        """The dtype that its forward passes run in, None for float32."""
        return torch.bfloat16 if self.spec.train.precision == "bf16" else None

    def logits(self, images: torch.Tensor, batch_size: int = BATCH) -> torch.Tensor:
        """Logits float32 ``[n, classes]`` on the CPU of uint8 images ``[n, 3, size, size]``.

        By default in batches of the shape that the run was tested with: under its conditions (machine,
        versions, threads) these are the logits behind ``predictions.csv``, bit for bit. The last batch is
        padded, so a row doesn't depend on the rows beside it, whatever the ``batch_size``.
        """
        device = next(self.model.parts.parameters()).device
        whole = self.model.section(0, len(self.model.stage_names))
        found = [
            run_prefix(whole, rows.to(device), self.autocast, batch_size)[: len(rows)].float().cpu()
            for rows in images.split(batch_size)
        ]
        return torch.cat(found) if found else torch.empty(0, len(self.class_names))


def load_run(path: Path, *, weights: str | None = None, device: torch.device | None = None) -> TrainedRun:
    """The network of the finished run in folder ``path``, on ``device`` (the CPU by default).

    It is built anew from the base weights (``weights``, else those that the record's command names) and
    the run's seed; then it takes the checkpoint's tensors. Raises RecordError, naming the file, for a
    folder that can't be read, a run that failed, a digest that doesn't fit; WeightsError for base
    weights that are absent; UsageError for a backbone or strategy that isn't installed.
    """
    folder = RunFolder(path)
    record = folder.result()
    if record["status"] != "done":
        raise RecordError(f"run '{folder.name}' failed, so there is no trained network: {record['error']}")
    try:
        spec = RunSpec.from_dict(record["spec"])
        names = tuple(record["data"]["class_names"])
        digests = {key: str(record["digests"][key]) for key in ("base", "checkpoint")}
        preprocess, source = record["backbone"]["preprocess"], weights or recorded_weights(record)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise RecordError(f"'{path / RESULT}' doesn't say how to build the network: {error!r}") from error
    model = _base(spec, source, len(names), device or torch.device("cpu"), folder, digests["base"])
    # As JSON has it: tuples are lists.
    if json.loads(json.dumps(asdict(model.preprocess))) != preprocess:
        raise RecordError(
            f"'{path / RESULT}': the run preprocessed images in another way than weights '{source}' ask for"
        )
    _take(model, read_checkpoint(folder, digests), folder)
    return TrainedRun(folder, record, spec, model.eval(), names)


def recorded_weights(record: Mapping[str, Any]) -> str:
    """The base weights as they were given, a tag or a path, from the command that repeats the run."""
    words = shlex.split(record["command"])
    return words[words.index("--weights") + 1]


def _base(
    spec: RunSpec, weights: str, classes: int, device: torch.device, folder: RunFolder, digest: str
) -> StagedModel:
    """The network that the run started from."""
    networks = Networks(classes, device)
    try:
        key = NetworkKey(spec.backbone, weights, spec.head)
        model = networks.get(key, spec.seed)
    except WeightsError as error:
        raise WeightsError(f"run '{folder.name}' needs its base weights: {error}") from error
    strategy, _, _ = load_strategy(spec.strategy)
    recipe = strategy.recipe(model.describe(), spec.train.epochs)
    model = networks.get(key.of(recipe), spec.seed)
    if networks.digest(model) != digest:
        raise RecordError(
            f"'{folder.path / RESULT}': the run started from another network than {spec.backbone} with "
            f"weights '{weights}' and seed {spec.seed} give now (other weights, or another version of torch)"
        )
    return model


def _take(model: StagedModel, tensors: Mapping[str, torch.Tensor], folder: RunFolder) -> None:
    own = dict(model.tensors())
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            raise RecordError(f"'{folder.checkpoint}' doesn't fit the network of its run: '{name}'")
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
