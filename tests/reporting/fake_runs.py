"""Run folders written by hand, in the format of docs/run-folder.md."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

# The four cells of the original report: strategy, rate, confusion (female, male), validation accuracy.
ORIGINAL = (
    ("head_only", 1e-3, ((1597, 135), (110, 1158)), 0.919),
    ("head_only", 1e-4, ((1572, 160), (113, 1155)), 0.910),
    ("last_block", 1e-3, ((1732, 0), (1268, 0)), 0.5773),
    ("last_block", 1e-4, ((1696, 36), (32, 1236)), 0.978),
)
SUMMARIES = {
    "head_only": "the classifier; every convolution stays as it was",
    "last_block": "the last convolutional block and the classifier",
}


def fake_run(
    parent: Path,
    *,
    strategy: str = "head_only",
    lr: float = 1e-3,
    seed: int = 0,
    confusion: tuple[tuple[int, ...], ...] = ((90, 10), (5, 45)),
    val_accuracy: float | None = 0.9,
    classes: tuple[str, ...] = ("female", "male"),
    epochs: int = 10,
    suite: str | None = None,
    card: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    missing: int = 0,
    path: str | None = None,
    ids: list[str] | None = None,
    name: str | None = None,
    command: str | None = None,
    error: str | None = None,
    weights: str = "imagenet",
    backbone: str = "torchvision:vgg16",
    timing: dict[str, Any] | None = None,
    memory: dict[str, Any] | None = None,
    trainable: int = 119554050,
    attributes: dict[str, list[int]] | None = None,
    groups: list[str] | None = None,
) -> Path:
    """Writes one run folder; its mistakes fall on images drawn from its name and seed."""
    run = name or f"celeba30k-Male_vgg16_{strategy}_lr{lr:g}_s{seed}_0123456789"
    folder = parent / run
    folder.mkdir(parents=True)
    spec = {
        "data": {"name": "celeba30k", "target": "Male", "split": "stratified", "group": None,
                 "split_seed": 0, "limit": None, "missing": "error", **(data or {})},
        "backbone": backbone, "weights": weights, "head": "own", "strategy": strategy,
        "strategy_name": strategy, "lr": lr, "seed": seed,
        "train": {"epochs": epochs, "batch_size": 64, "optimizer": "adam", "weight_decay": 0.0,
                  "schedule": "constant", "class_weights": "none", "flip": False, "precision": "fp32",
                  "select": "last", "deterministic": True, **(train or {})},
    }  # fmt: skip
    environment = {"harness": "0.1.0", "python": "3.11.7", "torch": "2.9.0", "device": "cpu", "threads": 2}
    root: dict[str, Any] = {
        "format": 1, "run": run, "status": "failed" if error else "done", "spec": spec, "suite": suite,
        "environment": environment, "error": error, "test": None, "val": None,
        "strategy": {"name": strategy, "options": {}, "source": "", "trainable": trainable,
                     "summary": SUMMARIES.get(strategy, strategy), "prefix": ["block1", "block2", "block3"]},
        "command": command or f"harness run --suite celeba30k --strategy {strategy} --lr {lr:g}",
    }  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec))
    one_answer = not all(map(any, zip(*confusion, strict=True)))
    _write_history(folder, epochs, val_accuracy, collapsed=one_answer)
    if not error:
        label, prediction = _answers(confusion, _own_seed(strategy, lr, seed))
        support = [sum(row) for row in confusion]
        root |= {
            "digests": {"data": "d" * 64, "split": "5" * 64,
                        "base": "b" * 63 + f"{seed % 10}",  # with the head, which each seed begins otherwise
                        "weights": "a" * 64, "predictions": "c" * 64, "checkpoint": "e" * 64},
            "data": {
                "card": {"title": "CelebA30k", "description": "Faces of well-known people.",
                         "labels": "Yes-or-no marks given by annotators from the picture.",
                         "license": "Non-commercial research only.",
                         "not_for": "Deciding anything about a person.", "redistributable": False,
                         "embedded": False, "url": "https://example.org/data", **(card or {})},
                "path": path, "class_names": list(classes),
                "counts": {"train": [8 * n for n in support], "val": support, "test": support},
                "missing": {"count": missing, "first": []},
            },
            "backbone": {
                "name": backbone, "parameters": 134268738,
                "preprocess": {"size": 224, "resize": 224, "mean": [0.485, 0.456, 0.406],
                               "std": [0.229, 0.224, 0.225], "interpolation": "bilinear"},
                "stages": [
                    {"name": stage, "role": role, "parameters": n, "trained": 0 if scale is None else n,
                     "in_optimizer": 0 if scale is None else n, "lr_scale": scale,
                     "lr": [{"epochs": [1, epochs], "lr": lr}] if scale else [], "norm_statistics": None,
                     "still": {}, "random": stage == "head", "moved": 0.0, "prefix": scale is None}
                    for stage, role, n, scale in _stages(strategy)
                ],
                "random_stages": ["head"],
            },
            "selected_epoch": epochs,
            "val": None if val_accuracy is None else _with_accuracy(support, val_accuracy, classes),
            "test": scores(label, prediction, classes),
            "timing": {"prefix_s": 250.0, "prefix_shared_by": 4, "train_s": 900.0, "total_s": 1150.0,
                       "images_per_s": 26.0, **(timing or {})},
            "memory": memory,
        }  # fmt: skip
        _write_predictions(folder, label, prediction, ids, groups, attributes or {})
    (folder / "result.json").write_text(json.dumps(root))
    return folder


def original_runs(parent: Path, **changes: Any) -> list[Path]:
    """The four cells of the original report; each cell's mistakes fall independently of the others'."""
    return [
        fake_run(parent, strategy=s, lr=lr, confusion=m, val_accuracy=v, suite="celeba30k", **changes)
        for s, lr, m, v in ORIGINAL
    ]


def scores(label: np.ndarray, prediction: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """The figures of a record, by scikit-learn."""
    k = range(len(classes))
    p, r, f, support = precision_recall_fscore_support(label, prediction, labels=list(k), zero_division=0)
    confusion = [[int(np.sum((label == i) & (prediction == j))) for j in k] for i in k]
    return {
        "n": len(label), "loss": 0.21, "accuracy": float(np.mean(label == prediction)),
        "accuracy_interval": [0.0, 1.0],
        "balanced_accuracy": float(r[support > 0].mean()),
        "macro_f1": float(f.mean()), "confusion": confusion,
        "per_class": [
            {"name": classes[i], "precision": p[i], "recall": r[i], "f1": f[i], "support": int(support[i]),
             "right": confusion[i][i], "wrong": int(support[i]) - confusion[i][i]}
            for i in k
        ],
    }  # fmt: skip


def _own_seed(strategy: str, lr: float, seed: int) -> int:
    return sum(map(ord, f"{strategy}{lr}{seed}"))


def _answers(confusion: tuple[tuple[int, ...], ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(confusion)), [sum(row) for row in confusion])
    prediction = [rng.permutation(np.repeat(np.arange(len(row)), row)) for row in confusion]
    return label, np.concatenate(prediction)


def _with_accuracy(support: list[int], accuracy: float, classes: tuple[str, ...]) -> dict[str, Any]:
    label = np.repeat(np.arange(len(support)), support)
    prediction = label.copy()
    wrong = round((1 - accuracy) * len(label))
    prediction[len(label) - wrong :] = (label[len(label) - wrong :] + 1) % len(support)
    return scores(label, prediction, classes)


def _stages(strategy: str) -> list[tuple[str, str, int, float | None]]:
    block5 = 1.0 if strategy == "last_block" else None
    return [
        ("block1", "body", 38720, None), ("block2", "body", 221440, None),
        ("block3", "body", 1475328, None), ("block4", "body", 5899776, None),
        ("block5", "body", 7079424, block5), ("pool", "neck", 0, None),
        ("fc6", "classifier", 102764544, 1.0), ("fc7", "classifier", 16781312, 1.0),
        ("head", "head", 8194, 1.0),
    ]  # fmt: skip


def _write_history(folder: Path, epochs: int, val_accuracy: float | None, *, collapsed: bool) -> None:
    rows = []
    for epoch in range(1, epochs + 1):
        left = 0.45 * 0.7**epoch
        row = {"epoch": epoch, "train_loss": 0.681 if collapsed else 0.05 + left,
               "train_accuracy": 0.577 if collapsed else 0.985 - left / 4,
               "lr": 1e-3, "seconds": 90.0}  # fmt: skip
        if val_accuracy is not None:
            row |= {"val_loss": 0.681 if collapsed else 0.08 + left, "val_accuracy": val_accuracy - left / 5}
        rows.append(json.dumps(row) + "\n")
    (folder / "history.jsonl").write_text("".join(rows))


def _write_predictions(
    folder: Path,
    label: np.ndarray,
    prediction: np.ndarray,
    ids: list[str] | None,
    groups: list[str] | None,
    attributes: dict[str, list[int]],
) -> None:
    k = int(max(label.max(), prediction.max(), 1)) + 1
    with (folder / "predictions.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "path", "group", "label", "prediction", *(f"p{i}" for i in range(k)),
                      *(f"attr:{a}" for a in attributes)])  # fmt: skip
        for i, (t, p) in enumerate(zip(label, prediction, strict=True)):
            name = ids[i] if ids else f"{i + 1:06d}.jpg"
            chances = [0.9 if j == p else 0.1 / (k - 1) for j in range(k)]
            out.writerow([name, name, groups[i] if groups else "", t, p, *chances,
                          *(values[i] for values in attributes.values())])  # fmt: skip
