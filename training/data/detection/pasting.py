"""Lays parts of pictures on others and knows how much is still seen of each face."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.align import face_corners
from slimcam.training.data.images import Image

Float = NDArray[np.float32]

LEAST_SEEN = 0.55
"""Of a face at least this share is inside the picture and not covered."""

SUBPIXEL_BITS = 4


class Canvas:
    """A picture that things are laid on, and how much is seen of each face in it.

    Attributes:
        pixels: `(H, W, 3)` uint8.
        points: Points of the face, `(5, 2)`.
    """

    def __init__(self, pixels: Image) -> None:
        self.pixels = pixels
        self.points: list[Float] = []
        self._seen: list[NDArray[np.uint8]] = []
        self._areas: list[float] = []

    def room(self, paste: Paste, points: Float | None = None) -> bool:
        """Whether enough of every face is seen when something is laid; `points` if it is a face itself."""
        if paste.empty:
            return False
        covered = (paste.alpha > 0.5).view(np.uint8)
        for seen, area in zip(self._seen, self._areas, strict=True):
            hidden = cv2.countNonZero(seen[paste.place] & covered)
            if hidden and cv2.countNonZero(seen) - hidden < LEAST_SEEN * area:
                return False
        if points is None:
            return True
        seen, area = self._region(paste, points)
        return cv2.countNonZero(seen) >= LEAST_SEEN * area and self._inside(points)

    def lay(self, paste: Paste, pixels: Image, points: Float | None = None) -> None:
        """Lays `(h, w, 3)` pixels on the place of a paste."""
        below = self.pixels[paste.place]
        self.pixels[paste.place] = cv2.blendLinear(
            np.ascontiguousarray(pixels), np.ascontiguousarray(below), paste.alpha, 1 - paste.alpha
        )
        for seen in self._seen:
            seen[paste.place][paste.alpha > 0.5] = 0
        if points is not None:
            region, area = self._region(paste, points)
            self.points.append(points)
            self._seen.append(region)
            self._areas.append(area)

    def _inside(self, points: Float) -> bool:
        height, width = self.pixels.shape[:2]
        x, y = points.mean(axis=0)
        return bool(0 <= x <= width - 1 and 0 <= y <= height - 1)

    def _region(self, paste: Paste, points: Float) -> tuple[NDArray[np.uint8], float]:
        """Where in the picture a pasted face is seen, and its whole area."""
        region = np.zeros(self.pixels.shape[:2], dtype=np.uint8)
        corners = face_corners(points)[0]
        cv2.fillPoly(region, [fixed(corners)], (1,), cv2.LINE_8, SUBPIXEL_BITS)
        seen = np.zeros_like(region)
        seen[paste.place] = region[paste.place] & (paste.alpha > 0.5)
        return seen, abs(float(cv2.contourArea(corners)))


@dataclass(frozen=True)
class Paste:
    """How a picture is laid on a canvas.

    Attributes:
        matrix: Affine matrix, `(2, 3)`, from the picture to the canvas.
        outline: Outline of the pasted part, on the canvas, `(K, 2)`.
        soft: Pixels of the canvas that its edge fades over.
        height: Height of the canvas.
        width: Width of the canvas.
    """

    matrix: NDArray[np.float64]
    outline: NDArray[np.float64]
    soft: float
    height: int
    width: int

    @cached_property
    def _bounds(self) -> tuple[int, int, int, int]:
        left, top = np.floor(self.outline.min(axis=0)).astype(int).tolist()
        right, bottom = np.ceil(self.outline.max(axis=0)).astype(int).tolist()
        return max(left, 0), max(top, 0), min(right + 1, self.width), min(bottom + 1, self.height)

    @property
    def empty(self) -> bool:
        left, top, right, bottom = self._bounds
        return right <= left or bottom <= top

    @property
    def place(self) -> tuple[slice, slice]:
        left, top, right, bottom = self._bounds
        return slice(top, bottom), slice(left, right)

    @cached_property
    def alpha(self) -> Float:
        """`(h, w)` float32, 0..1, of the place on the canvas."""
        left, top, right, bottom = self._bounds
        # The margin keeps the edge from fading where the picture's frame cuts it.
        margin = math.ceil(self.soft) + 1
        mask = np.zeros((bottom - top + 2 * margin, right - left + 2 * margin), dtype=np.uint8)
        shifted = self.outline - (left - margin, top - margin)
        cv2.fillPoly(mask, [fixed(shifted)], (255,), cv2.LINE_AA, SUBPIXEL_BITS)
        alpha = mask.astype(np.float32) / 255
        if self.soft >= 1:
            side = 2 * int(self.soft / 2) + 1
            alpha = cv2.blur(cv2.blur(alpha, (side, side)), (side, side))
            # Fades inside the outline alone: beyond it there is no picture.
            alpha = np.maximum(2 * alpha - 1, 0)
        return np.ascontiguousarray(alpha[margin:-margin, margin:-margin])

    def warp(self, image: Image) -> Image:
        """The picture's pixels on the place, `(h, w, 3)`."""
        left, top, right, bottom = self._bounds
        matrix = self.matrix - np.array([[0, 0, left], [0, 0, top]])
        warped: Image = cv2.warpAffine(
            image, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return warped


def turn(
    middle: NDArray[np.floating], degrees: float, to: NDArray[np.floating], scale: float = 1.0
) -> NDArray[np.float64]:
    """`(2, 3)`: turns and enlarges about a point, which goes to another."""
    angle = math.radians(degrees)
    matrix = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.column_stack([matrix, to - matrix @ middle])


def moved(points: NDArray[np.floating], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points, `(N, 2)`, after a `(2, 3)` transform."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def ellipse(middle: NDArray[np.floating], half: NDArray[np.floating]) -> NDArray[np.float64]:
    """`(32, 2)` points of an ellipse."""
    angles = np.arange(32) * (np.pi / 16)
    return np.asarray(middle + half * np.column_stack([np.cos(angles), np.sin(angles)]))


def fixed(points: NDArray[np.floating]) -> NDArray[np.int32]:
    """Points as OpenCV draws them with `SUBPIXEL_BITS`."""
    return np.asarray(np.rint(points * (1 << SUBPIXEL_BITS)).astype(np.int32))
