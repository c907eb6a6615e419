"""A suite and a record made by hand."""

from __future__ import annotations

from harness.suites.evidence import Evidence, ids_digest

HEAD = """name = "mine"
[data]
name = "faces"
[grid]
backbones = ["vgg_tiny"]
strategies = ["head_only", "full"]
lrs = [1e-3]
[train]
epochs = 2
[source.run]
text = "measured"
data = "d"
split = "s"
torch = "2.9"
recipe = { epochs = 2, batch_size = 64 }
"""


def evidence(accuracy=0.92, **changes):
    right = round(100 * accuracy)  # of 40 and 60 images; what is right of the first class comes last
    confusion = [[max(0, right - 60), 40 - max(0, right - 60)], [60 - min(60, right), min(60, right)]]
    stage = {
        "name": "head",
        "in_optimizer": 10,
        "moved": 0.5,
        "lr": [{"epochs": [1, 2], "lr": 1e-3}],
        "norm_statistics": {"before": "x", "after": "x"},
    }
    record = {
        "status": "done",
        "error": None,
        "spec": {"train": {"epochs": 2}},
        "digests": {"data": "d", "split": "s", "weights": "w", "code": "c"},
        "data": {"counts": {"train": [40, 60], "test": [40, 60]}},
        "backbone": {"stages": [stage]},
        "prefix": {"cut": 4, "probe": [0.5, 0.52]},
        "environment": {"torch": "2.10", "threads": 1},
        "test": {"accuracy": accuracy, "loss": 0.3, "confusion": confusion},
    }
    return Evidence(record | changes, train_loss=0.25, train_accuracy=0.95, test_ids=ids_digest(["a", "b"]))
