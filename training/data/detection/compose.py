"""Composes pictures of faces whose points are known.

Photos of one face, and aligned crops, are turned, resized and pasted on backgrounds without a face. What could give a
paste away is given to things that are no faces too: the same edges, in the same places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.align import TEMPLATE, face_boxes, face_sizes
from slimcam.training.data.detection.degradation import photograph, relit
from slimcam.training.data.detection.pasting import Canvas, Paste, ellipse, moved, turn
from slimcam.training.data.detection.points import mirrored
from slimcam.training.data.detection.scene import Float, Scene, Sources
from slimcam.training.data.detection.scenery import background, faceless, plain
from slimcam.training.data.images import Image

COMPOSE_VERSION = 1
"""Raise it with every change that changes a composed pixel or point."""

FACELESS = 0.125
_NO_POINTS = np.zeros((0, 5, 2), dtype=np.float32)


@dataclass
class ComposeConfig:
    """Composed pictures.

    Attributes:
        height: Height of a scene, pixels.
        width: Width of a scene, pixels.
        smallest: Smallest size of a face, pixels (`slimcam.deploy.vision.align.face_sizes`).
        largest: Largest size of a face, pixels; all scales between are equally frequent.
        faces: Most faces in a picture.
    """

    height: int = 240
    width: int = 320
    smallest: float = 14.0
    largest: float = 230.0
    faces: int = 6

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 32:
            raise ValueError(f"scenes need 32 pixels each way at the least; got {self.height}x{self.width}")
        if not 4 <= self.smallest <= self.largest:
            raise ValueError(
                f"sizes of faces go from smallest, 4 pixels at the least, to largest; "
                f"got {self.smallest} and {self.largest}"
            )
        if self.faces < 1:
            raise ValueError(f"a scene has up to 1 face or more; got faces={self.faces}")


def compose(sources: Sources, config: ComposeConfig, rng: np.random.Generator) -> Scene:
    """One scene, a function of its arguments and the generator's state: one picture in eight has no face."""
    scene = arrange(sources, config, rng)
    smallest = float(face_sizes(scene.points).min()) if len(scene.points) else 40.0
    return Scene(photograph(scene.image, smallest, rng), scene.points)


def arrange(sources: Sources, config: ComposeConfig, rng: np.random.Generator) -> Scene:
    """Puts faces and other things together, as a camera without faults would see them."""
    canvas = Canvas(background(sources.photos, config.height, config.width, rng))
    for _ in range(int(rng.integers(0, 4))):
        _add_decoy(canvas, sources, config, rng)
    if rng.random() < FACELESS:
        return Scene(canvas.pixels, _NO_POINTS)
    count = min(int(rng.geometric(0.4)), config.faces) if rng.random() < 0.9 else config.faces
    low, high = math.log(config.smallest), math.log(config.largest)
    for size in np.exp(rng.uniform(low, high, count)):
        _add_face(canvas, sources, float(size), rng)
    for points in list(canvas.points):
        if rng.random() < 0.25:
            _cover(canvas, points, sources, rng)
    return Scene(canvas.pixels, np.stack(canvas.points) if canvas.points else _NO_POINTS)


def _add_face(canvas: Canvas, sources: Sources, size: float, rng: np.random.Generator) -> None:
    """Lays a face of a size on the canvas where there is room; where none is found, the scene has a face less."""
    small = size < 110 and rng.random() < 0.6
    chosen = sources.crops if len(sources.crops) and (small or not len(sources.photos)) else sources.photos
    picture = chosen[int(rng.integers(len(chosen)))]
    image, points = _shrunk(picture.image(), picture.points, size, flip=rng.random() < 0.5)
    whole = chosen is sources.photos and rng.random() < 0.3
    height, width = canvas.pixels.shape[:2]
    for attempt in range(6):
        angle = _angle(rng) if not whole else 0.0
        center = _position(size, height, width, rng)
        if any(np.hypot(*(center - other.mean(axis=0))) < 0.5 * (size + _size(other)) for other in canvas.points):
            continue
        matrix = turn(points.mean(axis=0), angle, center, size / _size(points))
        # Little but the face itself where more would cover others.
        outline = _everything(image) if whole and attempt < 2 else _outline(image, points, attempt < 3, rng)
        soft = _softness(rng) * size
        paste = Paste(matrix, moved(outline, matrix), soft, height, width)
        placed = moved(points, matrix).astype(np.float32)
        if canvas.room(paste, placed):
            canvas.lay(paste, relit(paste.warp(image), rng), placed)
            return


def _add_decoy(canvas: Canvas, sources: Sources, config: ComposeConfig, rng: np.random.Generator) -> None:
    """Lays something that is no face on the canvas, as a face is laid."""
    image = faceless(sources.photos, rng)
    side = min(image.shape[:2])
    wide = rng.uniform(0.2, 0.6) * side
    middle = np.array(image.shape[1::-1]) * rng.uniform(0.3, 0.7, 2)
    imagined = (TEMPLATE - TEMPLATE.mean(axis=0)) * (wide / 72) + middle
    size = math.exp(rng.uniform(math.log(config.smallest), math.log(max(config.smallest, config.largest / 2))))
    image, points = _shrunk(image, imagined.astype(np.float32), size, flip=False)
    center = rng.uniform((0, 0), (config.width, config.height))
    matrix = turn(points.mean(axis=0), _angle(rng), center, size / _size(points))
    outline = moved(_outline(image, points, True, rng), matrix)
    paste = Paste(matrix, outline, _softness(rng) * size, config.height, config.width)
    if canvas.room(paste):
        canvas.lay(paste, relit(paste.warp(image), rng))


def _cover(canvas: Canvas, points: Float, sources: Sources, rng: np.random.Generator) -> None:
    """Lays something over a part of a face."""
    height, width = canvas.pixels.shape[:2]
    size = _size(points)
    image = faceless(sources.photos, rng) if rng.random() < 0.5 else plain(rng)
    image = cv2.resize(image, (max(2, round(1.4 * size)),) * 2, interpolation=cv2.INTER_LINEAR)
    middle = (np.array(image.shape[1::-1]) - 1) / 2
    for _ in range(3):
        away = rng.uniform(0, 2 * np.pi)
        center = points.mean(axis=0) + size * rng.uniform(0.25, 0.8) * np.array([np.cos(away), np.sin(away)])
        matrix = turn(middle, rng.uniform(-90, 90), center)
        half = size * rng.uniform(0.15, 0.7, 2)
        corners = ellipse(middle, half) if rng.random() < 0.5 else middle + half * [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        paste = Paste(matrix, moved(corners, matrix), 0.5 * _softness(rng) * size, height, width)
        if canvas.room(paste):
            canvas.lay(paste, paste.warp(image))
            return


def _shrunk(image: Image, points: Float, size: float, *, flip: bool) -> tuple[Image, Float]:
    """A picture, mirrored or not, with the face at most of that size: `Paste` enlarges but cannot shrink well."""
    if flip:
        image, points = cv2.flip(image, 1), mirrored(points, image.shape[1])
    scale = size / _size(points)
    if scale >= 1:
        return image, points
    height, width = image.shape[:2]
    new = max(1, round(width * scale)), max(1, round(height * scale))
    factors = np.array([new[0] / width, new[1] / height], dtype=np.float32)
    return cv2.resize(image, new, interpolation=cv2.INTER_AREA), (points + np.float32(0.5)) * factors - np.float32(0.5)


def _size(points: Float) -> float:
    return float(face_sizes(points)[0])


def _angle(rng: np.random.Generator) -> float:
    """Degrees: most within 25, some up to 60."""
    if rng.random() < 0.15:
        return float(rng.uniform(-60, 60))
    return float(np.clip(rng.normal(0, 11), -25, 25))


def _position(size: float, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The center of a face: mostly where all of it is in the picture, if it fits, else anywhere in the picture."""
    edge = 0.0 if rng.random() < 0.25 else 0.65 * size
    low = np.minimum(edge, (width / 2 - 1, height / 2 - 1))
    return rng.uniform(low, np.array([width - 1, height - 1]) - low)


def _softness(rng: np.random.Generator) -> float:
    """Width of a paste's fading edge in sizes of the face; 0 for a hard one."""
    return 0.0 if rng.random() < 0.35 else float(rng.uniform(0.02, 0.25))


def _everything(image: Image) -> NDArray[np.float64]:
    height, width = image.shape[:2]
    return np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], dtype=np.float64)


def _outline(image: Image, points: Float, wide: bool, rng: np.random.Generator) -> NDArray[np.float64]:
    """What is cut out of a picture with a face: more or less around it, of one shape or another."""
    x, y, w, h = face_boxes(points)[0].astype(float)
    size = _size(points)
    if rng.random() < 0.4:
        # About the whole head, which reaches higher than the box.
        grown = rng.uniform(1.15, 1.8 if wide else 1.35, 2)
        outline = ellipse(np.array([x + w / 2, y + 0.43 * h]), grown * (w / 2, 1.15 * h / 2))
    else:
        # Margins of a tenth of the size to twice the size, small ones more often.
        left, top, right, bottom = size * 0.1 * np.exp(rng.uniform(0, 3.0 if wide else 1.0, 4))
        outline = np.array(
            [(x - left, y - top), (x + w + right, y - top), (x + w + right, y + h + bottom), (x - left, y + h + bottom)]
        )
    return np.clip(outline, 0, np.array(image.shape[1::-1]) - 1.0)
