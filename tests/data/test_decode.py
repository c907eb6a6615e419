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
from harness.data.decode import load_images, resize_crop, resize_crop_each
from harness.data.face_drawing import draw
from harness.data.face_model import cast, imagine
from harness.data.image_file import decode
from harness.data.resize import resize
from harness.errors import DataError

from .conftest import encoded, picture, write_images

MEAN = (0.0, 0.0, 0.0)
BILINEAR = Image.Resampling.BILINEAR
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


def with_torchvision(image: np.ndarray, crop: int, resize: int, interpolation: str) -> np.ndarray:
    """torchvision's transforms of a Pillow image, which Pillow resizes."""
    mode = InterpolationMode(interpolation)
    return np.asarray(v2.Compose([v2.Resize(resize, mode), v2.CenterCrop(crop)])(Image.fromarray(image)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop"), [(64, 64), (73, 64), (232, 224), (50, 61)])
def test_equals_torchvision(size: tuple[int, int], interpolation: str, resize: int, crop: int) -> None:
    image = np.array(picture(1, size))
    result = resize_crop(image, preprocess(crop, resize, interpolation))
    assert result.shape == (3, crop, crop)
    assert result.dtype == torch.uint8
    assert np.array_equal(
        result.permute(1, 2, 0).numpy(), with_torchvision(image, crop, resize, interpolation)
    )


RESIZED = [(short, mode) for short in (64, 128, 224, 256, 448) for mode in ("bilinear", "bicubic")]


def assert_close_to_pillow(images: list[np.ndarray], short: int, interpolation: str) -> None:
    """One level apart in at most 1e-5 of the values."""
    differ = 0
    for image in images:
        result = resize_crop(image, preprocess(short, short, interpolation)).permute(1, 2, 0).numpy()
        apart = np.abs(result.astype(int) - with_torchvision(image, short, short, interpolation))
        assert apart.max() <= 1
        differ += np.count_nonzero(apart)
    assert differ / (len(images) * 3 * short**2) <= 1e-5


def faces_of_celebas_size(count: int) -> list[np.ndarray]:
    who, which = cast(0, (count, 0, 0))
    drawn = [Image.fromarray(pixels) for pixels in draw(imagine(0, who, which))]
    # every other one with hard edges
    ways = (Image.Resampling.BICUBIC, Image.Resampling.NEAREST)
    return [np.array(image.resize((178, 218), ways[i % 2])) for i, image in enumerate(drawn)]


@pytest.mark.parametrize(("short", "interpolation"), RESIZED)
def test_drawn_faces_are_resized_as_by_pillow(short: int, interpolation: str) -> None:
    assert_close_to_pillow(faces_of_celebas_size(24), short, interpolation)


def two_levels(count: int, size: tuple[int, int], apart: int = 112) -> np.ndarray:
    """``[count, height, width, 3]``: between values 112 levels apart 224 columns of 178 have many ties."""
    return np.random.default_rng(0).choice(np.array([60, 60 + apart], np.uint8), (count, *size[::-1], 3))


def test_ties_are_rounded_as_by_pillow() -> None:
    images = two_levels(3, (178, 218))
    expected = np.stack([np.asarray(Image.fromarray(i).resize((224, 274), BILINEAR)) for i in images])
    assert np.array_equal(resize(images, (274, 224), "bilinear"), expected)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    alone = torch.nn.functional.interpolate(pixels, (274, 224), mode="bilinear", antialias=True)
    assert (alone.permute(0, 2, 3, 1).numpy() != expected).mean() > 1e-2, "nothing had to be mended"


@pytest.mark.parametrize("size", [(178, 218), (178, 178), (218, 178), (177, 217), (89, 109), (100, 120)])
@pytest.mark.parametrize("side", [(224, 274), (224, 224), (274, 224), (178, 274), (300, 300)])
def test_any_size_is_resized_as_by_pillow(size: tuple[int, int], side: tuple[int, int]) -> None:
    """Steps of 48 levels: where torch may not be trusted with them, Pillow has to do it."""
    images = two_levels(1, size, apart=48)
    expected = np.asarray(Image.fromarray(images[0]).resize(side, BILINEAR))
    assert np.array_equal(resize(images, side[::-1], "bilinear")[0], expected)


def test_together_as_alone() -> None:
    images = [*two_levels(20, (178, 218)), *two_levels(2, (64, 64)), *two_levels(1, (178, 218))]
    for image in (*images[3:5], images[20]):
        image[:] = 0
    together = list(resize_crop_each(iter(images), preprocess(224, 224)))
    assert len(together) == len(images)
    for image, pixels in zip(images, together, strict=True):
        assert np.array_equal(resize_crop(image, preprocess(224, 224)).permute(1, 2, 0).numpy(), pixels)
    assert list(resize_crop_each([], preprocess(224, 224))) == []


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
@pytest.mark.parametrize(("short", "interpolation"), RESIZED)
def test_faces_are_resized_as_by_pillow(short: int, interpolation: str) -> None:
    files = sorted(Path(CELEBA or "", "img_align_celeba").glob("*.jpg"))
    files = files[:: len(files) // 300][:300]
    assert len(files) >= 200
    assert_close_to_pillow([decode(f.read_bytes(), f.name) for f in files], short, interpolation)
