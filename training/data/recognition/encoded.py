"""The bytes that an image is stored as: what copies of a set hold, so that their pixels are the same."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.training.data.images import Images, Joined, Selection

Bytes = NDArray[np.uint8]


@runtime_checkable
class EncodedImages(Protocol):
    """Images that are stored as the bytes of image files."""

    def encoded(self, index: int) -> Bytes:
        """The bytes of one of them."""


def encoded(images: Images, index: int) -> Bytes:
    """The bytes of an image as they are stored, or PNG where its pixels are."""
    if isinstance(images, Selection):
        return encoded(images.images, int(images.indices[index]))
    if isinstance(images, Joined):
        return encoded(*images.locate(index))
    if isinstance(images, EncodedImages):
        return images.encoded(index)
    made: Bytes = cv2.imencode(".png", cv2.cvtColor(images[index], cv2.COLOR_RGB2BGR))[1].ravel()
    return made


def suffix_of(content: Bytes) -> str:
    """The usual suffix of the name of such a file, `jpg` where its format is none that is known."""
    start = content[:12].tobytes()
    marks = {b"\x89PNG": "png", b"BM": "bmp", b"GIF8": "gif", b"RIFF": "webp", b"II*\0": "tiff", b"MM\0*": "tiff"}
    return next((suffix for mark, suffix in marks.items() if start.startswith(mark)), "jpg")
