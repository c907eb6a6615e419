"""The real experiment in small: real faces, real weights, the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def _run(out: Path, *options: str) -> list[dict[str, Any]]:
    command = [
        sys.executable,
        "-c",
        "from harness.cli import main; main()",
        "run",
        "--out",
        str(out),
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return [json.loads(p.read_text()) for p in sorted(out.glob("*/result.json"))]


def _cell(records: list[dict[str, Any]], strategy: str) -> dict[str, Any]:
    return next(r for r in records if r["spec"]["strategy_name"] == strategy)


def test_squeezenet_learns_smiling_on_real_faces(
    tmp_path: Path, celeba_root: Path, weights_dir: Path
) -> None:
    records = _run(
        tmp_path,
        "--data",
        f"celeba={celeba_root}",
        "--missing",
        "skip",
        "--limit",
        "1000",
        "--backbone",
        "squeezenet1_1",
        "--weights",
        str(weights_dir / "squeezenet1_1.safetensors"),
        "--strategy",
        "head_only",
        "--lr",
        "1e-3",
        "--epochs",
        "5",
    )
    (record,) = records
    assert record["spec"]["data"]["target"] == "Smiling"
    assert record["data"]["missing"]["count"] > 100_000
    majority = max(record["data"]["counts"]["test"]) / record["test"]["n"]
    assert record["test"]["accuracy"] > majority + 0.1
    assert [s["moved"] > 0 for s in record["backbone"]["stages"]] == [False] * 4 + [True]


def test_vgg16_with_features_only_weights_on_real_faces(
    tmp_path: Path, celeba_root: Path, vgg16_weights: Path
) -> None:
    records = _run(
        tmp_path,
        "--suite",
        "celeba30k",
        "--data",
        f"celeba30k={celeba_root}",
        "--missing",
        "skip",
        "--limit",
        "240",
        "--weights",
        str(vgg16_weights),
        "--lr",
        "1e-4",
        "--epochs",
        "3",
    )
    head, block = _cell(records, "head_only"), _cell(records, "last_block")
    assert head["backbone"]["random_stages"] == ["fc6", "fc7", "head"]
    assert head["strategy"]["trainable"] == 119_554_050
    assert block["strategy"]["trainable"] - head["strategy"]["trainable"] == 7_079_424
    assert {s["name"] for s in block["backbone"]["stages"] if s["moved"] > 0} == {
        "block5",
        "fc6",
        "fc7",
        "head",
    }
    assert min(head["test"]["accuracy"], block["test"]["accuracy"]) > 0.7
    assert head["digests"]["split"] == block["digests"]["split"]


def test_the_original_split_sizes(celeba_root: Path) -> None:
    """All 30,000 rows, whatever images are there: 24,000/3,000/3,000 with 1,732 and 1,268 to test."""
    import numpy as np

    from harness.contracts import SampleTable
    from harness.data.attributes import read_attributes
    from harness.data.celeba import CELEBA30K_CARD
    from harness.data.splits import make_split

    listed = read_attributes(celeba_root / "list_attr_celeba.txt")
    labels = (listed.values[:30_000, listed.attributes.index("Male")] > 0).astype(np.int64)
    table = SampleTable(
        ids=listed.files[:30_000],
        paths=listed.files[:30_000],
        labels=labels,
        class_names=("female", "male"),
        card=CELEBA30K_CARD,
    )
    split = make_split(table, "stratified")
    assert np.bincount(labels).tolist() == [17_320, 12_680]
    assert [len(split.train), len(split.val), len(split.test)] == [24_000, 3_000, 3_000]
    assert np.bincount(labels[split.test]).tolist() == [1_732, 1_268]


def test_ants_and_bees_through_a_folder(tmp_path: Path, hymenoptera_root: Path, weights_dir: Path) -> None:
    (record,) = _run(
        tmp_path,
        "--data",
        f"folder={hymenoptera_root}",
        "--backbone",
        "timm:tf_efficientnet_lite0",
        "--weights",
        str(weights_dir / "tf_efficientnet_lite0.safetensors"),
        "--strategy",
        "linear_probe",
        "--lr",
        "1e-3",
    )
    assert record["data"]["class_names"] == ["ants", "bees"]
    assert record["test"]["n"] == 153
    assert record["test"]["accuracy"] > 0.9
