"""Rendered road signs as a camera by the road sees them: classes that need no download.

A sign hangs turned and tilted before a rendered background, faded, dirty, in shadow or half covered; the light and the
faults of the camera are those of `slimcam.training.data.detection.degradation`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from slimcam.deploy.common.result_key import NOT_KEY, key_material
from slimcam.training.data.classification.labeled import ClassData
from slimcam.training.data.classification.rendered import TRAIN, check_counts, digest, rendered_classes
from slimcam.training.data.detection.degradation import photograph
from slimcam.training.data.detection.scenery import rendered_scenery
from slimcam.training.data.drawing.road_sign import FACES, SIDE, draw_sign
from slimcam.training.data.images import Image

DRAWING_VERSION = 1
"""Raise it with every change of the drawing that changes a pixel: rendered signs are cached under it."""

IMAGE_SIZE = 64

CLASSES = tuple(FACES)


@dataclass
class RoadSignsConfig:
    """Rendered road signs, thirteen classes.

    Attributes:
        images_per_class: Number of images of each sign to train on.
        held_out_per_class: Number of further images of each sign, by which the best weights are chosen
            (`fit.validations`).
        test_images_per_class: Number of further images of each sign to evaluate on.
        seed: Seed of the images; others give other images.
        workers: Threads that draw; 0 takes one for each processor. The images do not depend on it.
    """

    task: ClassVar[str] = "classification"

    kind: str = "road_signs"
    images_per_class: int = 400
    held_out_per_class: int = 50
    test_images_per_class: int = 150
    seed: int = 0
    workers: int = field(default=0, metadata=NOT_KEY)

    def __post_init__(self) -> None:
        check_counts("road signs", self)


def load(config: RoadSignsConfig, cache: Path) -> ClassData:
    """Renders the signs, or maps them from the cache where an earlier call has rendered them.

    Args:
        cache: folder to keep the rendered images in, 12 kB each.
    """
    return rendered_classes("road signs", config, cache, DRAWING_VERSION, CLASSES, IMAGE_SIZE, draw)


def fingerprint(config: RoadSignsConfig) -> str:
    """A digest of everything that decides the content of the images; draws nothing."""
    return digest([DRAWING_VERSION, key_material(config)])


def draw(name: str, seed: int, stream: int = TRAIN, image: int = 0) -> Image:
    """A picture of a sign, `(64, 64, 3)` uint8 RGB."""
    rng = np.random.default_rng((seed, stream, CLASSES.index(name), image))
    side = 2 * IMAGE_SIZE
    pixels, alpha = draw_sign(name, rng)
    scene = rendered_scenery(side, side, rng)
    matrix = _view(side, rng)
    if rng.random() < 0.8:
        _pole(scene, matrix, rng)
    mask = cv2.warpPerspective(alpha, matrix, (side, side), flags=cv2.INTER_AREA).astype(np.float32)[..., None] / 255
    seen = cv2.warpPerspective(_weathered(pixels, rng), matrix, (side, side), flags=cv2.INTER_AREA)
    scene = (scene + (seen.astype(np.float32) - scene) * mask).astype(np.uint8)
    if rng.random() < 0.2:
        _covered(scene, rng)
    small = cv2.resize(scene, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA)
    return photograph(small, 40.0, rng)


def _view(side: int, rng: np.random.Generator) -> np.ndarray:
    """The projection of a sign's sheet into a picture: turned about its pole, tilted, near or far."""
    yaw, pitch, roll = np.deg2rad(rng.uniform(-50, 50)), np.deg2rad(rng.normal(0, 8)), np.deg2rad(rng.normal(0, 5))
    half = side * rng.uniform(0.24, 0.46)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], dtype=np.float64)
    x, y = corners[:, 0] * np.cos(yaw), corners[:, 1] * np.cos(pitch)
    near = 4 / (4 + corners[:, 0] * np.sin(yaw) + corners[:, 1] * np.sin(pitch))
    turned = np.stack([x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)], axis=1)
    middle = side / 2 + rng.uniform(-0.1, 0.1, 2) * side
    placed = middle + half * turned * near[:, None]
    sheet = (corners + 1) * (SIDE / 2)
    return np.asarray(cv2.getPerspectiveTransform(sheet.astype(np.float32), placed.astype(np.float32)))


def _pole(scene: Image, matrix: np.ndarray, rng: np.random.Generator) -> None:
    (top,) = cv2.perspectiveTransform(np.array([[(SIDE / 2, SIDE * 0.8)]]), matrix)[0]
    shade = float(rng.uniform(60, 190))
    end = (round(top[0] + rng.normal(0, 2)), len(scene))
    cv2.line(scene, (round(top[0]), round(top[1])), end, (shade, shade, shade), int(rng.integers(4, 9)), cv2.LINE_AA)


def _weathered(pixels: Image, rng: np.random.Generator) -> Image:
    """With a shadow across it, dirt, and light from one side."""
    grid = rng.uniform(0.75, 1.15, (2, 2)).astype(np.float32)
    light = cv2.resize(grid, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.3:
        edge = rng.uniform(0, SIDE, 2)
        shadow = np.array([(0, edge[0]), (SIDE, edge[1]), (SIDE, SIDE), (0, SIDE)]).astype(np.int32)
        cast = np.ones((SIDE, SIDE), np.float32)
        cv2.fillPoly(cast, [shadow], (float(rng.uniform(0.45, 0.8)),))
        light *= cv2.GaussianBlur(cast, (0, 0), 2)
    if rng.random() < 0.4:
        spots = cv2.resize(rng.normal(0, 0.12, (9, 9)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        light *= np.exp(spots)
    return np.asarray(np.clip(pixels * light[..., None], 0, 255), dtype=np.uint8)


def _covered(scene: Image, rng: np.random.Generator) -> None:
    """A twig or a leaf before the sign."""
    side = len(scene)
    color = (np.array([70, 110, 50]) * rng.uniform(0.4, 1.4, 3)).tolist()
    for _ in range(int(rng.integers(1, 4))):
        middle = tuple(int(value) for value in rng.uniform(0.15, 0.85, 2) * side)
        axes = (int(side * rng.uniform(0.04, 0.16)), int(side * rng.uniform(0.02, 0.07)))
        cv2.ellipse(scene, middle, axes, float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)
