"""The drawn sample: the same bytes every time, CelebA's layout, and the model it documents."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.data import faces as faces_module
from harness.data.face_drawing import draw
from harness.data.face_model import (
    LABEL_FLIPS,
    OPEN_RATE,
    SMILE_LIFT,
    SMILE_RATE,
    cast,
    imagine,
)
from harness.data.face_scene import ATTRIBUTES, FaceBatch
from harness.data.faces import Faces, faces_folder, write_faces
from harness.errors import DataError, UnknownName, UsageError

SMALL = (12, 5, 7)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def many() -> FaceBatch:
    return imagine(5, *cast(5, (20_000,)))


def share(faces: FaceBatch, name: str, rows: np.ndarray | slice = slice(None)) -> float:
    return float(faces.attributes[rows, ATTRIBUTES.index(name)].mean())


def test_same_bytes_whatever_the_chunk_and_threads(tmp_path: Path) -> None:
    write_faces(tmp_path / "a", SMALL, chunk=16, workers=1)
    write_faces(tmp_path / "b", SMALL, chunk=5, workers=3)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_an_image_does_not_depend_on_how_many_are_drawn() -> None:
    who, which = cast(1, (30,))
    whole = draw(imagine(1, who, which))
    assert np.array_equal(draw(imagine(1, who[10:20], which[10:20])), whole[10:20])
    assert whole.shape == (30, 64, 64, 3)
    assert whole.dtype == np.uint8


def test_another_seed_shows_other_people() -> None:
    one, other = (draw(imagine(seed, *cast(seed, (4,)))) for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_nobody_is_in_two_parts() -> None:
    who, which = cast(1, (50, 20, 30))
    parts = np.repeat(np.arange(3), (50, 20, 30))
    assert all(len(set(parts[who == person])) == 1 for person in set(who))
    assert len(set(zip(who.tolist(), which.tolist(), strict=True))) == 100


def test_layout_is_read_by_celebas_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    folder = tmp_path / f"faces-v{faces_module.VERSION}"
    write_faces(folder, SMALL)
    table = Faces().read(None, target=None, missing="error")
    assert len(table) == 24
    assert table.class_names == ("not Smiling", "Smiling")
    assert [table.official.count(part) for part in ("train", "val", "test")] == list(SMALL)  # type: ignore[union-attr]
    assert table.groups is not None
    assert tuple(table.attributes) == ATTRIBUTES
    expected = imagine(faces_module.SEED, *cast(faces_module.SEED, SMALL))
    assert np.array_equal(np.stack(list(table.attributes.values()), axis=1), expected.attributes)
    assert table.groups == tuple(map(str, expected.identities))
    assert all(Path(p).is_file() for p in table.paths)
    assert table.card.embedded
    with pytest.raises(UnknownName):
        Faces().read(None, target="Nothing", missing="error")
    with pytest.raises(UsageError):
        Faces().read(tmp_path, target=None, missing="error")


def test_base_rates(many: FaceBatch) -> None:
    expected = {
        "Smiling": 0.359, "Mouth_Slightly_Open": 0.393, "Eyeglasses": 0.222, "Wearing_Hat": 0.14,
        "Bangs": 0.283, "Blond_Hair": 0.25, "Blurry": 0.08, "Big_Nose": 0.30, "Oval_Face": 0.35,
    }  # fmt: skip
    assert {n: share(many, n) for n in expected} == pytest.approx(expected, abs=0.02)


def test_label_noise_and_what_goes_with_a_smile(many: FaceBatch) -> None:
    smile = many.smile
    labelled = many.attributes[:, ATTRIBUTES.index("Smiling")]
    assert smile.mean() == pytest.approx(sum(SMILE_RATE) / 2, abs=0.01)
    assert (labelled != smile).mean() == pytest.approx(LABEL_FLIPS, abs=0.005)
    rates = [share(many, "Mouth_Slightly_Open", smile == v) for v in (False, True)]
    assert rates == pytest.approx(OPEN_RATE, abs=0.015)
    lift = many.scene.lift
    assert lift[smile].mean() - lift[~smile].mean() == pytest.approx(SMILE_LIFT, abs=0.003)
    for name in ("Bangs", "Big_Nose", "Blond_Hair", "Eyeglasses", "Wearing_Hat"):
        assert share(many, name, smile) == pytest.approx(share(many, name, ~smile), abs=0.03)


_DRAW = """
import sys
from pathlib import Path
from harness.data import faces
draw_all = faces.write_faces
faces.write_faces = lambda folder, progress=None: draw_all(folder, (6, 2, 2), progress=progress)
print(faces.faces_folder(Path(sys.argv[1])))
"""


def test_two_processes_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _DRAW, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [p.communicate(timeout=120)[0].strip() for p in running]
    assert [p.returncode for p in running] == [0, 0]
    folder = tmp_path / f"faces-v{faces_module.VERSION}"
    assert said == [str(folder)] * 2
    assert [p.name for p in tmp_path.iterdir()] == [folder.name], "no draft may be left behind"
    write_faces(tmp_path / "reference", (6, 2, 2))
    assert tree(folder) == tree(tmp_path / "reference")


def test_a_draft_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, progress: object = None) -> None:
        (folder / "img_align_celeba").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(faces_module, "write_faces", fail)
    with pytest.raises(DataError, match="HARNESS_CACHE"):
        faces_folder(tmp_path)
    assert not list(tmp_path.iterdir())


def test_progress_counts_up(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_faces(tmp_path / "a", (120, 2, 3), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(100, 125), (125, 125)]
