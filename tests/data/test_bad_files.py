"""Files that are damaged, hostile or of another kind: handled rightly, or one line that names the file."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from harness.backbones.weights import read_weight_file
from harness.checkpoint import read_resume
from harness.data.attributes import read_attributes, read_pairs
from harness.data.content import file_digests
from harness.data.image_file import decode, read_file
from harness.data.table import Table
from harness.errors import DataError, HarnessError, RecordError, UsageError, WeightsError
from harness.heatmaps import read_heatmaps
from harness.store import RunFolder
from harness.suites import load_suite

PIXELS = np.arange(20 * 24 * 3, dtype=np.uint8).reshape(20, 24, 3)
PICTURE = Image.fromarray(PIXELS)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, content: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


JPEG, PNG = encoded(PICTURE, "JPEG"), encoded(PICTURE, "PNG")
TURNED = Image.Exif()
TURNED[0x0112] = 6

BAD_IMAGES = {
    "empty": b"",
    "one byte": b"\xff",
    "zeros": bytes(4000),
    "text": b"not an image\n" * 50,
    "html": b"<!doctype html><html><body>404</body></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "zip": b"PK\x03\x04" + bytes(200),
    "pickle": pickle.dumps([1, 2, 3]),
    "jpeg cut in its header": JPEG[:40],
    "jpeg cut in half": JPEG[: len(JPEG) // 2],
    "jpeg without its end": JPEG[:-2],
    "jpeg of zeros after its header": JPEG[:200] + bytes(len(JPEG)),
    "jpeg that claims 65000 x 65000": JPEG.replace(
        struct.pack(">HH", 20, 24), struct.pack(">HH", 65000, 65000)
    ),
    "png of one column": encoded(Image.new("RGB", (1, 60_000)), "PNG"),
    "jpeg of one row": encoded(Image.new("RGB", (60_000, 1)), "JPEG"),
    "jpeg of no height": JPEG.replace(struct.pack(">HH", 20, 24), struct.pack(">HH", 0, 24)),
    "png cut": PNG[: len(PNG) // 2],
    "png with another checksum": PNG[:45] + bytes([PNG[45] ^ 1]) + PNG[46:],
    "png bomb": png_of(50_000, 50_000, zlib.compress(bytes(1000))),
    "png of no width": png_of(0, 10),
    "png without pixels": png_of(10, 10),
    "png named jpeg, cut": PNG[:60],
    "gif cut": encoded(PICTURE, "GIF")[:30],
    "webp cut": encoded(PICTURE, "WEBP")[:40],
    "tiff that points outside": encoded(PICTURE, "TIFF")[:60],
    "bmp cut": encoded(PICTURE, "BMP")[:100],
    "32-bit floats": encoded(PICTURE.convert("F"), "TIFF"),
    "32-bit integers": encoded(PICTURE.convert("I"), "TIFF"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning", "ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_a_bad_image_is_one_line_that_names_it(kind: str) -> None:
    with pytest.raises(DataError, match=r"folder/x\.jpg") as caught:
        decode(BAD_IMAGES[kind], "folder/x.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "device", "sparse"])
def test_what_never_ends_or_never_begins_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 2**31)
    with pytest.raises(DataError, match=r"x\.jpg.*(a pipe|2\.0 GiB)"):
        read_file(str(path))
    with ThreadPoolExecutor(1) as pool, pytest.raises(DataError, match=r"x\.jpg.*(a pipe|2\.0 GiB)"):
        file_digests([str(path)], pool)


ODD_IMAGES = {
    "png named jpg": PNG,
    "cmyk": encoded(PICTURE.convert("CMYK"), "JPEG"),
    "grey": encoded(PICTURE.convert("L"), "JPEG"),
    "16 bit": encoded(Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) << 8), "PNG"),
    "palette": encoded(PICTURE.convert("P"), "PNG"),
    "transparent": encoded(PICTURE.convert("RGBA"), "PNG"),
    "one bit": encoded(PICTURE.convert("1"), "PNG"),
    "animated": encoded(PICTURE, "GIF", save_all=True, append_images=[PICTURE.convert("L").convert("RGB")]),
    "with rubbish behind": JPEG + b"rubbish" * 100,
    "one pixel": encoded(PICTURE.crop((0, 0, 1, 1)), "PNG"),
}


@pytest.mark.parametrize("kind", ODD_IMAGES)
def test_an_odd_image_is_what_pillow_makes_of_it(kind: str) -> None:
    found = decode(ODD_IMAGES[kind], kind)
    image = Image.open(io.BytesIO(ODD_IMAGES[kind]))
    if kind == "16 bit":  # which Pillow would clip to white
        expected = np.repeat(PIXELS[:, :, :1], 3, axis=2)
    else:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(found, expected)


def test_a_picture_is_turned_as_its_exif_data_say() -> None:
    assert decode(encoded(PICTURE, "PNG", exif=TURNED), "x").shape == (24, 20, 3)


BAD_ATTRIBUTES = {
    "empty": b"",
    "no count": b"Male Smiling\n1.jpg 1 1\n",
    "count only": b"3\n",
    "too few rows": b"3\nMale\n1.jpg 1\n",
    "a column too many": b"1\nMale\n1.jpg 1 1\n",
    "a column too few": b"1\nMale Smiling\n1.jpg 1\n",
    "another value": b"1\nMale\n1.jpg 2\n",
    "a word": b"1\nMale\n1.jpg yes\n",
    "twice": b"2\nMale\n1.jpg 1\n1.jpg 1\n",
    "attribute twice": b"1\nMale Male\n1.jpg 1 1\n",
    "not text": b"1\nMale\n\xff\xfe\x00.jpg 1\n",
    "an attribute's name that is no text": b"1\nMa\xffle\n1.jpg 1\n",
    "binary": bytes(range(256)),
    "huge count": b"9" * 5000 + b"\nMale\n1.jpg 1\n",
}


@pytest.mark.parametrize("kind", BAD_ATTRIBUTES)
def test_a_bad_attribute_file_is_one_line_that_names_it(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "list_attr_celeba.txt"
    file.write_bytes(BAD_ATTRIBUTES[kind])
    with pytest.raises(DataError, match=r"list_attr_celeba\.txt") as caught:
        read_attributes(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"1.jpg\n", b"1.jpg a b\n", b"2.jpg 1\n", b"\xff\xfe 1\n"])
def test_a_bad_file_of_pairs_is_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "identity.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"identity\.txt"):
        read_pairs(tmp_path / "identity.txt", ["1.jpg"])


BAD_TABLES = {
    "empty": b"",
    "header only": b"path,label\n",
    "no label": b"path,kind\na.png,1\n",
    "no path": b"where,label\na.png,1\n",
    "ragged": b"path,label\na.png,1,2\n",
    "one class": b"path,label\na.png,1\nb.png,1\n",
    "no name": b"path,label\n,1\nb.png,2\n",
    "empty label": b"path,label\na.png,\nb.png,2\n",
    "twice": b"path,label\na.png,1\na.png,2\n",
    "column twice": b"path,label,label\na.png,1,1\n",
    "not UTF-8": b"path,label\n\xff\xfe.png,1\n",
    "NUL": b"path,label\na\x00.png,1\nb.png,2\n",
    "other split": b"path,label,split\na.png,1,tset\nb.png,2,train\n",
    "quote left open, by which rows go": b'path,label\na.png,1\nb.png,"2\nc.png,3\nd.png,4\n',
    "quote left open": b'path,label\n"a.png,1\nb.png,2\n',
    "huge field": b"path,label\n" + b"a" * 200_000 + b",1\n",
    "absent images": b"path,label\na.png,1\nb.png,2\n",
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_a_bad_table_is_one_line_that_names_it(tmp_path: Path, kind: str) -> None:
    (tmp_path / "list.csv").write_bytes(BAD_TABLES[kind])
    with pytest.raises((DataError, UsageError), match=r"list\.csv") as caught:
        Table().read(tmp_path / "list.csv", target=None, missing="error")
    assert "\n" not in str(caught.value)


SOUND = (
    'name = "x"\n[data]\nname = "x"\nlimit = 5\n[grid]\nbackbones = ["x"]\nstrategies = ["x"]\nlrs = [1]\n'
)
BAD_SUITES = {
    "empty": "",
    "no TOML": "[data\n",
    "list": "name = [1, 2]\n",
    "no grid": 'name = "x"\n[data]\nname = "faces"\n',
    "a number for a list": 'name = "x"\n[data]\nname = "faces"\n[grid]\nbackbones = 3\n',
    "unknown key": 'name = "x"\nwings = 2\n',
    "a number without end": "name = " + "9" * 5000,
    "lists without end": "name = " + "[" * 5000,
    "an endless rate": SOUND.replace("[1]", "[1" + "0" * 400 + "]"),
    "a negative limit": SOUND.replace("5", "-5"),
    "another optimizer": SOUND + '[train]\noptimizer = "x"\n',
    "nested": "name = {" + "a = {" * 3 + "}" * 4 + "\n",
}


@pytest.mark.parametrize("kind", BAD_SUITES)
def test_a_bad_suite_is_one_line_that_names_it(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "x.suite.toml"
    file.write_text(BAD_SUITES[kind])
    with pytest.raises(HarnessError, match=r"x\.suite\.toml") as caught:
        load_suite(file)
    assert "\n" not in str(caught.value)


class Evil:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.marker, "executed"))


def weight_files(folder: Path) -> dict[str, Path]:
    marker = folder / "marker"
    contents = {
        "empty.pth": b"",
        "text.pth": b"weights",
        "evil.pth": pickle.dumps(Evil(marker)),
        "empty.safetensors": b"",
        "header.safetensors": b"\xff" * 8 + b"{}",
        "cut.safetensors": struct.pack("<Q", 50) + b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    torch.save({"w": torch.zeros(2), "x": Evil(marker)}, folder / "evil-zip.pth")
    torch.save([torch.zeros(2)], folder / "list.pth")
    torch.save({"w": "text"}, folder / "strings.pth")
    return {p.name: p for p in folder.iterdir()}


WEIGHTS = ("empty.pth", "text.pth", "evil.pth", "evil-zip.pth", "list.pth", "strings.pth",
           "empty.safetensors", "header.safetensors", "cut.safetensors", "absent.pth")  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_bad_weight_file_is_one_line_and_nothing_in_it_runs(tmp_path: Path, name: str) -> None:
    file = weight_files(tmp_path).get(name, tmp_path / name)
    with pytest.raises(WeightsError, match=name) as caught:
        read_weight_file(file)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "marker").exists(), "pickled code was executed"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"format": 1}', b"\xff", b"[" * 100_000])
def test_a_bad_record_is_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(RecordError, match=r"result\.json") as caught:
        RunFolder(tmp_path).result()
    assert "\n" not in str(caught.value)
    (tmp_path / "gradcam.json").write_bytes(content)
    with pytest.raises(RecordError, match=r"gradcam\.json"):
        read_heatmaps(tmp_path, {})


def test_a_resume_file_that_is_whole_but_not_the_harness_s_own_is_not_gone_on_from(tmp_path: Path) -> None:
    for metadata in ({}, {"conditions": "c"}, {"conditions": "c", "digest": "0" * 64, "epoch": "one"}):
        save_file({"tensor/w": torch.zeros(2)}, tmp_path / "resume.safetensors", metadata)
        with pytest.raises(RecordError, match=r"resume\.safetensors"):
            read_resume(RunFolder(tmp_path), torch.device("cpu"), "c")


def test_there_are_sixty_of_them() -> None:
    listed = (BAD_IMAGES, ODD_IMAGES, BAD_ATTRIBUTES, BAD_TABLES, BAD_SUITES, WEIGHTS)
    count = sum(map(len, listed)) + 18  # pairs, records, files to go on from, endless ones
    print(f"bad files: {count} tried")
    assert count >= 60
