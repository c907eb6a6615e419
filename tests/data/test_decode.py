from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode, v2

from harness.contracts import Preprocess
from harness.data.decode import decode, load_images, resize_crop
from harness.errors import DataError

from .conftest import encoded, picture, write_images

MEAN = (0.0, 0.0, 0.0)
PICTURE = picture(3, (37, 51))
EXIF_TURNED = Image.Exif()
EXIF_TURNED[0x0112] = 6
EXIF_PLAIN = Image.Exif()
EXIF_PLAIN[0x010F] = "a camera"
CELEBA = os.environ.get("HARNESS_CELEBA_ROOT")
real = pytest.mark.skipif(not CELEBA, reason="HARNESS_CELEBA_ROOT is not set")


def with_pillow(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def preprocess(size: int, resize: int, interpolation: str = "bilinear") -> Preprocess:
    return Preprocess(size, resize, MEAN, MEAN, interpolation)  # type: ignore[arg-type]


FILES = {
    "jpeg": encoded(PICTURE, "JPEG"),
    "jpeg 4:4:4": encoded(PICTURE, "JPEG", subsampling=0, quality=95),
    "jpeg 4:2:2": encoded(PICTURE, "JPEG", subsampling=1),
    "jpeg progressive": encoded(PICTURE, "JPEG", progressive=True),
    "jpeg in RGB": encoded(PICTURE, "JPEG", keep_rgb=True),
    "jpeg grey": encoded(PICTURE.convert("L"), "JPEG"),
    "jpeg CMYK": encoded(PICTURE.convert("CMYK"), "JPEG"),
    "jpeg turned": encoded(PICTURE, "JPEG", exif=EXIF_TURNED),
    "jpeg with EXIF": encoded(PICTURE, "JPEG", exif=EXIF_PLAIN),
    "jpeg with a comment": encoded(PICTURE, "JPEG", comment=b"\xff\xe1" * 9),
    "png": encoded(PICTURE, "PNG"),
    "png turned": encoded(PICTURE, "PNG", exif=EXIF_TURNED),
    "png grey": encoded(PICTURE.convert("L"), "PNG"),
    "png bits": encoded(PICTURE.convert("1"), "PNG"),
    "png palette": encoded(PICTURE.convert("P"), "PNG"),
    "png palette, transparent": encoded(PICTURE.convert("P"), "PNG", transparency=3),
    "png alpha": encoded(Image.merge("RGBA", (*PICTURE.split(), PICTURE.split()[0])), "PNG"),
    "png grey, alpha": encoded(PICTURE.convert("LA"), "PNG"),
    "bmp": encoded(PICTURE, "BMP"),
    "tiff": encoded(PICTURE, "TIFF"),
    "webp": encoded(PICTURE, "WEBP"),
    "gif": encoded(PICTURE, "GIF"),
    "gif animated": encoded(PICTURE, "GIF", save_all=True, append_images=[picture(4, PICTURE.size)]),
}


@pytest.mark.parametrize("kind", FILES)
def test_equals_pillow(kind: str) -> None:
    image = decode(FILES[kind], kind)
    expected = with_pillow(FILES[kind])
    assert image.dtype == np.uint8
    assert image.shape == expected.shape == ((37, 51, 3) if "turned" in kind else (51, 37, 3))
    assert np.array_equal(image, expected)


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_sixteen_bit_grey_is_scaled(byte_order: str) -> None:
    values = np.arange(0, 65536, 4096, dtype=np.uint16).reshape(4, 4)
    kind = "TIFF" if byte_order == ">" else "PNG"
    data = encoded(Image.frombytes("I;16B", (4, 4), values.astype(">u2").tobytes()), kind)
    image = decode(data, "grey")
    assert image.shape == (4, 4, 3)
    assert (image == (values >> 8).astype(np.uint8)[:, :, None]).all()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", FILES)
def test_truncated_anywhere(kind: str) -> None:
    """A cut file is an error, or all of its picture came before the cut."""
    data = FILES[kind]
    whole = decode(data, kind)
    for length in (*range(1, len(data) - 40, 47), *range(len(data) - 40, len(data))):
        try:
            image = decode(data[:length], "some.file")
        except DataError as error:
            named = "can't decode image some.file: " in str(error)
            assert named
        else:
            assert not kind.startswith("jpeg")
            assert np.array_equal(image, whole)


def test_a_jpeg_cut_before_its_end_mark_is_truncated() -> None:
    with pytest.raises(DataError, match="Premature end"):
        decode(FILES["jpeg"][:-2], "x.jpg")


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\0" * 3, bytes(500)])
def test_no_image(data: bytes) -> None:
    with pytest.raises(DataError, match=r"can't decode image folder/x.jpg: ") as caught:
        decode(data, "folder/x.jpg")
    assert "\n" not in str(caught.value)


def test_float_pixels_are_refused() -> None:
    with pytest.raises(DataError, match="mode F"):
        decode(encoded(PICTURE.convert("F"), "TIFF"), "x.tiff")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["jpeg", "png", "jpeg turned"])
@pytest.mark.parametrize("bound", [1000, 500])
def test_more_pixels_than_pillow_allows(monkeypatch: pytest.MonkeyPatch, kind: str, bound: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", bound)
    with pytest.raises(DataError, match=r"can't decode image x: .*(exceed|decompression bomb)"):
        decode(FILES[kind], "x")


def test_a_jpeg_that_claims_to_be_huge() -> None:
    data = bytearray(FILES["jpeg"])
    frame = data.index(b"\xff\xc0") + 5
    data[frame : frame + 4] = struct.pack(">HH", 65000, 65000)
    with pytest.raises(DataError, match="65000 x 65000 pixels exceed"):
        decode(bytes(data), "x.jpg")


SIZES = [(178, 218), (218, 178), (64, 64), (500, 333), (301, 87), (20, 24), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop"), [(64, 64), (73, 64), (232, 224), (50, 61)])
def test_equals_torchvision(size: tuple[int, int], interpolation: str, resize: int, crop: int) -> None:
    image = np.array(picture(1, size))
    oracle = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(resize, interpolation=InterpolationMode(interpolation), antialias=True),
            v2.CenterCrop(crop),
        ]
    )
    result = resize_crop(image, preprocess(crop, resize, interpolation))
    assert result.shape == (3, crop, crop)
    assert result.dtype == torch.uint8
    assert torch.equal(result, oracle(image))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_close_to_pillow(interpolation: str) -> None:
    image = picture(1, (178, 218))
    resample = Image.Resampling[interpolation.upper()]
    expected = np.asarray(image.resize((112, 137), resample))[12:124]
    result = resize_crop(np.array(image), preprocess(112, 112, interpolation)).permute(1, 2, 0).numpy()
    assert np.abs(result.astype(int) - expected).max() <= 1


def test_nothing_is_resampled_at_the_size_it_has() -> None:
    image = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    result = resize_crop(image, preprocess(178, 178))
    assert np.array_equal(result.permute(1, 2, 0).numpy(), image[20:198])
    smaller = resize_crop(image, preprocess(100, 178))
    assert np.array_equal(smaller.permute(1, 2, 0).numpy(), image[59:159, 39:139])


def test_load_images_on_any_number_of_threads(tmp_path: Path) -> None:
    names = [f"{i:03d}.jpg" for i in range(40)]
    write_images(tmp_path, names)
    paths = [str(tmp_path / n) for n in names]
    done: list[int] = []
    images = load_images(paths, preprocess(16, 18), 1, done.append)
    assert images.shape == (40, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert sum(done) == 40
    assert torch.equal(images, load_images(paths, preprocess(16, 18), 3))
    each = [resize_crop(decode(Path(p).read_bytes(), p), preprocess(16, 18)) for p in paths]
    assert torch.equal(images, torch.stack(each))
    assert load_images([], preprocess(16, 18), 2).shape == (0, 3, 16, 16)


def test_load_images_names_what_is_unreadable(tmp_path: Path) -> None:
    names = [f"{i:03d}.jpg" for i in range(40)]
    write_images(tmp_path, names)
    paths = [str(tmp_path / n) for n in names]
    Path(paths[9]).write_bytes(b"")
    with pytest.raises(DataError, match=r"can't decode image .*009.jpg: the file is empty"):
        load_images(paths, preprocess(16, 18), 2)
    for path in paths[20:28]:
        Path(path).unlink()
    with pytest.raises(DataError, match="can't decode 9 of 40 images: ") as caught:
        load_images(paths, preprocess(16, 18), 2)
    message = str(caught.value)
    assert "009.jpg" in message
    assert "023.jpg" in message
    assert "024.jpg" not in message


@real
@pytest.mark.realdata
def test_faces_equal_pillow() -> None:
    files = sorted(Path(CELEBA or "", "img_align_celeba").glob("*.jpg"))[::6]
    assert files
    for file in files:
        data = file.read_bytes()
        assert np.array_equal(decode(data, file.name), with_pillow(data)), file.name


@real
@pytest.mark.realdata
@pytest.mark.parametrize(("interpolation", "share"), [("bilinear", 1e-2), ("bicubic", 1e-2)])
def test_faces_resized_equal_torchvision(interpolation: str, share: float) -> None:
    files = sorted(Path(CELEBA or "", "img_align_celeba").glob("*.jpg"))[::60]
    oracle = v2.Compose(
        [v2.ToImage(), v2.Resize(224, InterpolationMode(interpolation), antialias=True), v2.CenterCrop(224)]
    )
    differ = 0
    for file in files:
        image = decode(file.read_bytes(), file.name)
        result = resize_crop(image, preprocess(224, 224, interpolation))
        assert torch.equal(result, oracle(image)), file.name
        pillow = np.asarray(v2.Compose(oracle.transforms[1:])(Image.fromarray(image)))
        difference = np.abs(result.permute(1, 2, 0).numpy().astype(int) - pillow)
        assert difference.max() <= 2
        differ += int((difference > 0).sum())
    assert differ / (len(files) * 3 * 224 * 224) < share
