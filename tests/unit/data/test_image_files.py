"""Inspection of image files: the truth is OpenCV's decoding and Pillow's header."""

import io
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from icemaker.data.image_files import ImageInfo, inspect, inspect_all
from icemaker.data.image_headers import exif_orientation
from icemaker.errors import StopRequested


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 24)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    if mode.endswith("A"):
        image.putalpha(100)
    return image


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def assert_as_decoded(info: ImageInfo, path: Path) -> None:
    # Not imread: OpenCV 4.14 fails on a TIFF of orientation 5..8 there, and training decodes from memory too.
    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert (info.height, info.width) == decoded.shape[:2]
    assert info.problem is None
    assert info.size_bytes == path.stat().st_size


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_sizes_are_upright(tmp_path: Path, file_format: str, orientation: int) -> None:
    """EXIF orientation gives the size that OpenCV decodes to, and the stored size is that without it."""
    path = tmp_path / "image"
    if file_format == "TIFF":
        picture().save(path, file_format, tiffinfo={0x0112: orientation})
    else:
        picture().save(path, file_format, exif=with_orientation(orientation).tobytes())
    info = inspect(path)
    assert_as_decoded(info, path)
    assert (info.stored_width, info.stored_height) == (40, 24)
    assert info.orientation == orientation


@pytest.mark.parametrize("file_format", ["BMP", "GIF", "PPM"])
def test_formats_without_exif_are_read(tmp_path: Path, file_format: str) -> None:
    """The other formats that OpenCV decodes."""
    path = tmp_path / "image"
    picture().save(path, file_format)
    assert_as_decoded(inspect(path), path)


@pytest.mark.parametrize(
    ("mode", "file_format", "kind"),
    [
        ("RGB", "JPEG", "rgb"),
        ("L", "JPEG", "grey"),
        ("CMYK", "JPEG", "cmyk"),
        ("RGB", "PNG", "rgb"),
        ("RGBA", "PNG", "alpha"),
        ("LA", "PNG", "alpha"),
        ("P", "PNG", "palette"),
        ("1", "PNG", "grey"),
        ("I;16", "PNG", "16-bit"),
        ("I;16", "TIFF", "16-bit"),
        ("CMYK", "TIFF", "cmyk"),
        ("L", "BMP", "grey"),
        ("P", "GIF", "palette"),
        ("RGBA", "WEBP", "alpha"),
    ],
)
def test_the_kind_of_pixels_is_told(tmp_path: Path, mode: str, file_format: str, kind: str) -> None:
    """What is not plain RGB is named."""
    path = tmp_path / "image"
    image = Image.fromarray(np.zeros((24, 40), np.uint16)) if mode == "I;16" else picture(mode)
    image.save(path, file_format)
    info = inspect(path)
    assert info.kind == kind
    assert_as_decoded(info, path)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}])
def test_whole_jpegs_are_whole(tmp_path: Path, options: dict[str, Any]) -> None:
    """Baseline and progressive JPEGs have no problem."""
    path = tmp_path / "image.jpg"
    picture(size=(300, 200)).save(path, **options)
    assert_as_decoded(inspect(path), path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_file_is_told(tmp_path: Path, file_format: str, share: float) -> None:
    """A file that ends too early is truncated, wherever it ends."""
    data = encoded(picture(size=(300, 200)), file_format)
    path = tmp_path / "image"
    path.write_bytes(data[: int(len(data) * share)])
    assert inspect(path).problem == "truncated"


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image(tmp_path: Path) -> None:
    """A truncated JPEG whose embedded preview is whole is truncated all the same."""
    thumbnail = encoded(picture(size=(16, 16)), "JPEG")
    payload = b"Exif\0\0MM\0*\0\0\0\x08\0\0" + thumbnail
    data = encoded(picture(size=(300, 200)), "JPEG")
    marker = b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload
    path = tmp_path / "image.jpg"
    path.write_bytes(data[:2] + marker + data[2:])
    assert_as_decoded(inspect(path), path)
    path.write_bytes(data[:2] + marker + data[2 : len(data) // 2])
    assert inspect(path).problem == "truncated"


@pytest.mark.parametrize("length", [1, 100, 70_000, 3_000_000])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_what_a_camera_appends_is_no_truncation(tmp_path: Path, file_format: str, length: int) -> None:
    """Bytes after the end of the image, few or many, are harmless."""
    path = tmp_path / "image"
    path.write_bytes(encoded(picture(), file_format) + b"\0" * length)
    info = inspect(path)
    assert (info.width, info.height, info.problem) == (40, 24, None)


def test_a_header_beyond_the_first_block_is_found(tmp_path: Path) -> None:
    """A JPEG with hundreds of kilobytes of profiles before its frame is read, and EXIF after them too."""
    data = encoded(picture(), "JPEG", exif=with_orientation(6).tobytes())
    filler = b"\xff\xe2\xff\xff" + b"\0" * 65533
    path = tmp_path / "image.jpg"
    path.write_bytes(data[:2] + filler * 5 + b"\xff" + data[2:])
    info = inspect(path)
    assert (info.width, info.height, info.orientation, info.problem) == (24, 40, 6, None)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"not an image at all", "not an image (JPEG, PNG, BMP, GIF, PPM, TIFF or WebP)"),
        (b"\xff\xd8\xff\xe0\x00\x04ab??????", "not an image (damaged JPEG header)"),
        (b"\xff\xd8\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00", "not an image (damaged JPEG header)"),
        (b"\xff\xd8\xff\xd9abcdef", "truncated"),
        (b"\xff\xd8\xff\xc0\x00\x11\x0c\x00\x10\x00\x10\x03abcdefghi", "a JPEG of 12 bits, which OpenCV does not read"),
        (b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x00\x00\x10\x03abcdefghi", "not an image (damaged JPEG header)"),
        (b"\xff\xd8\xff\xc0\x00\x11\x08\x00", "truncated"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "not an image (damaged PNG header)"),
        (b"\x89PNG\r\n\x1a\n\0", "truncated"),
        (b"BM" + b"\0" * 60, "not an image (JPEG, PNG, BMP, GIF, PPM, TIFF or WebP)"),
        (b"P6 20000 20000 255\n", "too large: 20000 x 20000 pixels, more than 178,956,970"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:30],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_damaged_files_are_told(tmp_path: Path, data: bytes, problem: str) -> None:
    """What is wrong stands in the problem, and nothing raises."""
    path = tmp_path / "image"
    path.write_bytes(data)
    found = inspect(path).problem
    assert found == problem or (problem.startswith("too large") and found == "too large")


def test_too_many_pixels_are_refused(tmp_path: Path) -> None:
    """A PNG may claim any size; it is believed and refused before anybody decodes it."""
    data = bytearray(encoded(picture(), "PNG"))
    data[16:24] = (20_000).to_bytes(4, "big") * 2
    path = tmp_path / "image.png"
    path.write_bytes(data)
    info = inspect(path)
    assert info.problem == "too large: 20000 x 20000 pixels, more than 178,956,970"


def test_what_is_no_readable_file_is_told(tmp_path: Path) -> None:
    """Missing files, folders, pipes and impossible names are problems, not exceptions."""
    os.mkfifo(tmp_path / "pipe")
    assert inspect(tmp_path / "absent.jpg").problem == "missing"
    assert inspect(tmp_path / "absent" / "a.jpg").problem == "missing"
    assert inspect(tmp_path).problem == "not a file"
    assert inspect(tmp_path / "pipe").problem == "not a file"
    assert str(inspect("a\0b").problem).startswith("unreadable")
    assert str(inspect("a" * 5000).problem).startswith("unreadable (File name too long")


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("value", [0, 1, 3, 8, 9, 65535])
def test_orientation_is_read_in_both_byte_orders(order: Any, value: int) -> None:
    """Values outside of 1..8 say nothing."""
    entry = b"".join(part.to_bytes(n, order) for part, n in ((0x0112, 2), (3, 2), (1, 4), (value, 2), (0, 2)))
    mark = b"II" if order == "little" else b"MM"
    block = mark + (42).to_bytes(2, order) + (8).to_bytes(4, order) + (1).to_bytes(2, order) + entry
    assert exif_orientation(block) == (value if 1 <= value <= 8 else 0)


@pytest.mark.parametrize(
    "block", [b"", b"II", b"XX*\0\x08\0\0\0\0\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_exif_says_nothing(block: bytes) -> None:
    """Cut and nonsensical blocks do not raise."""
    assert exif_orientation(block) == 0


def test_exif_is_found_where_opencv_finds_it(tmp_path: Path) -> None:
    """Behind XMP, in a second EXIF block, and behind the pixels of a PNG."""
    plain = encoded(picture(), "JPEG")
    blocks = [b"http://ns.adobe.com/xap/1.0/\0<x/>"]
    blocks += [b"Exif\0\0" + exif.tobytes()[6:] for exif in (Image.Exif(), with_orientation(6), with_orientation(3))]
    markers = [b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block for block in blocks]
    png = encoded(picture(), "PNG", exif=with_orientation(6).tobytes())
    start = png.index(b"eXIf") - 4
    chunk = png[start : start + 12 + int.from_bytes(png[start : start + 4], "big")]
    end = len(png) - 12
    late = png[:start] + png[start + len(chunk) : end] + chunk + png[end:]
    by_chance = png[:start] + png[start + len(chunk) : end] + chunk[:-1] + b"?" + png[end:]
    for data in (plain[:2] + b"".join(markers) + plain[2:], late):
        path = tmp_path / "image"
        path.write_bytes(data)
        assert inspect(path).orientation == 6
        assert_as_decoded(inspect(path), path)
    path.write_bytes(by_chance)
    assert inspect(path).orientation == 1


def test_many_files_keep_their_order(tmp_path: Path) -> None:
    """Threads do not mix up the answers."""
    paths = []
    for index in range(300):
        path = tmp_path / f"{index}.png"
        if index % 7:
            Image.new("L", (index + 1, 5)).save(path)
        paths.append(path)
    infos = inspect_all(paths)
    assert [info.width for info in infos] == [index + 1 if index % 7 else 0 for index in range(300)]
    assert infos == [inspect(path) for path in paths]


def test_inspection_stops_when_asked(tmp_path: Path) -> None:
    """A stop request ends it between chunks."""
    asked = []

    def should_stop() -> bool:
        asked.append(True)
        return len(asked) > 3

    with pytest.raises(StopRequested, match="reading files"):
        inspect_all([tmp_path / "a.jpg"] * 10_000, should_stop=should_stop)
    assert len(asked) < 10_000 / 64
