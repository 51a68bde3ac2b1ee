"""Points of faces, found again by another detector at several sizes, mirrored too, and averaged.

A detector's single answer is off by several percent of the distance of the eyes, each time elsewhere; what another one
learns from it, and is evaluated by, had better be the mean of many.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import file_sha256, save_arrays
from slimcam.deploy.vision.align import face_sizes
from slimcam.deploy.vision.detector import YuNet
from slimcam.training.data.detection.points import mirrored
from slimcam.training.data.detection.scene import Picture
from slimcam.training.fit.progress import Progress

Float = NDArray[np.float32]

LABELS_VERSION = 1
"""Raise it with every change that moves a point."""

SIZES = (0.6, 0.75, 0.9, 1.1, 1.3, 1.5)
"""Each picture is looked at in these sizes, as it is and mirrored: 12 answers."""

_NEAR = 0.25
"""An answer whose points are farther from the label, in sizes of the face, is of another face, or wrong."""

_LEAST = 4
"""With fewer answers than this, the label stays as it is."""


def averaged(pictures: Sequence[Picture], detector: Path, cache: Path) -> tuple[list[Picture], int]:
    """The pictures with the mean of a detector's answers for points, and how many keep the label that they had.

    Args:
        detector: YuNet's .onnx file.
        cache: folder that the points are kept in.

    Raises:
        ValueError: the file is no such detector.
        OSError: the cache cannot be written.
    """
    if not pictures:
        return [], 0
    digest = hashlib.sha256(f"{LABELS_VERSION} {file_sha256(detector)}".encode())
    for picture in pictures:
        digest.update(picture.pixels.tobytes() + picture.points.tobytes())
    path = cache / f"labels-{digest.hexdigest()[:16]}.npz"
    if not path.is_file():
        save_arrays(path, points=_answers(pictures, detector))
    with np.load(path) as kept:
        answers = kept["points"]
    found = [
        replace(picture, points=mean) if mean is not None else picture
        for picture, mean in zip(pictures, map(mean_answer, (each.points for each in pictures), answers), strict=True)
    ]
    return found, sum(after is before for after, before in zip(found, pictures, strict=True))


def mean_answer(label: Float, answers: Float) -> Float | None:
    """The mean of those answers `(K, 5, 2)` that are near a label `(5, 2)`; `None` if they are too few. NaN is none."""
    off = np.linalg.norm(answers - label, axis=2).mean(axis=1)
    near = answers[off < _NEAR * float(face_sizes(label)[0])]
    return near.mean(axis=0, dtype=np.float32) if len(near) >= _LEAST else None


def _answers(pictures: Sequence[Picture], detector: Path) -> Float:
    """`(N, 12, 5, 2)`, NaN where no face was found."""
    progress = Progress(len(pictures), "finding the points of faces again", unit="pictures")
    parts = np.array_split(np.arange(len(pictures)), math.ceil(len(pictures) / 64))

    def answer(part: NDArray[np.int64]) -> Float:
        # Networks of its own: OpenCV's cannot be shared between threads.
        networks = lru_cache(maxsize=len(SIZES))(lambda *input: YuNet(detector, threshold=0.5, input=input))
        found = np.stack([_looks(pictures[int(number)], networks) for number in part])
        progress.advance(len(part))
        return found

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = list(pool.map(answer, parts))
    progress.close()
    return np.concatenate(answers)


def _looks(picture: Picture, networks: Callable[..., YuNet]) -> Float:
    """`(12, 5, 2)`: what the detector says of one picture; the face nearest to the label, if there are several."""
    image = picture.image()
    height, width = image.shape[:2]
    answers = np.full((2 * len(SIZES), 5, 2), np.nan, dtype=np.float32)
    for number, size in enumerate(SIZES):
        yunet = networks(round(height * size), round(width * size))
        for flip in (False, True):
            points = yunet.detect(cv2.flip(image, 1) if flip else image).points
            if len(points):
                points = mirrored(points, width) if flip else points
                nearest = np.linalg.norm(points - picture.points, axis=2).mean(axis=1).argmin()
                answers[2 * number + flip] = points[nearest]
    return answers
