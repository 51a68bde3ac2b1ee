"""Images that are rendered once and kept: a function of their place, whatever the number of threads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import atomic
from slimcam.training.data.classification.labeled import ClassData
from slimcam.training.data.images import Image, ahead
from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.fit.progress import Progress

TRAIN, HELD_OUT, TEST = range(3)
"""Streams of images, of which none shows what is in another."""


class Counts(Protocol):
    """How many images of each class are rendered, and how; see the configurations that have these options."""

    images_per_class: int
    held_out_per_class: int
    test_images_per_class: int
    seed: int
    workers: int


def check_counts(title: str, config: Counts) -> None:
    """Raises:
    ValueError: There are none to train on or to evaluate on, or a number is below 0.
    """
    if (
        min(config.images_per_class, config.test_images_per_class) < 1
        or min(config.held_out_per_class, config.seed) < 0
    ):
        raise ValueError(
            f"{title}: images_per_class and test_images_per_class are 1 or more, held_out_per_class and seed 0 or "
            f"more; got {config.images_per_class}, {config.test_images_per_class}, {config.held_out_per_class} and "
            f"{config.seed}"
        )


def rendered_classes(
    title: str,
    config: Counts,
    cache: Path,
    version: int,
    classes: Sequence[str],
    side: int,
    draw: Callable[[str, int, int, int], Image],
) -> ClassData:
    """Renders the images of all classes, or maps them from the cache where an earlier call has rendered them.

    Args:
        title: What is rendered, for progress and the names of files.
        cache: Folder to keep the rendered images in.
        version: Of the drawing, under which the images are kept.
        classes: Names.
        side: Pixels of an image.
        draw: From a class, a seed, a stream and the image's number in it to the image.
    """

    def images(stream: int, count: int) -> FaceSet:
        def picture(place: int) -> Image:
            return draw(classes[place // count], config.seed, stream, place % count)

        path = cache / f"{title.replace(' ', '-')}-{digest([version, config.seed, stream, count])}.npy"
        labels = np.repeat(np.arange(len(classes), dtype=np.int32), count)
        pixels = kept(path, f"drawing {title}", len(labels), side, picture, config.workers)
        return FaceSet(pixels, labels, tuple(classes))

    return ClassData(
        train=images(TRAIN, config.images_per_class),
        test=images(TEST, config.test_images_per_class),
        held_out=images(HELD_OUT, config.held_out_per_class) if config.held_out_per_class else None,
    )


def kept(
    path: Path, title: str, count: int, side: int, picture: Callable[[int], Image], workers: int
) -> NDArray[np.uint8]:
    """Maps images from a file, `(count, side, side, 3)` uint8, and draws them first where there is no such file.

    Args:
        path: Of the file.
        title: Begins the lines of progress.
        count: Number of images.
        side: Pixels.
        picture: From an image's place to the image.
        workers: Threads that draw; 0 takes one for each processor.
    """
    if not path.is_file():
        progress = Progress(count, title, unit="images")
        images = np.empty((count, side, side, 3), np.uint8)
        for place, image in enumerate(ahead(picture, range(count), workers)):
            images[place] = image
            progress.advance(1)
        progress.close()
        with atomic(path) as partial:
            np.save(partial, images)
    mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return mapped


def digest(content: object) -> str:
    """A short digest of anything that JSON has."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
