"""Images that are drawn once and kept: a function of their place, whatever the number of threads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import atomic
from slimcam.training.data.images import Image, ahead
from slimcam.training.fit.progress import Progress


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
