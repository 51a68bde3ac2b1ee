"""Faces as five points: how large they are, where they are, and the aligned crops that recognizers take.

Points are left eye, right eye, nose, left and right mouth corner as seen in the picture, x and y in pixels of the frame
with pixel centers at integers. Size and box of a face follow from its points alone, so that detectors with other habits
of drawing boxes compare.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex128]

CROP_SIZE = 112

# https://github.com/deepinsight/insightface, recognition/arcface_torch: the template of ArcFace (Deng et al. 2019).
TEMPLATE: NDArray[np.float32] = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)], np.float32
)
"""`(5, 2)`, the points of an aligned 112x112 crop."""

FACE_WIDTH = 72
_FACE_RECTANGLE = np.array([20 + 18j, 92 + 18j, 92 + 110j, 20 + 110j])
"""The corners of a face in the aligned crop: what boxes are drawn about."""

_FACE_MIDDLE = complex(_FACE_RECTANGLE.mean())
_FACE_HALF = (_FACE_RECTANGLE[2] - _FACE_RECTANGLE[0]) / 2
"""Its middle, and half its width and height."""

_FACE_HALVES = np.array([(_FACE_HALF.real, _FACE_HALF.imag), (_FACE_HALF.imag, _FACE_HALF.real)])
"""Half the width and the height of the upright rectangle, of cosine and sine of the turn."""

LARGEST_SIDE = 32766
"""OpenCV's warps count pixels in 16 bits."""


def align(image: NDArray[np.uint8], points: NDArray[np.floating], size: int = CROP_SIZE) -> NDArray[np.uint8]:
    """Cuts a face out of a frame, turned and scaled so that its points lie on the template.

    Bilinear, black where the crop leaves the frame: what the crops were made with that recognizers are trained on.

    Args:
        image: `(h, w, 3)` uint8.
        points: `(5, 2)`, of the face in the frame.
        size: Side of the crop in pixels; the template is scaled to it.

    Returns:
        `(size, size, 3)` uint8.

    Raises:
        ValueError: the frame is of another shape or type, or the points are not five that can be aligned.
    """
    check_frame(image)
    if size < 1:
        raise ValueError(f"the size of an aligned face must be 1 or more; got {size}")
    matrix = alignment(points)
    scale = size / CROP_SIZE
    matrix *= scale
    matrix[:, 2] += 0.5 * scale - 0.5  # pixel centers lie at integers, so edges at halves
    crop: NDArray[np.uint8] = cv2.warpAffine(
        image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    return crop


def alignment(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """The similarity transform that brings the points of a face closest to the template.

    In the plane the least squares have a closed form. All five points count: none is left out as an outlier.

    Args:
        points: `(5, 2)`.

    Returns:
        `(2, 3)`: `matrix @ (x, y, 1)` is the place in the aligned crop.

    Raises:
        ValueError: the points are not five, not finite, coincide, or lie so that no turn brings them nearer.
    """
    points = np.asarray(points, np.float64)
    if points.shape != TEMPLATE.shape or not np.isfinite(points).all():
        raise ValueError(f"a face is five finite points, {TEMPLATE.shape}; got {points.shape}: {points.tolist()}")
    spread = float(np.ptp(points, axis=0).max())
    if spread < 1e-3:
        raise ValueError(f"the points of a face coincide at {points[0].tolist()}: it cannot be aligned; leave it out")
    # `similarity` of one face, whose target is the same each time.
    places = _complex(points)
    middle = complex(places.sum()) / 5
    centered = places - middle
    with np.errstate(over="ignore", invalid="ignore"):
        turn = complex(np.vdot(centered, _TEMPLATE_CENTERED)) / float(np.vdot(centered, centered).real)
    if not abs(turn) * spread > 1e-3:
        raise ValueError(f"the points do not lie as those of a face do, it cannot be aligned: {points.tolist()}")
    shift = _TEMPLATE_MIDDLE - turn * middle
    return np.array([(turn.real, -turn.imag, shift.real), (turn.imag, turn.real, shift.imag)])


def similarity(source: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray[np.float64]:
    """The similarity transforms, without reflection, that bring points closest to others (Umeyama 1991).

    Args:
        source, target: `(..., 5, 2)`, of one face or of many.

    Returns:
        `(..., 2, 3)`: `matrix @ (x, y, 1)` is the place of a point of the source.
    """
    turn, shift = _fit(_complex(source), _complex(target))
    rows = [[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]]
    return np.stack([np.stack(np.broadcast_arrays(*row), axis=-1) for row in rows], axis=-2)


def face_sizes(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Widths of faces in pixels, `(N,)` for `(N, 5, 2)` or one `(5, 2)`: 72 pixels of the aligned crop.

    It is 0, to rounding, where points coincide.

    Measured on the template brought onto the points, not the other way round: the two differ for points that do not
    lie as the template's do, and this one is the smaller.
    """
    turn, _ = _placed_template(points)
    sizes: NDArray[np.float32] = (FACE_WIDTH * np.hypot(turn[:, 0], turn[:, 1])).astype(np.float32)
    return sizes


def face_corners(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """The turned rectangles that faces fill, `(N, 4, 2)` corners for points `(N, 5, 2)` or `(5, 2)`.

    That is x 20..92, y 18..110 of the aligned crop, brought onto the points with the template.
    """
    turn, middle = (_complex(part)[:, np.newaxis] for part in _placed_template(points))
    corners = turn * (_FACE_RECTANGLE - _FACE_MIDDLE) + middle
    return np.stack([corners.real, corners.imag], axis=2).astype(np.float32)


def face_boxes(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Upright rectangles about what `face_corners` gives, `(N, 4)` x, y, width, height in pixels."""
    turn, middle = _placed_template(points)
    # Without the corners: those of a turned rectangle reach as far from its middle as its sides do in sum.
    half = np.abs(turn) @ _FACE_HALVES
    return np.concatenate([middle - half, 2 * half], axis=1).astype(np.float32)


def check_frame(frame: NDArray[np.uint8]) -> None:
    """Says what is wrong with a frame that is not `(h, w, 3)` uint8 with sides from 1 to 32766.

    Raises:
        ValueError: it is none; the message says what to do.
    """
    if not isinstance(frame, np.ndarray):
        raise ValueError(f"a frame must be a uint8 array (h, w, 3); got {type(frame).__name__}: was the picture read?")
    if frame.size == 0:
        raise ValueError(f"the frame is empty, {frame.shape}; check the camera or the file that it is from")
    if frame.dtype == np.uint8 and (frame.ndim == 2 or frame.shape[2:] == (1,)):
        raise ValueError(f"the frame is gray, {frame.shape}; give cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB)")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"a frame must be uint8 RGB of shape (h, w, 3); got {frame.dtype} {frame.shape}; convert it")
    if max(frame.shape) > LARGEST_SIDE:
        raise ValueError(f"a frame may have up to {LARGEST_SIDE} pixels a side; got {frame.shape}; shrink or cut it")


def _fit(source: Complex, target: Complex) -> tuple[Complex, Complex]:
    """`turn * source + shift` nearest to `target`, over the last axis; complex numbers turn and scale by a product."""
    source_mean, target_mean = source.mean(axis=-1, keepdims=True), target.mean(axis=-1, keepdims=True)
    centered = source - source_mean
    # Overflow of absurd coordinates ends as a turn of 0 or NaN, which the callers look at.
    with np.errstate(over="ignore", invalid="ignore"):
        turn = np.sum(centered.conj() * (target - target_mean), axis=-1) / np.sum(np.abs(centered) ** 2, axis=-1)
        return turn, target_mean[..., 0] - turn * source_mean[..., 0]


def _placed_template(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How the template lies on faces `(N, 5, 2)` or `(5, 2)`: `turn` and `middle`, `(N, 2)` each.

    `turn` is the complex number that turns and scales it, as `_fit` finds it, and `middle` where the middle of the face
    comes to lie. The template is always the same, and its points sum to nothing once centered: what is left of the
    least squares is a product of the points with forty constants.
    """
    found = np.asarray(points, np.float64).reshape(-1, 10).dot(_ONTO_FACES)
    return found[:, :2], found[:, 2:]


def _complex(points: NDArray[np.floating]) -> Complex:
    points = np.asarray(points, np.float64)
    return points[..., 0] + 1j * points[..., 1]


def _onto_faces() -> NDArray[np.float64]:
    template = _complex(TEMPLATE)
    centered = template - template.mean()
    turn = centered.conj() / np.sum(np.abs(centered) ** 2)
    weights = np.stack([turn, 1 / 5 + turn * (_FACE_MIDDLE - template.mean())], axis=1)
    # A product of complex numbers, as one of real ones.
    rows = np.stack([np.stack([weights.real, weights.imag], 2), np.stack([-weights.imag, weights.real], 2)], axis=1)
    return rows.reshape(10, 4)


_ONTO_FACES = _onto_faces()
"""`(10, 4)`: what the coordinates of a face are weighted with for `_placed_template`."""

_TEMPLATE_MIDDLE = complex(_complex(TEMPLATE).mean())
_TEMPLATE_CENTERED = _complex(TEMPLATE) - _TEMPLATE_MIDDLE
