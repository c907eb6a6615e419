"""The benchmarks compare like with like: all who do a work end with the same numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

RIVALS = ("ours", "A", "B", "C", "D")
TINY = ["--images", "60", "--epochs", "2", "--threads", "1", "--loader-workers", "0"]


@pytest.fixture(scope="module")
def package(benchmarks: Path) -> Iterator[Path]:
    """The folder of the benchmarks, with a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(benchmarks / "cache"))
        yield benchmarks


@pytest.fixture(scope="module")
def results(package: Path) -> Iterator[list[Any]]:
    """The work in small, done by each in this process."""
    from benchmarks.grid import make_work
    from benchmarks.job import measure
    from benchmarks.presets import PRESETS

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    preset = replace(PRESETS["cpu-embedded"], images=60, epochs=2)
    work = make_work(preset, package / "work", threads=1, loader_workers=0)
    yield [measure(rival, work) for rival in RIVALS]
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def test_all_train_the_same_cells_to_the_same_end(results: list[Any]) -> None:
    from benchmarks.results import largest_difference

    ours = results[0]
    assert [r.error for r in results] == [None] * len(RIVALS)
    assert len(ours.cells) == 4
    assert all(len(cell.train_loss) == 2 for cell in ours.cells)
    assert len({cell.train_loss for cell in ours.cells}) == 4  # else agreement would say little
    for other in results[1:]:
        # Memory layouts and batch shapes differ, and with them the order of sums.
        assert largest_difference(ours, other) < 1e-4, other.rival
        for mine, theirs in zip(ours.cells, other.cells, strict=True):
            assert mine.label == theirs.label
            assert mine.test_accuracy == theirs.test_accuracy
            assert mine.val_accuracy == theirs.val_accuracy


def test_phases_are_parts_of_the_work(results: list[Any]) -> None:
    for result in results:
        assert 0 < sum(result.phases.values()) <= result.wall_s
        assert result.import_s > 0
    by_rival = {r.rival: r for r in results}
    assert by_rival["ours"].features_kept_s < by_rival["ours"].wall_s
    assert by_rival["A"].images_given_s is None
    assert by_rival["B"].features_kept_s is None
    assert by_rival["C"].features_kept_s < by_rival["C"].images_given_s


def test_the_tables_name_everyone_and_survive_a_failure(results: list[Any]) -> None:
    from benchmarks.results import JobResult
    from benchmarks.rivals import RIVALS as known
    from benchmarks.table import report

    text = report([*results, *results, JobResult("skorch", error="needs a package")], "a heading")
    assert text.startswith("a heading\n")
    for rival in (*RIVALS, "skorch"):
        assert f"| {known[rival].title} |" in text
    assert "skorch: needs a package" in text
    assert "| last_block 0.0001 |" in text
    assert "largest difference of the training loss to ours" in text
    assert "Frozen pass" in text
    for table in text.split("\n\n"):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1


def test_results_survive_json(results: list[Any]) -> None:
    from dataclasses import asdict

    from benchmarks.results import JobResult

    for result in results:
        assert JobResult.from_json(json.dumps(asdict(result))) == result


@pytest.mark.parametrize("name", ["lightning", "fastai", "skorch"])
def test_an_absent_package_is_named(package: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from benchmarks.job import measure
    from benchmarks.work import Work

    monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    work = Work("", "vgg_tiny", "embedded", ("head_only",), (1e-3,), 1, 8, "fp32", "cpu", 1, 0)
    error = measure(name, work).error
    assert f"pip install {name}" in error


def test_an_unknown_rival_is_named(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.grid import main

    with pytest.raises(SystemExit):
        main(["--preset", "cpu-embedded", "--rivals", "ours,E"])
    assert "'E' is none of ours, A" in capsys.readouterr().err


def test_the_floor_of_the_original_grid(package: Path) -> None:
    from benchmarks.floor import floor
    from benchmarks.presets import PRESETS
    from benchmarks.work import Work

    p = PRESETS["h200-origin"]
    work = Work("", p.backbone, "", p.strategies, p.lrs, p.epochs, p.batch_size, p.precision, "cuda", 1, 0)
    least = floor(work, (24_000, 3_000, 3_000))
    assert (round(least.prefix, 1), round(least.suffix, 1), round(least.adam, 1)) == (1.2, 5.5, 14.7)


def test_drawn_images_have_celebas_size(package: Path, tmp_path: Path) -> None:
    from PIL import Image

    from benchmarks.prepare import drawn_images
    from benchmarks.presets import PRESETS

    folder = drawn_images(tmp_path, PRESETS["cpu-small"], 20)
    files = sorted((folder / "img_align_celeba").iterdir())
    assert len(files) == 20
    with Image.open(files[0]) as image:
        assert image.size == (178, 218)
    assert drawn_images(tmp_path, PRESETS["cpu-small"], 20) == folder
    assert sorted((folder / "img_align_celeba").iterdir()) == files


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["cpu-small", "small-heads"])
def test_the_command(package: Path, tmp_path: Path, preset: str) -> None:
    """Each rival in its own process, on a backbone that isn't part of the package."""
    file = tmp_path / "measured.json"
    command = [sys.executable, "-m", "benchmarks.grid", "--preset", preset, "--rivals", "ours,D"]
    options = [*TINY, "--epochs", "1", "--repeats", "1", "--json", str(file), "--work", str(tmp_path)]
    done = subprocess.run([*command, *options], cwd=package, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"`{preset}`" in done.stdout
    assert "[2/2] repeat 1, D" in done.stderr
    jobs = json.loads(file.read_text())["jobs"]
    assert [job["rival"] for job in jobs] == ["ours", "D"]
    assert jobs[0]["phases"]["prefix"] > 0
