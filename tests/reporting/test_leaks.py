"""Accuracy without the test images that training has seen, against counts made by hand."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from harness.errors import RecordError
from harness.leakage import FILE, Leakage, NearCopy, belonging, write_leakage
from harness.resampling import accuracy_interval
from reports.predictions import read_predictions
from reports.records import load_records
from reports.render import write_report
from reports.summary import build_report

from .fake_runs import fake_run

DIGESTS = belonging({"data": "d" * 64, "split": "5" * 64})  # those of fake_run
IDS = [f"{i + 1:06d}.jpg" for i in range(150)]
NEAR = (NearCopy("other.jpg", 4, 0.97, True),)


def runs(folder: Path, found: Leakage | None = None, **options: object) -> list[Path]:
    made = [
        fake_run(folder, strategy="head_only", confusion=((90, 10), (5, 45)), **options),
        fake_run(folder, strategy="last_block", confusion=((98, 2), (2, 48)), **options),
    ]
    if found is not None:
        write_leakage(made[0], found)
    return made


def leaks_of(folders: list[Path]):
    (experiment,) = build_report(load_records(folders)).experiments
    return experiment.leaks


def by_hand(folder: Path, chosen: set[str]) -> tuple[int, int]:
    """How many of the chosen test images there are, and how many of them are right."""
    with (folder / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["id"] in chosen]
    return len(rows), sum(row["label"] == row["prediction"] for row in rows)


SEEN = Leakage(
    DIGESTS,
    exact={IDS[0]: ("x",), IDS[149]: ("y",)},
    groups=tuple(IDS[:100]),
    near={IDS[0]: NEAR, IDS[3]: NEAR, IDS[120]: NEAR},
    method="a closer look",
)
COPIES = {IDS[0], IDS[149], IDS[3], IDS[120]}


@pytest.mark.parametrize(
    ("found", "said"),
    [(SEEN, "150 test images (4 of them with a copy in training)"), (None, "saw in training")],
)
def test_the_summary_calls_no_image_unseen_that_has_a_copy(tmp_path: Path, found, said: str) -> None:
    write_report(build_report(load_records(runs(tmp_path / "runs", found))), tmp_path / "out")
    for name in ("report.md", "index.html"):
        text = (tmp_path / "out" / name).read_text()
        assert said in text
        assert ("saw in training" in text) is (found is None)


def test_counts_and_intervals(tmp_path: Path) -> None:
    folders = runs(tmp_path, SEEN)
    leaks = leaks_of(folders)
    assert (leaks.n, leaks.exact, leaks.near, leaks.copies, leaks.groups) == (150, 2, 2, 4, 100)
    assert not leaks.clustered
    for row, folder in zip(leaks.rows, folders, strict=True):
        for subset, chosen in (
            (row.copies, COPIES),
            (row.without_copies, set(IDS) - COPIES),
            (row.new_groups, set(IDS[100:])),
        ):
            n, right = by_hand(folder, chosen)
            assert (subset.n, subset.right) == (n, right)
            assert subset.accuracy == right / n
            assert subset.interval == pytest.approx(proportion_confint(right, n, method="wilson"))


def test_the_reading(tmp_path: Path) -> None:
    folders = runs(tmp_path, SEEN)
    leaks = leaks_of(folders)
    seen, change, groups = leaks.reading
    assert seen == (
        "Of 150 test images 4 show pictures that training has too: 2 in the same bytes, 2 recompressed, "
        "recoloured or mirrored."
    )
    changes = []
    for folder, all_right in zip(folders, (135, 146), strict=True):
        n, right = by_hand(folder, set(IDS) - COPIES)
        changes.append(round(100 * (right / n - all_right / 150), 2))
    shown = [f"{c:+.2f}".replace("-", "−") for c in sorted(changes)]
    assert change == f"Without them accuracies change by {shown[0]} to {shown[1]} points."
    low, high = sorted(by_hand(folder, set(IDS[100:]))[1] / 50 for folder in folders)
    assert f"On the other 50 the cells reach {100 * low:.2f} % to {100 * high:.2f} %." in groups


def test_an_audit_is_preferred_whichever_run_holds_it(tmp_path: Path) -> None:
    folders = runs(tmp_path, replace(SEEN, near=None, method=""))
    assert leaks_of(folders).near is None
    assert (
        "Near copies (recompressed, recoloured, mirrored) were not looked for" in leaks_of(folders).reading[0]
    )
    write_leakage(folders[1], SEEN)
    assert leaks_of(folders).near == 2


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (Leakage(DIGESTS, {}, None), "The data hold no groups"),
        (Leakage(DIGESTS, {}, ()), "No test image is of a group"),
        (Leakage(DIGESTS, {}, tuple(IDS)), "Every test image is of a group"),
        (Leakage(DIGESTS, {}, None, {}, "m"), "none shows a picture that training has too, as far as"),
        (Leakage(DIGESTS, {}, None), "Of 150 test images none has the bytes of a training image."),
        (Leakage(DIGESTS, dict.fromkeys(IDS, ("x",)), None), "say nothing of new pictures"),
        (Leakage(DIGESTS, dict.fromkeys(IDS[:130], ("x",)), None), "points; 20 images say little."),
        (Leakage(DIGESTS, {}, tuple(IDS[1:])), "; 1 image says little."),
    ],
)
def test_what_is_said(tmp_path: Path, found: Leakage, wanted: str) -> None:
    assert wanted in " ".join(leaks_of(runs(tmp_path, found)).reading)


def test_in_groups_the_interval_resamples_them(tmp_path: Path) -> None:
    folders = runs(tmp_path, SEEN)
    for folder in folders:
        with (folder / "predictions.csv").open(newline="") as file:
            rows = list(csv.reader(file))
        for i, row in enumerate(rows[1:]):
            row[2] = f"p{i % 30}"
        with (folder / "predictions.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    leaks = leaks_of(folders)
    assert leaks.clustered
    (record, _) = load_records(folders)
    p = read_predictions(record)
    kept = np.array([i not in COPIES for i in p.ids])
    wanted = accuracy_interval((p.label == p.prediction)[kept], (np.arange(150) % 30)[kept])
    assert leaks.rows[0].without_copies.interval == pytest.approx(wanted)


def test_of_another_split_nothing_is_known(tmp_path: Path) -> None:
    folders = runs(tmp_path, replace(SEEN, digests=DIGESTS | {"split": "other"}))
    assert leaks_of(folders) is None
    (folders[0] / FILE).write_text("{")
    with pytest.raises(RecordError, match="harness data audit --runs makes it again"):
        leaks_of(folders)


def test_the_discussion_says_so(tmp_path: Path) -> None:
    def caveats(folders: list[Path]) -> str:
        (experiment,) = build_report(load_records(folders)).experiments
        return " ".join(s.text for s in experiment.discussion if s.kind == "caveat")

    assert (
        "of 150 test images 4 have a copy in training and 100 are of a group (a person, say) that training "
        "has images of."
    ) in caveats(runs(tmp_path / "seen", SEEN))
    assert "Training has seen" not in caveats(runs(tmp_path / "clean", Leakage(DIGESTS, {}, ())))


def test_the_section(tmp_path: Path) -> None:
    folders = runs(tmp_path, SEEN)
    write_report(build_report(load_records(folders)), tmp_path / "out")
    n, right = by_hand(folders[0], set(IDS) - COPIES)
    low, high = proportion_confint(right, n, method="wilson")
    figure = f"{100 * right / n:.2f} % [{100 * low:.2f}, {100 * high:.2f}] of {n}"
    for name in ("index.html", "report.md"):
        text = (tmp_path / "out" / name).read_text().replace("\u00a0", " ")
        for part in ("Test images that training has seen", figure, "of 4 right", "a closer look"):
            assert part in text, (name, part)
    bare = runs(tmp_path / "bare")
    write_report(build_report(load_records(bare)), tmp_path / "bare_out")
    assert "Not recorded with these runs" in (tmp_path / "bare_out" / "report.md").read_text()
