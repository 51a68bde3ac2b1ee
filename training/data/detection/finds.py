"""What a labeler finds in photographs: YuNet at several sizes, mirrored too. Kept on disk, picture by picture.

Which finds are faces is decided of them when they are asked for (`slimcam.training.data.detection.labels`), so that a
change of that costs no second search.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import file_sha256
from slimcam.deploy.vision.detector import YuNet
from slimcam.training.data.detection.kept import kept_for_pictures
from slimcam.training.data.detection.points import mirrored
from slimcam.training.data.images import Image, decode

Float = NDArray[np.float32]

FINDS_VERSION = 1
"""Raise it with every change that changes a find."""

SIZES = (1.25, 0.75)
"""Each photograph is looked at in these sizes, as it is and mirrored: 4 views."""

VIEWS = 2 * len(SIZES)

BASE = 640
"""Longer side of a photograph at size 1, pixels; smaller ones are not enlarged to it."""

LEAST_SCORE = 0.3

_GRID = 64
"""Sides of a view are multiples of it, so that one network serves many photographs."""

_COLUMNS = 12


def finds_in(files: Sequence[Path], detector: Path, cache: Path) -> list[Float]:
    """What the detector finds in each file: `(K, 12)` rows of view, score and five points, pixels of the image.

    They are kept, see `slimcam.training.data.detection.kept.kept_for_pictures`. What cannot be read as a picture has no
    finds.

    Args:
        detector: YuNet's .onnx file.
        cache: Folder that the finds are kept in.

    Raises:
        ValueError: the file is no such detector.
        OSError: the cache cannot be written.
    """
    digest = hashlib.sha256(f"{FINDS_VERSION} {BASE} {SIZES} {LEAST_SCORE} {file_sha256(detector)}".encode())
    networks = lru_cache(maxsize=64)(lambda *input: YuNet(detector, LEAST_SCORE, input=input))

    def find(pixels: NDArray[np.uint8]) -> bytes:
        image = decode(pixels)
        return b"" if image is None else _finds(image, networks).tobytes()

    kept = kept_for_pictures(files, cache / f"finds-{digest.hexdigest()[:16]}.db", find, "finding faces in photographs")
    return [np.frombuffer(rows, np.float32).reshape(-1, _COLUMNS) for rows in kept]


def view_scale(height: int, width: int, view: int) -> float:
    """How many pixels of a view one of the photograph becomes."""
    longer = max(height, width)
    return min(longer, BASE) * SIZES[view // 2] / longer


def _finds(image: Image, networks: Callable[..., YuNet]) -> Float:
    height, width = image.shape[:2]
    parts = []
    for view in range(VIEWS):
        scale = view_scale(height, width, view)
        sides = (-(-max(1, round(side * scale)) // _GRID) * _GRID for side in (height, width))
        flip = bool(view % 2)
        faces = networks(*sides).detect(cv2.flip(image, 1) if flip else image)
        points = mirrored(faces.points, width) if flip else faces.points
        parts.append(np.column_stack([np.full(len(faces), view), faces.scores, points.reshape(-1, 10)]))
    return np.concatenate(parts).astype(np.float32)
