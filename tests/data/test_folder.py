from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.contracts import Dataset
from harness.data.folder import Folder
from harness.errors import DataError, UsageError

from .conftest import encoded, picture, write_images


def test_class_folders(tmp_path: Path) -> None:
    write_images(tmp_path, ["dog/b.jpg", "dog/a.JPEG", "cat/deep/c.jpg", "cat/.hidden.jpg", ".git/x.jpg"])
    (tmp_path / "cat/d.png").write_bytes(encoded(picture(), "PNG"))
    (tmp_path / "cat/notes.txt").write_text("not an image")
    (tmp_path / "README").write_text("beside the classes")
    table = Folder().read(tmp_path, target=None, missing="error")
    assert isinstance(Folder(), Dataset)
    assert table.ids == ("cat/d.png", "cat/deep/c.jpg", "dog/a.JPEG", "dog/b.jpg")
    assert table.class_names == ("cat", "dog")
    assert table.labels.tolist() == [0, 0, 1, 1]
    assert table.official is None
    assert all(Path(p).is_file() for p in table.paths)


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_split_folders(tmp_path: Path, val: str) -> None:
    write_images(tmp_path, [f"{s}/{c}/1.jpg" for s in ("train", val, "test") for c in ("ant", "bee")])
    write_images(tmp_path, ["extra/1.jpg"])
    table = Folder().read(tmp_path, target=None, missing="error")
    assert table.class_names == ("ant", "bee")
    assert dict(zip(table.ids, table.official or (), strict=True)) == {
        f"{folder}/{c}/1.jpg": split
        for folder, split in (("train", "train"), (val, "val"), ("test", "test"))
        for c in ("ant", "bee")
    }


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_images(tmp_path, ["train/1.jpg", "tram/1.jpg"])
    table = Folder().read(tmp_path, target=None, missing="error")
    assert table.class_names == ("train", "tram")
    assert table.official is None


@pytest.mark.parametrize(
    ("files", "empty", "fault"),
    [
        ([], [], "holds no class folders"),
        (["1.jpg"], [], "holds no class folders"),
        (["a/1.jpg"], [], "only one class folder, 'a'"),
        (["a/1.jpg", "b/1.txt"], [], "b: class folder without images"),
        (["a/1.jpg"], ["b"], "b: class folder without images"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg"], [], "class 'b' is in 'train' but not in 'val'"),
        (["train/a/1.jpg", "val/a/1.jpg", "val/b/1.jpg"], [], "class 'b' is in 'val' but not in 'train'"),
        (["train/a/1.jpg", "val/1.jpg"], [], "val: holds no class folders"),
        (["train/a/1.jpg", "val/a/1.jpg", "valid/a/1.jpg"], [], "has both 'val' and 'valid'"),
        (["val/a/1.jpg", "test/a/1.jpg"], [], "needs 'train' and one of"),
        (["train/a/1.jpg"], [], "needs 'train' and one of"),
    ],
)
def test_unusable_folders(tmp_path: Path, files: Sequence[str], empty: Sequence[str], fault: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write_images(root, files)
    for name in empty:
        (root / name).mkdir()
    with pytest.raises(DataError, match=fault):
        Folder().read(root, target=None, missing="error")


def test_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs the path"):
        Folder().read(None, target=None, missing="error")
    with pytest.raises(UsageError, match="no target 'x'"):
        Folder().read(tmp_path, target="x", missing="error")
    with pytest.raises(DataError, match="no such folder"):
        Folder().read(tmp_path / "absent", target=None, missing="error")
