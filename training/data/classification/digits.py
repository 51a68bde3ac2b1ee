"""Rendered digits, the built-in stand-in for MNIST: 28x28 pixels, ten classes, nothing to download."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from slimcam.deploy.common.result_key import NOT_KEY, key_material
from slimcam.training.data.classification.labeled import ClassData
from slimcam.training.data.classification.rendered import TRAIN, check_counts, digest, rendered_classes
from slimcam.training.data.drawing.digit import STROKES, draw_digit
from slimcam.training.data.images import Image

DRAWING_VERSION = 1
"""Raise it with every change of the drawing that changes a pixel: rendered digits are cached under it."""

IMAGE_SIZE = 28

CLASSES = tuple(STROKES)


@dataclass
class DigitsConfig:
    """Rendered digits, ten classes.

    Attributes:
        images_per_class: Number of images of each digit to train on.
        held_out_per_class: Number of further images of each digit, by which the best weights are chosen
            (`fit.validations`).
        test_images_per_class: Number of further images of each digit to evaluate on.
        seed: Seed of the images; others give other images.
        workers: Threads that draw; 0 takes one for each processor. The images do not depend on it.
    """

    task: ClassVar[str] = "classification"

    kind: str = "digits"
    images_per_class: int = 600
    held_out_per_class: int = 100
    test_images_per_class: int = 300
    seed: int = 0
    workers: int = field(default=0, metadata=NOT_KEY)

    def __post_init__(self) -> None:
        check_counts("digits", self)


def load(config: DigitsConfig, cache: Path) -> ClassData:
    """Renders the digits, or maps them from the cache where an earlier call has rendered them.

    Args:
        cache: folder to keep the rendered images in, 2.4 kB each.
    """
    return rendered_classes("digits", config, cache, DRAWING_VERSION, CLASSES, IMAGE_SIZE, draw)


def fingerprint(config: DigitsConfig) -> str:
    """A digest of everything that decides the content of the images; draws nothing."""
    return digest([DRAWING_VERSION, key_material(config)])


def draw(name: str, seed: int, stream: int = TRAIN, image: int = 0) -> Image:
    """A picture of a digit, `(28, 28, 3)` uint8 RGB."""
    return draw_digit(name, IMAGE_SIZE, np.random.default_rng((seed, stream, CLASSES.index(name), image)))
