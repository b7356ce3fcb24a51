"""Every decoder path gives the same upright 8-bit RGB pixels; Pillow is the second source."""

import io
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from icemaker.data.images import UndecodableImageError, decode_image

RNG = np.random.default_rng(0)
PICTURE = cv2.resize(RNG.integers(0, 255, (12, 16, 3), dtype=np.uint8), (321, 241), interpolation=cv2.INTER_CUBIC)


def encoded(mode: str = "RGB", form: str = "JPEG", orientation: int = 1, **options: Any) -> bytes:
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).convert(mode).save(buffer, form, exif=exif.tobytes(), **options)
    return buffer.getvalue()


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2}, {"quality": 30}]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_equals_pillow(mode: str, options: dict[str, Any]) -> None:
    """Colour and grey JPEGs of every kind decode to the pixels that Pillow sees."""
    data = encoded(mode, quality=options.pop("quality", 90), **options)
    np.testing.assert_array_equal(decode_image(data, size=(321, 241)), pillow(data))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_every_exif_orientation_becomes_upright(form: str, orientation: int) -> None:
    """The eight orientations end as the picture a person sees."""
    data = encoded(form=form, orientation=orientation)
    expected = pillow(data)
    image = decode_image(data, size=expected.shape[1::-1])
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("longest_side", [40, 80, 100, 160, 161, 400])
@pytest.mark.parametrize("orientation", [1, 6])
def test_reduced_decode_is_never_smaller_than_asked(longest_side: int, orientation: int) -> None:
    """A half, quarter or eighth of the size, both decoders alike, and at least the pixels that are needed."""
    data = encoded(orientation=orientation, quality=95)
    size = (321, 241) if orientation == 1 else (241, 321)
    image = decode_image(data, size=size, longest_side=longest_side)
    assert max(image.shape[:2]) >= min(longest_side, 321)
    assert max(image.shape[:2]) < max(2 * longest_side + 2, 322) or longest_side < 321 / 8
    divisor = round(321 / max(image.shape[:2]))
    flags = {
        1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8,
    }  # fmt: skip
    opencv = cv2.imdecode(np.frombuffer(data, np.uint8), flags[divisor])[..., ::-1]
    np.testing.assert_array_equal(image, opencv)


def test_cmyk_jpeg_becomes_rgb() -> None:
    """A CMYK JPEG is near what Pillow makes of it."""
    data = encoded("CMYK", quality=95)
    image = decode_image(data, size=(321, 241))
    assert np.abs(image.astype(int) - pillow(data)).mean() < 3


def test_png_with_alpha_palette_and_16_bit() -> None:
    """Alpha is dropped, a palette looked up, 16 bits become 8 by their upper byte."""
    np.testing.assert_array_equal(decode_image(encoded("RGBA", "PNG"), size=(321, 241)), PICTURE)
    palette = encoded("P", "PNG")
    np.testing.assert_array_equal(decode_image(palette, size=(321, 241)), pillow(palette))
    deep = cv2.imencode(".png", (PICTURE[..., ::-1].astype(np.uint16) << 8) | 0x7F)[1].tobytes()
    np.testing.assert_array_equal(decode_image(deep, size=(321, 241)), PICTURE)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0 nothing", b"\x89PNG\r\n\x1a\n", b"text" * 99])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    """Damaged beginnings of images, and no image at all, raise the same error."""
    with pytest.raises(UndecodableImageError, match="cannot be decoded"):
        decode_image(data, size=(10, 10), longest_side=5)


@pytest.mark.parametrize("orientation", [1, 6])
def test_jpeg_that_ends_early_is_refused(orientation: int) -> None:
    """Pixels that are not there are not filled with grey."""
    data = encoded(orientation=orientation)
    with pytest.raises(UndecodableImageError, match=r"(?i)cannot be decoded .*premature end"):
        decode_image(data[: len(data) // 2] + b"\xff\xd9", size=(321, 241))


def test_fault_that_costs_no_pixels_is_taken() -> None:
    """Bytes between the markers, as some cameras leave them, do not cost the image."""
    data = encoded()
    position = data.index(b"\xff\xdb")
    spoiled = data[:position] + b"\x00\x00" + data[position:]
    np.testing.assert_array_equal(decode_image(spoiled, size=(321, 241)), pillow(data))


def test_wrong_size_does_not_break_the_decoder() -> None:
    """A size that the file does not have gives the file's own pixels."""
    assert decode_image(encoded(), size=(9999, 9999), longest_side=9999).shape == (241, 321, 3)
