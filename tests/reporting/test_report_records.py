from __future__ import annotations

import json
import math

import pytest

from harness.errors import RecordError
from reports.predictions import read_predictions
from reports.records import load_records

from .fake_runs import fake_run


def edit(folder, change):
    file = folder / "result.json"
    root = json.loads(file.read_text())
    change(root)
    file.write_text(json.dumps(root))


def test_a_record(tmp_path):
    folder = fake_run(tmp_path, confusion=((90, 10), (5, 45)))
    (record,) = load_records([folder, folder])
    assert record.result.test.right == 135
    assert record.result.data.counts["train"] == (800, 400)
    assert len(record.history) == 10
    found = read_predictions(record)
    assert found.probabilities.shape == (150, 2)
    assert (found.label == found.prediction).sum() == 135


def test_null_is_not_finite_and_absent_is_none(tmp_path):
    folder = fake_run(tmp_path)
    (folder / "history.jsonl").write_text('{"epoch": 1, "train_loss": null}\n')
    (record,) = load_records([folder])
    assert math.isnan(record.history[0].train_loss)
    assert record.history[0].val_loss is None


def test_control_characters_of_names_are_not_shown(tmp_path):
    folder = fake_run(tmp_path, classes=("a\nb", "c\u202ed"))
    (record,) = load_records([folder])
    assert record.result.data.class_names == ("a b", "c\ufffdd")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("spec"), "'spec' is missing"),
        (lambda r: r.update(format=2), "format 2 is not known"),
        (lambda r: r.update(status="half"), "'status' should be"),
        (lambda r: r["spec"].update(lr="fast"), "'spec.lr' should be a finite number"),
        (lambda r: r["test"].update(accuracy=0.99), "not that of its confusion matrix"),
        (lambda r: r["test"].update(confusion=[[1]]), "a matrix of 2 x 2"),
        (lambda r: r["data"].update(counts=3), "'data.counts' should be an object"),
    ],
)
def test_what_is_malformed_is_named(tmp_path, change, message):
    folder = fake_run(tmp_path)
    edit(folder, change)
    with pytest.raises(RecordError, match=message) as caught:
        load_records([folder])
    assert "result.json" in str(caught.value)


def test_broken_json_names_file_and_line(tmp_path):
    folder = fake_run(tmp_path)
    (folder / "history.jsonl").write_text('{"epoch": 1}\n{"epoch": \n')
    with pytest.raises(RecordError, match=r"history\.jsonl:2: not valid JSON"):
        load_records([folder])


def test_no_result(tmp_path):
    with pytest.raises(RecordError, match=r"result\.json doesn't exist"):
        load_records([tmp_path])


def test_predictions_that_are_not_those_of_the_result(tmp_path):
    folder = fake_run(tmp_path)
    file = folder / "predictions.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:-1], lines[1]]) + "\n")
    (record,) = load_records([folder])
    with pytest.raises(RecordError, match="not those of the confusion matrix"):
        read_predictions(record)


def test_what_an_audit_found_is_read(tmp_path):
    folder = fake_run(tmp_path, epochs=4)
    norm = {"before": "a", "after": "b"}

    def change(root):
        root["backbone"]["stages"][8] |= {
            "lr": [{"epochs": [1, 2], "lr": 0.1}, {"epochs": [4, 4], "lr": 0.01}],
            "norm_statistics": norm,
            "still": {"head.bias": "zero gradient"},
        }

    edit(folder, change)
    (record,) = load_records([folder])
    network = record.result.backbone
    assert network.audited
    assert network.stages[8].lr == ((1, 2, 0.1), (4, 4, 0.01))
    assert [s.norm_changed for s in network.stages] == [None] * 8 + [True]
    assert network.still == {"head.bias": "zero gradient"}
    norm["after"] = "a"
    edit(folder, change)
    assert load_records([folder])[0].result.backbone.stages[8].norm_changed is False
    edit(folder, lambda root: root["backbone"]["stages"][8]["lr"][0].update(epochs=[1]))
    with pytest.raises(RecordError, match=r"stages\[8\]\.lr\[0\]\.epochs' should be the first and the last"):
        load_records([folder])


def unaudited(root):
    for stage in root["backbone"]["stages"]:
        for key in ("in_optimizer", "lr", "norm_statistics", "still"):
            del stage[key]


def test_a_record_from_before_audits_is_read(tmp_path):
    folder = fake_run(tmp_path)
    edit(folder, unaudited)
    network = load_records([folder])[0].result.backbone
    assert not network.audited
    assert network.still == {}
