"""Composes pictures of faces whose points are known.

Photos of one face, and aligned crops, are turned, resized and pasted on backgrounds without a face. What could give a
paste away is given to things that are no faces too: the same edges, in the same places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.faces import Image
from training.detection import TEMPLATE, face_boxes, face_corners, face_sizes, mirrored

COMPOSE_VERSION = 1
"""Raise it with every change that changes a composed pixel or point."""

Float = NDArray[np.float32]

LEAST_SEEN = 0.55
"""Of a face at least this share is inside the picture and not covered."""

FACELESS = 0.125
_NO_POINTS = np.zeros((0, 5, 2), dtype=np.float32)
_SUBPIXEL_BITS = 4


@dataclass
class ComposeConfig:
    """Composed pictures.

    Attributes:
        height, width: pixels.
        smallest, largest: sizes of faces, pixels (`training.detection.face_sizes`); all scales between are as frequent.
        faces: the most in a picture.
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


@dataclass(frozen=True)
class Scene:
    """A picture and all faces in it.

    Attributes:
        image: `(H, W, 3)` uint8 RGB.
        points: `(N, 5, 2)` float32, see `training.detection`.
    """

    image: Image
    points: Float


@dataclass(frozen=True)
class Picture:
    """A picture with the points of the one face in it.

    Attributes:
        pixels: the bytes of an image file, or `(H, W, 3)` uint8 RGB.
        points: `(5, 2)` float32.
    """

    pixels: NDArray[np.uint8]
    points: Float

    def image(self) -> Image:
        """`(H, W, 3)` uint8 RGB."""
        if self.pixels.ndim == 3:
            return self.pixels
        image = decode(self.pixels)
        if image is None:
            raise ValueError("a picture that could be read no longer can")
        return image


@dataclass(frozen=True)
class Sources:
    """What scenes are composed of.

    Attributes:
        photos: faces with their surroundings, in which there is no other face.
        crops: faces with little around them, for small and middling ones; may be none where there are photos.
    """

    photos: Sequence[Picture]
    crops: Sequence[Picture]

    def __post_init__(self) -> None:
        if not len(self.photos) and not len(self.crops):
            raise ValueError("scenes need a face to compose at the least")


def decode(encoded: NDArray[np.uint8]) -> Image | None:
    """Decodes the bytes of an image file as `(H, W, 3)` uint8 RGB; `None` where they are not readable."""
    if encoded.size == 0:
        return None
    try:
        image: Image | None = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def compose(sources: Sources, config: ComposeConfig, rng: np.random.Generator) -> Scene:
    """One scene, a function of its arguments and the generator's state: one picture in eight has no face."""
    return photograph(arrange(sources, config, rng), rng)


def arrange(sources: Sources, config: ComposeConfig, rng: np.random.Generator) -> Scene:
    """Puts faces and other things together, as a camera without faults would see them."""
    canvas = Canvas(_background(sources, config, rng))
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


class Canvas:
    """A picture that things are laid on, and how much is seen of each face in it.

    Attributes:
        pixels: `(H, W, 3)` uint8.
        points: of each face, `(5, 2)`.
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
        seen, area = self._region(points)
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
            region, area = self._region(points)
            self.points.append(points)
            self._seen.append(region)
            self._areas.append(area)

    def _inside(self, points: Float) -> bool:
        height, width = self.pixels.shape[:2]
        x, y = points.mean(axis=0)
        return bool(0 <= x <= width - 1 and 0 <= y <= height - 1)

    def _region(self, points: Float) -> tuple[NDArray[np.uint8], float]:
        """Where in the picture a face is, and its whole area."""
        region = np.zeros(self.pixels.shape[:2], dtype=np.uint8)
        corners = face_corners(points)[0]
        cv2.fillPoly(region, [_fixed(corners)], (1,), cv2.LINE_8, _SUBPIXEL_BITS)
        return region, abs(float(cv2.contourArea(corners)))


@dataclass(frozen=True)
class Paste:
    """How a picture is laid on a canvas.

    Attributes:
        matrix: `(2, 3)`, from the picture to the canvas.
        outline: `(K, 2)`, what of the picture is laid, on the canvas.
        soft: pixels of the canvas that its edge fades over.
        height, width: of the canvas.
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
        cv2.fillPoly(mask, [_fixed(shifted)], (255,), cv2.LINE_AA, _SUBPIXEL_BITS)
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


def _add_face(canvas: Canvas, sources: Sources, size: float, rng: np.random.Generator) -> None:
    """Lays a face of a size on the canvas where there is room; where none is found, the scene has a face less."""
    small = size < 110 and rng.random() < 0.6
    chosen = sources.crops if len(sources.crops) and (small or not len(sources.photos)) else sources.photos
    picture = chosen[int(rng.integers(len(chosen)))]
    image, points = _sized(picture.image(), picture.points, size, flip=rng.random() < 0.5)
    whole = chosen is sources.photos and rng.random() < 0.3
    height, width = canvas.pixels.shape[:2]
    for attempt in range(6):
        angle = _angle(rng) if not whole else 0.0
        centre = _position(size, height, width, rng)
        if any(np.hypot(*(centre - other.mean(axis=0))) < 0.5 * (size + _size(other)) for other in canvas.points):
            continue
        matrix = _turn(points.mean(axis=0), angle, centre)
        # Little but the face itself where more would cover others.
        outline = _everything(image) if whole and attempt < 2 else _outline(image, points, attempt < 3, rng)
        soft = _softness(rng) * size
        paste = Paste(matrix, _moved(outline, matrix), soft, height, width)
        placed = _moved(points, matrix).astype(np.float32)
        if canvas.room(paste, placed):
            canvas.lay(paste, _relit(paste.warp(image), rng), placed)
            return


def _add_decoy(canvas: Canvas, sources: Sources, config: ComposeConfig, rng: np.random.Generator) -> None:
    """Lays something that is no face on the canvas, as a face is laid."""
    image = _faceless(sources, rng)
    side = min(image.shape[:2])
    wide = rng.uniform(0.2, 0.6) * side
    imagined = (TEMPLATE - TEMPLATE.mean(axis=0)) * (wide / 72) + np.array(image.shape[1::-1]) * rng.uniform(
        0.3, 0.7, 2
    )
    size = math.exp(rng.uniform(math.log(config.smallest), math.log(max(config.smallest, config.largest / 2))))
    image, points = _sized(image, imagined.astype(np.float32), size, flip=False)
    matrix = _turn(points.mean(axis=0), _angle(rng), rng.uniform((0, 0), (config.width, config.height)))
    outline = _moved(_outline(image, points, True, rng), matrix)
    paste = Paste(matrix, outline, _softness(rng) * size, config.height, config.width)
    if canvas.room(paste):
        canvas.lay(paste, _relit(paste.warp(image), rng))


def _cover(canvas: Canvas, points: Float, sources: Sources, rng: np.random.Generator) -> None:
    """Lays something over a part of a face."""
    height, width = canvas.pixels.shape[:2]
    size = _size(points)
    image = _faceless(sources, rng) if rng.random() < 0.5 else _plain(rng)
    image = cv2.resize(image, (max(2, round(1.4 * size)),) * 2, interpolation=cv2.INTER_LINEAR)
    middle = (np.array(image.shape[1::-1]) - 1) / 2
    for _ in range(3):
        away = rng.uniform(0, 2 * np.pi)
        centre = points.mean(axis=0) + size * rng.uniform(0.25, 0.8) * np.array([np.cos(away), np.sin(away)])
        matrix = _turn(middle, rng.uniform(-90, 90), centre)
        half = size * rng.uniform(0.15, 0.7, 2)
        corners = _ellipse(middle, half) if rng.random() < 0.5 else middle + half * [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        paste = Paste(matrix, _moved(corners, matrix), 0.5 * _softness(rng) * size, height, width)
        if canvas.room(paste):
            canvas.lay(paste, paste.warp(image))
            return


def _sized(image: Image, points: Float, size: float, *, flip: bool) -> tuple[Image, Float]:
    """A picture, mirrored or not, in which the face has the size; enlarging is left for `Paste.warp`."""
    if flip:
        image, points = cv2.flip(image, 1), mirrored(points, image.shape[1])
    scale = size / _size(points)
    height, width = image.shape[:2]
    new = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized: Image = cv2.resize(image, new, interpolation=interpolation)
    factors = np.array([new[0] / width, new[1] / height], dtype=np.float32)
    return resized, (points + np.float32(0.5)) * factors - np.float32(0.5)


def _size(points: Float) -> float:
    return float(face_sizes(points)[0])


def _turn(middle: NDArray[np.floating], degrees: float, to: NDArray[np.floating]) -> NDArray[np.float64]:
    """Turns about a point, which goes to another."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.column_stack([turn, to - turn @ middle])


def _moved(points: NDArray[np.floating], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def _angle(rng: np.random.Generator) -> float:
    """Degrees: most within 25, some up to 60."""
    if rng.random() < 0.15:
        return float(rng.uniform(-60, 60))
    return float(np.clip(rng.normal(0, 11), -25, 25))


def _position(size: float, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The centre of a face: mostly where all of it is in the picture, if it fits, else anywhere in the picture."""
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
        outline = _ellipse(np.array([x + w / 2, y + 0.43 * h]), grown * (w / 2, 1.15 * h / 2))
    else:
        # Margins of a tenth of the size to twice the size, small ones more often.
        left, top, right, bottom = size * 0.1 * np.exp(rng.uniform(0, 3.0 if wide else 1.0, 4))
        outline = np.array(
            [(x - left, y - top), (x + w + right, y - top), (x + w + right, y + h + bottom), (x - left, y + h + bottom)]
        )
    return np.clip(outline, 0, np.array(image.shape[1::-1]) - 1.0)


def _ellipse(middle: NDArray[np.floating], half: NDArray[np.floating]) -> NDArray[np.float64]:
    angles = np.arange(32) * (np.pi / 16)
    return np.asarray(middle + half * np.column_stack([np.cos(angles), np.sin(angles)]))


def _fixed(points: NDArray[np.floating]) -> NDArray[np.int32]:
    return np.rint(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _relit(image: Image, rng: np.random.Generator) -> Image:
    """In another light than the rest of the scene, or not."""
    if rng.random() < 0.6:
        return image
    values = (np.arange(256) / 255) ** math.exp(rng.normal(0, 0.3)) * 255 * math.exp(rng.normal(0, 0.2))
    relit: Image = cv2.LUT(image, np.clip(values + rng.normal(0, 12), 0, 255).astype(np.uint8))
    return relit


def _background(sources: Sources, config: ComposeConfig, rng: np.random.Generator) -> Image:
    """`(height, width, 3)` without a face."""
    height, width = config.height, config.width
    kind = rng.random()
    if kind < 0.35 or not len(sources.photos):
        return _drawn(height, width, rng)
    if kind < 0.65:
        return _filled(_faceless(sources, rng), height, width, rng)
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    # Parts of several photos, side by side.
    column, row = (int(side * rng.uniform(0.25, 0.75)) for side in (width, height))
    for rows in (slice(0, row), slice(row, height)):
        for columns in (slice(0, column), slice(column, width)):
            part = canvas[rows, columns]
            canvas[rows, columns] = _filled(_faceless(sources, rng), *part.shape[:2], rng)
    return canvas


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


def _faceless(sources: Sources, rng: np.random.Generator) -> Image:
    """A part of a photo beside its face, or a drawing where there are no photos."""
    if not len(sources.photos):
        return _drawn(96, 96, rng)
    picture = sources.photos[int(rng.integers(len(sources.photos)))]
    image = picture.image()
    height, width = image.shape[:2]
    corners = face_corners(picture.points)[0]
    margin = 0.12 * _size(picture.points)
    x0, y0 = np.floor(corners.min(axis=0) - margin).astype(int).tolist()
    x1, y1 = np.ceil(corners.max(axis=0) + margin).astype(int).tolist()
    # Left of the face, right of it, above, below.
    parts = [(0, x0, 0, height), (x1, width, 0, height), (0, width, 0, y0), (0, width, y1, height)]
    roomy = [part for part in parts if part[1] - part[0] >= 24 and part[3] - part[2] >= 24]
    if not roomy:
        return _drawn(96, 96, rng)
    left, right, top, bottom = roomy[int(rng.integers(len(roomy)))]
    return image[top:bottom, left:right]


def _plain(rng: np.random.Generator) -> Image:
    return np.full((8, 8, 3), _color(rng), dtype=np.uint8)


def _color(rng: np.random.Generator) -> tuple[float, float, float]:
    """RGB; in three cases of ten that of skin."""
    if rng.random() < 0.3:
        red, green, blue = np.array([224, 172, 140]) * rng.uniform(0.35, 1.1) * np.exp(rng.normal(0, 0.06, 3))
    else:
        red, green, blue = np.clip(rng.uniform(0, 255) + rng.normal(0, 40, 3), 0, 255)
    return float(min(red, 255)), float(min(green, 255)), float(min(blue, 255))


def _drawn(height: int, width: int, rng: np.random.Generator) -> Image:
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
            cv2.line(
                scene,
                *(tuple(p) for p in (rng.random((2, 2)) * extent).astype(int).tolist()),
                color,
                1 + int(half[0] / 6),
            )
            continue
        shape = _ellipse(middle, half) if kind < 3 else middle + half * [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        turned = _moved(shape, _turn(middle, rng.uniform(-90, 90), middle)) if rng.random() < 0.5 else shape
        cv2.fillPoly(scene, [_fixed(turned)], color, cv2.LINE_AA, _SUBPIXEL_BITS)
    if rng.random() < 0.4:
        scene = cv2.blur(scene, (2 * int(rng.integers(1, 6)) + 1,) * 2)
    if rng.random() < 0.3:
        scene = _noisy(scene, rng.uniform(3, 30), rng)
    return np.asarray(scene)


def photograph(scene: Scene, rng: np.random.Generator) -> Scene:
    """A scene as a camera delivers it: light, colour, blur, noise and compression, no more than its faces bear."""
    image = scene.image
    sizes = face_sizes(scene.points)
    least = float(sizes.min()) if len(sizes) else 40.0
    if rng.random() < 0.06 and least >= 24:
        height, width = image.shape[:2]
        share = max(rng.uniform(0.4, 0.9), 14 / least)
        small = cv2.resize(image, (round(width * share), round(height * share)), interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, min(0.3 + 0.03 * least, 2.0)))
    if rng.random() < 0.06:
        image = cv2.filter2D(image, -1, _motion(min(0.15 * least, 9.0), rng))
    image = _developed(image, rng)
    dark = rng.random() < 0.12
    if dark:
        light = rng.uniform(0.14, 0.5)
        image = cv2.LUT(image, np.clip(np.arange(256) * light + rng.uniform(0, 12), 0, 255).astype(np.uint8))
    if dark or rng.random() < 0.35:
        image = _noisy(image, min(float(rng.exponential(4.0)) + 0.5, 18.0), rng)
    if rng.random() < 0.35:
        _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 96))])
        image = cv2.imdecode(code, cv2.IMREAD_COLOR)
    return Scene(image, scene.points)


def _developed(image: Image, rng: np.random.Generator) -> Image:
    """With another contrast, brightness, saturation and cast of colour, or grey."""
    grey = rng.random() < 0.08
    if not grey and rng.random() < 0.4:
        return image
    saturation = 0.0 if grey else math.exp(rng.normal(0, 0.25))
    mix = saturation * np.eye(3) + (1 - saturation) * np.array([[0.299, 0.587, 0.114]])
    gain = math.exp(rng.normal(0, 0.2)) * (np.ones(3) if grey else np.exp(rng.normal(0, 0.08, 3)))
    offset = 128 * (1 - gain.mean()) + rng.normal(0, 18)
    developed: Image = cv2.transform(image, np.column_stack([mix * gain[:, None], np.full(3, offset)]))
    return developed


def _motion(length: float, rng: np.random.Generator) -> Float:
    """The kernel of a straight movement of so many pixels."""
    side = 2 * math.ceil(length / 2) + 1
    kernel = np.zeros((side, side), dtype=np.float32)
    angle = rng.uniform(0, np.pi)
    along = np.array([math.cos(angle), math.sin(angle)]) * length / 2
    first, last = (np.rint(side // 2 + sign * along).astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, first, last, 1.0)
    return np.asarray(kernel / kernel.sum())


def _noisy(image: Image, deviation: float, rng: np.random.Generator) -> Image:
    grain = _grain()
    count = image.size
    start = int(rng.integers(0, len(grain)))
    noise = (
        np.take(grain, np.arange(start, start + count), mode="wrap")
        if count > len(grain) - start
        else grain[start : start + count]
    )
    noisy: Image = cv2.scaleAdd(noise.reshape(image.shape), float(deviation), image.astype(np.float32))
    return cv2.convertScaleAbs(np.maximum(noisy, 0))


@lru_cache(maxsize=1)
def _grain() -> Float:
    """Standard normal values to take pieces of: drawing them anew would cost more than all else."""
    return np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32)
