"""Frames fitted into a model's input, and what is found there brought back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.inference.preprocessing import resized
from slimcam.deploy.vision.align import check_frame
from slimcam.deploy.vision.detector_output import Faces

GRAY = 128
"""What the input is padded with."""


def letterbox(
    frame: NDArray[np.uint8], height: int, width: int, out: NDArray[np.uint8] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Resizes a frame as large as it fits into `height` x `width`, keeping its aspect, and pads right and bottom gray.

    Args:
        out: Array `(height, width, 3)` uint8 for the image; memory that is new for each frame is mapped each time.

    Returns:
        `(height, width, 3)` uint8, and `(2,)`: how many of its pixels one of the frame has become, in x and y (a side
        is a whole number of pixels, so the two differ a little).

    Raises:
        ValueError: the frame is not `(h, w, 3)` uint8.
    """
    check_frame(frame)
    rows, columns = frame.shape[:2]
    ratio = min(height / rows, width / columns)
    inner = max(1, round(rows * ratio)), max(1, round(columns * ratio))
    image: NDArray[np.uint8] = np.empty((height, width, 3), np.uint8) if out is None else out
    resized(frame, *inner, out=image[: inner[0], : inner[1]])
    image[inner[0] :], image[: inner[0], inner[1] :] = GRAY, GRAY
    return image, np.array([inner[1] / columns, inner[0] / rows])


def undo_letterbox(faces: Faces, scale: NDArray[np.float64]) -> Faces:
    """Faces of a fitted image, in pixels of the frame that it was made of."""
    # The edges of the first pixels coincide, and they lie half a pixel before the centers.
    points = (faces.points + 0.5) / scale - 0.5
    return Faces(points.astype(np.float32), faces.scores)
