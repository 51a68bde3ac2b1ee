"""A head in space and the sheet it is painted on."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from slimcam.training.data.drawing.traits import Person, Shot
from slimcam.training.data.images import IMAGE_SIZE

Points = NDArray[np.float64]
Plane = NDArray[np.float32]
Tint = Sequence[float] | NDArray[np.float64]

SCALE = 2
"""Painting is done this many times larger than the crop, then averaged down."""

SIZE = IMAGE_SIZE * SCALE

ARCFACE = np.array([38.2946 + 51.6963j, 73.5318 + 51.5014j, 56.0252 + 71.7366j, 41.5493 + 92.3655j, 70.7299 + 92.2041j])
"""Eyes, nose tip and mouth corners of the aligned crop, as x + iy; the template of InsightFace's `face_align.py`."""

_SUBPIXEL_BITS = 4
_STEPS = 5


def _spline_basis() -> Points:
    """`(_STEPS, 4)` Catmull-Rom weights of four successive control points."""
    t = np.arange(_STEPS)[:, None] / _STEPS
    return np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]) / 2


_BASIS = _spline_basis()
_ANGLES = np.arange(16) * (np.pi / 8)
_CIRCLE = np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)])


def closed_curve(controls: ArrayLike) -> Points:
    """A smooth closed curve through `(N, 2)` control points, `(5 N, 2)`."""
    c = np.asarray(controls, dtype=np.float64)
    c = np.concatenate([c[-1:], c, c[:2]])
    return _interpolate(c)


def open_curve(controls: ArrayLike) -> Points:
    """A smooth curve through `(N, 2)` control points from the first to the last, `(5 N - 4, 2)`."""
    c = np.asarray(controls, dtype=np.float64)
    last = c[-1:]
    c = np.concatenate([2 * c[:1] - c[1:2], c, 2 * last - c[-2:-1]])
    return np.concatenate([_interpolate(c), last])


def _interpolate(padded: Points) -> Points:
    segments = np.stack([padded[:-3], padded[1:-2], padded[2:-1], padded[3:]], axis=1)
    return np.asarray((_BASIS @ segments).reshape(-1, 2))


def ellipse(x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> Points:
    """`(16, 2)` points of an ellipse."""
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(_CIRCLE @ np.array([[rx * c, rx * s], [-ry * s, ry * c]]) + (x, y))


class View:
    """Projects the face frame of one shot to the sheet, aligned as a detector's five points would align it."""

    def __init__(self, person: Person, shot: Shot) -> None:
        self.width, self.height, self.depth = person.cheek * 1.06, 66.0, person.depth
        self.yaw, self._pitch = shot.yaw, shot.pitch
        sin_yaw, cos_yaw = np.sin(shot.yaw), np.cos(shot.yaw)
        sin_pitch, cos_pitch = np.sin(shot.pitch), np.cos(shot.pitch)
        turned = np.array([[cos_yaw, 0, sin_yaw], [0, 1, 0], [-sin_yaw, 0, cos_yaw]])
        nodded = np.array([[1, 0, 0], [0, cos_pitch, -sin_pitch], [0, sin_pitch, cos_pitch]])
        # Rows: across and down the sheet, and towards the camera.
        self._matrix = nodded @ turned
        self._distance = shot.distance
        self._shift = np.zeros((2, 1))
        corner_x = person.mouth_width * (1 + 0.16 * max(shot.smile, 0))
        corner_y = person.mouth_y - person.mouth_tilt - 2.2 * shot.smile + 1.5 * shot.mouth_open
        features = np.array(
            [
                (-person.eye_x, person.eye_y),
                (person.eye_x, person.eye_y),
                (0.0, person.nose_base - 5.0),
                (-corner_x, corner_y),
                (corner_x, corner_y),
            ]
        )
        seen = self.place(features, np.array([0, 0, person.nose_height, 0, 0]))
        points = seen[:, 0] + 1j * seen[:, 1]
        dx, dy, log_scale, roll = shot.jitter
        spread = points - points.mean()
        target = ARCFACE - ARCFACE.mean()
        # Least-squares similarity (Umeyama) in the complex plane, then the detector's own error.
        turn = np.sum(spread.conj() * target) / np.sum(np.abs(spread) ** 2) * np.exp(log_scale + 1j * roll) * SCALE
        shift = (ARCFACE.mean() + complex(dx, dy) + 0.5 + 0.5j) * SCALE - 0.5 - 0.5j - turn * points.mean()
        self._similarity = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
        self._matrix[:2] = self._similarity @ self._matrix[:2]
        self._shift = np.array([[shift.real], [shift.imag]])
        self.pixel = abs(turn)

    def place(self, points: Points, lift: float | Points = 0.0) -> Points:
        """`(N, 2)` points on the head's surface, raised by `lift`, to `(N, 2)` sheet coordinates."""
        space = np.empty((3, len(points)))
        space[:2] = points.T
        inside = 1 - np.square(space[0] / self.width) - np.square(space[1] / self.height)
        space[2] = self.depth * np.sqrt(np.maximum(inside, 0)) + lift
        seen = self._matrix @ space
        # Depth counts from the middle of the face, so that a near camera does not enlarge the whole of it.
        near = self._distance / (self._distance + 0.75 * self.depth - seen[2])
        return np.asarray((seen[:2] * near + self._shift).T)

    def outline(self, points: Points) -> Points:
        """`(N, 2)` points of the silhouette, which stays as wide as it is when the head turns, to sheet coordinates."""
        x, y = points[:, 0], points[:, 1]
        forward = np.minimum(np.maximum(y - 8, 0) * (20 / 30), 20) * (np.abs(x) < self.width)
        flat = np.stack([x + np.sin(self.yaw) * forward, y - np.sin(self._pitch) * forward])
        return np.asarray((self._similarity @ flat + self._shift).T)


class Sheet:
    """`pixels`, `(224, 224, 3)` uint8 RGB, and a soft relief that darkens and tints them when it is pressed in."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels
        self._broad = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
        self._fine = np.zeros_like(self._broad)

    def fill(self, points: Points, color: Tint) -> None:
        """Fills a polygon, anti-aliased."""
        cv2.fillPoly(self.pixels, [_fixed(points)], _rgb(color), cv2.LINE_AA, _SUBPIXEL_BITS)

    def stroke(self, points: Points, color: Tint, width: float = 1.0, *, closed: bool = False) -> None:
        """Draws a line `width` crop pixels wide, at least half a pixel."""
        thickness = max(1, round(width * SCALE))
        cv2.polylines(self.pixels, [_fixed(points)], closed, _rgb(color), thickness, cv2.LINE_AA, _SUBPIXEL_BITS)

    def strokes(self, lines: Points, color: Tint, width: float = 0.5) -> None:
        """Draws many lines, `(L, N, 2)`, of one color."""
        thickness = max(1, round(width * SCALE))
        fixed = list(_fixed(lines))
        cv2.polylines(self.pixels, fixed, False, _rgb(color), thickness, cv2.LINE_AA, _SUBPIXEL_BITS)

    def dot(self, point: Points, radius: float, color: Tint) -> None:
        """Fills a circle, radius in crop pixels."""
        one = 1 << _SUBPIXEL_BITS
        center = (round(float(point[0]) * one), round(float(point[1]) * one))
        cv2.circle(self.pixels, center, round(radius * SCALE * one), _rgb(color), -1, cv2.LINE_AA, _SUBPIXEL_BITS)

    def soft(self, points: Points, amount: float | Tint, *, fine: bool = False, texture: Plane | None = None) -> None:
        """Adds a blurred polygon to the relief; `amount` is a log factor, one figure or one each for R, G and B.

        Args:
            texture: `(112, 112, 1)` factors of the amount.
        """
        # Shadow on skin is warm: blood scatters red light further than green and blue.
        color = amount * np.array([0.75, 1.0, 1.1]) if isinstance(amount, float) else amount
        fixed = _fixed(points / SCALE)
        left, top, right, bottom = _box(fixed, IMAGE_SIZE)
        if right <= left or bottom <= top:
            return
        patch = np.zeros((bottom - top, right - left, 3), np.float32)
        amounts = (float(color[0]), float(color[1]), float(color[2]))
        cv2.fillPoly(patch, [fixed - _fixed(np.array([left, top]))], amounts, cv2.LINE_8, _SUBPIXEL_BITS)
        if texture is not None:
            patch *= texture[top:bottom, left:right]
        relief = self._fine if fine else self._broad
        relief[top:bottom, left:right] += patch

    def press(self) -> None:
        """Multiplies the pixels by the relief and flattens it."""
        relief = cv2.GaussianBlur(self._fine, (0, 0), 0.9)
        if self._broad.any():
            relief += cv2.GaussianBlur(self._broad, (0, 0), 3.2)
        factor = cv2.resize(cv2.exp(relief), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        self.pixels = cv2.multiply(self.pixels, factor, dtype=cv2.CV_8U)
        self._broad.fill(0)
        self._fine.fill(0)

    def paste(self, points: Points, layer: Sheet) -> None:
        """Copies the part of another sheet that is inside a polygon."""
        fixed = _fixed(points)
        left, top, right, bottom = _box(fixed, SIZE)
        if right <= left or bottom <= top:
            return
        mask = np.zeros((bottom - top, right - left, 1), np.uint8)
        cv2.fillPoly(mask, [fixed - _fixed(np.array([left, top]))], (255,), cv2.LINE_AA, _SUBPIXEL_BITS)
        below = self.pixels[top:bottom, left:right].astype(np.float32)
        above = layer.pixels[top:bottom, left:right].astype(np.float32)
        self.pixels[top:bottom, left:right] = below + (above - below) * (mask.astype(np.float32) / 255)


def _box(fixed: NDArray[np.int32], size: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels that a polygon can touch, within a square of `size`."""
    x, y, width, height = cv2.boundingRect(fixed)
    one = 1 << _SUBPIXEL_BITS
    right, bottom = (x + width) // one + 2, (y + height) // one + 2
    return max(x // one - 1, 0), max(y // one - 1, 0), min(right, size), min(bottom, size)


def _fixed(points: Points) -> NDArray[np.int32]:
    return np.rint(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _rgb(color: Tint) -> tuple[float, float, float]:
    return min(max(float(color[0]), 0), 255), min(max(float(color[1]), 0), 255), min(max(float(color[2]), 0), 255)
