"""What a labeler finds in photographs: YuNet at several sizes, mirrored too. Kept on disk, picture by picture.

Which finds are faces is decided from them anew each time (`slimcam.training.data.detection.labels`): a minute of
labeling takes as long as ten photographs, the decision none.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import file_sha256
from slimcam.deploy.vision.detector import YuNet
from slimcam.training.data.detection.points import mirrored
from slimcam.training.data.images import Image, decode, read_bytes
from slimcam.training.fit.progress import Progress

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

    Photographs that were looked at before are not looked at again, wherever they lie now. The work goes on where it was
    broken off. What cannot be read as a picture has no finds.

    Args:
        detector: YuNet's .onnx file.
        cache: Folder that the finds are kept in.

    Raises:
        ValueError: the file is no such detector.
        OSError: the cache cannot be written.
    """
    digest = hashlib.sha256(f"{FINDS_VERSION} {BASE} {SIZES} {LEAST_SCORE} {file_sha256(detector)}".encode())
    path = cache / f"finds-{digest.hexdigest()[:16]}.db"
    cache.mkdir(parents=True, exist_ok=True)
    networks = lru_cache(maxsize=64)(lambda *input: YuNet(detector, LEAST_SCORE, input=input))
    try:
        with closing(sqlite3.connect(path, timeout=60)) as database:
            database.execute("CREATE TABLE IF NOT EXISTS finds (picture BLOB PRIMARY KEY, rows BLOB)")
            return _looked_up(files, database, networks)
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}; delete this file of labels, they are found again") from error


def view_scale(height: int, width: int, view: int) -> float:
    """How many pixels of a view one of the photograph becomes."""
    longer = max(height, width)
    return min(longer, BASE) * SIZES[view // 2] / longer


def _looked_up(files: Sequence[Path], database: sqlite3.Connection, networks: Callable[..., YuNet]) -> list[Float]:
    progress = Progress(len(files), "finding faces in photographs", unit="photographs")
    found = []
    for file in files:
        pixels = read_bytes(file)
        key = hashlib.sha256(pixels.tobytes()).digest()
        kept = database.execute("SELECT rows FROM finds WHERE picture = ?", (key,)).fetchone()
        if kept is None:
            image = decode(pixels)
            rows = np.zeros((0, _COLUMNS), np.float32) if image is None else _finds(image, networks)
            with database:
                database.execute("INSERT OR REPLACE INTO finds VALUES (?, ?)", (key, rows.tobytes()))
        else:
            rows = np.frombuffer(kept[0], np.float32).reshape(-1, _COLUMNS)
        found.append(rows)
        progress.advance(1)
    progress.close()
    return found


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
