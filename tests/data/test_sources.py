"""The same images as a folder, Parquet, Arrow and tar shards; the libraries themselves as oracles."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.contracts import Dataset, SampleTable
from harness.data.audit import audit_data
from harness.data.content import content_digests
from harness.data.decode import load_images
from harness.data.folder import Folder
from harness.data.hf import HuggingFace
from harness.data.hub import Hub
from harness.data.image_file import read_file
from harness.data.members import file_of, split_member
from harness.data.prepare import prepare_data
from harness.data.shards import WebDataset, expand
from harness.errors import DataError, HarnessError, UnknownName, UsageError
from harness.progress import Progress
from harness.spec import DataSpec
from harness.testing.datasets import check_dataset

from .conftest import encoded, picture, write_images

datasets = pytest.importorskip("datasets")
webdataset = pytest.importorskip("webdataset")
pyarrow = pytest.importorskip("pyarrow")

Add = Callable[[tarfile.TarFile, str, bytes], None]


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def write_shard(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            add(archive, name, data)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", [f"{c}/{i:03d}.jpg" for c in ("cat", "dog", "owl") for i in range(40)])
    return tmp_path / "images"


@pytest.fixture
def plain(folder: Path) -> SampleTable:
    return Folder().read(folder, target=None, missing="error")


def as_hf(table: SampleTable) -> datasets.Dataset:
    """The samples as the datasets library holds them."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["ant", *table.class_names]),
            "bright": datasets.Value("bool"),
            "identity": datasets.Value("int64"),
            "width": datasets.Value("int32"),
        }
    )
    rows = {
        "image": [{"bytes": read_file(p), "path": i} for p, i in zip(table.paths, table.ids, strict=True)],
        "label": (table.labels + 1).tolist(),
        "bright": [i % 3 == 0 for i in range(len(table))],
        "identity": [i // 2 for i in range(len(table))],
        "width": [20] * len(table),
    }
    return datasets.Dataset.from_dict(rows, features=features)


def as_shards(table: SampleTable, where: Path, count: int = 3) -> Path:
    """The samples as the webdataset library writes them."""
    where.mkdir()
    for number, rows in enumerate(np.array_split(np.arange(len(table)), count)):
        with webdataset.TarWriter(str(where / f"part-{number:03d}.tar")) as writer:
            for i in rows:
                key = table.ids[i].removesuffix(".jpg")
                words = {"bright": bool(i % 3 == 0), "identity": int(i // 2), "caption": ["a", "b"]}
                label = table.class_names[table.labels[i]]
                data = read_file(table.paths[i])
                writer.write({"__key__": key, "jpg": data, "cls": label.encode(), "json": words})
    return where


@pytest.fixture(params=["parquet", "arrow", "parquets", "saved", "tar"])
def other(request: pytest.FixtureRequest, plain: SampleTable, tmp_path: Path) -> tuple[Dataset, Path]:
    """The images of ``plain`` in another layout, and its reader."""
    root, hf = tmp_path / request.param, as_hf(plain) if request.param != "tar" else None
    if hf is None:
        return WebDataset(), as_shards(plain, root)
    if request.param == "parquet":
        hf.to_parquet(root.with_suffix(".parquet"), batch_size=32)
        return HuggingFace(), root.with_suffix(".parquet")
    if request.param == "arrow":
        hf.save_to_disk(root)
        return HuggingFace(), next(root.glob("*.arrow"))
    if request.param == "saved":
        hf.save_to_disk(root, num_shards=3)
        (root / "cache-0123.arrow").write_bytes(b"a stale cache")
        return HuggingFace(), root
    root.mkdir()
    for number in range(2):
        hf.shard(2, number, contiguous=True).to_parquet(root / f"{number}.parquet")
    return HuggingFace(), root


def digests(table: SampleTable) -> tuple[str, str]:
    with ThreadPoolExecutor(2) as pool:
        found = content_digests(table, pool)
        assert content_digests(table, pool) == content_digests(table, pool, reread=True) == found
    return found.samples, found.images


def test_the_same_images_are_the_same_samples(plain: SampleTable, other: tuple[Dataset, Path]) -> None:
    """Ids, labels and bytes: one digest whatever they lie in."""
    reader, path = other
    table = reader.read(path, target=None, missing="error")
    assert table.class_names == plain.class_names
    assert table.labels.tolist() == plain.labels.tolist()
    if any(path.rglob("*.arrow")) or path.suffix == ".arrow":  # save_to_disk keeps the last part of a path
        assert digests(table)[1] == digests(plain)[1]
    else:
        assert digests(table) == digests(plain)
        assert table.ids == plain.ids
    assert table.attributes.keys() == {"bright"}
    assert table.attributes["bright"].tolist() == [int(i % 3 == 0) for i in range(120)]
    assert table.groups == tuple(str(i // 2) for i in range(120))
    assert all(split_member(p) is not None and Path(file_of(p)).is_file() for p in table.paths)
    check_dataset(reader, path)


def test_pixels_and_audit_are_the_same(folder: Path, other: tuple[Dataset, Path]) -> None:
    from harness.contracts import Preprocess

    look = Preprocess(16, 16, (0.5,) * 3, (0.5,) * 3)
    here = prepare_data(DataSpec("folder"), folder, 2)
    there = prepare_data(DataSpec(other[0].name), other[1], 2)
    assert here.images_digest == there.images_digest
    assert here.split.test.tolist() == there.split.test.tolist()
    pixels = [load_images(d.table.paths, look, workers=3) for d in (here, there)]
    assert pixels[0].equal(pixels[1])
    found = [audit_data(d, 2, Progress(quiet=True)) for d in (here, there)]
    assert np.array_equal(found[0].looks.plain, found[1].looks.plain)
    assert found[0].near == found[1].near


def test_rows_are_those_of_the_datasets_library(plain: SampleTable, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    as_hf(plain).to_parquet(file, batch_size=17)
    theirs = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "hf"))
    ours = HuggingFace().read(file, target="label", missing="error")
    names = theirs.features["label"].names
    assert [names[i] for i in theirs["label"]] == [ours.class_names[i] for i in ours.labels]
    for row in np.random.default_rng(0).permutation(len(ours))[:30].tolist():
        with Image.open(io.BytesIO(read_file(ours.paths[row]))) as image:
            assert np.array_equal(np.asarray(image), np.asarray(theirs[row]["image"]))


def test_samples_are_those_of_the_webdataset_library(plain: SampleTable, tmp_path: Path) -> None:
    root = as_shards(plain, tmp_path / "shards")
    ours = WebDataset().read(root / "part-{000..002}.tar", target=None, missing="error")
    urls = [str(p) for p in sorted(root.glob("*.tar"))]
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert [s["__key__"] + ".jpg" for s in theirs] == list(ours.ids)
    assert [s["cls"].decode() for s in theirs] == [ours.class_names[i] for i in ours.labels]
    assert [s["jpg"] for s in theirs] == [read_file(p) for p in ours.paths]


@pytest.mark.parametrize(
    "pattern", ["a-{000..012}.tar", "{8..11}", "{train,val}-{00..01}.tar", "plain.tar", "{3..1}x{a,b,}"]
)
def test_ranges_are_those_of_a_shell(pattern: str) -> None:
    import braceexpand

    assert expand(pattern) == list(braceexpand.braceexpand(pattern))


def test_a_known_shard_is_not_read_again_and_a_changed_one_is(plain: SampleTable, tmp_path: Path) -> None:
    root = as_shards(plain, tmp_path / "shards")
    first = WebDataset().read(root, target=None, missing="error")
    with tarfile.open(root / "part-000.tar", "a") as archive:
        add(archive, "cat/999.jpg", encoded(picture(5), "JPEG"))
        add(archive, "cat/999.cls", b"cat")
    again = WebDataset().read(root, target=None, missing="error")
    assert set(again.ids) - set(first.ids) == {"cat/999.jpg"}
    for memory in (tmp_path / "cache" / "shards").iterdir():
        memory.write_text(memory.read_text().replace("owl", "elk"))  # its seal doesn't fit any more
    assert WebDataset().read(root, target=None, missing="error").class_names == ("cat", "dog", "owl")


def test_splits_by_file_name(plain: SampleTable, tmp_path: Path) -> None:
    whole, expected = as_hf(plain).shuffle(seed=1), {}
    for name, split, rows in (
        ("train-00000-of-00001", "train", range(80)),
        ("validation-00000-of-00001", "val", range(80, 100)),
        ("test-00000-of-00001", "test", range(100, 120)),
    ):
        (tmp_path / "hub" / "data").mkdir(parents=True, exist_ok=True)
        part = whole.select(rows).cast_column("image", datasets.Image(decode=False))
        part.to_parquet(tmp_path / "hub" / "data" / f"{name}.parquet")
        expected |= dict.fromkeys((image["path"] for image in part["image"]), split)
    table = HuggingFace().read(tmp_path / "hub", target=None, missing="error")
    assert dict(zip(table.ids, table.official or (), strict=True)) == expected
    saved = datasets.DatasetDict({"train": whole.select(range(90)), "test": whole.select(range(90, 120))})
    saved.save_to_disk(tmp_path / "saved")
    table = HuggingFace().read(tmp_path / "saved", target=None, missing="error")
    assert table.official == ("train",) * 90 + ("test",) * 30


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([3, 3, 10, 1] * 5, ("1", "3", "10")),
        ([True, False] * 10, ("not kind", "kind")),
        (["b", "a"] * 10, ("a", "b")),
        (["10", "9"] * 10, ("9", "10")),
    ],
)
def test_labels_of_any_kind(tmp_path: Path, values: list[object], classes: tuple[str, ...]) -> None:
    images = [encoded(picture(i), "PNG") for i in range(20)]
    rows = {"kind": values, "img": images, "score": [0.5] * 20}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "a.parquet")
    table = HuggingFace().read(tmp_path / "a.parquet", target="kind", missing="error")
    assert table.class_names == classes
    names = [table.class_names[i] for i in table.labels]
    wanted = {True: "kind", False: "not kind"} if isinstance(values[0], bool) else {}
    assert names == [wanted.get(v, str(v)) for v in values]
    assert table.ids == tuple(f"a.parquet/{i}" for i in range(20))


def test_paths_in_a_column_are_files_beside_it(folder: Path, plain: SampleTable) -> None:
    rows = {"image": list(plain.ids), "label": [plain.class_names[i] for i in plain.labels]}
    datasets.Dataset.from_dict(rows).to_parquet(folder / "list.parquet")
    table = HuggingFace().read(folder / "list.parquet", target=None, missing="error")
    assert digests(table) == digests(plain)
    Path(plain.paths[4]).unlink()
    with pytest.raises(DataError, match="row 4: no image"):
        HuggingFace().read(folder / "list.parquet", target=None, missing="error")
    left = HuggingFace().read(folder / "list.parquet", target=None, missing="skip")
    assert (len(left), left.missing) == (119, (plain.ids[4],))


def test_rows_without_image_or_label(plain: SampleTable, tmp_path: Path) -> None:
    rows = as_hf(plain).cast_column("image", datasets.Image(decode=False)).to_dict()
    rows["image"][7], rows["label"][9] = None, -1
    datasets.Dataset.from_dict(rows, features=as_hf(plain).features).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"row 7: no image \(2 of 120"):
        HuggingFace().read(tmp_path / "a.parquet", target=None, missing="error")
    table = HuggingFace().read(tmp_path / "a.parquet", target=None, missing="skip")
    assert (len(table), len(table.missing)) == (118, 2)
    assert digests(table)[1]


JPEG = encoded(picture(), "JPEG")


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"a.jpg": JPEG, "a.cls": b"0", "b.jpg": JPEG}, "s.tar, key b: no label"),
        ({"a.jpg": JPEG, "a.cls": b"0", "b.cls": b"1"}, "s.tar, key b: no image"),
        ({"a.jpg": JPEG, "a.png": JPEG, "a.cls": b"0"}, "s.tar, key a: two images for one key: a.jpg, a.png"),
        ({"a.jpg": JPEG, "a.cls": b"0", "a.CLS": b"0"}, "s.tar, key a: two members .cls"),
        ({"a.jpg": JPEG, "a.json": b"{"}, "s.tar, key a: its .json can't be read"),
        ({"a.jpg": JPEG, "a.json": b"[1]"}, "s.tar, key a: its .json is no object"),
        ({"a.jpg": JPEG, "a.json": b'{"x": 1.5}'}, "s.tar, key a: no label"),
        ({"a.jpg": JPEG, "a.cls": b"\xff"}, "s.tar, a.cls: not UTF-8"),
        ({"a.jpg": JPEG, "a.cls": b"0"}, "only one class, '0'"),
        ({"readme": b"", "__meta__/x.json": b"{}", "._a.jpg": JPEG}, "holds no samples"),
        ({}, "holds no samples"),
    ],
)
def test_malformed_shards(tmp_path: Path, members: dict[str, bytes], fault: str) -> None:
    shard = write_shard(tmp_path / "s.tar", members)
    with pytest.raises(DataError, match=fault) as raised:
        WebDataset().read(shard, target=None, missing="error")
    assert "\n" not in str(raised.value)


def test_a_cut_or_damaged_shard_is_named_at_every_length(tmp_path: Path) -> None:
    """Cut anywhere, or with any header damaged: an error of one line, never fewer samples."""
    names = {f"{i}.{kind}": data for i in range(3) for kind, data in (("jpg", JPEG), ("cls", b"%d" % i))}
    whole = write_shard(tmp_path / "whole.tar", names).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as archive:
        headers = [m.offset for m in archive]
        end = archive.offset
    shard = tmp_path / "s.tar"
    tried = 0
    for length in [*range(0, end, 256), end, end + 100]:
        shard.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"s\.tar"):
            WebDataset().read(shard, target=None, missing="error")
        tried += 1
    for header in headers:
        for place in (0, 130, 150):
            damaged = bytearray(whole)
            damaged[header + place] ^= 0x41
            shard.write_bytes(bytes(damaged))
            with pytest.raises(DataError, match=r"s\.tar"):
                WebDataset().read(shard, target=None, missing="error")
            tried += 1
    print(f"{tried} cut or damaged shards, each named")
    shard.write_bytes(whole)
    assert len(WebDataset().read(shard, target=None, missing="error")) == 3


def test_a_member_that_is_no_image_is_named_by_shard_and_key(tmp_path: Path) -> None:
    from harness.contracts import Preprocess

    members = {"x/a.jpg": JPEG, "x/a.cls": b"0", "x/b.jpg": b"not an image", "x/b.cls": b"1"}
    table = WebDataset().read(write_shard(tmp_path / "s.tar", members), target=None, missing="error")
    with pytest.raises(DataError, match=r"s\.tar!/\d+\+12/x/b\.jpg: not an image"):
        load_images(table.paths, Preprocess(8, 8, (0.5,) * 3, (0.5,) * 3), workers=2)


def test_targets_and_attributes_of_json(tmp_path: Path) -> None:
    members = {}
    for i in range(8):
        told = {"Smiling": i % 2, "Hat": i < 3, "group": f"p{i // 2}", "label": "xy"[i % 2], "size": 3}
        members |= {f"{i}.webp": JPEG, f"{i}.json": json.dumps(told).encode(), f"{i}.txt": b"no label"}
    shard = write_shard(tmp_path / "s.tar", members)
    table = WebDataset().read(shard, target=None, missing="error")
    assert (table.target, table.class_names) == ("label", ("x", "y"))
    smiling = WebDataset().read(shard, target="Smiling", missing="error")
    assert smiling.labels.tolist() == [0, 1] * 4
    assert smiling.attributes.keys() == {"Hat"}
    assert smiling.groups == tuple(f"p{i // 2}" for i in range(8))
    with pytest.raises(UnknownName, match="Smiling"):
        WebDataset().read(shard, target="smiling", missing="error")


def test_keys_that_begin_anew_in_each_shard(tmp_path: Path) -> None:
    for number in range(2):
        members = {"0.jpg": JPEG, "0.cls": b"%d" % number}
        write_shard(tmp_path / "s" / f"{number}.tar", members)
    table = WebDataset().read(tmp_path / "s", target=None, missing="error")
    assert table.ids == ("0.tar/0.jpg", "1.tar/0.jpg")


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("s-{000..001}.tar", "s-001.tar: no such shard"),
        ("s-{a..b}.tar", "is no range"),
        ("s-{0..99999999}.tar", "more than"),
        ("gz.tar", "compressed: unpack it"),
        ("empty", "holds no .tar files"),
        ("a.zip", "expected a .tar file"),
    ],
)
def test_shards_that_are_not_there(tmp_path: Path, path: str, fault: str) -> None:
    write_shard(tmp_path / "s-000.tar", {"a.jpg": JPEG, "a.cls": b"0"})
    with tarfile.open(tmp_path / "gz.tar", "w:gz") as archive:
        add(archive, "a.jpg", JPEG)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=fault):
        WebDataset().read(tmp_path / path, target=None, missing="error")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_malformed_tables(plain: SampleTable, tmp_path: Path, kind: str) -> None:
    """Damage anywhere: one line that names the file, or what is in it."""
    file = tmp_path / f"a.{kind}"
    if kind == "parquet":
        as_hf(plain).to_parquet(file)
    else:
        as_hf(plain).save_to_disk(tmp_path / "saved")
        file.write_bytes(next((tmp_path / "saved").glob("*.arrow")).read_bytes())
    whole = file.read_bytes()
    for data in (b"", b"PAR1", whole[: len(whole) // 2], whole[:-1], b"\0" * 200, bytes(8) + whole[8:]):
        file.write_bytes(data)
        with pytest.raises(HarnessError) as raised:
            digests(HuggingFace().read(file, target=None, missing="error"))
        assert str(file) in str(raised.value)
        assert "\n" not in str(raised.value)


def test_tables_that_do_not_say_enough(plain: SampleTable, tmp_path: Path) -> None:
    images = [encoded(picture(i), "PNG") for i in range(4)]

    def read(rows: dict[str, object], target: str | None = None) -> SampleTable:
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "a.parquet")
        return HuggingFace().read(tmp_path / "a.parquet", target=target, missing="error")

    with pytest.raises(DataError, match="which column is the label"):
        read({"image": images, "x": [1, 2, 1, 2], "y": [1, 2, 3, 4]})
    with pytest.raises(DataError, match="no column holds images"):
        read({"x": [1.0] * 4, "label": [1, 2, 1, 2]})
    with pytest.raises(DataError, match="several columns hold images: left, right"):
        read({"left": images, "right": images, "label": [1, 2, 1, 2]})
    with pytest.raises(DataError, match="holds float: expected whole numbers"):
        read({"image": images, "label": [0.5, 1, 0, 1]})
    with pytest.raises(UnknownName, match="x"):
        read({"image": images, "x": [1, 2, 1, 2]}, target="X")
    as_hf(plain).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: has no column 'x'"):
        HuggingFace().read(tmp_path, target="x", missing="error")
    with pytest.raises(DataError, match=r"holds no \.parquet or .arrow files"):
        HuggingFace().read(tmp_path / "images", target=None, missing="error")


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"transfer-harness\[hf\]"):
        HuggingFace().read(tmp_path / "a.parquet", target=None, missing="error")
    with pytest.raises(UsageError, match=r"transfer-harness\[hf\]"):
        Hub().read(Path("owner/name"), target=None, missing="error")
