"""What a detector is to say of a picture: a row for each cell of its maps."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.align import face_sizes
from slimcam.deploy.vision.detector_output import CHANNELS, STRIDES
from slimcam.deploy.vision.detector_output import cell_centers as cell_centers
from slimcam.training.tasks.detection.metrics import Float

_BORDERS = (0.0, 40.0, 100.0, np.inf)
"""Sizes from `_BORDERS[i]` on, below the next, belong to the map of stride `STRIDES[i]`."""
_BAND = 1.25
_POSITIVE, _NEAR = 0.25, 0.45
"""Distance of a cell from a face's center, in sizes of the face, up to which it is its own, or is ignored."""

POINTED, BOXED = 1, 2
"""Last channel of positive cells: of a face whose points are known, and of one known by its box alone."""

_IGNORED_MARGIN = 4.0
"""Pixels about an ignored box whose cells are ignored: half a cell of the finest map, so that none goes without."""

_SURE = 8.0
"""The logit of a certain score; all channels fill about -8..8."""


@lru_cache(maxsize=16)
def cells(height: int, width: int) -> tuple[Float, NDArray[np.int32]]:
    """Centers `(R, 2)`, x and y in pixels, and strides `(R,)` of the cells of all maps, in the order of the output."""
    counts = [-(-height // stride) * -(-width // stride) for stride in STRIDES]
    both = cell_centers(height, width).astype(np.float32), np.repeat(np.array(STRIDES, dtype=np.int32), counts)
    for array in both:
        array.setflags(write=False)
    return both


def encode(
    points: NDArray[np.floating],
    height: int,
    width: int,
    boxed: NDArray[np.bool_] | None = None,
    ignored: NDArray[np.floating] | None = None,
) -> Float:
    """What a perfect detector says of a picture with these faces.

    A face belongs to the map of the stride that suits its size, near a border between two sizes to both. There the
    cells about its center, and the nearest one in any case, are to find it. Cells a little farther off, and those of
    maps that suit similar sizes, are ignored. So are any cells about a face whose center is outside the picture,
    and those in an ignored box that no face is at.

    Args:
        points: `(N, 5, 2)`.
        boxed: `(N,)`, faces of which only the size and the middle of the points are known.
        ignored: `(K, 4)` boxes x, y, width, height that may be faces.

    Returns:
        `(R, 13)`, a row for each cell: score logit (8 or -8), size, ten offsets of points, and 1 for a positive cell, 2
        for that of a boxed face, 0 for a negative one, -1 for one that is ignored. Size and offsets are 0 but in
        positive cells.

    Raises:
        ValueError: points of a face are not finite, or coincide.
    """
    centers, strides = cells(height, width)
    targets = np.zeros((len(centers), CHANNELS + 1), dtype=np.float32)
    targets[:, 0] = -_SURE
    if ignored is not None and len(ignored):
        targets[_within(centers, ignored), CHANNELS] = -1
    faces = np.asarray(points, dtype=np.float32).reshape(-1, 5, 2)
    if not len(faces):
        return targets
    if not np.isfinite(faces).all():
        raise ValueError("the points of a face are not finite; leave it out")
    sizes = face_sizes(faces)
    if sizes.min() < 1e-3:
        raise ValueError("the points of a face coincide; leave it out")
    middles = faces.mean(axis=1)
    inside = (np.abs(middles + 0.5 - (width / 2, height / 2)) <= (width / 2, height / 2)).all(axis=1)
    # (R, N) from here on.
    distance = np.hypot(centers[:, :1] - middles[:, 0], centers[:, 1:] - middles[:, 1]) / sizes
    suits, similar = np.zeros(distance.shape, dtype=bool), np.zeros(distance.shape, dtype=bool)
    nearest = np.zeros(distance.shape, dtype=bool)
    for stride, low, high in zip(STRIDES, _BORDERS[:-1], _BORDERS[1:], strict=True):
        rows = slice(*np.searchsorted(strides, (stride, stride + 1)).tolist())
        suits[rows] = (sizes >= low / _BAND) & (sizes < high * _BAND)
        similar[rows] = (2 * sizes >= low) & (sizes / 2 < high)
        nearest[rows.start + np.argmin(distance[rows], axis=0), np.arange(len(faces))] = True
    nearest &= suits & inside
    positive = nearest | (suits & inside & (distance <= _POSITIVE))
    ignored = (suits | similar) & (distance <= _NEAR)
    targets[ignored.any(axis=1), CHANNELS] = -1
    # Where faces compete for a cell, it goes to one that may have no other, else to the one that it is deepest in.
    rank = np.where(positive, distance - 10 * nearest, np.inf)
    taken = np.flatnonzero(positive.any(axis=1))
    owner = np.argmin(rank[taken], axis=1)
    targets[taken, 0], targets[taken, CHANNELS] = _SURE, POINTED
    if boxed is not None:
        targets[taken[boxed[owner]], CHANNELS] = BOXED
    targets[taken, 1] = 2 * np.log2(sizes[owner] / 64)
    offsets = 8 * (faces[owner] - centers[taken, None]) / sizes[owner, None, None]
    targets[taken, 2:CHANNELS] = offsets.reshape(-1, 10)
    return targets


def _within(centers: Float, boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which cells have their center in or about one of some boxes, `(R,)`."""
    start, end = boxes[:, :2] - _IGNORED_MARGIN, boxes[:, :2] + boxes[:, 2:] + _IGNORED_MARGIN
    in_each = np.all((centers[:, None] >= start) & (centers[:, None] <= end), axis=2)
    return np.asarray(in_each.any(axis=1), dtype=np.bool_)
