"""The model card: metadata that huggingface_hub reads back, figures of the cell, sections to read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from harness.errors import UnknownName, UsageError
from harness.leakage import Leakage, belonging, write_leakage
from reports.model_card import model_card
from reports.records import load_records
from reports.render import write_report
from reports.summary import build_report

from .fake_runs import fake_run, original_runs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory):
    runs = original_runs(tmp_path_factory.mktemp("runs"))
    digests = belonging({"data": "d" * 64, "split": "5" * 64})
    write_leakage(runs[0], Leakage(digests, {"000001.jpg": ("x",)}, None))
    return build_report(load_records(runs))


def card_of(data, folder: Path, cell: str | None = None) -> str:
    (file,) = write_report(data, folder, formats=["model-card"], cell=cell)
    assert sorted(folder.iterdir()) == [file]
    return file.read_text("utf-8")


def test_the_metadata_are_the_hub_s(data, tmp_path: Path) -> None:
    card = ModelCard(card_of(data, tmp_path))
    assert card.data.license == "other"
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.model_name == "celeba30k-Male_vgg16_last_block_lr0.0001_s0_0123456789"
    assert "vgg16" in card.data.tags
    found = {(r.metric_type, r.metric_name): r for r in card.data.eval_results}
    accuracy = found["accuracy", "Test accuracy"]
    best = data.experiments[0].cells[3]
    assert accuracy.metric_value == best.test.accuracy == 2932 / 3000
    assert accuracy.metric_args["n"] == 3000
    assert accuracy.metric_args["interval_95"] == list(best.interval)
    assert (accuracy.dataset_type, accuracy.dataset_config, accuracy.dataset_split) == (
        "celeba30k",
        "Male",
        "test",
    )
    assert found["f1", "Macro F1"].metric_value == best.test.macro_f1
    (clean,) = [r for (_, name), r in found.items() if "without" in name]
    assert clean.metric_args["n"] == 2999


def test_the_text(data, tmp_path: Path) -> None:
    text = card_of(data, tmp_path).replace("\u00a0", " ")
    headings = re.findall(r"(?m)^## (.*)$", text)
    assert headings == ["Intended use", "Out-of-scope use", "Training data", "Training", "Evaluation",
                        "Limitations", "Citation"]  # fmt: skip
    for part in ("| accuracy | 97.73 % [97.14, 98.21] |", "Non-commercial research only.",
                 "Deciding anything about a person.", "| female | 13,856 | 1,732 | 1,732 |", "@software{",
                 "Each cell is a single run.", "harness run --suite celeba30k"):  # fmt: skip
        assert part in text, part
    assert "This network is" not in text


def test_a_collapsed_network_says_so_first(data, tmp_path: Path) -> None:
    assert "> **This network is collapsed.**" in card_of(data, tmp_path, "3")


def test_which_cell(data, tmp_path: Path) -> None:
    assert model_card(data, None).cell.number == 4
    assert model_card(data, "2").cell.number == 2
    assert model_card(data, "head_only, lr 1e-3").cell.number == 1
    with pytest.raises(UnknownName, match="unknown cell 'x'"):
        model_card(data, "x")
    with pytest.raises(UsageError, match="more than one cell"):
        model_card(data, "head_only")
    two = build_report(load_records([fake_run(tmp_path / "a"), fake_run(tmp_path / "b", weights="none")]))
    with pytest.raises(UsageError, match="2 experiments"):
        model_card(two, None)


def test_other_formats_are_left_alone(data, tmp_path: Path) -> None:
    write_report(data, tmp_path, formats=["md"])
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    write_report(data, tmp_path, formats=["json", "model-card"])
    assert {p.name for p in tmp_path.iterdir()} == {
        "report.md",
        "report_files",
        "report.json",
        "model-card.md",
    }
    assert all(p.read_bytes() == content for p, content in before.items())
    with pytest.raises(UnknownName, match="unknown format 'pdf'"):
        write_report(data, tmp_path, formats=["pdf"])  # type: ignore[list-item]


def test_no_path_of_this_machine_is_published(tmp_path: Path) -> None:
    command = (
        "harness run --data celeba=/home/me/a=b --weights /home/me/c=d.safetensors --lr 0.001 --head own"
    )
    data = build_report(load_records([fake_run(tmp_path / "run", command=command)]))
    write_report(data, tmp_path / "out", formats=["json", "model-card", "html", "md"])
    for name in ("report.json", "model-card.md", "index.html", "report.md"):
        text = (tmp_path / "out" / name).read_text()
        assert "harness run --data celeba=PATH --weights PATH --lr 0.001 --head own" in text
        assert "/home/me" not in text
