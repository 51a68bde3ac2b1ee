"""Real photographs as scenes to train on: whole, as a device fits them into its input, or about one of their faces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.align import face_boxes, face_sizes
from slimcam.deploy.vision.image_files import REDUCTIONS, picture_size
from slimcam.training.data.detection.degradation import photograph
from slimcam.training.data.detection.labels import FaceLabels
from slimcam.training.data.detection.points import mirrored
from slimcam.training.data.detection.scene import Float, Scene
from slimcam.training.data.images import Image, decode

PHOTO_SCENES_VERSION = 4
"""Raise it with every change that changes a pixel or a label."""

SMALLEST = 8.0
"""Size in a scene, pixels, below which a face is ignored: it has a pixel for an eye."""

_LARGEST = 2 / 3
"""Largest size that a photograph is scaled for, of the height of a scene; the composed scenes have larger faces."""

_WHOLE = 0.5
"""Share of scenes that show their whole photograph."""

MOSAIC_SIDES = (2, 3, 4)
"""Photographs along a side of a mosaic, all equally frequent: portraits have faces of 20 to 40 pixels in the finest."""

_MOST_ENLARGED = 1.5
_GRAY = 128

_UNREADABLE = "a photograph that could be read no longer can"


@dataclass(frozen=True)
class LabeledPhotograph:
    """A photograph to train on.

    Attributes:
        pixels: Bytes of an image file.
        labels: Its faces, pixels.
    """

    pixels: NDArray[np.uint8]
    labels: FaceLabels


def photograph_scene(source: LabeledPhotograph, height: int, width: int, rng: np.random.Generator) -> Scene:
    """A scene of a photograph, a function of its arguments and the generator's state.

    Half show the whole photograph. The others are cut and scaled so that one of its faces has a size between 8 pixels
    and two thirds of the height, all scales equally frequent, and lies anywhere; but photographs are not shrunk more
    than to show the whole, and enlarged by half at the most. Of photographs without faces any part is shown, all scales
    equally frequent.

    Raises:
        ValueError: the bytes of the photograph cannot be read.
    """
    size = picture_size(source.pixels.tobytes())
    if size is None:
        raise ValueError(_UNREADABLE)
    columns, rows = size
    points, ignored, flipped = source.labels.points, source.labels.ignored, rng.random() < 0.5
    if flipped:
        points = mirrored(points, columns)
        ignored = np.column_stack([columns - ignored[:, 0] - ignored[:, 2], ignored[:, 1:]]).astype(np.float32)
    scale, corner = _window((rows, columns), points, height, width, rng)
    left = scale * columns - width - corner[0] if flipped else corner[0]
    picture = _cut(source.pixels, scale, np.array([left, corner[1]]), height, width)
    if flipped:
        picture = cv2.flip(picture, 1)
    points = ((points + 0.5) * scale - corner - 0.5).astype(np.float32)
    ignored = np.column_stack([ignored[:, :2] * scale - corner, ignored[:, 2:] * scale])
    sizes = face_sizes(points)
    tiny = sizes < SMALLEST
    kept, boxed = points[~tiny], source.labels.boxed[~tiny]
    ignored = np.concatenate([ignored, face_boxes(points[tiny])]).astype(np.float32)
    smallest = float(sizes[~tiny].min()) if len(kept) else 40.0
    return Scene(photograph(picture, smallest, rng), kept, boxed, ignored)


def mosaic(sources: Sequence[LabeledPhotograph], height: int, width: int, rng: np.random.Generator) -> Scene:
    """Scenes of several photographs, side by side in a square: as many times the faces, and small ones.

    Bochkovskiy et al. 2020, "YOLOv4", section 3.3, of four.

    Args:
        sources: 4, 9 or another square of a whole number.
    """
    across = math.isqrt(len(sources))
    part = height // across, width // across
    image = np.full((height, width, 3), _GRAY, np.uint8)
    points, boxed, ignored = [], [], []
    for number, source in enumerate(sources):
        scene = photograph_scene(source, *part, rng)
        corner = np.array([number % across * part[1], number // across * part[0]], dtype=np.float32)
        left, top = corner.astype(int)
        image[top : top + part[0], left : left + part[1]] = scene.image
        # A face that is cut in the middle has none in the next photograph.
        middles = scene.points.mean(axis=1)
        there = ((middles >= 0) & (middles < part[::-1])).all(axis=1)
        points.append(scene.points[there] + corner)
        boxed.append(scene.boxed[there])
        regions = np.concatenate([scene.ignored, face_boxes(scene.points[~there])])
        start, end = (np.clip(side, 0, part[::-1]) for side in (regions[:, :2], regions[:, :2] + regions[:, 2:]))
        ignored.append(np.concatenate([start + corner, end - start], axis=1)[(end > start).all(axis=1)])
    return Scene(image, np.concatenate(points), np.concatenate(boxed), np.concatenate(ignored).astype(np.float32))


def _window(
    shape: tuple[int, int], points: Float, height: int, width: int, rng: np.random.Generator
) -> tuple[float, NDArray[np.float64]]:
    """How many pixels of the scene one of the photograph becomes, and where in the scaled photograph the scene begins.

    The scene may reach over the photograph: there it is gray, as in an input that a frame does not fill.

    Args:
        shape: Height and width of the photograph.
    """
    rows, columns = shape
    fitted = min(height / rows, width / columns)
    if rng.random() < _WHOLE:
        return fitted, np.zeros(2)
    largest = max(_MOST_ENLARGED, fitted)
    if len(points):
        face = points[int(rng.integers(len(points)))]
        size = math.exp(rng.uniform(math.log(SMALLEST), math.log(max(SMALLEST, _LARGEST * height))))
        scale, shown = float(np.clip(size / max(float(face_sizes(face)[0]), 1.0), fitted, largest)), face.mean(axis=0)
    else:
        scale = math.exp(rng.uniform(math.log(fitted), math.log(largest)))
        shown = rng.uniform(0, 1, 2) * np.array([columns, rows])
    frame, whole = np.array([width, height]), scale * np.array([columns, rows])
    corner = shown * scale - rng.uniform(0.05, 0.95, 2) * frame
    # Where the photograph is larger than the scene, the scene lies within it; otherwise it lies anywhere in the scene.
    low, high = np.minimum(0, whole - frame), np.maximum(0, whole - frame)
    return scale, np.round(np.clip(corner, low, high))


def _cut(pixels: NDArray[np.uint8], scale: float, corner: NDArray[np.float64], height: int, width: int) -> Image:
    """The part of a scaled photograph that begins at `corner`, `(height, width, 3)`, gray where it has none.

    Raises:
        ValueError: the bytes of the photograph cannot be read.
    """
    reduction = max((each for each in REDUCTIONS if each * scale <= 1), default=1)
    image = decode(pixels, reduction)
    if image is None:
        raise ValueError(_UNREADABLE)
    scale *= reduction
    rows, columns = image.shape[:2]
    start = np.maximum(np.floor(corner / scale), 0).astype(int)
    end = np.minimum(np.ceil((corner + np.array([width, height])) / scale), (columns, rows)).astype(int)
    part = image[start[1] : end[1], start[0] : end[0]]
    scene = np.full((height, width, 3), _GRAY, np.uint8)
    if not part.size:
        return scene
    if scale < 1:
        sides = np.maximum(np.round(np.array(part.shape[1::-1]) * scale), 1).astype(int)
        part = cv2.resize(part, (int(sides[0]), int(sides[1])), interpolation=cv2.INTER_AREA)
        factors = sides / (end - start)
    else:
        factors = np.ones(2)
    # Pixel centers lie at integers, edges at halves before them.
    step = scale / factors
    shift = 0.5 * step - 0.5 + start * scale - corner
    matrix = np.array([[step[0], 0, shift[0]], [0, step[1], shift[1]]])
    return np.asarray(
        cv2.warpAffine(part, matrix, (width, height), scene, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT), dtype=np.uint8
    )
