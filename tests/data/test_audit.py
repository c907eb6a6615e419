"""The data audit finds what was planted, and nothing else."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from harness.cli import main
from harness.data import fingerprints as memory
from harness.data import phash
from harness.data.audit import DataAudit, audit_data
from harness.data.audit_views import FORMAT, as_json, lines, odd_sizes, redundant
from harness.data.fingerprints import fingerprints
from harness.data.prepare import prepare_data
from harness.leakage import NearCopy, belonging, find_leakage, read_leakage
from harness.progress import Progress
from harness.spec import DataSpec

SIZE = (90, 110)


def picture(seed: int) -> Image.Image:
    """A picture with details, unlike that of any other seed."""
    grid = np.random.default_rng(seed).integers(0, 256, (28, 23, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize(SIZE, Image.Resampling.BICUBIC)


#  name          part    label group   (the picture of each is below)
ROWS = (
    ("a.png", "train", "no", "P"),
    ("b.png", "train", "yes", "Q"),
    ("c.jpg", "train", "no", "R"),
    ("d.png", "train", "yes", "S"),
    ("a2.png", "test", "no", "P"),  # the bytes of a
    ("b2.jpg", "test", "no", "Q"),  # b recompressed and brighter, labelled otherwise
    ("c2.png", "val", "no", "T"),  # c mirrored, another group
    ("e.png", "test", "yes", "U"),
    ("f.png", "val", "yes", "S"),
    ("g.png", "test", "yes", "V"),
)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    root.mkdir()
    for seed, name in enumerate("abcdefg"):
        picture(seed).save(root / (f"{name}.jpg" if name == "c" else f"{name}.png"), quality=95)
    shutil.copy(root / "a.png", root / "a2.png")
    ImageEnhance.Brightness(picture(1)).enhance(1.1).save(root / "b2.jpg", quality=60)
    picture(2).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "c2.png")
    picture(6).resize((40, 30)).save(root / "g.png")
    return table_of(root, ROWS)


def table_of(root: Path, rows: tuple[tuple[str, ...], ...]) -> Path:
    for file in root.iterdir():
        os.utime(file, (1_000_000_000, 1_000_000_000))
    with (root / "list.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["path", "split", "label", "group"])
        out.writerows(rows)
    return root / "list.csv"


def audited(table: Path, **asked: object) -> DataAudit:
    return audit_data(prepare_data(DataSpec("table", **asked), table, 2), 2, Progress(quiet=True))


def names(audit: DataAudit, sets: tuple[tuple[int, ...], ...]) -> list[list[str]]:
    return [[audit.data.table.ids[row] for row in rows] for rows in sets]


def test_what_was_planted_is_found(planted: Path) -> None:
    audit = audited(planted)
    assert names(audit, audit.exact) == [["a.png", "a2.png"]]
    pairs = {(audit.data.table.ids[p.a], audit.data.table.ids[p.b]): p for p in audit.near}
    assert pairs.keys() == {("b.png", "b2.jpg"), ("c.jpg", "c2.png")}
    assert not pairs["b.png", "b2.jpg"].mirrored
    assert pairs["c.jpg", "c2.png"].mirrored
    assert names(audit, audit.sets) == [["a.png", "a2.png"], ["b.png", "b2.jpg"], ["c.jpg", "c2.png"]]
    assert names(audit, audit.disagreeing(audit.data.table.labels.tolist())) == [["b.png", "b2.jpg"]]
    assert audit.data.table.groups is not None
    assert names(audit, audit.disagreeing(audit.data.table.groups)) == [["c.jpg", "c2.png"]]
    assert (audit.copies("test", "train"), audit.copies("val", "train"), audit.copies("test", "val")) == (
        2,
        1,
        0,
    )
    assert not audit.cut_short


def test_groups_on_two_sides(planted: Path) -> None:
    audit = audited(planted)
    # P and Q: train and test; S: train and val; R, T, U, V: one part
    assert (audit.groups, audit.divided, audit.shared("train", "test"), audit.shared("train", "val")) == (
        7,
        3,
        2,
        1,
    )
    assert audit.data.leakage.groups == ("a2.png", "b2.jpg")


def test_leakage_of_the_test_images(planted: Path) -> None:
    leakage = audited(planted).leakage
    assert leakage.exact == {"a2.png": ("a.png",)}
    assert leakage.near is not None
    ((name, (copy,)),) = leakage.near.items()
    assert (name, copy.id, copy.mirrored) == ("b2.jpg", "b.png", False)
    assert copy == NearCopy("b.png", copy.distance, copy.correlation, False)
    assert copy.distance <= phash.FARTHEST
    assert copy.correlation >= phash.LEAST


def test_a_copy_of_a_copy_leaks_too(planted: Path) -> None:
    shutil.copy(planted.parent / "b.png", planted.parent / "b3.png")  # a second time in training
    table_of(planted.parent, (*ROWS, ("b3.png", "train", "yes", "Q")))
    leakage = audited(planted).leakage
    assert leakage.near is not None
    assert {copy.id for copy in leakage.near["b2.jpg"]} == {"b.png", "b3.png"}


def test_sizes_and_classes(planted: Path) -> None:
    audit = audited(planted)
    usual, odd = odd_sizes(audit)
    assert usual == SIZE
    assert [audit.data.table.ids[row] for row in odd] == ["g.png"]
    found = as_json(audit)
    assert found["sizes"]["odd"] == {"g.png": [40, 30]}
    assert (found["sizes"]["width"], found["sizes"]["height"]) == ([40, 90], [30, 110])
    assert found["split"]["counts"] == {"train": [2, 2], "val": [1, 1], "test": [2, 2]}


def test_what_could_go(planted: Path) -> None:
    audit = audited(planted)
    # of a and c the training image stays; the labels of b and b2 disagree, so both go
    assert [audit.data.table.ids[row] for row in redundant(audit)] == ["b.png", "a2.png", "b2.jpg", "c2.png"]


def test_unreadable_images_are_named_and_the_rest_audited(planted: Path) -> None:
    (planted.parent / "e.png").write_bytes((planted.parent / "e.png").read_bytes()[:200])
    (planted.parent / "f.png").write_bytes(b"")
    audit = audited(planted)
    assert [audit.data.table.ids[row] for row in audit.looks.unreadable] == ["e.png", "f.png"]
    assert "the file is empty" in audit.looks.unreadable.values()
    assert len(audit.near) == 2


def test_the_text(planted: Path) -> None:
    text = "\n".join(lines(audited(planted), most=5))
    for part in ("list: 10 images", "train  4       2 (50.0 %)  2 (50.0 %)", "the same bytes     1 pair",
                 "a.png (train) = a2.png (test)", "2 pairs of other bytes, 1 mirrored",
                 "labels disagree    1 pair", "b.png yes, b2.jpg no", "c.jpg R, c2.png T",
                 "9 images of 90 x 110, 1 of another size", "g.png 40 x 30", "unreadable  0",
                 "2 of 4 test images have a copy in training",
                 "1 of 2 validation images have a copy in training",
                 "2 of 4 test images are of a group that has training images (2 groups)",
                 "3 of 7 groups have images in more than one part",
                 "--group identity instead of --split official"):  # fmt: skip
        assert part in text, part
    assert "1 more" in "\n".join(lines(audited(planted), most=1))


def test_without_groups_it_says_so(planted: Path) -> None:
    with planted.open("w") as file:
        file.write("path,label,split\n" + "".join(f"{n},{label},{part}\n" for n, part, label, _ in ROWS))
    audit = audited(planted)
    assert as_json(audit)["groups"] is None
    assert as_json(audit)["groups_disagree"] is None
    text = "\n".join(lines(audit, most=5))
    assert "the data hold no groups" in text
    assert "a column 'group' of a table" in text


def test_images_that_are_all_alike_end_the_comparison(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.data.audit._MOST_CANDIDATES", 1)
    audit = audited(planted)
    assert audit.cut_short
    assert not as_json(audit)["complete"]
    assert "comparing was given up" in "\n".join(lines(audit, most=5))


# --------------------------------------------------------------------------- the hash


def test_the_hash_is_that_of_imagehash() -> None:
    images = [np.asarray(picture(seed)) for seed in range(8)]
    plain, mirrored = phash.hashes(np.stack([phash.small(image) for image in images]))
    for found, flip in ((plain, 1), (mirrored, -1)):
        for bits, image in zip(found, images, strict=True):
            theirs = imagehash.phash(Image.fromarray(image[:, ::flip]), hash_size=16, highfreq_factor=2)
            assert np.array_equal(np.unpackbits(bits), theirs.hash.ravel())


def test_candidates_are_all_pairs_that_are_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phash, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    plain = rng.integers(0, 256, (40, 32), dtype=np.uint8)
    mirrored = rng.integers(0, 256, (40, 32), dtype=np.uint8)
    plain[31] = plain[3] ^ np.packbits(np.arange(256) < phash.FARTHEST)
    plain[32] = plain[4] ^ np.packbits(np.arange(256) < phash.FARTHEST + 1)
    mirrored[20] = plain[10]
    seen: list[int] = []
    found = {
        (int(a), int(b), int(d), c.mirrored)
        for c in phash.candidates(plain, mirrored, seen.append)
        for a, b, d in zip(c.a, c.b, c.distance, strict=True)
    }
    assert found == {(3, 31, phash.FARTHEST, False), (10, 20, 0, True)}
    assert sum(seen) == 40


def test_a_picture_without_details_is_no_copy_of_another() -> None:
    grey, white = (np.full((64, 64, 3), v, dtype=np.uint8) for v in (90, 255))
    a, b = (phash.detail(i)[None] for i in (grey, white))
    assert phash.correlation(a, b, mirrored=False)[0] == 0


def test_looks_are_remembered_by_content(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(planted.parent / row[0]) for row in ROWS]
    contents = [f"{i:032x}" for i in range(len(ROWS))]
    done: list[int] = []
    with pool() as executor:
        first = fingerprints(paths, contents, executor, done.append)
        monkeypatch.setattr(memory, "decode", None)  # nothing is decoded again
        again = fingerprints(paths[::-1], contents[::-1], executor, done.append)
        assert np.array_equal(first.plain, again.plain[::-1])
        assert np.array_equal(first.size, again.size[::-1])
        assert sum(done) == 2 * len(ROWS)
        with pytest.raises(TypeError):
            fingerprints(paths, ["f" * 32, *contents[1:]], executor)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01", b"nonsense"])
def test_a_damaged_memory_is_forgotten(planted: Path, tmp_path: Path, damage: bytes) -> None:
    first = audited(planted)
    (file,) = (tmp_path / "cache" / "fingerprints").iterdir()
    file.write_bytes(damage)
    assert audited(planted).near == first.near
    assert file.read_bytes() != damage


def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2)


# --------------------------------------------------------------------------- the command


@pytest.fixture
def run_audit(planted: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["data", "audit", "--data", f"table={planted}", "--workers", "1", *words])
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def test_the_command(run_audit, tmp_path: Path) -> None:
    status, out, _ = run_audit("--json", str(tmp_path / "a.json"), "--list", str(tmp_path / "l.txt"))
    assert status == 0
    assert "2 of 4 test images have a copy in training" in out
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["format"] == FORMAT
    assert found["exact"] == [["a.png", "a2.png"]]
    assert found["copies"] == {"test in train": 2, "test in val": 0, "val in train": 1}
    assert (tmp_path / "l.txt").read_text().split() == ["b.png", "a2.png", "b2.jpg", "c2.png"]


def test_exit_statuses(run_audit, planted: Path) -> None:
    assert run_audit("--strict")[0] == 3
    assert run_audit("--limit", "1")[0] == 2
    (planted.parent / "g.png").write_bytes(b"no image")
    status, out, err = run_audit()
    assert status == 3
    assert "g.png: not an image" in out
    assert err.splitlines() == ["harness: 1 images can't be read: a run would stop at them"]


def test_run_folders_are_told(run_audit, planted: Path, tmp_path: Path) -> None:
    data = prepare_data(DataSpec("table"), planted, 1)
    digests = belonging({"data": data.digest, "split": data.split.digest})
    empty: dict[str, None] = dict.fromkeys(("spec", "data", "strategy", "test", "error"))
    for name, own in (("mine", digests), ("other", digests | {"split": "another"})):
        (tmp_path / "runs" / name).mkdir(parents=True)
        record = empty | {"format": 1, "run": name, "status": "done", "digests": own}
        (tmp_path / "runs" / name / "result.json").write_text(json.dumps(record))
    status, out, _ = run_audit("--runs", str(tmp_path / "runs"))
    assert status == 0
    assert "1 run folder now holds what training has seen of the test images; 1 of other data or" in out
    found = read_leakage(tmp_path / "runs" / "mine", digests)
    assert found is not None
    assert found.near is not None
    assert list(found.near) == ["b2.jpg"]
    assert not (tmp_path / "runs" / "other" / "leakage.json").exists()
    status, _, err = run_audit("--limit", "8", "--runs", str(tmp_path / "runs"))
    assert status == 2
    assert "none of the runs" in err


# --------------------------------------------------------------------------- real faces

CELEBA = os.environ.get("HARNESS_CELEBA_ROOT")


@pytest.mark.skipif(not CELEBA, reason="HARNESS_CELEBA_ROOT is not set: a folder of CelebA")
@pytest.mark.realdata
@pytest.mark.slow
def test_on_faces_the_known_pair_and_no_false_alarm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Needs the 6,000 aligned faces of 200 people, of which one pair has the same bytes."""
    data = prepare_data(DataSpec("celeba", "Smiling", missing="skip"), Path(CELEBA or ""), 2)
    audit = audit_data(data, 2, Progress(quiet=True))
    if len(data.table) != 6000:
        pytest.skip("another choice of CelebA's images")
    assert names(audit, audit.exact) == [["186574.jpg", "197961.jpg"]]
    # A random split: every test image is of somebody who is in training.
    assert data.leakage.groups == tuple(data.table.ids[row] for row in data.split.test)
    assert audit.divided >= 199
    # Near copies were looked at, every one: the same photograph. All but one (a mistake of CelebA's
    # list of identities) are of one person, as 1 in 200 pairs would be if faces gave false alarms.
    assert len(audit.near) > 100
    groups = data.table.groups
    assert groups is not None
    others = {(data.table.ids[p.a], data.table.ids[p.b]) for p in audit.near if groups[p.a] != groups[p.b]}
    assert others == {("129763.jpg", "130203.jpg")}
    by_group = prepare_data(
        DataSpec("celeba", "Smiling", "auto", "identity", missing="skip"), Path(CELEBA or ""), 2
    )
    again = find_leakage(
        by_group.table, by_group.contents, by_group.split.train, by_group.split.test, by_group.leakage.digests
    )
    assert again.groups == ()
    assert again.exact == {}
