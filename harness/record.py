"""The record of a run: what ``result.json`` and ``predictions.csv`` hold (``docs/run-folder.md``)."""

from __future__ import annotations

import csv
import hashlib
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import numpy as np

from harness.audit import StageAudit
from harness.contracts import SampleTable, StageInfo
from harness.data.prepare import PreparedData
from harness.metrics import probabilities
from harness.spec import RunSpec

_FIRST_MISSING = 5


def command(
    spec: RunSpec,
    data: PreparedData,
    weights: str,
    threads: int,
    *,
    random_frozen: bool = False,
    micro_batches: int = 1,
) -> str:
    """The command that trains this one cell, whatever the environment and ``harness.toml`` say."""
    path = f"={data.path}" if data.path else ""
    words = ["harness", "run", "--data", f"{spec.data.name}{path}"]
    for name in ("target", "split", "group", "split_seed", "limit", "missing"):
        value = getattr(spec.data, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--backbone", spec.backbone, "--weights", weights, "--head", spec.head]
    words += ["--strategy", spec.strategy, "--lr", f"{spec.lr!r}", "--seed", str(spec.seed)]
    for field_ in fields(spec.train):
        value = getattr(spec.train, field_.name)
        if not isinstance(value, bool) and value != "":
            words += [f"--{field_.name.replace('_', '-')}", str(value)]
    words += ["--flip" if spec.train.flip else "--no-flip"]
    words += [] if spec.train.deterministic else ["--fast"]
    words += ["--allow-random-frozen"] if random_frozen else []
    words += ["--micro-batches", str(micro_batches)] if micro_batches > 1 else []
    return shlex.join([*words, "--threads", str(threads)])


def data_part(data: PreparedData) -> dict[str, Any]:
    """``data`` of a record: card, classes, counts by class and split, what was missing."""
    table = data.table
    counts = {
        part: np.bincount(table.labels[getattr(data.split, part)], minlength=len(table.class_names)).tolist()
        for part in ("train", "val", "test")
    }
    return {
        "card": asdict(table.card),
        "path": str(data.path) if data.path else None,
        "class_names": list(table.class_names),
        "split": data.split.description,
        "counts": counts,
        "missing": {"count": len(table.missing), "first": list(table.missing[:_FIRST_MISSING])},
    }


def backbone_part(
    name: str, preprocess: Any, stages: Sequence[StageInfo], cut: int, audits: Mapping[str, StageAudit]
) -> dict[str, Any]:
    """``backbone`` of a record: its stages, and what became of each."""
    rows = [
        {
            "name": stage.name,
            "role": stage.role,
            "parameters": stage.numel,
            **asdict(audits[stage.name]),
            "random": any(not p.pretrained for p in stage.parameters),
            "prefix": index < cut,
        }
        for index, stage in enumerate(stages)
    ]
    return {
        "name": name,
        "parameters": sum(s.numel for s in stages),
        "preprocess": asdict(preprocess),
        "stages": rows,
        "random_stages": [row["name"] for row in rows if row["random"]],
    }


def strategy_part(
    name: str, strategy: Any, stages: Sequence[StageInfo], cut: int, trainable: int
) -> dict[str, Any]:
    """``strategy`` of a record."""
    options = {f.name: getattr(strategy, f.name) for f in fields(strategy)} if is_dataclass(strategy) else {}
    return {
        "name": name,
        "options": options,
        "source": strategy.source,
        "summary": strategy.summary,
        "trainable": trainable,
        "prefix": [s.name for s in stages[:cut]],
    }


def predictions_csv(table: SampleTable, rows: np.ndarray, logits: np.ndarray) -> str:
    """One line a test image; probabilities with 17 significant digits lose nothing."""
    shares = probabilities(logits)
    predicted = logits.argmax(axis=1)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [f"p{i}" for i in range(shares.shape[1])]
    attributes = list(table.attributes)
    writer.writerow(
        ["id", "path", "group", "label", "prediction", *names, *(f"attr:{a}" for a in attributes)]
    )
    columns = [table.attributes[a][rows] for a in attributes]
    for i, row in enumerate(rows):
        group = table.groups[row] if table.groups else ""
        writer.writerow(
            [table.ids[row], table.paths[row], group, int(table.labels[row]), int(predicted[i])]
            + [repr(float(p)) for p in shares[i]]
            + [int(column[i]) for column in columns]
        )
    return out.getvalue()


def predictions_digest(table: SampleTable, rows: np.ndarray, logits: np.ndarray) -> str:
    """Hex digest of sample ids and the exact logits; independent of where the images lie."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{table.ids[row]}\x1f{int(table.labels[row])}\x1e".encode())
    digest.update(np.ascontiguousarray(logits, dtype="<f4").tobytes())
    return digest.hexdigest()
