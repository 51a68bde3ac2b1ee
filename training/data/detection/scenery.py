"""What is behind faces, or before them: parts of photos beside the face, and drawings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from slimcam.deploy.vision.align import face_corners, face_sizes
from slimcam.training.data.detection.degradation import noisy
from slimcam.training.data.detection.pasting import SUBPIXEL_BITS, ellipse, fixed, moved, turn
from slimcam.training.data.detection.scene import Picture
from slimcam.training.data.images import Image


def background(photos: Sequence[Picture], height: int, width: int, rng: np.random.Generator) -> Image:
    """`(height, width, 3)` without a face."""
    kind = rng.random()
    if kind < 0.35 or not len(photos):
        return rendered_scenery(height, width, rng)
    if kind < 0.65:
        return _filled(faceless(photos, rng), height, width, rng)
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    # Parts of several photos, side by side.
    column, row = (int(side * rng.uniform(0.25, 0.75)) for side in (width, height))
    for rows in (slice(0, row), slice(row, height)):
        for columns in (slice(0, column), slice(column, width)):
            part = canvas[rows, columns]
            canvas[rows, columns] = _filled(faceless(photos, rng), part.shape[0], part.shape[1], rng)
    return canvas


def faceless(photos: Sequence[Picture], rng: np.random.Generator) -> Image:
    """A part of a photo beside its face, or rendered scenery where there are no photos."""
    if not len(photos):
        return rendered_scenery(96, 96, rng)
    picture = photos[int(rng.integers(len(photos)))]
    image = picture.image()
    height, width = image.shape[:2]
    corners = face_corners(picture.points)[0]
    margin = 0.12 * float(face_sizes(picture.points)[0])
    x0, y0 = np.floor(corners.min(axis=0) - margin).astype(int).tolist()
    x1, y1 = np.ceil(corners.max(axis=0) + margin).astype(int).tolist()
    # Left of the face, right of it, above, below.
    parts = [(0, x0, 0, height), (x1, width, 0, height), (0, width, 0, y0), (0, width, y1, height)]
    roomy = [part for part in parts if part[1] - part[0] >= 24 and part[3] - part[2] >= 24]
    if not roomy:
        return rendered_scenery(96, 96, rng)
    left, right, top, bottom = roomy[int(rng.integers(len(roomy)))]
    return image[top:bottom, left:right]


def plain(rng: np.random.Generator) -> Image:
    """`(8, 8, 3)` of one color."""
    return np.full((8, 8, 3), _color(rng), dtype=np.uint8)


def rendered_scenery(height: int, width: int, rng: np.random.Generator) -> Image:
    """`(height, width, 3)` of a gradient or coarse noise, and shapes."""
    knots = int(rng.integers(2, 4)) if rng.random() < 0.6 else int(rng.integers(6, 40))
    grid = np.clip(rng.uniform(0, 255, (knots, knots, 1)) + rng.normal(0, 30, (knots, knots, 3)), 0, 255)
    way = cv2.INTER_LINEAR if rng.random() < 0.7 else cv2.INTER_NEAREST
    scene = cv2.resize(grid.astype(np.uint8), (width, height), interpolation=way)
    extent = np.array([width, height])
    for _ in range(int(rng.integers(0, 14))):
        color = _color(rng)
        middle = rng.uniform(-0.1, 1.1, 2) * extent
        half = min(height, width) * np.exp(rng.uniform(-3.2, -0.7, 2))
        kind = rng.integers(4)
        if kind == 0:
            first, last = (rng.random((2, 2)) * extent).astype(int).tolist()
            cv2.line(scene, first, last, color, 1 + int(half[0] / 6))
            continue
        shape = ellipse(middle, half) if kind < 3 else middle + half * [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        turned = moved(shape, turn(middle, rng.uniform(-90, 90), middle)) if rng.random() < 0.5 else shape
        cv2.fillPoly(scene, [fixed(turned)], color, cv2.LINE_AA, SUBPIXEL_BITS)
    if rng.random() < 0.4:
        scene = cv2.blur(scene, (2 * int(rng.integers(1, 6)) + 1,) * 2)
    if rng.random() < 0.3:
        scene = noisy(scene, rng.uniform(3, 30), rng)
    return np.asarray(scene)


def _filled(image: Image, height: int, width: int, rng: np.random.Generator) -> Image:
    """An image enlarged up to fourfold, cut, or repeated where it does not reach.

    Repeated, not reflected: half a face beside its reflection is a face.
    """
    scale = float(np.exp(rng.uniform(0, math.log(4))))
    h, w = (max(2, round(scale * side)) for side in image.shape[:2])
    large = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    top, left = int(rng.integers(0, max(h - height, 0) + 1)), int(rng.integers(0, max(w - width, 0) + 1))
    large = large[top : top + height, left : left + width]
    missing = height - large.shape[0], width - large.shape[1]
    filled: Image = cv2.copyMakeBorder(large, 0, missing[0], 0, missing[1], cv2.BORDER_WRAP)
    return filled


def _color(rng: np.random.Generator) -> tuple[float, float, float]:
    """RGB; in three cases of ten that of skin."""
    if rng.random() < 0.3:
        red, green, blue = np.array([224, 172, 140]) * rng.uniform(0.35, 1.1) * np.exp(rng.normal(0, 0.06, 3))
    else:
        red, green, blue = np.clip(rng.uniform(0, 255) + rng.normal(0, 40, 3), 0, 255)
    return float(min(red, 255)), float(min(green, 255)), float(min(blue, 255))
