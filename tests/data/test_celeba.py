from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from harness.contracts import DataCard, Dataset
from harness.data.attributes import read_attributes
from harness.data.celeba import CelebA, CelebA30k, read_celeba
from harness.errors import DataError, UnknownName, UsageError

from .conftest import FILES, NAMES, ROWS, celeba_csv, celeba_text, write_images


def test_the_readers_are_datasets() -> None:
    assert isinstance(CelebA(), Dataset)
    assert isinstance(CelebA30k(), Dataset)
    assert CelebA().default_target == CelebA30k().default_target == "Smiling"
    assert CelebA().default_split == CelebA30k().default_split == "stratified"


def test_reads_every_column(celeba: Path) -> None:
    table = CelebA().read(celeba, target=None, missing="error")
    assert table.ids == FILES
    assert [Path(p).name for p in table.paths] == list(FILES)
    assert all(Path(p).is_file() for p in table.paths)
    assert table.labels.dtype == np.int64
    assert table.labels.tolist() == [1, 1, 0, 0, 1, 0]
    assert table.class_names == ("not Smiling", "Smiling")
    assert set(table.attributes) == set(NAMES)
    for column, name in enumerate(NAMES):
        assert table.attributes[name].dtype == np.int8
        assert table.attributes[name].tolist() == [int(row[column] == 1) for row in ROWS]
    assert table.groups == ("10", "10", "11", "11", "12", "12")
    assert table.official == ("train", "val", "test") * 2
    assert table.missing == ()
    assert not table.card.redistributable
    assert "gender" in table.card.not_for


def test_any_attribute_is_a_target(celeba: Path) -> None:
    table = CelebA().read(celeba, target="Male", missing="error")
    assert table.class_names == ("female", "male")
    assert table.labels.tolist() == [1, 0, 0, 1, 1, 0]
    assert CelebA().read(celeba, target="Eyeglasses", missing="error").class_names == (
        "not Eyeglasses",
        "Eyeglasses",
    )


@pytest.mark.parametrize(
    ("file", "first", "images"),
    [
        ("list_attr_celeba.csv", "image_id", "img_align_celeba/img_align_celeba"),
        ("list_attr_celeba.csv", "image_id", "img_align_celeba"),
        ("CelebA30k.csv", "filename", "images/CelebA30k"),
        ("CelebA30k.csv", "filename", "CelebA30k"),
        ("CelebA30k.csv", "filename", "images"),
        ("CelebA30k.csv", "filename", "."),
    ],
)
@pytest.mark.parametrize("reader", [CelebA(), CelebA30k()])
def test_other_layouts_hold_the_same(
    tmp_path: Path, file: str, first: str, images: str, reader: Dataset
) -> None:
    write_images(tmp_path / images, FILES)
    (tmp_path / file).write_text(celeba_csv(first))
    (tmp_path / "list_eval_partition.csv").write_text(
        "image_id,partition\n" + "".join(f"{f},{i % 3}\n" for i, f in enumerate(FILES))
    )
    for root in (tmp_path, tmp_path / file):
        table = reader.read(root, target="Smiling", missing="error")
        assert table.ids == FILES
        assert table.labels.tolist() == [1, 1, 0, 0, 1, 0]
        assert table.official == ("train", "val", "test") * 2
        assert table.groups is None
        assert all(Path(p).is_file() for p in table.paths)


def test_parent_of_the_celeba_folder(tmp_path: Path) -> None:
    write_images(tmp_path / "celeba/img_align_celeba", FILES)
    (tmp_path / "celeba/list_attr_celeba.txt").write_text(celeba_text())
    assert CelebA().read(tmp_path, target=None, missing="error").ids == FILES


def test_zeros_quotes_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = celeba_csv("image_id").replace("-1", "0").replace("000001.jpg", '"000001.jpg"')
    file = tmp_path / "list_attr_celeba.csv"
    file.write_text(text + "\n\n", encoding="utf-8-sig")
    read = read_attributes(file)
    assert read.files == FILES
    assert read.attributes == NAMES
    assert read.values.tolist() == [[int(v == 1) for v in row] for row in ROWS]


def test_first_30k_are_chosen_by_name(tmp_path: Path) -> None:
    files = ("030001.jpg", "000002.jpg", "030000.jpg", "202599.jpg", "000001.jpg", "other.jpg")
    write_images(tmp_path / "img_align_celeba", ["000002.jpg", "000001.jpg", "030001.jpg"])
    (tmp_path / "list_attr_celeba.txt").write_text(celeba_text(files=files))
    with pytest.raises(DataError, match=r"1 of 3 listed images are absent \(030000.jpg\)"):
        CelebA30k().read(tmp_path, target=None, missing="error")
    table = CelebA30k().read(tmp_path, target=None, missing="skip")
    assert table.ids == ("000002.jpg", "000001.jpg")
    assert table.labels.tolist() == [1, 1]
    assert table.missing == ("030000.jpg",)


def test_absent_images(celeba: Path) -> None:
    for name in FILES[1:5]:
        (celeba / "img_align_celeba" / name).unlink()
    with pytest.raises(DataError, match="--missing skip") as caught:
        CelebA().read(celeba, target=None, missing="error")
    assert "4 of 6" in str(caught.value)
    assert "(000002.jpg, 000003.jpg, 000004.jpg, ...)" in str(caught.value)
    table = CelebA().read(celeba, target=None, missing="skip")
    assert table.ids == (FILES[0], FILES[5])
    assert table.missing == FILES[1:5]
    assert table.labels.tolist() == [1, 0]
    assert table.groups == ("10", "12")
    assert table.official == ("train", "test")
    assert table.attributes["Male"].tolist() == [1, 0]


def test_no_images_left(celeba: Path) -> None:
    for name in FILES:
        (celeba / "img_align_celeba" / name).unlink()
    with pytest.raises(DataError, match="no images left"):
        CelebA().read(celeba, target=None, missing="skip")
    (celeba / "list_attr_celeba.txt").write_text(celeba_text(files=[f"1{f}" for f in FILES]))
    (celeba / "identity_CelebA.txt").unlink()
    (celeba / "list_eval_partition.txt").unlink()
    with pytest.raises(DataError, match=r"lists none of 000001.jpg to 030000.jpg"):
        CelebA30k().read(celeba, target=None, missing="skip")


def test_a_subset_of_attributes_with_another_card(celeba: Path) -> None:
    card = DataCard("drawn", "drawn", "drawn", "MIT", redistributable=True)
    table = read_celeba(celeba, "Eyeglasses", "error", card, first=4)
    assert table.card is card
    assert table.ids == FILES[:4]


def test_unknown_target(celeba: Path) -> None:
    with pytest.raises(UnknownName, match="unknown attribute 'Smilin'; did you mean 'Smiling'"):
        CelebA().read(celeba, target="Smilin", missing="error")


def test_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'celeba30k' needs the path"):
        CelebA30k().read(None, target=None, missing="error")
    with pytest.raises(DataError, match="no such folder"):
        CelebA().read(tmp_path / "absent", target=None, missing="error")
    with pytest.raises(DataError, match="non-commercial research only") as caught:
        CelebA().read(tmp_path, target=None, missing="error")
    for part in ("list_attr_celeba.txt", "list_attr_celeba.csv", "CelebA30k.csv", "projects/CelebA.html"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


GOOD = celeba_text().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD.replace("000003.jpg -1", "000003.jpg"), "line 5: 3 columns, expected 4"),
        (GOOD.replace("000003.jpg", "000003.jpg 1"), "line 5: 5 columns, expected 4"),
        (GOOD.replace("\n000003", "\n\n000003"), "line 5: 0 columns"),
        (GOOD.replace("000002.jpg  1", "000002.jpg  2"), "line 4: the value '2' is not -1, 0 or 1"),
        (GOOD.replace("000002.jpg  1", "000002.jpg +1"), "line 4: the value '\\+1'"),
        (GOOD.replace("000002.jpg  1", "000002.jpg 01"), "line 4: the value '01'"),
        (GOOD.replace("000004", "000002"), "line 6: names '000002.jpg' a second time"),
        (GOOD.replace("6\n", "7\n", 1), "line 1: announces 7 rows, but there are 6"),
        (GOOD.replace("6\n", "six\n", 1), "line 1: expected the number of rows"),
        (GOOD.replace("Male", "Smiling"), "line 2: names the attribute 'Smiling' twice"),
        ("0\nSmiling\n", "lists no images"),
        ("", "line 1"),
        ("3\n\n", "line 2: expected the names"),
    ],
)
def test_malformed_attribute_file(celeba: Path, text: str, fault: str) -> None:
    (celeba / "list_attr_celeba.txt").write_text(text)
    with pytest.raises(DataError, match=fault) as caught:
        CelebA().read(celeba, target=None, missing="error")
    assert "list_attr_celeba.txt" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (celeba_csv("name"), "line 1: the first column is 'name'"),
        (celeba_csv("image_id").replace("000002.jpg,1", "000002.jpg,"), "line 3: an empty cell"),
        (celeba_csv("image_id").replace("000002.jpg,1,", "000002.jpg,"), "line 3: 3 columns, expected 4"),
        (celeba_csv("image_id").replace("000002.jpg,1", "000002.jpg,x"), "line 3: the value 'x'"),
        (celeba_csv("image_id").replace("000002.jpg,1,", ",000002.jpg,1,"), "line 3: an empty cell"),
        (celeba_csv("image_id").replace("000002.jpg,1,", "000002.jpg,,1,"), "line 3: an empty cell"),
        (celeba_csv("image_id").replace("-1,-1\n", "-1,-1,\n", 1), "line 4: an empty cell"),
        (
            celeba_csv("image_id").replace("000002.jpg", '000"002.jpg'),
            "line 3: a quote that isn't around a cell",
        ),
        (celeba_csv("image_id").removesuffix("-1\n") + '"-1\t"', r"line 7: the value '-1\\t' is not"),
        (celeba_csv("image_id").replace("Male,Smiling", '"Male,Smiling"'), "line 2: 4 columns, expected 3"),
        (celeba_csv("image_id").replace("Male", '"Male'), "line 1: not a row of a CSV"),
        (celeba_csv("image_id").replace("000002.jpg,1", "000002.jpg\r,1"), "line 3: a carriage return"),
        (celeba_csv("image_id").replace("000002.jpg", "000\0002.jpg"), "line 3: a NUL"),
    ],
)
def test_malformed_csv(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "list_attr_celeba.csv").write_text(text, newline="")
    with pytest.raises(DataError, match=fault):
        CelebA().read(tmp_path, target=None, missing="error")


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("identity_CelebA.txt", "000001.jpg\n", "line 1: 1 columns, expected 2"),
        ("identity_CelebA.txt", "000001.jpg 1\n", "has no line for 000002.jpg"),
        ("identity_CelebA.txt", "000001.jpg 1\n" * 2, "line 2: names '000001.jpg' a second time"),
        ("identity_CelebA.txt", "".join(f"{f} 1 " for f in FILES), "line 1: 12 columns, expected 2"),
        ("list_eval_partition.txt", "".join(f"{f} 3\n" for f in FILES), "partition of 000001.jpg is '3'"),
    ],
)
def test_malformed_companion_files(celeba: Path, file: str, text: str, fault: str) -> None:
    (celeba / file).write_text(text)
    with pytest.raises(DataError, match=fault) as caught:
        CelebA().read(celeba, target=None, missing="error")
    assert file in str(caught.value)


def test_companion_files_that_are_quoted_csvs(celeba: Path) -> None:
    (celeba / "list_eval_partition.txt").unlink()
    lines = [f'"{f}","{i % 3}"' for i, f in enumerate(FILES)]
    (celeba / "list_eval_partition.csv").write_text("\n".join(['"image_id","partition"', *lines]))
    assert CelebA().read(celeba, target=None, missing="error").official == ("train", "val", "test") * 2


def test_companion_files_may_be_in_another_order(celeba: Path) -> None:
    lines = (celeba / "identity_CelebA.txt").read_text().splitlines()
    (celeba / "identity_CelebA.txt").write_text("\n".join(reversed(lines)))
    table = CelebA().read(celeba, target=None, missing="error")
    assert table.groups == ("10", "10", "11", "11", "12", "12")


def test_the_whole_list_is_read_fast(tmp_path: Path) -> None:
    rows, columns = 202_599, 40
    values = np.where(np.random.default_rng(0).random((8, columns)) < 0.5, "-1", " 1")
    lines = [" ".join(row) for row in values]
    body = "\n".join([f"{i:06d}.jpg {lines[i % 8]}" for i in range(1, rows + 1)])
    file = tmp_path / "list_attr_celeba.txt"
    file.write_text(f"{rows}\n{' '.join(f'A{i}' for i in range(columns))}\n{body}\n")
    times = []
    for _ in range(2):  # the better of two: other processes may have the machine's cache
        start = time.process_time()
        read = read_attributes(file)
        times.append(time.process_time() - start)
    assert min(times) < 1.5
    assert read.values.shape == (rows, columns)
    assert (read.values[6] == (values[7] == " 1")).all()
