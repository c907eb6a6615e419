from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.contracts import Dataset
from harness.data.table import Table
from harness.errors import DataError, UnknownName, UsageError

from .conftest import write_images

TEXT = """path,label,group,split,glasses,age,hat
a/1.jpg,dog,p1,train,1,30,-1
a/2.jpg,cat,p1,valid,0,31,1
b/3.jpg,dog,p2,test,0,1,1
"""
IMAGES = ["a/1.jpg", "a/2.jpg", "b/3.jpg"]


def write(folder: Path, text: str, name: str = "data.csv") -> Path:
    write_images(folder, IMAGES)
    (folder / name).write_text(text)
    return folder / name


def test_reads_every_column(tmp_path: Path) -> None:
    table = Table().read(write(tmp_path, TEXT), target=None, missing="error")
    assert isinstance(Table(), Dataset)
    assert table.ids == tuple(IMAGES)
    assert all(Path(p).is_file() for p in table.paths)
    assert table.class_names == ("cat", "dog")
    assert table.labels.tolist() == [1, 0, 1]
    assert table.labels.dtype == np.int64
    assert table.groups == ("p1", "p1", "p2")
    assert table.official == ("train", "val", "test")
    assert set(table.attributes) == {"glasses", "hat"}
    assert table.attributes["hat"].dtype == np.int8
    assert table.attributes["hat"].tolist() == [0, 1, 1]


@pytest.mark.parametrize("path_column", ["path", "filename", "image", "file"])
@pytest.mark.parametrize("label_column", ["label", "class", "target"])
def test_names_of_the_columns(tmp_path: Path, path_column: str, label_column: str) -> None:
    text = f"{label_column}\t{path_column}\n10\ta/1.jpg\n9\ta/2.jpg\n"
    table = Table().read(write(tmp_path, text, "data.tsv"), target=None, missing="error")
    assert table.class_names == ("9", "10")
    assert table.labels.tolist() == [1, 0]


def test_target_names_the_label_column(tmp_path: Path) -> None:
    file = write(tmp_path, TEXT)
    table = Table().read(file, target="hat", missing="error")
    assert table.target == "hat"
    assert table.class_names == ("-1", "1")
    assert table.labels.tolist() == [0, 1, 1]
    with pytest.raises(UnknownName, match="unknown label column 'hats'; did you mean 'hat'"):
        Table().read(file, target="hats", missing="error")


def test_absent_images(tmp_path: Path) -> None:
    file = write(tmp_path, TEXT)
    (tmp_path / "a/2.jpg").unlink()
    with pytest.raises(DataError, match=r"data.csv: 1 of 3 listed images are absent \(a/2.jpg\); --miss"):
        Table().read(file, target=None, missing="error")
    table = Table().read(file, target=None, missing="skip")
    assert table.ids == ("a/1.jpg", "b/3.jpg")
    assert table.missing == ("a/2.jpg",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (TEXT.replace(",0,31,1", ",0,31"), "line 3: 6 columns, expected 7"),
        (TEXT.replace("a/2.jpg,cat", "a/2.jpg,"), "line 3: column 'label' is empty"),
        (TEXT.replace("a/2.jpg", ""), "line 3: no path"),
        (TEXT.replace("a/2.jpg", "a//1.jpg"), "line 3: names a/1.jpg a second time"),
        (TEXT.replace("test", "tset"), "line 4: the split 'tset'"),
        (TEXT.replace("p2", ""), "line 4: column 'group' is empty"),
        (TEXT.replace("cat", "dog"), "only one class, 'dog'"),
        (TEXT.replace("label", "kind"), "line 1: no column for the labels"),
        (TEXT.replace("path", "where"), "line 1: no column for the paths"),
        (TEXT.replace("age", "hat"), "line 1: names the column 'hat' twice"),
        (TEXT.replace("b/3", '"b/3'), "line 4: not a row of a table: unexpected end of data"),
        (TEXT.replace("30,", '"3\n0",').replace("dog,p2", ",p2"), "line 5: column 'label' is empty"),
        ("path,label\n", "lists no images"),
        ("", "lists no images"),
    ],
)
def test_malformed_tables(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(DataError, match=fault) as caught:
        Table().read(write(tmp_path, text), target=None, missing="error")
    assert "data.csv" in str(caught.value)


def test_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs the path"):
        Table().read(None, target=None, missing="error")
    with pytest.raises(DataError, match=r"expected a .csv or .tsv file"):
        Table().read(tmp_path, target=None, missing="error")
    with pytest.raises(DataError, match=r"absent.csv: can't be read"):
        Table().read(tmp_path / "absent.csv", target=None, missing="error")
    (tmp_path / "binary.csv").write_bytes(b"path,label\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="not a table"):
        Table().read(tmp_path / "binary.csv", target=None, missing="error")
