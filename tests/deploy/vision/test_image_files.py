from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimcam.deploy.vision.image_files import decode_picture, picture_size, read_picture

T = TypeVar("T")

HEIGHT, WIDTH = 48, 64


def tried(action: Callable[[], T]) -> tuple[T | None, str]:
    """What it gives, or what it says when it refuses."""
    try:
        return action(), ""
    except (ValueError, OSError) as error:
        return None, str(error)


def one_line(error: pytest.ExceptionInfo[Any]) -> str:
    text = str(error.value)
    assert text
    assert "\n" not in text
    return text


def encoded(kind: str, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = 200
    return bytes(cv2.imencode(kind, image)[1])


def png(width: int, height: int) -> bytes:
    """A PNG of that size in a few bytes: a bomb if it is large, for its pixels all are of one color."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes(min(height * ((width + 7) // 8 + 1), 2**24)), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (48, 64), (3, 700)])
def test_the_size_of_a_picture_is_read_from_its_header(kind: str, height: int, width: int) -> None:
    content = encoded(kind, height, width)
    assert picture_size(content) == (width, height)
    assert decode_picture(content, "it").shape == (height, width, 3)


def test_lossless_and_lossy_webp_tell_their_size() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 33, 3)).astype(np.uint8)
    for quality in (50, 101):  # above 100 it is lossless
        content = bytes(cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])[1])
        assert picture_size(content) == (33, 50)


@pytest.mark.parametrize(("width", "height"), [(30000, 30000), (2**31 - 1, 2**31 - 1), (40000, 1), (1, 32767), (0, 5)])
def test_bombs_are_refused_before_they_are_decoded(width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(cv2, "imdecode", decoded)
    with pytest.raises(ValueError, match=f"^bomb: a picture of {width}x{height} pixels") as error:
        decode_picture(
            png(width, height)
            if max(width, height) < 2**16
            else png(1, 1).replace(struct.pack(">II", 1, 1), struct.pack(">II", width, height)),
            "bomb",
        )
    one_line(error)


def test_a_picture_file_of_senseless_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    with path.open("wb") as file:
        file.write(png(8, 8))
        file.truncate(200 * 2**20)  # a hole: takes no space
    with pytest.raises(ValueError, match="more than 100 MiB") as error:
        read_picture(path)
    one_line(error)


@given(
    kind=st.sampled_from([".jpg", ".png", ".webp", ".bmp"]),
    end=st.integers(0, 4000),
    damage=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=12),
)
def test_a_damaged_picture_is_a_picture_or_one_line(kind: str, end: int, damage: list[tuple[int, int]]) -> None:
    content = bytearray(encoded(kind)[:end])
    for place, value in damage:
        if place < len(content):
            content[place] = value
    image, refusal = tried(lambda: decode_picture(bytes(content), "it"))
    if image is None:
        assert refusal.startswith("it: ")
        assert "\n" not in refusal
    else:
        # What the header says is what is decoded; a file may say that it is to be turned.
        assert sorted(image.shape[:2]) == sorted(picture_size(bytes(content)) or ())


@given(st.binary(max_size=80) | st.binary(max_size=40).map(lambda rest: b"\xff\xd8\xff" + rest))
def test_any_bytes_have_a_size_or_none(content: bytes) -> None:
    size = picture_size(content)
    assert size is None or min(size) >= 0
