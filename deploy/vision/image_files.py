"""Picture files, read without trust in them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.align import LARGEST_SIDE

Image = NDArray[np.uint8]

LARGEST_PICTURE = 100_000_000
"""Pixels: what is larger is an attack or a mistake, and takes 300 MB at the least."""

LARGEST_FILE = 100 * 2**20
"""Bytes of a picture's file."""

REDUCTIONS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""OpenCV's flags by what the sides of a picture are divided by as it is decoded."""

_HEADER = 32
"""Bytes that say whether a file is a picture."""


def read_picture(path: Path) -> Image:
    """A picture file as `(h, w, 3)` uint8 RGB, upright where the file says how it was held.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a JPEG, PNG, WebP or BMP picture, too large, or damaged.
    """
    with path.open("rb") as file:
        encoded = file.read(LARGEST_FILE + 1)
    return decode_picture(encoded, str(path))


def decode_picture(encoded: bytes, title: str, reduction: int = 1) -> Image:
    """The bytes of a picture file as `(h, w, 3)` uint8 RGB.

    The size is read from the header first: OpenCV would decode up to a thousand megapixels out of a few kilobytes.

    Args:
        reduction: What the sides are divided by, of `REDUCTIONS`; of a JPEG that saves a part of the time.

    Raises:
        ValueError: they are not those of a JPEG, PNG, WebP or BMP picture, too many, or damaged; begins with the title.
    """
    if len(encoded) > LARGEST_FILE:
        raise ValueError(f"{title}: a picture file of more than {LARGEST_FILE // 2**20} MiB; shrink it")
    size = picture_size(encoded)
    if size is None:
        raise ValueError(f"{title}: {'an empty file' if not encoded else 'not a JPEG, PNG, WebP or BMP picture'}")
    check_size(*size, title)
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), REDUCTIONS[reduction])
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f"{title}: this picture is damaged or ends early; copy it again")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image))


def is_picture(path: Path) -> bool:
    """Whether a file begins as a picture does.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(_HEADER)
    return start[:2] == b"\xff\xd8" or picture_size(start) is not None


def picture_size(encoded: bytes) -> tuple[int, int] | None:
    """Width and height that the header of a JPEG, PNG, WebP or BMP file tells, in pixels; `None` for anything else.

    Reference:
        ITU T.81, B.2; the PNG specification, third edition, 11.2.1; RFC 9649, 2.5 to 2.7; BITMAPINFOHEADER of the
        Windows API.
    """
    if encoded[:2] == b"\xff\xd8":
        return _jpeg_size(encoded)
    if encoded[:8] == b"\x89PNG\r\n\x1a\n" and encoded[12:16] == b"IHDR" and len(encoded) >= 24:
        return _big(encoded[16:20]), _big(encoded[20:24])
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP" and len(encoded) >= 30:
        return _webp_size(encoded)
    if encoded[:2] == b"BM" and len(encoded) >= 26:
        if _little(encoded[14:18]) == 12:
            return _little(encoded[18:20]), _little(encoded[20:22])
        # The height is negative in files whose first row is the topmost.
        return _little(encoded[18:22]), abs(int.from_bytes(encoded[22:26], "little", signed=True))
    return None


def check_size(width: float, height: float, title: str) -> None:
    """Refuses pictures that no camera takes, before they are decoded where their size is known by then.

    Raises:
        ValueError: a side is not 1..32766 pixels, or there are more than 100 megapixels.
    """
    if not (min(width, height) >= 1 and max(width, height) <= LARGEST_SIDE and width * height <= LARGEST_PICTURE):
        raise ValueError(
            f"{title}: a picture of {width:.0f}x{height:.0f} pixels; sides may have up to {LARGEST_SIDE} and "
            f"the whole {LARGEST_PICTURE // 10**6} megapixels: shrink it"
        )


def _jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(encoded) and encoded[place] == 0xFF:
        marker = encoded[place + 1]
        if marker == 0xFF:  # fill
            place += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # without a length
            place += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _big(encoded[place + 7 : place + 9]), _big(encoded[place + 5 : place + 7])
        else:
            place += 2 + _big(encoded[place + 2 : place + 4])
    return None


def _webp_size(encoded: bytes) -> tuple[int, int] | None:
    kind = encoded[12:16]
    if kind == b"VP8 " and encoded[23:26] == b"\x9d\x01\x2a":
        return _little(encoded[26:28]) & 0x3FFF, _little(encoded[28:30]) & 0x3FFF
    if kind == b"VP8L" and encoded[20] == 0x2F:
        bits = _little(encoded[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return _little(encoded[24:27]) + 1, _little(encoded[27:30]) + 1
    return None


def _big(field: bytes) -> int:
    return int.from_bytes(field, "big")


def _little(field: bytes) -> int:
    return int.from_bytes(field, "little")
