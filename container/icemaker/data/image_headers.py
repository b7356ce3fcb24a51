"""Headers of image files: size, orientation and kind of pixels, read from an open file. Decodes no pixels.

JPEG and PNG are walked here, as a truncated file is told by what follows its header; Pillow reads the others.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import Literal, NamedTuple

Kind = Literal["rgb", "grey", "16-bit", "cmyk", "alpha", "palette", "unknown"]

BLOCK = 1 << 16
_JPEG_MAGIC = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_JPEG_KINDS: dict[int, Kind] = {1: "grey", 3: "rgb", 4: "cmyk"}
# Start-of-frame markers are C0..CF without DHT (C4), JPG (C8) and DAC (CC).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_PNG_KINDS: dict[int, Kind] = {0: "grey", 2: "rgb", 3: "palette", 4: "alpha", 6: "alpha"}
_PILLOW_FORMATS = ("BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP")
_PILLOW_KINDS: dict[str, Kind] = {
    "1": "grey", "L": "grey", "I": "16-bit", "F": "16-bit", "P": "palette", "CMYK": "cmyk",
    "LA": "alpha", "PA": "alpha", "RGBA": "alpha", "RGBa": "alpha",
}  # fmt: skip


class Header(NamedTuple):
    """What the header of a file says.

    Attributes:
        width, height: Pixels as stored.
        orientation: EXIF orientation, 1..8.
        end: Bytes that stand at the end of a whole file, or None.
        start: Where to look for them: not before this position.
    """

    width: int
    height: int
    orientation: int
    kind: Kind
    end: bytes | None = None
    start: int = 0


class HeaderError(Exception):
    """The header cannot be used; the text is the problem, for a person."""


def read_header(descriptor: int, size: int) -> Header:
    """Header of an open file of ``size`` bytes.

    Raises:
        HeaderError: It is empty, truncated or no image.
        OSError: It cannot be read.
    """
    head = os.pread(descriptor, BLOCK, 0)
    if not head:
        raise HeaderError("empty")
    if head.startswith(_JPEG_MAGIC):
        return _read_jpeg(descriptor, head, size)
    if head.startswith(_PNG_MAGIC):
        return _read_png(descriptor, head, size)
    return _read_other(descriptor, head, size)


def exif_orientation(tiff: bytes) -> int:
    """Orientation, 1..8, out of an EXIF block that starts at its TIFF header; 0 when it is absent or damaged."""
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"
    if tiff[:2] not in (b"II", b"MM") or len(tiff) < 8:
        return 0
    directory = int.from_bytes(tiff[4:8], order)
    entries = int.from_bytes(tiff[directory : directory + 2], order)
    for position in range(directory + 2, min(directory + 2 + 12 * entries, len(tiff) - 11), 12):
        if int.from_bytes(tiff[position : position + 2], order) == 0x0112:
            value = int.from_bytes(tiff[position + 8 : position + 10], order)
            return value if 1 <= value <= 8 else 0
    return 0


def _read_jpeg(descriptor: int, head: bytes, size: int) -> Header:
    """Walk the markers up to the first scan: the end marker counts only after it, as a thumbnail has its own."""
    frame: tuple[int, int, int] | None = None
    orientation = 0
    block, start = head, 0  # the part of the file at hand, and its position
    position = 2
    while position + 4 <= size:
        at = position - start
        if at + 10 > len(block):
            block, start, at = os.pread(descriptor, BLOCK, position), position, 0
            if len(block) < 4:
                break
        code = block[at + 1]
        if block[at] != 0xFF:
            raise HeaderError("not an image (damaged JPEG header)")
        if code == 0xFF:  # fill byte
            position += 1
            continue
        if code == 0x01 or 0xD0 <= code <= 0xD8:  # markers without a length
            position += 2
            continue
        if code == 0xD9:
            break
        if code == 0xDA:
            if frame is None:
                raise HeaderError("not an image (damaged JPEG header)")
            return Header(frame[0], frame[1], orientation or 1, _JPEG_KINDS[frame[2]], _JPEG_END, position + 2)
        length = block[at + 2] << 8 | block[at + 3]
        if code in _JPEG_FRAMES:
            frame = _jpeg_frame(block[at + 4 : at + 10])
        elif code == 0xE1 and orientation == 0:
            payload = block[at + 4 : at + 2 + length]
            if len(payload) < length - 2:
                payload = os.pread(descriptor, length - 2, position + 4)
            if payload.startswith(b"Exif\0\0"):
                orientation = exif_orientation(payload[6:])
        position += 2 + length
    raise HeaderError("truncated")


def _jpeg_frame(values: bytes) -> tuple[int, int, int]:
    """Width, height and number of components."""
    if len(values) < 6:
        raise HeaderError("truncated")
    precision, height, width, components = struct.unpack(">BHHB", values)
    if precision != 8:
        raise HeaderError(f"a JPEG of {precision} bits, which OpenCV does not read")
    if width == 0 or height == 0 or components not in _JPEG_KINDS:
        raise HeaderError("not an image (damaged JPEG header)")
    return width, height, components


def _read_png(descriptor: int, head: bytes, size: int) -> Header:
    if len(head) < 33:
        raise HeaderError("truncated")
    width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
    if head[12:16] != b"IHDR" or width == 0 or height == 0 or colour not in _PNG_KINDS:
        raise HeaderError("not an image (damaged PNG header)")
    orientation = 0
    position = 33
    while position + 8 <= size:
        chunk = os.pread(descriptor, 8, position) if position + 8 > len(head) else head[position : position + 8]
        length = int.from_bytes(chunk[:4], "big")
        if len(chunk) < 8 or chunk[4:] == b"IDAT":
            break
        if chunk[4:] == b"eXIf":
            orientation = exif_orientation(os.pread(descriptor, min(length, BLOCK), position + 8))
        position += 12 + length
    kind = "16-bit" if depth == 16 else _PNG_KINDS[colour]
    return Header(width, height, orientation or _late_orientation(descriptor, size) or 1, kind, _PNG_END, 33)


def _late_orientation(descriptor: int, size: int) -> int:
    """Orientation of a PNG whose eXIf chunk stands behind its pixels, as some tools write it; 0 if there is none."""
    tail = os.pread(descriptor, BLOCK, max(0, size - BLOCK))
    start = tail.rfind(b"eXIf")
    if start < 4:
        return 0
    stop = start + 4 + int.from_bytes(tail[start - 4 : start], "big")
    # Compressed pixels may hold these four letters by chance; the checksum tells.
    is_chunk = zlib.crc32(tail[start:stop]) == int.from_bytes(tail[stop : stop + 4], "big")
    return exif_orientation(tail[start + 4 : stop]) if is_chunk else 0


def _read_other(descriptor: int, head: bytes, size: int) -> Header:
    from PIL import Image

    if head.startswith(b"RIFF") and int.from_bytes(head[4:8], "little") + 8 > size:
        raise HeaderError("truncated")
    try:
        with (
            open(descriptor, "rb", closefd=False) as file,
            Image.open(file, formats=_PILLOW_FORMATS) as image,
        ):
            (width, height), kind = image.size, _pillow_kind(image.mode)
            orientation = image.getexif().get(0x0112, 1) if image.format in ("TIFF", "WEBP") else 1
            if image.format == "TIFF":
                # Pillow gives the size of a TIFF upright, that of all others as stored.
                tags = image.tag_v2  # type: ignore[attr-defined]
                width, height = int(tags[256]), int(tags[257])
    except Image.DecompressionBombError:
        raise HeaderError("too large") from None
    except Exception:
        # Pillow's plugins raise whatever a damaged header leads them to.
        raise HeaderError("not an image (JPEG, PNG, BMP, GIF, PPM, TIFF or WebP)") from None
    return Header(width, height, orientation if orientation in range(1, 9) else 1, kind)


def _pillow_kind(mode: str) -> Kind:
    return "16-bit" if mode.startswith("I;16") else _PILLOW_KINDS.get(mode, "rgb")
