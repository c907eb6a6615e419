"""What one run shows of what a suite expects: read from its folder, no model rerun."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import RecordError
from harness.suites.bands import COLLAPSE_SLACK
from harness.suites.expect import Rates
from harness.verdicts import COLLAPSED_SHARE

# What the bits of a result depend on beside its spec.
VERSIONS = ("python", "torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg")
CONDITIONS = (*VERSIONS, "platform", "device", "device_name", "threads")


@dataclass(frozen=True)
class Evidence:
    """A finished or failed run: its record, its last epoch's training figures, the digest of its test ids."""

    record: Mapping[str, Any]
    train_loss: float
    train_accuracy: float
    test_ids: str

    @classmethod
    def read(cls, folder: Path) -> Evidence:
        """From a run folder. RecordError names the file that can't be read."""
        try:
            record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
            if record["status"] != "done":
                return cls(record, math.nan, math.nan, "")
            last = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()[-1]
            row = json.loads(last)
            loss, right = row["train_loss"], float(row["train_accuracy"])
            with (folder / "predictions.csv").open(encoding="utf-8", newline="") as lines:
                ids = [row["id"] for row in csv.DictReader(lines)]
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise RecordError(f"can't read the run in '{folder}': {error}") from error
        return cls(record, math.nan if loss is None else float(loss), right, ids_digest(ids))

    @property
    def failed(self) -> str:
        """Why the run failed; empty where it is done."""
        return "" if self.record["status"] == "done" else str(self.record["error"])

    def figure(self, metric: str) -> float:
        """One of :data:`~harness.suites.bands.METRICS`."""
        if metric in ("train_loss", "train_accuracy", "moved"):
            return float(getattr(self, metric))
        value = self.record["test"][metric]
        return math.nan if value is None else float(value)

    @property
    def moved(self) -> float:
        """The largest of the stages' relative distances from where their parameters started."""
        return max(float(s["moved"] or 0.0) for s in self.record["backbone"]["stages"])

    @property
    def collapsed(self) -> bool:
        """Whether nearly every answer is the largest class; an accuracy alone may be its share by chance."""
        if abs(self.figure("accuracy") - self.majority) > COLLAPSE_SLACK:
            return False
        answers = [sum(column) for column in zip(*self.record["test"]["confusion"], strict=True)]
        return max(answers) >= COLLAPSED_SHARE * sum(answers)

    @property
    def majority(self) -> float:
        """The largest class's share of the test images."""
        counts = self.record["data"]["counts"]["test"]
        return float(max(counts) / sum(counts))

    def digest(self, name: str) -> str:
        """``data``, ``split`` or ``test_ids``."""
        return self.test_ids if name == "test_ids" else str(self.record["digests"][name])

    @property
    def trains(self) -> dict[str, Rates]:
        """Stage -> the learning rates that it had, for stages that were in an optimizer or moved."""
        return {
            s["name"]: tuple((*span["epochs"], span["lr"]) for span in s["lr"])
            for s in self.record["backbone"]["stages"]
            if s["in_optimizer"] or s["moved"]
        }

    @property
    def parameters(self) -> int:
        """How many parameters were in an optimizer."""
        return sum(s["in_optimizer"] for s in self.record["backbone"]["stages"])

    @property
    def norms(self) -> tuple[str, ...]:
        """Stages whose norm statistics changed."""
        stages = self.record["backbone"]["stages"]
        return tuple(
            s["name"]
            for s in stages
            if s["norm_statistics"] and s["norm_statistics"]["before"] != s["norm_statistics"]["after"]
        )

    @property
    def prefix(self) -> tuple[float, float] | None:
        """The probe of the frozen prefix, None without one."""
        seen = (self.record.get("prefix") or {}).get("probe")
        return (float(seen[0]), float(seen[1])) if seen else None

    @property
    def conditions(self) -> dict[str, Any]:
        """Versions, device, threads and the digests of code and data."""
        environment, digests = self.record["environment"], self.record["digests"]
        found = {key: environment.get(key) for key in CONDITIONS}
        return found | {key: digests.get(key) for key in ("code", "data", "split")}


def ids_digest(ids: list[str]) -> str:
    """Hex digest of ids in their order."""
    return hashlib.sha256("\x1e".join(ids).encode()).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """``torch 2.14 -> 2.15``, for whatever both know and one knows otherwise; digests shortened."""
    return [
        f"{key} {_short(before[key])} -> {_short(now[key])}"
        for key in (*CONDITIONS, "code", "data", "split")
        if before.get(key) is not None and now.get(key) is not None and before[key] != now[key]
    ]


def _short(value: object) -> str:
    text = str(value)
    return text[:10] if len(text) == 64 else text
